//! `[policy]` of lab.toml.

use kswitch_tables::policy::{Echo, Established, Fallback};

use super::fields::Fields;
use crate::error::{Findings, Origin};
use crate::policy_settings::PolicySettings;
use crate::tree::Tree;

/// `[policy]`.
pub(super) fn policy(tree: &Tree<'_>, origin: &Origin, findings: &mut Findings) -> PolicySettings {
    let default = PolicySettings::default();
    let mut fields = Fields::new(tree, origin, findings);
    let fallbacks = [("allow", Fallback::Allow), ("deny", Fallback::Deny)];
    let established = [("recheck", Established::Recheck), ("keep", Established::Keep)];
    let echoes = [("policy", Echo::Judged), ("allow", Echo::Allowed)];
    let settings = PolicySettings {
        enabled: fields.bool("enabled").unwrap_or(default.enabled),
        default: fields.choice("default", &fallbacks).unwrap_or(default.default),
        audit: fields.bool("audit").unwrap_or(default.audit),
        established: fields.choice("established", &established).unwrap_or(default.established),
        icmp_echo: fields.choice("icmp-echo", &echoes).unwrap_or(default.icmp_echo),
    };
    fields.finish();
    settings
}
