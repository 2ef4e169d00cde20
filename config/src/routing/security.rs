//! Which clients are refused.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::gke::{SecurityPolicy as Object, SecurityRule as Spec};

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
    /// Clients it is for; `None`: all.
    pub sources: Option<Vec<IpNet>>,
    /// Whether it is only noted.
    pub is_preview: bool,
    /// What it says.
    pub action: SecurityAction,
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
    pub fn judge(&self, client: IpAddr) -> Judgement<'_> {
        let client = client.to_canonical();
        let mut matching = self.rules.iter().filter(|rule| rule.is_for(client));
        let preview = matching.clone().next().filter(|rule| rule.is_preview);
        Judgement { enforced: matching.find(|rule| !rule.is_preview), preview }
    }
}

impl SecurityRule {
    fn is_for(&self, client: IpAddr) -> bool {
        let sources = self.sources.as_ref();
        sources.is_none_or(|ranges| ranges.iter().any(|range| range.contains(&client)))
    }
}

fn rule(spec: &Spec) -> Option<SecurityRule> {
    let action = match spec.action.as_str() {
        "allow" => SecurityAction::Allow,
        "redirect" => SecurityAction::Redirect(spec.redirect_options.as_ref()?.target.clone()?),
        other => {
            let status = other.strip_prefix("deny(")?.strip_suffix(')')?;
            SecurityAction::Deny(status.parse().ok()?)
        }
    };
    if spec.clients.expr.is_some() {
        return None;
    }
    let ranges = &spec.clients.config.as_ref()?.src_ip_ranges;
    let range = |text: &String| {
        let range = text.parse::<IpNet>().map(|range| range.trunc());
        range.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()
    };
    let is_anyone = ranges.iter().any(|text| text == ANYWHERE);
    Some(SecurityRule {
        priority: spec.priority,
        sources: (!is_anyone).then(|| ranges.iter().filter_map(range).collect()),
        is_preview: spec.preview.unwrap_or(false),
        action,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
                {"action": "deny(403)", "priority": 1, "match": {"expr": {"expression": "true"}}}
            ]}
        }"#;
        SecurityPolicy::new(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_first_rule_that_is_no_preview_holds() {
        let policy = policy();
        let judged = |client: &str| {
            let judged = policy.judge(client.parse().unwrap());
            let told = |rule: &SecurityRule| (rule.priority, rule.action.clone());
            (judged.enforced.map(told), judged.preview.map(|rule| rule.priority))
        };
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
