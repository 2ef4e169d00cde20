//! Questions, and what is answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Name;

/// How long answers may be kept, seconds.
///
/// Source: CoreDNS, plugin kubernetes, `ttl`.
pub const TTL: u32 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name that this one stands for.
    Cname,
    /// The name of an address.
    Ptr,
    /// Ports and who serves them.
    Srv,
    /// Text.
    Txt,
    /// Name servers.
    Ns,
    /// What a zone says of itself.
    Soa,
    /// Whatever there is.
    Any,
    /// What nobody here has.
    Other,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// The name that this one stands for.
    Cname(Name),
    /// The name of an address.
    Ptr(Name),
    /// A port and who serves it; all have the same priority.
    Srv {
        /// Share of this one among its peers.
        weight: u16,
        /// The port, host order.
        port: u16,
        /// Who serves it.
        target: Name,
    },
    /// Text.
    Txt(Box<str>),
    /// A name server.
    Ns(Name),
    /// What a zone says of itself.
    Soa {
        /// The name server that has it first hand.
        server: Name,
        /// Who is responsible.
        mailbox: Name,
        /// Which state of the zone it is.
        serial: u32,
    },
}

impl Data {
    /// An address.
    pub const fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }

    /// Whether somebody who asks for `wanted` asks for this.
    pub fn is_a(&self, wanted: Type) -> bool {
        let own = match self {
            Self::A(_) => Type::A,
            Self::Aaaa(_) => Type::Aaaa,
            Self::Cname(_) => Type::Cname,
            Self::Ptr(_) => Type::Ptr,
            Self::Srv { .. } => Type::Srv,
            Self::Txt(_) => Type::Txt,
            Self::Ns(_) => Type::Ns,
            Self::Soa { .. } => Type::Soa,
        };
        wanted == Type::Any || wanted == own
    }
}

/// A record of class Internet that may be kept for [`TTL`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// What it says.
    pub data: Data,
}

/// Whether the name that was asked for exists.
///
/// Source: RFC 2308 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It does; without answers, it has nothing of what was asked for.
    Exists,
    /// Neither it nor anything below it does.
    DoesNotExist,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether there is such a name.
    pub existence: Existence,
    /// Whether it comes from who has it first hand.
    pub is_authoritative: bool,
    /// What was asked for, with the aliases that led there before it.
    pub answers: Vec<Record>,
    /// The zone in which there is no such thing.
    pub authority: Option<Record>,
    /// What who asked will ask next.
    pub additional: Vec<Record>,
    /// The name that nobody here knows, if there is somebody outside to ask.
    pub unknown: Option<Name>,
}
