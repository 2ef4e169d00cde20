//! Which clients are refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::language::{Condition, Visit};
use crate::gke::{
    RateLimitOptions, RateLimitThreshold, RedirectOptions, SecurityPolicy as Object,
    SecurityRule as Spec,
};

/// The range of all addresses.
const ANYWHERE: &str = "*";

/// Rules about clients; of those that match one, the first holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// Its name.
    pub name: String,
    /// Its rules, the lowest priority first.
    pub rules: Vec<SecurityRule>,
}

/// A rule about some clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// Where it stands among others.
    pub priority: i64,
    /// Clients it is for.
    pub clients: Clients,
    /// Whether it is only noted.
    pub is_preview: bool,
    /// What it says.
    pub action: SecurityAction,
}

/// Which clients a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// All.
    All,
    /// Those of these addresses.
    Of(Vec<IpNet>),
    /// Those that meet a condition.
    Who(Box<Condition>),
}

/// What a rule does with clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityAction {
    /// Lets them through.
    Allow,
    /// Answers with this status.
    Deny(u16),
    /// Sends them elsewhere.
    Redirect(String),
    /// Lets so many of their requests through.
    Limit(Arc<RateLimit>),
}

/// How many requests a client may send.
///
/// Source: Google Cloud Armor, "Rate limiting overview".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What tells clients apart, all of it together; nothing: they count as one.
    pub keys: Vec<LimitKey>,
    /// How many are let through.
    pub threshold: Threshold,
    /// What becomes of the others.
    pub exceed: Box<SecurityAction>,
    /// Whether clients are banned.
    pub ban: Option<Ban>,
}

/// So many requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// How many.
    pub count: u32,
    /// The time.
    pub interval: Duration,
}

/// When a client is banned, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// How many requests may be beyond what is let through; `None`: none.
    pub threshold: Option<Threshold>,
    /// For how long.
    pub lasts: Duration,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// Their addresses.
    Address,
    /// The first address in `X-Forwarded-For`, or else their own.
    Forwarded,
    /// A field of the request's head, by name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The path.
    Path,
    /// The name that TLS was asked for.
    ServerName,
}

/// What rules say of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement<'p> {
    /// The rule that holds; `None`: the client may go on.
    pub enforced: Option<&'p SecurityRule>,
    /// The rule that would hold if previews did.
    pub preview: Option<&'p SecurityRule>,
}

impl SecurityPolicy {
    /// Reads one; rules that mean nothing here are left out, which was said when they were checked.
    pub(super) fn new(object: &Object) -> Self {
        let mut rules: Vec<_> = object.spec.rules.iter().filter_map(rule).collect();
        rules.sort_by_key(|rule| rule.priority);
        Self { name: object.metadata.name.clone().unwrap_or_default(), rules }
    }

    /// What is done with a client.
    ///
    /// Source: Google Cloud Armor, "Rule evaluation order", "Preview mode".
    pub fn judge(&self, visit: &Visit<'_>) -> Judgement<'_> {
        let visit = Visit { client: visit.client.to_canonical(), ..*visit };
        let mut preview = None;
        for rule in self.rules.iter().filter(|rule| rule.clients.has(&visit)) {
            if !rule.is_preview {
                return Judgement { enforced: Some(rule), preview };
            }
            preview = preview.or(Some(rule));
        }
        Judgement { enforced: None, preview }
    }
}

impl Clients {
    fn has(&self, visit: &Visit<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Of(ranges) => ranges.iter().any(|range| range.contains(&visit.client)),
            Self::Who(condition) => condition.matches(visit),
        }
    }
}

fn rule(spec: &Spec) -> Option<SecurityRule> {
    let action = match spec.action.as_str() {
        "allow" => SecurityAction::Allow,
        "throttle" | "rate_based_ban" => {
            let limit = limit(spec.rate_limit_options.as_ref()?, spec.action == "rate_based_ban")?;
            SecurityAction::Limit(Arc::new(limit))
        }
        other => refusal(other, spec.redirect_options.as_ref())?,
    };
    let clients = match &spec.clients.expr {
        Some(expr) => {
            let (condition, _) = Condition::new(&expr.expression).ok()?;
            Clients::Who(Box::new(condition))
        }
        None => {
            let ranges = &spec.clients.config.as_ref()?.src_ip_ranges;
            let range = |text: &String| {
                let range = text.parse::<IpNet>().map(|range| range.trunc());
                range.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
            };
            if ranges.iter().any(|text| text == ANYWHERE) {
                Clients::All
            } else {
                Clients::Of(ranges.iter().filter_map(range).collect())
            }
        }
    };
    Some(SecurityRule {
        priority: spec.priority,
        clients,
        is_preview: spec.preview.unwrap_or(false),
        action,
    })
}

/// `deny(…)` or `redirect`.
fn refusal(action: &str, redirect: Option<&RedirectOptions>) -> Option<SecurityAction> {
    if action == "redirect" {
        return Some(SecurityAction::Redirect(redirect?.target.clone()?));
    }
    let status = action.strip_prefix("deny(")?.strip_suffix(')')?;
    Some(SecurityAction::Deny(status.parse().ok()?))
}

fn limit(options: &RateLimitOptions, is_ban: bool) -> Option<RateLimit> {
    let redirect = options.exceed_redirect_options.as_ref();
    let exceed = refusal(options.exceed_action.as_deref()?, redirect)?;
    let single = options.enforce_on_key.as_deref();
    let single = single.and_then(|key| limit_key(key, options.enforce_on_key_name.as_deref()));
    let several = options.enforce_on_key_configs.iter();
    let several = several
        .filter_map(|at| limit_key(&at.enforce_on_key_type, at.enforce_on_key_name.as_deref()));
    let lasts = options.ban_duration_sec.and_then(|seconds| u64::try_from(seconds).ok());
    let ban = lasts.filter(|_| is_ban).map(|lasts| Ban {
        threshold: options.ban_threshold.and_then(threshold),
        lasts: Duration::from_secs(lasts),
    });
    Some(RateLimit {
        keys: several.chain(single).collect(),
        threshold: options.rate_limit_threshold.and_then(threshold)?,
        exceed: Box::new(exceed),
        ban,
    })
}

fn threshold(of: RateLimitThreshold) -> Option<Threshold> {
    let interval = Duration::from_secs(u64::try_from(of.interval_sec).ok()?);
    Some(Threshold { count: u32::try_from(of.count).ok()?, interval })
}

/// `None` for all of them, and for what is not known here.
fn limit_key(key: &str, name: Option<&str>) -> Option<LimitKey> {
    Some(match key {
        "IP" | "USER_IP" => LimitKey::Address,
        "XFF_IP" => LimitKey::Forwarded,
        "HTTP_HEADER" => LimitKey::Header(name?.to_ascii_lowercase()),
        "HTTP_COOKIE" => LimitKey::Cookie(name?.to_owned()),
        "HTTP_PATH" => LimitKey::Path,
        "SNI" => LimitKey::ServerName,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::routing::{Headers, Request};

    struct Nothing;

    impl Headers for Nothing {
        fn value(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
    }

    fn policy() -> SecurityPolicy {
        let text = r#"{
            "metadata": {"name": "gate"},
            "spec": {"rule": [
                {"action": "deny(404)", "priority": 2147483647,
                 "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["*"]}}},
                {"action": "allow", "priority": 300,
                 "match": {"config": {"srcIpRanges": ["198.51.100.0/24", "2001:db8::/32"]}}},
                {"action": "deny(403)", "priority": 100, "preview": true,
                 "match": {"config": {"srcIpRanges": ["198.51.100.0/25"]}}},
                {"action": "deny(502)", "priority": 200,
                 "match": {"config": {"srcIpRanges": ["198.51.100.9"]}}},
                {"action": "deny(403)", "priority": 1,
                 "match": {"expr": {"expression": "request.path.startsWith('/admin')"}}}
            ]}
        }"#;
        SecurityPolicy::new(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_first_rule_that_is_no_preview_holds() {
        let policy = policy();
        let at = |path, client: &str| {
            let nothing = Nothing;
            let request =
                Request { host: "a", method: "GET", path, query: None, headers: &nothing };
            let client = client.parse().unwrap();
            let judged = policy.judge(&Visit { client, scheme: "http", request: &request });
            let told = |rule: &SecurityRule| (rule.priority, rule.action.clone());
            (judged.enforced.map(told), judged.preview.map(|rule| rule.priority))
        };
        let judged = |client| at("/", client);
        let refused = Some((1, SecurityAction::Deny(403)));
        assert_eq!(at("/admin/users", "198.51.100.200"), (refused, None));
        let allowed = Some((300, SecurityAction::Allow));
        assert_eq!(judged("198.51.100.200"), (allowed.clone(), None));
        assert_eq!(judged("198.51.100.7"), (allowed.clone(), Some(100)));
        let refused = Some((200, SecurityAction::Deny(502)));
        assert_eq!(judged("198.51.100.9"), (refused.clone(), Some(100)));
        assert_eq!(judged("::ffff:198.51.100.9"), (refused, Some(100)));
        assert_eq!(judged("2001:db8::1"), (allowed, None));
        let others = Some((2_147_483_647, SecurityAction::Deny(404)));
        assert_eq!(judged("192.0.2.1"), (others, None));
    }
}
