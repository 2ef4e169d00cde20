//! Why policies refuse something: the policies and the rule that did, and the rule that nearly
//! allowed it.

mod words;

use std::fmt;

use kswitch_tables::Policies;
use kswitch_tables::policy::{Contact, Denied, Direction, PolicyId, RuleId, Tier};

use crate::compile::{PolicyNames, PolicyObject};

/// A rule as people count: `rule 2 of shop/db-ingress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The policy: `namespace/name`, or the name of a policy of the cluster.
    pub policy: String,
    /// Which of its rules for the direction, from 1.
    pub number: usize,
    /// What the rule itself is called.
    pub name: Option<String>,
}

/// What a rule would have had to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It is about the other end, but about other ports.
    Port {
        /// The ports it allows: `5432`, `53/UDP`, `http`.
        allowed: String,
        /// The port that was asked for.
        asked: String,
    },
    /// It is about the port, but about other peers.
    Peer {
        /// Whom it allows: `pods app=web`.
        allowed: String,
        /// The address of the other end.
        asked: String,
    },
}

/// The rule that nearly allowed what was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleName,
    /// What it lacks.
    pub miss: Miss,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the source may not send it, or the target may not be sent it.
    pub direction: Direction,
    /// The stage that refused it.
    pub tier: Tier,
    /// The rule that refused it, where it was one.
    pub rule: Option<RuleName>,
    /// The policies that isolate the pod, where none of their rules allowed it.
    pub isolating: Vec<String>,
    /// The rule of those that nearly did.
    pub nearest: Option<NearMiss>,
}

/// Why policies refused a contact; `policies` and `names` are of the same generation as the refusal.
pub fn explain(
    policies: &Policies,
    names: &PolicyNames,
    contact: &Contact,
    denied: &Denied,
) -> Explanation {
    let Denied { direction, identity, tier, rule } = *denied;
    let isolating = match tier {
        Tier::Isolation => policies.isolating(identity, direction),
        Tier::Admin | Tier::Baseline | Tier::Fallback => &[],
    };
    let called = |id: &PolicyId| names.get(*id).map(ToString::to_string);
    Explanation {
        direction,
        tier,
        rule: rule.and_then(|rule| rule_name(names, rule)),
        isolating: isolating.iter().filter_map(called).collect(),
        nearest: nearest(policies, names, contact, direction, isolating),
    }
}

/// A rule by its name.
pub fn rule_name(names: &PolicyNames, id: RuleId) -> Option<RuleName> {
    let policy = names.get(id.policy)?;
    let index = usize::from(id.index);
    let name = match (policy, id.direction) {
        (PolicyObject::Network(_), _) => None,
        (PolicyObject::Cluster(policy), Direction::Ingress) => {
            policy.spec.ingress.get(index)?.name.clone()
        }
        (PolicyObject::Cluster(policy), Direction::Egress) => {
            policy.spec.egress.get(index)?.name.clone()
        }
    };
    Some(RuleName { policy: policy.to_string(), number: index + 1, name })
}

/// The rule that lacks least: first one that lacks a port of the protocol, then one that lacks a
/// port, then one that lacks the peer.
fn nearest(
    policies: &Policies,
    names: &PolicyNames,
    contact: &Contact,
    direction: Direction,
    isolating: &[PolicyId],
) -> Option<NearMiss> {
    let mut misses: Vec<(u8, NearMiss)> = Vec::new();
    for id in isolating {
        let (Some(policy), Some(PolicyObject::Network(object))) =
            (policies.policy(*id), names.get(*id))
        else {
            continue;
        };
        for (index, rule) in (0..).zip(policy.rules(direction)) {
            let written = words::Written::of(object, direction, usize::from(index));
            let id = RuleId { policy: *id, direction, index };
            let (Some(written), Some(name)) = (written, rule_name(names, id)) else { continue };
            let is_peer = policies.matches_peer(rule, direction, contact);
            let is_port = policies.matches_port(rule, direction, contact);
            let (lack, miss) = match (is_peer, is_port) {
                (true, true) | (false, false) => continue,
                (true, false) if written.has_protocol(contact.protocol) => {
                    (0, written.port(contact))
                }
                (true, false) => (1, written.port(contact)),
                (false, true) => (2, written.peer(contact, direction)),
            };
            misses.push((lack, NearMiss { rule: name, miss }));
        }
    }
    misses.into_iter().min_by_key(|(lack, _)| *lack).map(|(_, miss)| miss)
}

impl fmt::Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rule {}", self.number)?;
        if let Some(name) = self.name.as_deref().filter(|name| !name.is_empty()) {
            write!(formatter, " ({name})")?;
        }
        write!(formatter, " of {}", self.policy)
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Miss::Port { allowed, asked } | Miss::Peer { allowed, asked }) = &self.miss;
        write!(formatter, "{} allows {allowed}, not {asked}", self.rule)
    }
}

/// `ingress: isolated by shop/db-ingress; rule 2 of shop/db-ingress allows 5432, not 5433`.
impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        write!(formatter, "{direction}: ")?;
        match (&self.rule, self.tier) {
            (Some(rule), _) => write!(formatter, "denied by {rule}"),
            (None, Tier::Fallback) => formatter.write_str("denied by the default of the lab"),
            (None, _) => write!(formatter, "isolated by {}", self.isolating.join(", ")),
        }?;
        match &self.nearest {
            Some(nearest) => write!(formatter, "; {nearest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
