//! What policies say of a packet.

use kswitch_config::{Kind, Place, PolicyObject, explain, rule_name};
use kswitch_tables::policy::{Allowed, Contact, Denied, Direction, Grant, RuleId};

use super::Teller;
use crate::trace::report::Hop;

impl Teller<'_, '_> {
    pub(super) fn policy(&mut self, contact: &Contact, verdict: &Result<Allowed, Denied>) {
        match verdict {
            Ok(Allowed { egress, ingress, audited }) => {
                self.granted(contact, Direction::Egress, *egress);
                self.granted(contact, Direction::Ingress, *ingress);
                if let Some(denied) = audited {
                    self.denied(contact, denied, "would be refused (only watched): ");
                }
            }
            Err(denied) => {
                if denied.direction == Direction::Ingress {
                    let policies = &self.tables.snapshot.policies;
                    // the source was asked first, and had nothing against it
                    let grant = policies.check(&Contact {
                        target: kswitch_tables::policy::Party { identity: None, ..contact.target },
                        ..*contact
                    });
                    if let Ok(allowed) = grant {
                        self.granted(contact, Direction::Egress, allowed.egress);
                    }
                }
                self.denied(contact, denied, "");
            }
        }
    }

    fn granted(&mut self, contact: &Contact, direction: Direction, grant: Grant) {
        let (party, table) = match direction {
            Direction::Egress => (&contact.source, "egress-policy"),
            Direction::Ingress => (&contact.target, "ingress-policy"),
        };
        if party.identity.is_none() {
            return;
        }
        let at = self.tables.machine(party.address);
        let at = at.unwrap_or_else(|| party.address.to_string());
        let (object, rule, decision, place) = match grant {
            Grant::Rule(id) => {
                let (object, rule, place) = self.rule(id);
                (object, rule, "allowed".to_owned(), place)
            }
            Grant::Exempt => (None, None, "not asked about this".into(), None),
            Grant::Fallback => (None, None, "allowed: no policy isolates it".into(), None),
        };
        self.push(Hop { at, table: table.into(), object, rule, decision, ..Hop::default() }, place);
    }

    fn denied(&mut self, contact: &Contact, denied: &Denied, prefix: &str) {
        let (party, table) = match denied.direction {
            Direction::Egress => (&contact.source, "egress-policy"),
            Direction::Ingress => (&contact.target, "ingress-policy"),
        };
        let tables = self.tables;
        let policies = &tables.snapshot.policies;
        let explanation = explain(policies, tables.names.policies(), contact, denied);
        let isolating = policies.isolating(denied.identity, denied.direction).first();
        let (object, rule, place) = match (denied.rule, isolating) {
            (Some(rule), _) => self.rule(rule),
            (None, Some(policy)) => {
                let object = tables.names.policies().get(*policy);
                let place = object.and_then(|object| self.place_of_policy(object, "metadata.name"));
                (object.map(called), None, place)
            }
            (None, None) => (None, None, None),
        };
        let at = tables.machine(party.address).unwrap_or_else(|| party.address.to_string());
        let decision = format!("{prefix}{explanation}");
        self.push(Hop { at, table: table.into(), object, rule, decision, ..Hop::default() }, place);
    }

    fn rule(&self, id: RuleId) -> (Option<String>, Option<String>, Option<Place>) {
        let names = self.tables.names.policies();
        let object = names.get(id.policy);
        let way = match id.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        let rule = rule_name(names, id).map(|rule| {
            let name = rule.name.filter(|name| !name.is_empty());
            let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{way} rule {}{name}", rule.number)
        });
        let field = format!("spec.{way}[{}]", id.index);
        let place = object.and_then(|object| self.place_of_policy(object, &field));
        (object.map(called), rule, place)
    }

    fn place_of_policy(&self, object: &PolicyObject, field: &str) -> Option<Place> {
        let kind = match object {
            PolicyObject::Network(_) => Kind::NetworkPolicy,
            PolicyObject::Cluster(_) => Kind::ClusterNetworkPolicy,
        };
        let namespace = object.namespace().unwrap_or_default();
        self.tables.draft.place(kind, namespace, object.name(), field)
    }
}

/// What a policy is called as an object.
fn called(object: &PolicyObject) -> String {
    match object {
        PolicyObject::Network(_) => format!("NetworkPolicy {object}"),
        PolicyObject::Cluster(_) => format!("ClusterNetworkPolicy {object}"),
    }
}
