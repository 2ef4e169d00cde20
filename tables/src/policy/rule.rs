//! Rules: whom and what they match, and what then becomes of it.

use super::{Blocks, IdentityId, PolicyId};
use crate::{Address, Protocol};

/// Index of an [`IdentitySet`](super::IdentitySet) that rules refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectionId(pub u32);

/// A name of a port, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(pub u32);

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets it pass; nobody else is asked in this direction.
    Accept,
    /// Refuses it.
    Deny,
    /// Leaves the tier.
    Pass,
}

/// Which way a contact goes, seen from the machine whose rules are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Away from it.
    Egress,
    /// To it.
    Ingress,
}

/// The other end of the contacts that a rule is about.
#[derive(Clone, Debug)]
pub enum Peers {
    /// Any.
    Everyone,
    /// Any of these.
    Listed {
        /// Machines by identity.
        selections: Box<[SelectionId]>,
        /// Whoever has such an address, machines with an identity too.
        blocks: Option<Blocks>,
    },
}

/// Ports of a protocol, host order, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A port that every target gives its own number to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// What it is called.
    pub name: PortName,
    /// The protocol; `None`: the one that the target says.
    pub protocol: Option<Protocol>,
}

/// What contacts a rule is about.
#[derive(Clone, Debug)]
pub enum Ports {
    /// Any protocol, any port.
    All,
    /// Any of these; other protocols never.
    Listed {
        /// By number.
        ranges: Box<[PortRange]>,
        /// By name.
        names: Box<[NamedPort]>,
    },
}

/// One rule of a policy.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// With whom.
    pub peers: Peers,
    /// On which ports of the target.
    pub ports: Ports,
}

/// Which rule of which policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyId,
    /// In which of its lists.
    pub direction: Direction,
    /// Index in that list.
    pub index: u16,
}

/// A named port of an identity, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNumber {
    /// Its name.
    pub name: PortName,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, host order.
    pub port: u16,
}

/// A policy: rules for each direction, in order.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whether it is only watched: what it would refuse passes, what it would let pass may not.
    pub is_audited: bool,
    /// Rules about what the selected send.
    pub egress: Box<[Rule]>,
    /// Rules about what is sent to the selected.
    pub ingress: Box<[Rule]>,
}

impl Policy {
    /// The rules of a direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// A contact as the rules of one of its ends see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'t> {
    /// Address of the other end.
    pub(super) peer: Address,
    /// Identity of the other end.
    pub(super) identity: Option<IdentityId>,
    /// Named ports of the target, sorted.
    pub(super) names: &'t [PortNumber],
    pub(super) protocol: Protocol,
    /// Port of the target, host order.
    pub(super) port: u16,
}

impl Ports {
    /// Whether a contact with a target that has these named ports is among them.
    #[inline]
    pub(super) fn match_port(&self, seen: &Seen<'_>) -> bool {
        let Self::Listed { ranges, names } = self else { return true };
        let Seen { protocol, port, .. } = *seen;
        let in_range = |range: &PortRange| {
            range.protocol == protocol && (range.first..=range.last).contains(&port)
        };
        let is_named = |named: &NamedPort| {
            let number = PortNumber { name: named.name, protocol, port };
            named.protocol.is_none_or(|wanted| wanted == protocol)
                && seen.names.binary_search(&number).is_ok()
        };
        ranges.iter().any(in_range) || names.iter().any(is_named)
    }
}
