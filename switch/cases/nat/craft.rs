//! The packets of events.

use std::net::IpAddr;

use kswitch_tables::Protocol;

use super::super::format::nat::{self, Icmp, Order, OrderName, Send};
use super::super::hosts::{TCP_PSH, endpoint, with_data};
use super::super::names::{Quoted, icmp_type};
use super::super::topology::{Broken, Machine};
use super::Saved;
use crate::dataplane::frame::TCP_ACK;
use crate::sim::craft::{Body, Craft};
use crate::sim::{fragment, icmp, sctp};

/// Source port of packets that name none.
const SOURCE_PORT: u16 = 40_000;

/// Octets of datagrams of which nothing is said.
const PAYLOAD_OCTETS: usize = 8;

/// Sequence number of segments that name none.
const SEQUENCE: u32 = 1_000;

/// Identification of packets that are cut.
const FRAGMENT_ID: u32 = 0x6b73;

/// The source port of a packet.
pub(super) fn source_port(send: &Send) -> u16 {
    send.source_port.unwrap_or(SOURCE_PORT)
}

/// The number of a protocol.
pub(super) const fn protocol(protocol: nat::Protocol, is_v4: bool) -> Protocol {
    match protocol {
        nat::Protocol::Tcp => Protocol::TCP,
        nat::Protocol::Udp => Protocol::UDP,
        nat::Protocol::Sctp => Protocol::SCTP,
        nat::Protocol::Icmp if is_v4 => Protocol::ICMP,
        nat::Protocol::Icmp => Protocol::ICMPV6,
    }
}

/// The packet of an event; `acknowledged` is what the sender has heard so far.
pub(super) fn packet(
    send: &Send,
    from: &Machine,
    (target, port): (IpAddr, Option<u16>),
    acknowledged: Option<u32>,
    saved: &Saved,
) -> Result<Craft, Broken> {
    let source = endpoint(from.address, source_port(send));
    let to = endpoint(target, port.unwrap_or(0));
    let payload = |octets: usize| (0_u8..=255).cycle().take(octets).collect::<Vec<_>>();
    if port.is_none() && send.protocol != nat::Protocol::Icmp {
        return Err(Broken(format!("{target} lacks a port")));
    }
    Ok(match send.protocol {
        nat::Protocol::Udp => {
            Craft::udp(source, to, &payload(send.payload_octets.unwrap_or(PAYLOAD_OCTETS)))
        }
        nat::Protocol::Tcp => {
            let flags = send.flags.ok_or_else(|| Broken("a segment lacks `flags`".to_owned()))?.0;
            let ack = if flags & TCP_ACK == 0 { 0 } else { acknowledged.unwrap_or(0) };
            let numbers = (send.seq.unwrap_or(SEQUENCE), send.ack.unwrap_or(ack));
            let segment = Craft::tcp(source, to, flags).numbered(numbers.0, numbers.1);
            // what is pushed is something
            let octets = send.payload_octets.unwrap_or(usize::from(flags & TCP_PSH != 0));
            with_data(segment, &payload(octets))
        }
        nat::Protocol::Sctp => sctp::packet(source, to, 0, sctp::INIT, &sctp::init(1, &[])),
        nat::Protocol::Icmp => {
            let said = send.icmp.as_ref();
            let said = said.ok_or_else(|| Broken("an ICMP message lacks `icmp`".to_owned()))?;
            message(said, send, from.address, target, saved)?
        }
    })
}

fn message(
    said: &Icmp,
    send: &Send,
    source: IpAddr,
    target: IpAddr,
    saved: &Saved,
) -> Result<Craft, Broken> {
    let is_v4 = source.is_ipv4();
    let name = said.kind.as_deref().unwrap_or("echo-request");
    let kind = icmp_type(name, is_v4)?;
    if matches!(name, "echo-request" | "echo-reply") {
        let id = said.id.as_ref().map_or(Ok(1), |word| identifier(&word.0, saved))?;
        let octets = send.payload_octets.unwrap_or(56);
        let body = Body::Echo {
            is_reply: name == "echo-reply",
            sequence: said.seq.unwrap_or(1),
            data: (0_u8..=255).cycle().take(octets).collect(),
        };
        let (source, target) = (endpoint(source, id), endpoint(target, id));
        return Ok(Craft { source, target, ttl: 64, body });
    }
    let about = match &said.quotes {
        Some(text) => Quoted::read(text, |end| saved.end(end))?.packet(),
        None => return Err(Broken(format!("{name} lacks `quotes`: what it is about"))),
    };
    // ICMPv6 has all of the word for it, ICMP its lower half
    let rest = said.mtu.unwrap_or(0).to_be_bytes();
    let code = said.code.unwrap_or(0);
    Ok(icmp::error(source.into(), target.into(), (kind, code), rest, &about))
}

/// A number, or `$name.id`.
pub(super) fn identifier(word: &str, saved: &Saved) -> Result<u16, Broken> {
    if let Some(name) = word.strip_prefix('$') {
        return Ok(saved.source(name.strip_suffix(".id").unwrap_or(name))?.port);
    }
    word.parse().map_err(|_| Broken(format!("{word:?} is no identifier")))
}

/// The packet as it is sent: whole, or in fragments in the order that is asked for.
pub(super) fn pieces(packet: &Craft, send: &Send) -> Result<Vec<Vec<u8>>, Broken> {
    let whole = packet.packet();
    if whole.is_empty() {
        return Err(Broken("source and target are of different families".to_owned()));
    }
    let Some(octets) = send.fragment_octets else { return Ok(vec![whole]) };
    let mut pieces = fragment::cut(&whole, octets, FRAGMENT_ID);
    match &send.fragment_order {
        Order::Forward | Order::Named(OrderName::Forward) => {}
        Order::Named(OrderName::Reversed) => pieces.reverse(),
        Order::Listed(order) => {
            let first = usize::from(!order.contains(&0));
            let piece = |at: &usize| at.checked_sub(first).and_then(|at| pieces.get(at)).cloned();
            let listed: Option<Vec<_>> = order.iter().map(piece).collect();
            let count = pieces.len();
            pieces = listed.ok_or_else(|| {
                Broken(format!("`fragment_order` names others than the {count} fragments"))
            })?;
        }
    }
    Ok(pieces)
}
