//! Which clients are refused, and which versions of TLS are spoken: what such policies must say.

use std::collections::BTreeMap;

use super::balancer::within;
use super::{cidr, one_of};
use crate::error::Findings;
use crate::gke::{SecurityPolicy, SecurityRule, SslPolicy};
use crate::path::Path;
use crate::routing::SecurityCondition;

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
        "throttle" | "rate_based_ban" => limit(path, rule, findings),
        other => {
            let help = "write allow, deny(403), deny(404), deny(502), redirect, throttle or \
                        rate_based_ban";
            findings.error(path.key("action"), format!("{other:?} is not known here"), help);
        }
    }
    let path = path.key("match");
    if let Some(expr) = &rule.clients.expr {
        if rule.clients.versioned_expr.is_some() || rule.clients.config.is_some() {
            let message = "a rule is for ranges of addresses, or for who meets a condition";
            findings.error(path.key("expr"), message, "remove one of the two");
        }
        let path = path.key("expr");
        condition(path.key("expression"), &expr.expression, findings);
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

/// Notes what is wrong with a condition, and what of it has no value here.
fn condition(path: Path<'_>, text: &str, findings: &mut Findings) {
    match SecurityCondition::new(text) {
        Ok((_, unknown)) => {
            for name in unknown {
                let message = format!("`{name}` is not known here, what asks for it has no effect");
                findings.warning(path, message, "ask for addresses, or for parts of requests");
            }
        }
        Err(wrong) => {
            let message = format!("in column {}: {}", wrong.column, wrong.message);
            findings.error(path, message, wrong.help);
        }
    }
}

/// Times in which requests are counted, seconds.
///
/// Source: Google Cloud, `rateLimitThreshold.intervalSec`.
const INTERVALS: [&str; 15] = [
    "10", "30", "60", "120", "180", "240", "270", "300", "540", "600", "900", "1200", "1800",
    "2700", "3600",
];
/// What tells clients apart.
const KEYS: [&str; 11] = [
    "ALL",
    "IP",
    "USER_IP",
    "XFF_IP",
    "HTTP_HEADER",
    "HTTP_COOKIE",
    "HTTP_PATH",
    "SNI",
    "REGION_CODE",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
];

/// How many requests clients may send.
///
/// Source: Google Cloud, `SecurityPolicyRuleRateLimitOptions`.
fn limit(path: Path<'_>, rule: &SecurityRule, findings: &mut Findings) {
    let path = path.key("rateLimitOptions");
    let Some(options) = &rule.rate_limit_options else {
        let help = "write exceedAction and rateLimitThreshold: { count: 100, intervalSec: 60 }";
        findings.error(path, "how many requests are let through is missing", help);
        return;
    };
    one_of(findings, path.key("conformAction"), options.conform_action.as_deref(), &["allow"]);
    let refusals = ["deny(403)", "deny(404)", "deny(429)", "deny(502)", "redirect"];
    let exceed = options.exceed_action.as_deref();
    one_of(findings, path.key("exceedAction"), exceed, &refusals);
    let target = options.exceed_redirect_options.as_ref().and_then(|to| to.target.as_deref());
    if exceed.is_none() {
        let message = "what becomes of those beyond is missing";
        findings.error(path.key("exceedAction"), message, "write deny(429)");
    } else if exceed == Some("redirect") && target.is_none() {
        let help = "write { type: EXTERNAL_302, target: \"https://…\" }";
        findings.error(path.key("exceedRedirectOptions"), "clients are sent nowhere", help);
    }
    let several = path.key("enforceOnKeyConfigs");
    let key = (options.enforce_on_key.as_deref(), options.enforce_on_key_name.as_deref());
    limit_key(path, ["enforceOnKey", "enforceOnKeyName"], key, findings);
    for (index, at) in options.enforce_on_key_configs.iter().enumerate() {
        let key = (Some(at.enforce_on_key_type.as_str()), at.enforce_on_key_name.as_deref());
        let names = ["enforceOnKeyType", "enforceOnKeyName"];
        limit_key(several.index(index), names, key, findings);
    }
    let thresholds = [
        ("rateLimitThreshold", options.rate_limit_threshold),
        ("banThreshold", options.ban_threshold),
    ];
    for (key, threshold) in thresholds {
        let path = path.key(key);
        let Some(threshold) = threshold else { continue };
        within(findings, path.key("count"), Some(threshold.count), (1, 1_000_000));
        let interval = threshold.interval_sec.to_string();
        one_of(findings, path.key("intervalSec"), Some(&interval), &INTERVALS);
    }
    if options.rate_limit_threshold.is_none() {
        let message = "how many requests are let through is missing";
        let help = "write { count: 100, intervalSec: 60 }";
        findings.error(path.key("rateLimitThreshold"), message, help);
    }
    let is_ban = rule.action == "rate_based_ban";
    within(findings, path.key("banDurationSec"), options.ban_duration_sec, (1, 86_400));
    if is_ban && options.ban_duration_sec.is_none() {
        let message = "for how long clients are banned is missing";
        findings.error(path.key("banDurationSec"), message, "write 600");
    }
    if !is_ban && (options.ban_threshold.is_some() || options.ban_duration_sec.is_some()) {
        let message = "`throttle` bans nobody";
        findings.error(path.key("banDurationSec"), message, "write action: rate_based_ban");
    }
}

fn limit_key(
    path: Path<'_>,
    [of, named]: [&'static str; 2],
    (key, name): (Option<&str>, Option<&str>),
    findings: &mut Findings,
) {
    one_of(findings, path.key(of), key, &KEYS);
    let is_named = matches!(key, Some("HTTP_HEADER" | "HTTP_COOKIE"));
    if is_named && name.is_none_or(str::is_empty) {
        findings.error(path.key(named), "the name is missing", "write that of the field or cookie");
    }
    if let Some(key @ ("REGION_CODE" | "TLS_JA3_FINGERPRINT" | "TLS_JA4_FINGERPRINT")) = key {
        let message = format!("`{key}` is not known here, all clients count as one");
        findings.warning(path.key(of), message, "write IP");
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
