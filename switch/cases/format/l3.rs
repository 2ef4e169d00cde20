//! Single packets, as odd as need be, and the answers to them.

use serde::Deserialize;

use super::{Change, HostRef, Span};

/// A step of a case about single packets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What is sent and what must come of it.
    #[serde(default)]
    pub probes: Vec<Probe>,
}

/// A packet and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub send: Send,
    /// What must come of it.
    pub expect: Expect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// What kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A UDP datagram.
    Udp,
    /// A TCP segment, a SYN.
    Tcp,
    /// An ICMP message of IPv4.
    Icmp,
    /// An ICMP message of IPv6.
    Icmpv6,
    /// A question who has an address.
    ArpRequest,
    /// The answer to that.
    ArpReply,
    /// The question of IPv6.
    NeighborSolicitation,
    /// Its answer.
    NeighborAdvertisement,
}

/// A word for something that is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Wrong.
    Bad,
    /// Right, as it is if nothing is said.
    Good,
    /// Zero.
    Zero,
}

/// An option of neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NdOption {
    /// The sender's Ethernet address.
    SourceLinkLayer,
    /// The target's Ethernet address.
    TargetLinkLayer,
    /// An option that claims to have no length.
    LengthZero,
}

/// A packet to be sent; what is not said is ordinary. Addresses may be `$gateway4`, `$gateway6`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Who sends it.
    pub from: HostRef,
    /// What it is.
    pub kind: Kind,
    /// Where to, with a port where there are such.
    pub to: Option<String>,
    /// IP source.
    pub source: Option<String>,
    /// IP destination, or `solicited-node`.
    pub destination: Option<String>,
    /// From which port, host order.
    pub source_port: Option<u16>,
    /// TTL.
    pub ttl: Option<u8>,
    /// Hop limit.
    pub hop_limit: Option<u8>,
    /// Don't fragment.
    pub df: Option<bool>,
    /// Octets of the IP packet.
    pub ip_octets: Option<usize>,
    /// Octets that the IP header claims.
    pub ip_octets_claimed: Option<u16>,
    /// Octets above the transport header.
    pub data_octets: Option<usize>,
    /// IP version in the header.
    pub version: Option<u8>,
    /// Header length in the header, words of four octets.
    pub ihl: Option<u8>,
    /// Where a fragment belongs, units of eight octets.
    pub fragment_offset: Option<u16>,
    /// Whether more fragments follow.
    pub more_fragments: Option<bool>,
    /// Octets behind the IP packet.
    pub frame_padding: Option<usize>,
    /// The checksum above IP.
    pub checksum: Option<Check>,
    /// The checksum of the IP header.
    pub ip_checksum: Option<Check>,
    /// Type of an ICMP message, by name.
    #[serde(rename = "type")]
    pub message: Option<String>,
    /// Code of an ICMP message.
    pub code: Option<u8>,
    /// Identifier of an echo.
    pub id: Option<u16>,
    /// Sequence number of an echo.
    pub seq: Option<u16>,
    /// Who is asked for.
    pub target: Option<String>,
    /// Who asks, as ARP says it.
    pub sender_ip: Option<String>,
    /// Options of neighbour discovery.
    #[serde(default)]
    pub options: Vec<NdOption>,
}

/// What must come of a packet.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the format")]
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// What the sender is answered.
    pub reply: Option<Reply>,
    /// Where it arrives.
    pub arrives_at: Option<HostRef>,
    /// Its TTL at arrival.
    pub ttl: Option<Span>,
    /// Its hop limit at arrival.
    pub hop_limit: Option<Span>,
    /// Whether it does not arrive where it was sent to.
    #[serde(default)]
    pub not_at_destination: bool,
    /// Whether it arrives nowhere but on its own link.
    #[serde(default)]
    pub not_forwarded: bool,
    /// Seconds in which nothing is answered.
    pub no_reply_within: Option<u32>,
    /// Seconds in which no ICMP error is answered.
    pub no_icmp_error_within: Option<u32>,
    /// Whether it arrives in fragments.
    #[serde(default)]
    pub as_fragments: bool,
    /// Whether its payload arrives whole.
    #[serde(default)]
    pub payload_whole: bool,
}

/// An answer; what is not said may be anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// What it is.
    pub kind: Kind,
    /// Type of an ICMP message, by name.
    #[serde(rename = "type")]
    pub message: Option<String>,
    /// Code of an ICMP message.
    pub code: Option<u8>,
    /// Identifier of an echo.
    pub id: Option<u16>,
    /// Sequence number of an echo.
    pub seq: Option<u16>,
    /// Whether its data is what was sent.
    pub data_same: Option<bool>,
    /// What would fit, octets.
    pub mtu: Option<u32>,
    /// `the packet sent`.
    pub quotes: Option<String>,
    /// IP source.
    pub source: Option<String>,
    /// IP destination.
    pub destination: Option<String>,
    /// TTL.
    pub ttl: Option<Span>,
    /// Hop limit.
    pub hop_limit: Option<Span>,
    /// Whose address ARP tells.
    pub sender_ip: Option<String>,
    /// To whom ARP tells it.
    pub target_ip: Option<String>,
    /// Ethernet address to which ARP tells it: `mac of a`.
    pub target_mac: Option<String>,
    /// The Ethernet address that ARP tells: `mac of a`.
    pub sender_mac: Option<String>,
    /// Who neighbour discovery is about.
    pub target: Option<String>,
    /// Whether it says that it was asked for.
    pub solicited: Option<bool>,
    /// Whether it says that it overrides what was known.
    #[serde(rename = "override")]
    pub overrides: Option<bool>,
    /// Whether it says that the sender is a router.
    pub router: Option<bool>,
    /// Options that it must have.
    #[serde(default)]
    pub options: Vec<NdOption>,
}
