//! A part of pcap's filter language, without its library.
//!
//! There is: `host`, `net`, `port` and `portrange`, each with `src` or `dst` before it if wanted;
//! `tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `arp`, `ip`, `ip6`; `less` and `greater`; `and`, `or`,
//! `not` (`&&`, `||`, `!`) and parentheses. There is not: `ether`, `vlan`, `gateway`, names of
//! hosts, arithmetic on octets (`tcp[13]`), and the abbreviation that leaves a qualifier out after
//! `and`.
//!
//! Source: pcap-filter(7).

use std::net::IpAddr;

use ipnet::IpNet;
use kswitch_tables::Protocol;

use crate::dataplane::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// What must hold for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// It is of this kind of Ethernet frame.
    Ethertype(u16),
    /// It is of this protocol.
    Protocol(Protocol),
    /// An address of it lies here.
    Net(Side, IpNet),
    /// A port of it lies between these, both included.
    Ports(Side, u16, u16),
    /// It has so many octets at least.
    Greater(usize),
    /// It has so many octets at most.
    Less(usize),
    /// Either holds.
    Or(Box<Filter>, Box<Filter>),
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// This does not hold.
    Not(Box<Filter>),
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one it is from.
    Source,
    /// The one it is for.
    Target,
    /// Any.
    Either,
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// The word that was not expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('!', " ! ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut words = Words { words: &words, at: 0 };
        let filter = words.or()?;
        match words.peek() {
            None => Ok(filter),
            Some(word) => Err(format!("did not expect {word:?}")),
        }
    }

    /// Whether it takes a frame, Ethernet header first.
    pub fn takes(&self, frame: &[u8]) -> bool {
        let flow = || super::flow::of(frame);
        match self {
            Self::Ethertype(wanted) => ethertype(frame) == Some(*wanted),
            Self::Protocol(wanted) => flow().is_some_and(|flow| flow.protocol == *wanted),
            Self::Net(side, net) => flow().is_some_and(|flow| {
                let has = |end: kswitch_tables::Endpoint| net.contains(&end.address.to_ip());
                side.any(|side| match side {
                    Side::Source => has(flow.source),
                    _ => has(flow.target),
                })
            }),
            Self::Ports(side, first, last) => flow().is_some_and(|flow| {
                let has = |end: kswitch_tables::Endpoint| (*first..=*last).contains(&end.port);
                flow.protocol.has_ports()
                    && side.any(|side| match side {
                        Side::Source => has(flow.source),
                        _ => has(flow.target),
                    })
            }),
            Self::Greater(octets) => frame.len() >= *octets,
            Self::Less(octets) => frame.len() <= *octets,
            Self::Or(one, other) => one.takes(frame) || other.takes(frame),
            Self::And(one, other) => one.takes(frame) && other.takes(frame),
            Self::Not(inner) => !inner.takes(frame),
        }
    }
}

impl Side {
    /// Whether it holds for the end that is meant, or for any.
    fn any(self, holds: impl Fn(Self) -> bool) -> bool {
        match self {
            Self::Either => holds(Self::Source) || holds(Self::Target),
            one => holds(one),
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(12..)?.first_chunk()?))
}

struct Words<'w> {
    words: &'w [&'w str],
    at: usize,
}

impl<'w> Words<'w> {
    fn peek(&self) -> Option<&'w str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self, what: &str) -> Result<&'w str, String> {
        let word = self.peek().ok_or_else(|| format!("expected {what} at the end"))?;
        self.at += 1;
        Ok(word)
    }

    fn take(&mut self, any: &[&str]) -> bool {
        let is_there = self.peek().is_some_and(|word| any.contains(&word));
        self.at += usize::from(is_there);
        is_there
    }

    fn or(&mut self) -> Result<Filter, String> {
        let mut one = self.and()?;
        while self.take(&["or", "||"]) {
            one = Filter::Or(Box::new(one), Box::new(self.and()?));
        }
        Ok(one)
    }

    fn and(&mut self) -> Result<Filter, String> {
        let mut one = self.not()?;
        while self.take(&["and", "&&"]) {
            one = Filter::And(Box::new(one), Box::new(self.not()?));
        }
        Ok(one)
    }

    fn not(&mut self) -> Result<Filter, String> {
        if self.take(&["not", "!"]) {
            return Ok(Filter::Not(Box::new(self.not()?)));
        }
        if self.take(&["("]) {
            let inner = self.or()?;
            return if self.take(&[")"]) { Ok(inner) } else { Err("expected )".into()) };
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Filter, String> {
        let word = self.next("a condition")?;
        let protocol = match word {
            "tcp" => Some(Filter::Protocol(Protocol::TCP)),
            "udp" => Some(Filter::Protocol(Protocol::UDP)),
            "sctp" => Some(Filter::Protocol(Protocol::SCTP)),
            "icmp" => Some(Filter::Protocol(Protocol::ICMP)),
            "icmp6" => Some(Filter::Protocol(Protocol::ICMPV6)),
            "arp" => Some(Filter::Ethertype(ETHERTYPE_ARP)),
            "ip" => Some(Filter::Ethertype(ETHERTYPE_IPV4)),
            "ip6" => Some(Filter::Ethertype(ETHERTYPE_IPV6)),
            _ => None,
        };
        if let Some(protocol) = protocol {
            // `tcp port 80` is short for `tcp and port 80`
            let goes_on =
                matches!(self.peek(), Some("src" | "dst" | "host" | "net" | "port" | "portrange"));
            return if goes_on {
                Ok(Filter::And(Box::new(protocol), Box::new(self.primitive()?)))
            } else {
                Ok(protocol)
            };
        }
        let (side, word) = match word {
            "src" => (Side::Source, self.next("host, net or port")?),
            "dst" => (Side::Target, self.next("host, net or port")?),
            word => (Side::Either, word),
        };
        match word {
            "host" => {
                let text = self.next("an address")?;
                let address: IpAddr =
                    text.parse().map_err(|_| format!("{text:?} is no address"))?;
                Ok(Filter::Net(side, address.into()))
            }
            "net" => {
                let text = self.next("a CIDR")?;
                let net: IpNet = text.parse().map_err(|_| format!("{text:?} is no CIDR"))?;
                Ok(Filter::Net(side, net.trunc()))
            }
            "port" => {
                let port = number(self.next("a port")?)?;
                Ok(Filter::Ports(side, port, port))
            }
            "portrange" => {
                let text = self.next("two ports")?;
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                Ok(Filter::Ports(side, number(first)?, number(last)?))
            }
            "greater" | "less" if side == Side::Either => {
                let octets = usize::from(number(self.next("a length")?)?);
                Ok(if word == "less" { Filter::Less(octets) } else { Filter::Greater(octets) })
            }
            other => Err(format!("does not know {other:?}")),
        }
    }
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no number up to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::VNET_HEADER;
    use crate::sim::craft::Craft;
    use kswitch_tables::{Endpoint, MacAddress};

    #[test]
    fn expressions_take_what_they_say() {
        let end =
            |address: &str, port| Endpoint::new(address.parse::<IpAddr>().unwrap().into(), port);
        let frame = Craft::syn(end("10.4.0.3", 40_000), end("10.8.0.80", 80));
        let frame = frame.frame(MacAddress([2; 6]), MacAddress([4; 6]));
        let frame = &frame[VNET_HEADER..];
        for (text, takes) in [
            ("tcp", true),
            ("udp", false),
            ("ip", true),
            ("ip6 or arp", false),
            ("port 80", true),
            ("tcp port 80", true),
            ("udp port 80", false),
            ("src port 80", false),
            ("dst port 80", true),
            ("tcp dst portrange 79-81", true),
            ("host 10.4.0.3", true),
            ("dst host 10.4.0.3", false),
            ("src net 10.4.0.0/14 and not port 443", true),
            ("!(host 10.4.0.3 || udp)", false),
            ("udp or tcp and port 443", false),
            ("(udp or tcp) and port 80", true),
            ("greater 1000", false),
            ("less 1000", true),
        ] {
            assert_eq!(Filter::parse(text).unwrap().takes(frame), takes, "{text}");
        }
        for (text, said) in [
            ("", "expected a condition at the end"),
            ("host web", "\"web\" is no address"),
            ("port x", "\"x\" is no number up to 65535"),
            ("(tcp", "expected )"),
            ("tcp udp", "did not expect \"udp\""),
            ("vlan 3", "does not know \"vlan\""),
        ] {
            assert_eq!(Filter::parse(text).unwrap_err(), said, "{text}");
        }
    }
}
