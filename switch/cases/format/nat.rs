//! Address translation: checksums, packets before and after, and events on the wire.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::Value;

use super::{Change, HostRef, Span, Word};

/// A sum of octets, in hex.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The octets.
    pub data: String,
    /// Their one's-complement sum.
    pub sum: Option<String>,
    /// Its complement.
    pub checksum: Option<String>,
}

/// A checksum after one word of what it covers was replaced, in hex.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The checksum before.
    pub checksum: String,
    /// The word before.
    pub old: String,
    /// The word after.
    pub new: String,
    /// The checksum after.
    pub expect: Option<String>,
    /// Checksums of which one must come of it.
    #[serde(default)]
    pub expect_any: Vec<String>,
}

/// A packet before and after translation, in hex.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Translated {
    /// Its name.
    pub name: String,
    /// What is translated.
    pub translate: Translate,
    /// The IP packet before.
    pub before: String,
    /// The IP packet after.
    pub after: String,
    /// A remark.
    #[serde(default)]
    pub note: String,
}

/// Which fields become what; those not named stay.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Translate {
    /// Source, before.
    pub src: Option<End>,
    /// Source, after.
    pub new_src: Option<End>,
    /// Destination, before.
    pub dst: Option<End>,
    /// Destination, after.
    pub new_dst: Option<End>,
    /// Identifier of an echo, before.
    pub id: Option<u16>,
    /// Identifier of an echo, after.
    pub new_id: Option<u16>,
    /// Source of the quoted packet, before.
    pub quoted_src: Option<End>,
    /// Source of the quoted packet, after.
    pub new_quoted_src: Option<End>,
    /// Destination of the quoted packet, before.
    pub quoted_dst: Option<End>,
    /// Destination of the quoted packet, after.
    pub new_quoted_dst: Option<End>,
    /// Identifier of the quoted echo, before.
    pub quoted_id: Option<u16>,
    /// Identifier of the quoted echo, after.
    pub new_quoted_id: Option<u16>,
}

/// An address, with a port or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct End {
    /// The address.
    pub ip: IpAddr,
    /// The port, host order.
    pub port: Option<u16>,
}

impl TryFrom<String> for End {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        let end = text.parse::<SocketAddr>();
        let end = end.map_err(|_| format!("{text:?} is neither an address nor `address:port`"))?;
        Ok(Self { ip: end.ip(), port: Some(end.port()) })
    }
}

/// A step of a case about events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What is done, in order.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// Something that is done.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "EventFields")]
pub enum Event {
    /// A packet is sent.
    Send(Box<Send>),
    /// Time passes.
    Wait {
        /// So much of it.
        seconds: u32,
    },
    /// Saved sources are compared.
    Compare {
        /// Those that must be the same.
        equal: Vec<Word>,
        /// Those that must differ.
        different: Vec<Word>,
    },
    /// The rest of the handshake that the last SYN began.
    CompleteHandshake {
        /// Sequence number of the client after its SYN.
        client_seq: u32,
        /// Sequence number of the server's SYN.
        server_seq: u32,
    },
    /// Objects are created or replaced.
    Apply(Vec<Value>),
    /// An object is deleted.
    Delete {
        /// Its kind.
        kind: String,
        /// Its namespace; empty for kinds without.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An event is repeated every second until it goes as expected.
    RepeatUntil {
        /// How long.
        seconds: u32,
        /// What is repeated.
        event: Box<Self>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Do {
    Send,
    Wait,
    Compare,
    CompleteHandshake,
    Apply,
    Delete,
    RepeatUntil,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    #[serde(rename = "do")]
    what: Do,
    seconds: Option<u32>,
    equal: Option<Vec<Word>>,
    different: Option<Vec<Word>>,
    server_seq: Option<u32>,
    client_seq: Option<u32>,
    object: Option<Value>,
    objects: Option<Vec<Value>>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    event: Option<Box<Event>>,
    protocol: Option<Protocol>,
    from: Option<HostRef>,
    source_port: Option<u16>,
    to: Option<To>,
    flags: Option<Flags>,
    seq: Option<u32>,
    ack: Option<u32>,
    icmp: Option<Icmp>,
    payload_octets: Option<usize>,
    fragment_octets: Option<usize>,
    fragment_order: Option<Order>,
    expect: Option<Expect>,
}

impl TryFrom<EventFields> for Event {
    type Error = String;

    fn try_from(fields: EventFields) -> Result<Self, String> {
        fn must<T>(name: &str, value: Option<T>) -> Result<T, String> {
            value.ok_or_else(|| format!("`{name}` is missing"))
        }
        Ok(match fields.what {
            Do::Send => Self::Send(Box::new(Send {
                protocol: must("protocol", fields.protocol)?,
                from: must("from", fields.from)?,
                source_port: fields.source_port,
                to: must("to", fields.to)?,
                flags: fields.flags,
                seq: fields.seq,
                ack: fields.ack,
                icmp: fields.icmp,
                payload_octets: fields.payload_octets,
                fragment_octets: fields.fragment_octets,
                fragment_order: fields.fragment_order.unwrap_or_default(),
                expect: fields.expect.unwrap_or_default(),
            })),
            Do::Wait => Self::Wait { seconds: must("seconds", fields.seconds)? },
            Do::Compare => Self::Compare {
                equal: fields.equal.unwrap_or_default(),
                different: fields.different.unwrap_or_default(),
            },
            Do::CompleteHandshake => Self::CompleteHandshake {
                client_seq: must("client_seq", fields.client_seq)?,
                server_seq: must("server_seq", fields.server_seq)?,
            },
            Do::Apply => {
                let objects = fields.objects.into_iter().flatten().chain(fields.object);
                Self::Apply(objects.collect())
            }
            Do::Delete => Self::Delete {
                kind: must("kind", fields.kind)?,
                namespace: fields.namespace.unwrap_or_default(),
                name: must("name", fields.name)?,
            },
            Do::RepeatUntil => Self::RepeatUntil {
                seconds: must("seconds", fields.seconds)?,
                event: must("event", fields.event)?,
            },
        })
    }
}

/// A packet to be sent.
#[derive(Clone, Debug)]
pub struct Send {
    /// Its protocol.
    pub protocol: Protocol,
    /// Who sends it.
    pub from: HostRef,
    /// From which port, host order.
    pub source_port: Option<u16>,
    /// Where to.
    pub to: To,
    /// Flags of a TCP segment.
    pub flags: Option<Flags>,
    /// Sequence number of a TCP segment.
    pub seq: Option<u32>,
    /// Acknowledgement number of a TCP segment.
    pub ack: Option<u32>,
    /// What an ICMP message says.
    pub icmp: Option<Icmp>,
    /// Octets above the transport header.
    pub payload_octets: Option<usize>,
    /// The largest fragment it is cut to, octets.
    pub fragment_octets: Option<usize>,
    /// In which order the fragments are sent.
    pub fragment_order: Order,
    /// What must come of it.
    pub expect: Expect,
}

/// A protocol that events use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
    /// ICMP of the family at hand.
    #[serde(rename = "ICMP", alias = "ICMPv6", alias = "ICMPV6")]
    Icmp,
}

/// Where a packet is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum To {
    /// To an address, at a port if there is one.
    End(End),
    /// To a saved source, at its port or another one.
    Saved(String, Option<u16>),
}

impl TryFrom<String> for To {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(name) = text.strip_prefix('$') else { return End::try_from(text).map(Self::End) };
        match name.rsplit_once(':') {
            Some((name, port)) => {
                let port = port.parse().map_err(|_| format!("{text:?} ends with no port"))?;
                Ok(Self::Saved(name.to_owned(), Some(port)))
            }
            None => Ok(Self::Saved(name.to_owned(), None)),
        }
    }
}

/// Flags of a TCP segment, by their letters: F, S, R, P, A, U.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Flags(pub u8);

impl TryFrom<String> for Flags {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let letters = "FSRPAU";
        let bit = |letter: char| letters.find(letter).map(|at| 1_u8 << at);
        let flags = text.chars().map(bit).try_fold(0, |flags, bit| Some(flags | bit?));
        flags.map(Self).ok_or_else(|| format!("{text:?} has other letters than {letters}"))
    }
}

/// In which order fragments are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Order {
    /// The first one first.
    #[default]
    #[serde(skip)]
    Forward,
    /// By number, counted from zero, or from one where there is no zero.
    Listed(Vec<usize>),
    /// By a word.
    Named(OrderName),
}

/// An order that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderName {
    /// The first one first.
    #[serde(alias = "in-order", alias = "ordered")]
    Forward,
    /// The last one first.
    #[serde(alias = "reverse", alias = "backwards", alias = "last-first")]
    Reversed,
}

/// What an ICMP message says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    /// Its type, by name.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its code.
    pub code: Option<u8>,
    /// Identifier of an echo: a number or `$name.id`.
    pub id: Option<Word>,
    /// Sequence number of an echo.
    pub seq: Option<u16>,
    /// What would fit, octets.
    pub mtu: Option<u32>,
    /// The packet it is about: `a -> b PROTO`.
    pub quotes: Option<String>,
}

/// What must come of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Where it arrives.
    pub arrives_at: Option<HostRef>,
    /// Where it may arrive.
    #[serde(default)]
    pub arrives_at_one_of: Vec<HostRef>,
    /// Its destination port at arrival.
    pub port: Option<Span>,
    /// Its source at arrival: `$name`, or an address with or without a port.
    pub source: Option<String>,
    /// Its source address at arrival: an address, `$name`, or `node` for one of the node's.
    pub source_ip: Option<String>,
    /// Its source port at arrival.
    pub source_port: Option<Span>,
    /// What it says at arrival, if it is an ICMP message.
    pub icmp: Option<Icmp>,
    /// Octets above its transport header at arrival, all fragments together.
    pub payload_octets: Option<usize>,
    /// How many times it arrives.
    pub count: Option<usize>,
    /// What its source at arrival is called from now on.
    pub save_source_as: Option<String>,
    /// What the pod it arrives at is called from now on.
    pub save_backend_as: Option<String>,
    /// Where it does not arrive.
    pub not_at: Option<HostRef>,
    /// Nothing arrives anywhere for so many seconds.
    pub nothing_within: Option<u32>,
    /// Whether nothing is asked.
    #[serde(default)]
    pub any: bool,
}
