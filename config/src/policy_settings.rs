//! `[policy]` of lab.toml.

use kswitch_tables::policy::{Echo, Established, Fallback};

/// `[policy]`: what policies mean in a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// `enabled`: whether policies have an effect at all, as in a cluster whose network knows them.
    pub enabled: bool,
    /// `default`: what holds for pods of which no policy says anything; `allow` or `deny`.
    pub default: Fallback,
    /// `audit`: whether nothing is refused, and what would be refused is only told.
    pub audit: bool,
    /// `established`: what a change means for flows that are under way; `recheck` or `keep`.
    pub established: Established,
    /// `icmp-echo`: whether echo requests are judged (`policy`: only rules without ports match
    /// them) or always pass (`allow`). Kubernetes leaves it open.
    pub icmp_echo: Echo,
}

impl PolicySettings {
    /// The annotation by which a single policy is only watched, if it is `true`.
    pub const AUDIT: &str = "kswitch.dev/audit";
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            default: Fallback::Allow,
            audit: false,
            established: Established::Recheck,
            icmp_echo: Echo::Judged,
        }
    }
}
