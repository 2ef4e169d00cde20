//! Who may talk to whom.
//!
//! Machines that every policy treats alike share an *identity*. Selectors are resolved to sets of
//! identities when policies are compiled, so that judging a contact reads only the policies that
//! select one of its ends: how many others there are costs nothing.
//!
//! A contact is judged once for what its source may send (egress) and once for what its target may
//! be sent (ingress); both must agree. In each direction the tiers are asked in turn: rules that
//! come first, isolation, rules that come last, and what holds where nothing was said.
//!
//! What is judged is a whole conversation by its first packet: the address its source really has,
//! and the target that it reaches after translation. Answers are not judged.

mod blocks;
mod identity_set;
mod rule;

use std::sync::Arc;

pub use blocks::{Block, Blocks};
pub use identity_set::IdentitySet;
pub use rule::{
    Action, Direction, NamedPort, Peers, Policy, PortName, PortNumber, PortRange, Ports, Rule,
    RuleId, SelectionId,
};

use crate::hash::{Map, map};
use crate::{Address, Attachment, Protocol, RouterId};
use rule::Seen;

/// Index of an [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u32);

/// Index of a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub u32);

/// Which addresses have which identity.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Map<Address, IdentityId>);

impl Addresses {
    /// No addresses; maps hash by `seed`.
    pub fn new(seed: u64) -> Self {
        Self(map(seed))
    }

    /// Gives an address an identity.
    pub fn insert(&mut self, address: Address, identity: IdentityId) {
        self.0.insert(address, identity);
    }

    /// Takes an address its identity.
    pub fn remove(&mut self, address: Address) {
        self.0.remove(&address);
    }

    /// The identity of an address. **Cost**: one probe.
    pub fn find(&self, address: Address) -> Option<IdentityId> {
        self.0.get(&address).copied()
    }
}

/// What holds for machines of one identity.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Their named ports, sorted.
    pub names: Box<[PortNumber]>,
    /// The policies about what they send.
    pub egress: Side,
    /// The policies about what they are sent.
    pub ingress: Side,
}

/// The policies that select an identity, for one direction.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// Asked first, in this order.
    pub admin: Box<[PolicyId]>,
    /// Asked next: if there are any, only what one of them accepts may pass.
    pub isolation: Box<[PolicyId]>,
    /// Asked last, in this order.
    pub baseline: Box<[PolicyId]>,
    /// What holds where nobody has decided.
    pub fallback: Fallback,
    /// Whether any of these policies is only watched.
    pub has_audited: bool,
}

/// What holds where no policy decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// It passes.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// The stages of a judgement, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Rules in order, before all else.
    Admin,
    /// What is isolated may do only what is accepted.
    Isolation,
    /// Rules in order, where nobody is isolated.
    Baseline,
    /// What holds where nothing was said.
    Fallback,
}

/// How contacts without ports that only ask whether somebody is there are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// Like any protocol that no list of ports names: only rules about all ports match it.
    #[default]
    Judged,
    /// They always pass.
    Allowed,
}

/// What new policies mean for conversations that are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// They are judged again.
    #[default]
    Recheck,
    /// They go on.
    Keep,
}

/// Where one end of a contact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A machine behind this router.
    Behind(RouterId),
    /// This router's own host stack.
    Host(RouterId),
    /// Not known, or not in the network.
    Elsewhere,
}

/// One end of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The address that blocks are compared with.
    pub address: Address,
    /// Who it is.
    pub identity: Option<IdentityId>,
    /// Where it is.
    pub place: Place,
}

/// The beginning of a conversation, as it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who begins it, under its own address.
    pub source: Party,
    /// Who is reached, after translation.
    pub target: Party,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// Port of the target after translation, host order; means nothing without ports.
    pub port: u16,
    /// Whether the target was reached by way of a frontend.
    pub is_translated: bool,
}

/// Why one direction of a contact is let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nobody judges this end, or this contact.
    Exempt,
    /// This rule accepts it.
    Rule(RuleId),
    /// Nobody has decided.
    Fallback,
}

/// A contact that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Why the source may send it.
    pub egress: Grant,
    /// Why the target may be sent it.
    pub ingress: Grant,
    /// The refusal there would have been, had policies that are only watched been in force.
    pub audited: Option<Denied>,
}

/// A contact that is refused, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Whether the source may not send it, or the target may not be sent it.
    pub direction: Direction,
    /// Whose policies refuse it.
    pub identity: IdentityId,
    /// The stage that refused it.
    pub tier: Tier,
    /// The rule that refused it; `None` where none accepted it.
    pub rule: Option<RuleId>,
}

/// Whether policies that are only watched are asked too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Enforced,
    All,
}

/// Every policy of a snapshot.
///
/// **Sharing**: generations share the parts in which they do not differ.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Who is who.
    pub addresses: Arc<Addresses>,
    /// By [`IdentityId`].
    pub identities: Arc<Vec<Arc<Identity>>>,
    /// By [`PolicyId`].
    pub policies: Arc<Vec<Arc<Policy>>>,
    /// By [`SelectionId`].
    pub selections: Arc<Vec<Arc<IdentitySet>>>,
    /// How echoes are judged.
    pub echo: Echo,
    /// What becomes of conversations under way.
    pub established: Established,
    /// Whether nothing is refused at all: what would be refused is only told.
    pub is_audit: bool,
}

impl Policies {
    /// One end of a contact: an attached machine, under this address.
    pub fn party(&self, address: Address, attachment: &Attachment) -> Party {
        let place = if attachment.is_host { Place::Host } else { Place::Behind };
        Party { address, identity: self.addresses.find(address), place: place(attachment.router) }
    }

    /// One end of a contact: nobody the network knows.
    pub const fn stranger(address: Address) -> Party {
        Party { address, identity: None, place: Place::Elsewhere }
    }

    /// Whether a conversation may begin, or go on.
    ///
    /// **Cost**: the rules of the policies that select one of the two ends; nothing for any other.
    /// No allocation.
    ///
    /// # Errors
    /// The first direction, tier and rule that refuse it; the source is asked first.
    pub fn check(&self, contact: &Contact) -> Result<Allowed, Denied> {
        let exempt = Allowed { egress: Grant::Exempt, ingress: Grant::Exempt, audited: None };
        if self.is_exempt(contact) {
            return Ok(exempt);
        }
        match self.judge(contact, Audience::Enforced) {
            Err(denied) if self.is_audit => Ok(Allowed { audited: Some(denied), ..exempt }),
            Ok(allowed) if self.is_watched(contact) => {
                Ok(Allowed { audited: self.judge(contact, Audience::All).err(), ..allowed })
            }
            judged => judged,
        }
    }

    /// The policies that isolate an identity in a direction.
    pub fn isolating(&self, identity: IdentityId, direction: Direction) -> &[PolicyId] {
        self.side(Some(identity), direction).map_or(&[], |(_, side)| &side.isolation)
    }

    /// The policy of this id.
    pub fn policy(&self, id: PolicyId) -> Option<&Policy> {
        self.policies.get(id.0 as usize).map(|policy| &**policy)
    }

    /// Whether the peer of a rule is the other end of the contact, whatever the port.
    pub fn matches_peer(&self, rule: &Rule, direction: Direction, contact: &Contact) -> bool {
        self.match_peer(&rule.peers, &self.seen(contact, direction))
    }

    /// Whether the ports of a rule are those of the contact, whoever the other end is.
    pub fn matches_port(&self, rule: &Rule, direction: Direction, contact: &Contact) -> bool {
        rule.ports.match_port(&self.seen(contact, direction))
    }

    fn is_exempt(&self, contact: &Contact) -> bool {
        let Contact { source, target, protocol, is_translated, .. } = contact;
        let is_echo = matches!(*protocol, Protocol::ICMP | Protocol::ICMPV6);
        (source.identity.is_none() && target.identity.is_none())
            || (source.address == target.address && !is_translated)
            || (is_echo && self.echo == Echo::Allowed)
    }

    fn is_watched(&self, contact: &Contact) -> bool {
        let watched = |identity, direction| {
            self.side(identity, direction).is_some_and(|(_, side)| side.has_audited)
        };
        watched(contact.source.identity, Direction::Egress)
            || watched(contact.target.identity, Direction::Ingress)
    }

    fn judge(&self, contact: &Contact, audience: Audience) -> Result<Allowed, Denied> {
        let egress = self.judge_side(contact, Direction::Egress, audience)?;
        let ingress = match (contact.source.place, contact.target.place) {
            // whoever looks after a machine must reach it
            (Place::Host(own), Place::Behind(router)) if own == router => Grant::Exempt,
            _ => self.judge_side(contact, Direction::Ingress, audience)?,
        };
        Ok(Allowed { egress, ingress, audited: None })
    }

    fn judge_side(
        &self,
        contact: &Contact,
        direction: Direction,
        audience: Audience,
    ) -> Result<Grant, Denied> {
        let own = match direction {
            Direction::Egress => contact.source.identity,
            Direction::Ingress => contact.target.identity,
        };
        let Some((identity, side)) = self.side(own, direction) else { return Ok(Grant::Exempt) };
        let seen = self.seen(contact, direction);
        let denied = |tier, rule| Err(Denied { direction, identity, tier, rule });

        match self.first_match(&side.admin, direction, &seen, audience) {
            Some((rule, Action::Accept)) => return Ok(Grant::Rule(rule)),
            Some((rule, Action::Deny)) => return denied(Tier::Admin, Some(rule)),
            Some((_, Action::Pass)) | None => {}
        }
        // ordered rules may keep a machine from itself, isolation never does
        let is_itself = contact.source.address == contact.target.address;
        if self.is_isolated(side, audience) {
            return match self.first_match(&side.isolation, direction, &seen, audience) {
                _ if is_itself => Ok(Grant::Exempt),
                Some((rule, _)) => Ok(Grant::Rule(rule)),
                None => denied(Tier::Isolation, None),
            };
        }
        match self.first_match(&side.baseline, direction, &seen, audience) {
            Some((rule, Action::Accept)) => Ok(Grant::Rule(rule)),
            Some((rule, Action::Deny)) => denied(Tier::Baseline, Some(rule)),
            Some((_, Action::Pass)) | None => match side.fallback {
                Fallback::Deny if !is_itself => denied(Tier::Fallback, None),
                _ => Ok(Grant::Fallback),
            },
        }
    }

    /// Whether any policy that counts isolates.
    fn is_isolated(&self, side: &Side, audience: Audience) -> bool {
        match audience {
            Audience::Enforced if side.has_audited => {
                side.isolation.iter().any(|id| self.policy(*id).is_some_and(|p| !p.is_audited))
            }
            _ => !side.isolation.is_empty(),
        }
    }

    /// The first rule of these policies that matches, and what it does.
    fn first_match(
        &self,
        policies: &[PolicyId],
        direction: Direction,
        seen: &Seen<'_>,
        audience: Audience,
    ) -> Option<(RuleId, Action)> {
        policies.iter().find_map(|id| {
            let policy = self.policy(*id)?;
            if policy.is_audited && audience == Audience::Enforced {
                return None;
            }
            let matches =
                |rule: &Rule| rule.ports.match_port(seen) && self.match_peer(&rule.peers, seen);
            let (index, rule) =
                (0..).zip(policy.rules(direction)).find(|(_, rule)| matches(rule))?;
            Some((RuleId { policy: *id, direction, index }, rule.action))
        })
    }

    #[inline]
    fn match_peer(&self, peers: &Peers, seen: &Seen<'_>) -> bool {
        let Peers::Listed { selections, blocks } = peers else { return true };
        let is_selected = |identity: IdentityId| {
            selections.iter().any(|SelectionId(at)| {
                self.selections.get(*at as usize).is_some_and(|set| set.contains(identity))
            })
        };
        seen.identity.is_some_and(is_selected)
            || blocks.as_ref().is_some_and(|blocks| blocks.contains(seen.peer))
    }

    fn seen(&self, contact: &Contact, direction: Direction) -> Seen<'_> {
        let Contact { source, target, protocol, port, .. } = *contact;
        let peer = match direction {
            Direction::Egress => target,
            Direction::Ingress => source,
        };
        let names = self.identity(target.identity).map_or(&[][..], |identity| &identity.names);
        Seen { peer: peer.address, identity: peer.identity, names, protocol, port }
    }

    fn identity(&self, id: Option<IdentityId>) -> Option<&Identity> {
        self.identities.get(id?.0 as usize).map(|identity| &**identity)
    }

    fn side(&self, id: Option<IdentityId>, direction: Direction) -> Option<(IdentityId, &Side)> {
        let identity = self.identity(id)?;
        let side = match direction {
            Direction::Egress => &identity.egress,
            Direction::Ingress => &identity.ingress,
        };
        Some((id?, side))
    }
}

#[cfg(test)]
mod tests;
