//! Which clients are refused, and which versions of TLS are spoken: what such policies must say.

use std::collections::BTreeMap;

use super::balancer::within;
use super::{cidr, one_of};
use crate::error::Findings;
use crate::gke::{SecurityPolicy, SecurityRule, SslPolicy};
use crate::path::Path;

/// The priority of the rule for all others.
///
/// Source: Google Cloud Armor, "Default rule".
const DEFAULT: i64 = 2_147_483_647;

/// Ranges of addresses in one rule.
///
/// Source: Google Cloud Armor, "Quotas and limits".
const RANGES_MAX: usize = 10;

pub(super) fn check(object: &SecurityPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let at = path.key("rule");
    let mut priorities = BTreeMap::new();
    for (index, rule) in object.spec.rules.iter().enumerate() {
        let path = at.index(index);
        within(findings, path.key("priority"), Some(rule.priority), (0, DEFAULT));
        if let Some(first) = priorities.insert(rule.priority, index) {
            let message = format!("rule[{first}] has the priority {} already", rule.priority);
            findings.error(path.key("priority"), message, "give each rule a priority of its own");
        }
        check_rule(path, rule, findings);
    }
}

fn check_rule(path: Path<'_>, rule: &SecurityRule, findings: &mut Findings) {
    match rule.action.as_str() {
        "allow" | "deny(403)" | "deny(404)" | "deny(429)" | "deny(502)" => {}
        "redirect" => {
            let options = rule.redirect_options.as_ref();
            if options.and_then(|options| options.target.as_deref()).is_none() {
                let help = "write redirectOptions: { type: EXTERNAL_302, target: \"https://…\" }";
                findings.error(path.key("redirectOptions"), "clients are sent nowhere", help);
            }
        }
        "throttle" | "rate_based_ban" => {
            let message = format!("`{}` is not known here, the rule has no effect", rule.action);
            findings.warning(path.key("action"), message, "clients are not counted here");
        }
        other => {
            let help = "write allow, deny(403), deny(404), deny(502) or redirect";
            findings.error(path.key("action"), format!("{other:?} is not known here"), help);
        }
    }
    let path = path.key("match");
    if rule.clients.expr.is_some() {
        let message = "conditions of this language are not known here, the rule has no effect";
        findings.warning(path.key("expr"), message, "write ranges of addresses");
        return;
    }
    one_of(
        findings,
        path.key("versionedExpr"),
        rule.clients.versioned_expr.as_deref(),
        &["SRC_IPS_V1"],
    );
    let at = path.key("config");
    let at = at.key("srcIpRanges");
    let ranges = rule.clients.config.as_ref().map_or(&[][..], |config| &config.src_ip_ranges);
    if !(1..=RANGES_MAX).contains(&ranges.len()) {
        let message = format!("a rule cannot be for {} ranges", ranges.len());
        findings.error(at, message, format!("write 1 to {RANGES_MAX} ranges"));
    }
    for (index, range) in ranges.iter().enumerate() {
        // an address by itself is a range of one
        if range != "*" && range.parse::<std::net::IpAddr>().is_err() {
            cidr(findings, at.index(index), range);
        }
    }
}

pub(super) fn check_ssl(object: &SslPolicy, findings: &mut Findings) {
    let path = Path::Root.key("spec");
    let versions = ["TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3"];
    let spec = &object.spec;
    one_of(findings, path.key("minTlsVersion"), spec.min_tls_version.as_deref(), &versions);
    let profiles = ["COMPATIBLE", "MODERN", "RESTRICTED", "CUSTOM"];
    one_of(findings, path.key("profile"), spec.profile.as_deref(), &profiles);
    let is_custom = spec.profile.as_deref() == Some("CUSTOM");
    if is_custom == spec.custom_features.is_empty() {
        let message = "`customFeatures` and the profile CUSTOM belong together";
        findings.error(path.key("customFeatures"), message, "write both, or neither");
    }
}
