//! ICMP errors about flows of the switch: carried back along the flow, with the packet they quote
//! turned into the one its sender sent.

use kswitch_tables::conntrack::BindingFlags;
use kswitch_tables::{Address, Binding, Endpoint, Flow, Protocol};

use super::checksum::{delta, sum, updated};
use super::frame::{ETHERNET_HEADER, IPV6_HEADER, ipv6};
use super::pipeline::{At, Output, Pipeline, Refusal, Verdict};
use super::rewrite::{get_u16, put_u16};
use super::{DropReason, Frame, Packet, admit};

/// The packet quoted in an error. Offsets from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    /// Who sent it to whom.
    pub(crate) flow: Flow,
    ip: usize,
    transport: usize,
}

impl Pipeline {
    /// Carries an ICMP error to the sender of the packet it is about.
    ///
    /// Source: RFC 5508 §4 (which flow, what to rewrite); RFC 4884 leaves the quote at its place.
    ///
    /// # Errors
    /// [`DropReason::UnrelatedIcmp`] where no flow is known that the error could be about.
    pub(super) fn related(
        &mut self,
        at: At<'_>,
        frame: &mut Frame<'_>,
        packet: &Packet,
        out: &mut impl Output,
    ) -> Result<Verdict, Refusal> {
        admit::check_source(at.port, packet)?;
        let quoted = quoted(frame.bytes(), packet).ok_or(DropReason::UnrelatedIcmp)?;
        if quoted.flow.source.address != packet.flow.target.address {
            return Err(DropReason::UnrelatedIcmp.into());
        }
        // the quoted packet went that way; what goes the other way is bound like its answers
        let back = quoted.flow.reversed();
        let conntrack = &self.shared.conntrack;
        let found = conntrack.find(&back, conntrack.hash(&back));
        let found = found.ok_or(DropReason::UnrelatedIcmp)?;
        let binding = if found.binding.generation == at.snapshot.generation {
            found.binding
        } else {
            let rejudged = self.rejudge(at.snapshot, &back, &found)?;
            self.tell_audit(at, &back);
            rejudged.ok_or(DropReason::UnrelatedIcmp)?
        };
        let from_end = packet.flow.source.address == quoted.flow.target.address;
        let outer = Binding {
            // only the far end itself is hidden behind what it was reached as; a router is not
            source: Endpoint::new(
                if from_end { binding.source.address } else { packet.flow.source.address },
                0,
            ),
            target: Endpoint::new(binding.target.address, 0),
            ..binding
        };
        rewrite_quote(frame.bytes_mut(), packet, &quoted, &binding);
        let outer = with_deltas(outer, packet);
        self.send(at.snapshot, frame, packet, &outer, out)
    }
}

/// The outer binding with the deltas of its own change of addresses.
fn with_deltas(mut outer: Binding, packet: &Packet) -> Binding {
    let ends = (packet.flow.source, packet.flow.target);
    let (ip, transport) =
        super::rewrite::deltas(packet.flow.protocol, ends, (outer.source, outer.target));
    outer.ip_delta = ip;
    outer.transport_delta = transport;
    outer.flags = if ends == (outer.source, outer.target) {
        outer.flags.without(BindingFlags::NAT)
    } else {
        outer.flags.and(BindingFlags::NAT)
    };
    outer
}

/// Reads the quoted packet; eight octets above its IP header are all that is sure to be there.
///
/// Source: RFC 792; RFC 4443 §3.
pub(crate) fn quoted(bytes: &[u8], packet: &Packet) -> Option<Quoted> {
    let ip = packet.transport + 8;
    let quote = bytes.get(ip..packet.end)?;
    let (protocol, source, target, header) = if packet.is_v4() {
        let header = quote.first_chunk::<20>()?;
        let octets = usize::from(header[0] & 0x0f) * 4;
        let is_first = u16::from_be_bytes([header[6], header[7]]) << 3 == 0;
        if header[0] >> 4 != 4 || octets < 20 || !is_first {
            return None;
        }
        let (_, addresses) = header.split_at(12);
        let (source, target) = addresses.split_at(4);
        let bits = |half: &[u8]| half.first_chunk::<4>().map(|o| u32::from_be_bytes(*o));
        let (source, target) = (Address::v4(bits(source)?), Address::v4(bits(target)?));
        (Protocol(header[9]), source, target, octets)
    } else {
        let header = quote.first_chunk::<IPV6_HEADER>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let (_, addresses) = header.split_at(8);
        let (source, target) = addresses.split_at(16);
        let bits = |half: &[u8]| half.first_chunk::<16>().map(|o| u128::from_be_bytes(*o));
        let (source, target) = (Address::v6(bits(source)?), Address::v6(bits(target)?));
        // a fragment's error, which path MTU discovery lives by, has the ports behind its header
        let body = quote.get(IPV6_HEADER..)?;
        let (next, skipped, fragment) = ipv6::extensions(header[6], body).ok()?;
        if fragment.is_some_and(|fragment| fragment.offset > 0) {
            return None;
        }
        (Protocol(next), source, target, IPV6_HEADER + skipped)
    };
    let upper = quote.get(header..)?;
    let ports = match protocol {
        protocol if protocol.has_ports() => (get_u16(upper, 0)?, get_u16(upper, 2)?),
        Protocol::ICMP if matches!(upper.first(), Some(0 | 8)) => {
            (get_u16(upper, 4)?, get_u16(upper, 4)?)
        }
        Protocol::ICMPV6 if matches!(upper.first(), Some(128 | 129)) => {
            (get_u16(upper, 4)?, get_u16(upper, 4)?)
        }
        // errors about errors are never sent
        Protocol::ICMP | Protocol::ICMPV6 => return None,
        _ => (0, 0),
    };
    let flow = Flow {
        protocol,
        source: Endpoint::new(source, ports.0),
        target: Endpoint::new(target, ports.1),
    };
    Some(Quoted { flow, ip, transport: ip + header })
}

/// Turns the quoted packet into the one its sender sent, and mends the three checksums: that of
/// the quoted IP header, that of the quoted transport header where it is quoted, and that of the
/// error itself.
pub(crate) fn rewrite_quote(bytes: &mut [u8], packet: &Packet, quoted: &Quoted, back: &Binding) {
    // what the flow's answers become is the mirror image of what the quoted packet was
    let (source, target) = (back.target, back.source);
    let Quoted { flow, ip, transport } = *quoted;
    if (source, target) == (flow.source, flow.target) {
        return;
    }
    let ends = (flow.source, flow.target);
    let (ip_delta, transport_delta) = super::rewrite::deltas(flow.protocol, ends, (source, target));
    let body = |bytes: &[u8]| bytes.get(packet.transport + 4..packet.end).map_or(0, sum);
    let before = body(bytes);
    if packet.is_v4() {
        put_slice(bytes, ip + 12, &source.address.low32().to_be_bytes());
        put_slice(bytes, ip + 16, &target.address.low32().to_be_bytes());
        if let Some(old) = get_u16(bytes, ip + 10) {
            put_u16(bytes, ip + 10, updated(old, ip_delta));
        }
    } else {
        put_slice(bytes, ip + 8, &source.address.bits().to_be_bytes());
        put_slice(bytes, ip + 24, &target.address.bits().to_be_bytes());
    }
    let checksum_at = match flow.protocol {
        Protocol::TCP => Some(16),
        Protocol::UDP => Some(6),
        Protocol::ICMP | Protocol::ICMPV6 => Some(2),
        _ => None,
    };
    if flow.protocol.has_ports() {
        put_u16(bytes, transport, source.port);
        put_u16(bytes, transport + 2, target.port);
    } else if checksum_at.is_some() {
        put_u16(bytes, transport + 4, source.port);
    }
    if let Some(at) = checksum_at.map(|at| transport + at)
        && at + 2 <= packet.end
        && let Some(old) = get_u16(bytes, at)
        && !(flow.protocol == Protocol::UDP && old == 0)
    {
        let sum = match updated(old, transport_delta) {
            // zero would say that there is none: RFC 768
            0 if flow.protocol == Protocol::UDP => 0xffff,
            sum => sum,
        };
        put_u16(bytes, at, sum);
    }
    let after = body(bytes);
    if let Some(old) = get_u16(bytes, packet.transport + 2) {
        put_u16(bytes, packet.transport + 2, updated(old, delta(before, after)));
    }
    debug_assert!(ip >= ETHERNET_HEADER, "the quote lies behind the Ethernet header");
}

fn put_slice(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}
