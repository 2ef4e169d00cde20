//! Names of ICMP messages, and packets quoted in words.

use std::net::{IpAddr, SocketAddr};

use kswitch_tables::{Endpoint, Protocol};

use super::hosts::endpoint;
use super::topology::Broken;
use crate::sim::craft::Craft;

/// Types of ICMP messages by name, IPv4 and IPv6; `None` where a family has no such message.
///
/// Source: RFC 792; RFC 4443 §2.1; RFC 4861 §4.
const TYPES: [(&str, Option<u8>, Option<u8>); 13] = [
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("source-quench", Some(4), None),
    ("redirect", Some(5), Some(137)),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("router-solicitation", None, Some(133)),
    ("neighbor-solicitation", None, Some(135)),
    ("neighbor-advertisement", None, Some(136)),
];

/// The type that a name stands for.
///
/// # Errors
/// The family has no message of that name.
pub fn icmp_type(name: &str, is_v4: bool) -> Result<u8, Broken> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let known = TYPES.iter().find(|(known, _, _)| *known == name);
    let known = known.and_then(|(_, v4, v6)| if is_v4 { *v4 } else { *v6 });
    let family = if is_v4 { "ICMP" } else { "ICMPv6" };
    known.ok_or_else(|| Broken(format!("{family} has no message {name}")))
}

/// The name of a type, or its number.
pub fn icmp_name(kind: u8, is_v4: bool) -> String {
    let is_it = |(_, v4, v6): &&(&str, Option<u8>, Option<u8>)| {
        (if is_v4 { v4 } else { v6 }) == &Some(kind)
    };
    TYPES.iter().find(is_it).map_or_else(|| format!("type {kind}"), |(name, _, _)| (*name).into())
}

/// A packet in words: `a -> b PROTO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its source.
    pub source: Endpoint,
    /// Its target.
    pub target: Endpoint,
}

impl Quoted {
    /// Reads `a -> b PROTO`, in which `resolve` gives the ends.
    ///
    /// # Errors
    /// It is not of that form.
    pub fn read(
        text: &str,
        resolve: impl Fn(&str) -> Result<(IpAddr, Option<u16>), Broken>,
    ) -> Result<Self, Broken> {
        let broken = || Broken(format!("{text:?} is not `a -> b PROTO`"));
        let (source, rest) = text.split_once("->").ok_or_else(broken)?;
        let (target, protocol) = rest.trim().rsplit_once(' ').ok_or_else(broken)?;
        let (source, source_port) = resolve(source.trim())?;
        let (target, target_port) = resolve(target.trim())?;
        let protocol = match protocol.trim().to_ascii_uppercase().as_str() {
            "TCP" => Protocol::TCP,
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            "ICMP" if source.is_ipv4() => Protocol::ICMP,
            "ICMP" | "ICMPV6" => Protocol::ICMPV6,
            _ => return Err(broken()),
        };
        // the identifier of an echo stands at either end
        let (source_port, target_port) = if protocol.has_ports() {
            (source_port.unwrap_or(0), target_port.unwrap_or(0))
        } else {
            let id = source_port.or(target_port).unwrap_or(0);
            (id, id)
        };
        let (source, target) = (endpoint(source, source_port), endpoint(target, target_port));
        Ok(Self { protocol, source, target })
    }

    /// The IP packet that is quoted.
    pub fn packet(&self) -> Vec<u8> {
        let Self { protocol, source, target } = *self;
        let craft = match protocol {
            Protocol::TCP => Craft::syn(source, target),
            Protocol::UDP => Craft::udp(source, target, b"kswitch!"),
            Protocol::ICMP | Protocol::ICMPV6 => Craft::ping(source, target, 1),
            other => Craft {
                source,
                target,
                ttl: 64,
                body: crate::sim::craft::Body::Raw(other, transport_start(source, target)),
            },
        };
        craft.ttl(63).packet()
    }
}

/// Ports and nothing else of a transport header of sixteen octets.
fn transport_start(source: Endpoint, target: Endpoint) -> Vec<u8> {
    let mut octets = source.port.to_be_bytes().to_vec();
    octets.extend(target.port.to_be_bytes());
    octets.resize(16, 0);
    octets
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, source, target } = self;
        write!(formatter, "{source} -> {target} {protocol}")
    }
}

/// An address, with a port or without.
///
/// # Errors
/// It is neither.
pub fn end(text: &str) -> Result<(IpAddr, Option<u16>), Broken> {
    if let Ok(ip) = text.parse() {
        return Ok((ip, None));
    }
    let end: SocketAddr = text
        .parse()
        .map_err(|_| Broken(format!("{text:?} is neither an address nor address:port")))?;
    Ok((end.ip(), Some(end.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_names_by_family() {
        assert_eq!(icmp_type("echo-request", true), Ok(8));
        assert_eq!(icmp_type("echo-request", false), Ok(128));
        assert!(icmp_type("packet-too-big", true).is_err());
        assert_eq!(icmp_name(11, true), "time-exceeded");
        assert_eq!(icmp_name(200, true), "type 200");
    }

    #[test]
    fn packets_are_read_from_words() {
        let quoted = Quoted::read("10.0.0.1:5000 -> 198.51.100.10:9000 UDP", end).unwrap();
        assert_eq!(quoted.to_string(), "10.0.0.1:5000 -> 198.51.100.10:9000 UDP");
        assert_eq!(quoted.packet().get(9), Some(&17));
        assert!(Quoted::read("10.0.0.1 198.51.100.10 UDP", end).is_err());
    }
}
