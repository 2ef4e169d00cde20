//! Numbers in a frame, and what is computed of them.

use kswitch_tables::Protocol;

use super::Layers;
use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Why a frame has no such number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It is of another protocol: no relation holds.
    Protocol,
    /// It is too short, or by zero was divided: the frame is not taken at all.
    Beyond,
}

/// A header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The Ethernet header.
    Ethernet,
    /// What follows it, where it is of this kind.
    Network(u16),
    /// What follows IP, where it is of this protocol.
    Transport(Protocol),
}

/// A number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Octets {
    /// This one.
    Number(u32),
    /// Octets of the frame.
    Length,
    /// So many octets of a header from one on, as a number.
    At(Header, Box<Octets>, usize),
    /// Computed of two.
    Of(Box<Octets>, Operation, Box<Octets>),
}

/// What is computed of two numbers: the operations of C on unsigned ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Or,
    Xor,
    And,
    Left,
    Right,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How two numbers stand to each other: the relations of C on unsigned ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `=`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
}

impl Header {
    /// The header of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ether" => Self::Ethernet,
            "ip" => Self::Network(ETHERTYPE_IPV4),
            "ip6" => Self::Network(ETHERTYPE_IPV6),
            "arp" => Self::Network(ETHERTYPE_ARP),
            "tcp" => Self::Transport(Protocol::TCP),
            "udp" => Self::Transport(Protocol::UDP),
            "sctp" => Self::Transport(Protocol::SCTP),
            "icmp" => Self::Transport(Protocol::ICMP),
            "icmp6" => Self::Transport(Protocol::ICMPV6),
            _ => return None,
        })
    }

    /// Where it begins.
    fn start(self, layers: &Layers) -> Result<usize, Miss> {
        let start = match self {
            Self::Ethernet => Some(0),
            Self::Network(kind) => {
                layers.ethertype.filter(|it| *it == kind).map(|_| ETHERNET_HEADER)
            }
            Self::Transport(protocol) => {
                layers.protocol.filter(|it| *it == protocol).and(layers.transport)
            }
        };
        start.ok_or(Miss::Protocol)
    }
}

impl Octets {
    /// The number in a frame.
    pub(super) fn value(&self, frame: &[u8], layers: &Layers) -> Result<u32, Miss> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Length => u32::try_from(frame.len()).map_err(|_| Miss::Beyond),
            Self::At(header, offset, count) => {
                let start = header.start(layers)?;
                let offset = usize::try_from(offset.value(frame, layers)?);
                let start = offset.ok().and_then(|offset| start.checked_add(offset));
                let end = start.and_then(|start| start.checked_add(*count));
                let octets = start.zip(end).and_then(|(start, end)| frame.get(start..end));
                let octets = octets.ok_or(Miss::Beyond)?;
                Ok(octets.iter().fold(0, |sum, octet| (sum << 8) | u32::from(*octet)))
            }
            Self::Of(one, operation, other) => {
                operation.of(one.value(frame, layers)?, other.value(frame, layers)?)
            }
        }
    }

    /// Whether it is zero, whatever the frame.
    pub(super) const fn is_zero(&self) -> bool {
        matches!(self, Self::Number(0))
    }
}

impl Operation {
    const fn of(self, one: u32, other: u32) -> Result<u32, Miss> {
        let value = match self {
            Self::Or => Some(one | other),
            Self::Xor => Some(one ^ other),
            Self::And => Some(one & other),
            Self::Left => Some(if other < 32 { one << other } else { 0 }),
            Self::Right => Some(if other < 32 { one >> other } else { 0 }),
            Self::Add => Some(one.wrapping_add(other)),
            Self::Subtract => Some(one.wrapping_sub(other)),
            Self::Multiply => Some(one.wrapping_mul(other)),
            Self::Divide => one.checked_div(other),
            Self::Remainder => one.checked_rem(other),
        };
        match value {
            Some(value) => Ok(value),
            None => Err(Miss::Beyond),
        }
    }
}

impl Relation {
    /// Whether two numbers stand in it.
    pub(super) const fn holds(self, one: u32, other: u32) -> bool {
        match self {
            Self::Equal => one == other,
            Self::NotEqual => one != other,
            Self::Less => one < other,
            Self::LessOrEqual => one <= other,
            Self::Greater => one > other,
            Self::GreaterOrEqual => one >= other,
        }
    }
}

/// Numbers that have names.
///
/// Source: pcap-filter(7).
const NAMES: [(&str, u32); 26] = [
    ("tcpflags", 13),
    ("tcp-fin", 0x01),
    ("tcp-syn", 0x02),
    ("tcp-rst", 0x04),
    ("tcp-push", 0x08),
    ("tcp-ack", 0x10),
    ("tcp-urg", 0x20),
    ("tcp-ece", 0x40),
    ("tcp-cwr", 0x80),
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-timxceed", 11),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-routersolicit", 133),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
];

/// A number as it is written: decimal, hexadecimal, or by name.
pub(super) fn number(text: &str) -> Option<u32> {
    let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let hexadecimal =
        || text.strip_prefix("0x").and_then(|text| u32::from_str_radix(text, 16).ok());
    named.or_else(hexadecimal).or_else(|| text.parse().ok())
}
