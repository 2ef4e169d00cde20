//! What a probe is answered, field by field.

use kswitch_config::{PlannedPort, PortKind};
use kswitch_tables::{MacAddress, Protocol};

use super::super::format::l3::{Kind, NdOption, Reply};
use super::super::names::{Quoted, end, icmp_name, icmp_type};
use super::super::topology::Broken;
use super::craft::{self, Probe};
use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_ARP};
use crate::dataplane::rewrite::get_u16;
use crate::port::VNET_HEADER;
use crate::sim::icmp::quoted_ends;
use crate::sim::read::Received;

/// Octets of a quoted packet above its IP header that must be there.
///
/// Source: RFC 792.
const QUOTED_OCTETS: usize = 8;

/// A frame that came back to the sender.
#[derive(Debug)]
pub(super) enum Answer {
    /// An ARP message.
    Arp(Arp),
    /// An IP packet.
    Ip(Box<Received>),
}

/// An ARP message.
#[derive(Debug)]
pub(super) struct Arp {
    operation: u16,
    sender_mac: MacAddress,
    sender_ip: [u8; 4],
    target_mac: MacAddress,
    target_ip: [u8; 4],
}

impl Answer {
    /// Reads a frame; `None` for what is neither.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let bytes = frame.get(VNET_HEADER..)?;
        if get_u16(bytes, 12)? != ETHERTYPE_ARP {
            return Received::read(frame).map(Box::new).map(Self::Ip);
        }
        let message = bytes.get(ETHERNET_HEADER..)?;
        let mac = |at: usize| Some(MacAddress(*message.get(at..)?.first_chunk()?));
        let ip = |at: usize| message.get(at..)?.first_chunk().copied();
        Some(Self::Arp(Arp {
            operation: get_u16(message, 6)?,
            sender_mac: mac(8)?,
            sender_ip: ip(14)?,
            target_mac: mac(18)?,
            target_ip: ip(24)?,
        }))
    }

    /// What it is, in words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Arp(arp) => {
                let [a, b, c, d] = arp.sender_ip;
                let what = if arp.operation == 1 { "request" } else { "reply" };
                format!("ARP {what} of {a}.{b}.{c}.{d}")
            }
            Self::Ip(received) => {
                let flow = received.packet.flow;
                let is_v4 = received.packet.is_v4();
                let what = received
                    .icmp()
                    .map(|(kind, code)| format!(" {} code {code}", icmp_name(kind, is_v4)));
                format!("{flow}{}", what.unwrap_or_default())
            }
        }
    }

    /// Whether it is an ICMP error.
    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Ip(received)
            if matches!(received.packet.kind, crate::dataplane::Kind::IcmpError))
    }

    /// Whether it is of this kind at all.
    fn is(&self, kind: Kind) -> bool {
        let icmp = |received: &Received, protocol| {
            (received.packet.flow.protocol == protocol).then(|| received.icmp()).flatten()
        };
        match (self, kind) {
            (Self::Arp(arp), Kind::ArpReply) => arp.operation == 2,
            (Self::Arp(arp), Kind::ArpRequest) => arp.operation == 1,
            (Self::Ip(received), Kind::Udp) => received.packet.flow.protocol == Protocol::UDP,
            (Self::Ip(received), Kind::Tcp) => received.packet.flow.protocol == Protocol::TCP,
            (Self::Ip(received), Kind::Icmp) => icmp(received, Protocol::ICMP).is_some(),
            (Self::Ip(received), kind) => {
                let message = icmp(received, Protocol::ICMPV6).map(|(message, _)| message);
                match kind {
                    Kind::NeighborSolicitation => message == Some(135),
                    Kind::NeighborAdvertisement => message == Some(136),
                    Kind::Icmpv6 => message.is_some(),
                    _ => false,
                }
            }
            (Self::Arp(_), _) => false,
        }
    }
}

/// Judges answers by what one of them must be.
pub(super) struct Judge<'j> {
    pub(super) reply: &'j Reply,
    pub(super) probe: &'j Probe,
    pub(super) port: &'j PlannedPort,
    /// Ethernet addresses of machines.
    pub(super) macs: &'j dyn Fn(&str) -> Option<MacAddress>,
}

impl Judge<'_> {
    /// The differences of the answer that comes closest; `None` if there is none of the kind.
    pub(super) fn best(&self, answers: &[Answer]) -> Result<Option<Vec<(String, String)>>, Broken> {
        let of_kind = answers.iter().filter(|answer| answer.is(self.reply.kind));
        let judged: Vec<_> =
            of_kind.map(|answer| self.differences(answer)).collect::<Result<_, _>>()?;
        Ok(judged.into_iter().min_by_key(Vec::len))
    }

    fn differences(&self, answer: &Answer) -> Result<Vec<(String, String)>, Broken> {
        let mut found = Differences(Vec::new());
        match answer {
            Answer::Arp(arp) => self.arp(arp, &mut found)?,
            Answer::Ip(received) => {
                self.ip(received, &mut found)?;
                if matches!(self.reply.kind, Kind::NeighborAdvertisement) {
                    self.advertisement(received, &mut found)?;
                } else {
                    self.message(received, &mut found)?;
                }
            }
        }
        Ok(found.0)
    }

    fn arp(&self, arp: &Arp, found: &mut Differences) -> Result<(), Broken> {
        let Reply { sender_ip, target_ip, sender_mac, target_mac, .. } = self.reply;
        for (what, expected, got) in
            [("sender_ip", sender_ip, arp.sender_ip), ("target_ip", target_ip, arp.target_ip)]
        {
            let got = std::net::IpAddr::from(got);
            if let Some(expected) = expected {
                found.compare(what, &craft::address(expected, self.port)?, &got);
            }
        }
        for (what, expected, got) in
            [("sender_mac", sender_mac, arp.sender_mac), ("target_mac", target_mac, arp.target_mac)]
        {
            if let Some(text) = expected {
                found.compare(what, &self.mac(text)?, &got);
            }
        }
        Ok(())
    }

    /// The Ethernet address that `mac of a` stands for.
    fn mac(&self, text: &str) -> Result<MacAddress, Broken> {
        let name = text.strip_prefix("mac of ").unwrap_or(text);
        (self.macs)(name).ok_or_else(|| Broken(format!("nobody is called {name}")))
    }

    fn ip(&self, received: &Received, found: &mut Differences) -> Result<(), Broken> {
        let Reply { source, destination, ttl, hop_limit, .. } = self.reply;
        let (from, to) = received.ends();
        if !received.is_intact {
            found.0.push(("checksum right".to_owned(), "checksum wrong".to_owned()));
        }
        for (what, expected, got) in
            [("source", source, from.address), ("destination", destination, to.address)]
        {
            if let Some(expected) = expected {
                found.compare(what, &craft::address(expected, self.port)?, &got.to_ip());
            }
        }
        for span in ttl.iter().chain(hop_limit) {
            if !span.holds(received.packet.ttl) {
                found.compare("ttl", &span.to_string(), &received.packet.ttl.to_string());
            }
        }
        Ok(())
    }

    fn message(&self, received: &Received, found: &mut Differences) -> Result<(), Broken> {
        let Reply { message, code, id, seq, data_same, mtu, quotes, .. } = self.reply;
        let Some((got, got_code)) = received.icmp() else { return Ok(()) };
        let is_v4 = received.packet.is_v4();
        let upper = received.upper();
        let word = |at: usize| get_u16(upper, at).unwrap_or(0);
        if let Some(name) = message
            && icmp_type(name, is_v4)? != got
        {
            found.compare("type", name, &icmp_name(got, is_v4));
        }
        for (what, expected, got) in [
            ("code", code.map(u32::from), u32::from(got_code)),
            ("id", id.map(u32::from), u32::from(word(4))),
            ("seq", seq.map(u32::from), u32::from(word(6))),
            ("mtu", *mtu, if is_v4 { 0 } else { u32::from(word(4)) << 16 } | u32::from(word(6))),
        ] {
            if let Some(expected) = expected {
                found.compare(what, &expected, &got);
            }
        }
        let body = upper.get(8..).unwrap_or(&[]);
        if *data_same == Some(true) && body != self.probe.data {
            let got = format!("{} octets, or others", body.len());
            found.0.push((format!("the same {} octets of data", self.probe.data.len()), got));
        }
        match quotes.as_deref() {
            None => {}
            Some("the packet sent") if quotes_packet(body, &self.probe.packet) => {}
            Some("the packet sent") => {
                found.0.push(("quotes the packet sent".to_owned(), "another one".to_owned()));
            }
            Some(text) => {
                let expected = Quoted::read(text, end)?;
                let got = quoted_ends(body);
                if got != Some((expected.protocol, expected.source, expected.target)) {
                    found.0.push((format!("quotes {expected}"), "another one".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn advertisement(&self, received: &Received, found: &mut Differences) -> Result<(), Broken> {
        let Reply { target, solicited, overrides, router, options, .. } = self.reply;
        let upper = received.upper();
        let flags = upper.get(4).copied().unwrap_or(0);
        for (what, expected, bit) in [
            ("router", router, 0x80),
            ("solicited", solicited, 0x40),
            ("override", overrides, 0x20),
        ] {
            if let Some(expected) = expected {
                found.compare(what, expected, &(flags & bit != 0));
            }
        }
        let got: Option<[u8; 16]> = upper.get(8..).and_then(<[u8]>::first_chunk).copied();
        if let (Some(expected), Some(got)) = (target, got) {
            let got = std::net::IpAddr::from(got);
            found.compare("target", &craft::address(expected, self.port)?, &got);
        }
        // an option: its type, its length in units of eight octets, an Ethernet address
        let tail = upper.get(24..).unwrap_or(&[]);
        for option in options {
            let kind = match option {
                NdOption::SourceLinkLayer => 1,
                NdOption::TargetLinkLayer => 2,
                NdOption::LengthZero => continue,
            };
            let has = |option: &[u8]| option.starts_with(&[kind, 1]) && option.len() == 8;
            let link = received.macs.1.0;
            let found_option = tail.chunks(8).find(|option| has(option));
            match found_option.and_then(|option| option.get(2..)) {
                Some(mac) if mac == link => {}
                other => {
                    let expected = format!("option {option:?} with {link:02x?}");
                    found.0.push((expected, format!("{other:02x?}")));
                }
            }
        }
        Ok(())
    }
}

/// Expected and got, of whatever differs.
struct Differences(Vec<(String, String)>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: &T, got: &T) {
        if expected != got {
            self.0.push((format!("{what} {expected:?}"), format!("{what} {got:?}")));
        }
    }
}

/// Whether a quote is the beginning of a packet, but for what a router changes.
fn quotes_packet(quote: &[u8], packet: &[u8]) -> bool {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let header = if is_v4 { 20 } else { 40 };
    // TTL and the checksum that covers it; hop limit
    let changes: &[usize] = if is_v4 { &[8, 10, 11] } else { &[7] };
    let same = quote.iter().zip(packet).enumerate();
    let same = same.filter(|(at, _)| !changes.contains(at)).all(|(_, (a, b))| a == b);
    same && (header + QUOTED_OCTETS..=packet.len()).contains(&quote.len())
}

/// The bare name of a machine, as `mac of` has it.
pub(super) fn bare_name(kind: &PortKind) -> &str {
    match kind {
        PortKind::Pod { name, .. } | PortKind::Node { name } | PortKind::External { name } => name,
    }
}
