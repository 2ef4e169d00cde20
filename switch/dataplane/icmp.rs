//! What the switch itself says by ICMP: echo replies and errors.

use kswitch_tables::{Address, MacAddress, Protocol};

use super::checksum::{self, fold, pseudo_header_sum};
use super::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER};
use super::rewrite::{put_u16, seal_ipv4, set_macs};
use super::{DropReason, Frame, Kind, Packet};
use crate::port::VNET_HEADER;

/// TTL and hop limit of what the switch sends itself.
pub const OWN_TTL: u8 = 64;

/// Octets of the offending packet that an IPv4 error quotes at most.
///
/// Source: RFC 1812 §4.3.2.3: the whole error within 576 octets.
const QUOTE_V4_MAX: usize = 576 - 20 - 8;
/// Octets of the offending packet that an IPv6 error quotes at most.
///
/// Source: RFC 4443 §2.4 (c): the whole error within the minimum MTU of 1280 octets.
const QUOTE_V6_MAX: usize = 1280 - IPV6_HEADER - 8;

/// Octets of the largest message built here, virtio header included.
pub const MESSAGE_MAX: usize = VNET_HEADER + ETHERNET_HEADER + 1280;

/// What an error says; each maps to a type and code of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No route to the destination.
    NetUnreachable,
    /// The destination's link has no such machine.
    HostUnreachable,
    /// Nobody listens.
    PortUnreachable,
    /// The packet crossed too many routers.
    TimeExceeded,
    /// The packet is larger than the next link's MTU, given in octets.
    TooBig(u16),
}

impl Error {
    /// Type, code and the word after the checksum. Source: RFC 792, RFC 1191 §4; RFC 4443 §3.
    #[expect(clippy::match_same_arms, reason = "numbers of two families that mean two things")]
    const fn message(self, is_v4: bool) -> (u8, u8, u32) {
        match (self, is_v4) {
            (Self::NetUnreachable, true) => (3, 0, 0),
            (Self::HostUnreachable, true) => (3, 1, 0),
            (Self::PortUnreachable, true) => (3, 3, 0),
            (Self::TimeExceeded, true) => (11, 0, 0),
            (Self::TooBig(mtu), true) => (3, 4, mtu as u32),
            (Self::NetUnreachable, false) => (1, 0, 0),
            (Self::HostUnreachable, false) => (1, 3, 0),
            (Self::PortUnreachable, false) => (1, 4, 0),
            (Self::TimeExceeded, false) => (3, 0, 0),
            (Self::TooBig(mtu), false) => (2, 0, mtu as u32),
        }
    }
}

/// Whether an error may be sent about this packet: not about errors, later fragments, what went
/// to many, or what has no single sender.
///
/// Source: RFC 1812 §4.3.2.7; RFC 4443 §2.4 (e).
pub fn may_answer(frame: &Frame<'_>, packet: &Packet, error: Error) -> bool {
    let source = packet.flow.source.address;
    let group = frame.macs().is_none_or(|(target, _)| target.is_group());
    let target_is_group = packet.flow.target.address.is_multicast();
    // path MTU discovery works for multicast in IPv6
    let excepted = matches!(error, Error::TooBig(_)) && !packet.is_v4();
    !matches!(packet.kind, Kind::IcmpError)
        && !packet.is_later_fragment()
        && (excepted || !(group || target_is_group))
        && !source.is_unspecified()
        && !source.is_multicast()
        && !source.is_loopback()
}

/// Ethernet and IP addresses of a message of the switch's own.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// Ethernet source.
    pub source_mac: MacAddress,
    /// Ethernet destination.
    pub target_mac: MacAddress,
    /// IP source.
    pub source: Address,
    /// IP destination.
    pub target: Address,
}

/// A message under construction: header, frame, nothing allocated.
#[derive(Debug)]
pub struct Message {
    pub(super) buffer: Box<[u8; MESSAGE_MAX]>,
    pub(super) length: usize,
}

impl Default for Message {
    fn default() -> Self {
        Self { buffer: Box::new([0; MESSAGE_MAX]), length: 0 }
    }
}

impl Message {
    /// The finished message, virtio header first.
    pub fn buffer(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or(&[])
    }

    /// Starts a packet of `protocol` with `payload` octets above IP; answers the room for them.
    pub fn start(&mut self, envelope: &Envelope, protocol: Protocol, payload: usize) -> &mut [u8] {
        let is_v4 = envelope.source.is_v4();
        let header = if is_v4 { 20 } else { IPV6_HEADER };
        let transport = VNET_HEADER + ETHERNET_HEADER + header;
        self.length = (transport + payload).min(MESSAGE_MAX);
        self.buffer.fill(0);
        let frame = self.buffer.get_mut(VNET_HEADER..).unwrap_or(&mut []);
        set_macs(frame, envelope.target_mac, envelope.source_mac);
        put_u16(frame, 12, if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 });
        let octets = u16::try_from(payload).unwrap_or(u16::MAX);
        let ip = frame.get_mut(ETHERNET_HEADER..).unwrap_or(&mut []);
        if is_v4 {
            if let Some(ip) = ip.first_chunk_mut::<20>() {
                ip[0] = 0x45;
                ip[2..4].copy_from_slice(&(octets + 20).to_be_bytes());
                ip[6] = 0x40; // never fragmented on its way inside the lab
                ip[8] = OWN_TTL;
                ip[9] = protocol.0;
                ip[12..16].copy_from_slice(&envelope.source.low32().to_be_bytes());
                ip[16..20].copy_from_slice(&envelope.target.low32().to_be_bytes());
                seal_ipv4(ip);
            }
        } else if let Some(ip) = ip.first_chunk_mut::<40>() {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&octets.to_be_bytes());
            ip[6] = protocol.0;
            ip[7] = OWN_TTL;
            ip[8..24].copy_from_slice(&envelope.source.bits().to_be_bytes());
            ip[24..40].copy_from_slice(&envelope.target.bits().to_be_bytes());
        }
        self.buffer.get_mut(transport..self.length).unwrap_or(&mut [])
    }

    /// Sets the hop limit of an IPv6 message.
    pub(super) fn set_hop_limit(&mut self, hop_limit: u8) {
        if let Some(room) = self.buffer.get_mut(VNET_HEADER + ETHERNET_HEADER + 7) {
            *room = hop_limit;
        }
    }

    /// Builds the error about `packet`, quoting it as it came in.
    pub fn error(&mut self, envelope: &Envelope, error: Error, frame: &Frame<'_>, packet: &Packet) {
        let is_v4 = packet.is_v4();
        let most = if is_v4 { QUOTE_V4_MAX } else { QUOTE_V6_MAX };
        let quoted = packet.ip_octets().min(most);
        let quote = frame.bytes().get(packet.ip..packet.ip + quoted).unwrap_or(&[]);
        let protocol = if is_v4 { Protocol::ICMP } else { Protocol::ICMPV6 };
        let room = self.start(envelope, protocol, 8 + quote.len());
        let (kind, code, word) = error.message(is_v4);
        if let Some((head, body)) = room.split_at_mut_checked(8) {
            head.copy_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
            if let Some(room) = head.get_mut(4..8) {
                room.copy_from_slice(&word.to_be_bytes());
            }
            body.copy_from_slice(quote);
        }
        seal(room, envelope, protocol, 2);
    }
}

/// Writes the transport checksum at `at`; the room for it must be zero.
pub fn seal(upper: &mut [u8], envelope: &Envelope, protocol: Protocol, at: usize) {
    let length = u32::try_from(upper.len()).unwrap_or(u32::MAX);
    let pseudo = match protocol {
        Protocol::ICMP => 0,
        _ => pseudo_header_sum(envelope.source, envelope.target, protocol, length),
    };
    let sum = !fold(checksum::sum(upper) + pseudo);
    put_u16(upper, at, if sum == 0 && protocol == Protocol::UDP { 0xffff } else { sum });
}

/// Turns an echo request into its reply, in place. The switch is the target, so it must verify.
///
/// Source: RFC 1122 §3.2.2.6; RFC 4443 §4.2.
///
/// # Errors
/// [`DropReason::BadIcmpChecksum`].
pub fn echo_in_place(frame: &mut Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    verify(frame, packet)?;
    let (target_mac, source_mac) = frame.macs().ok_or(DropReason::FrameTooShort)?;
    let is_v4 = packet.is_v4();
    let bytes = frame.bytes_mut();
    set_macs(bytes, source_mac, target_mac);
    let (addresses, octets) = if is_v4 { (packet.ip + 12, 4) } else { (packet.ip + 8, 16) };
    if let Some(both) = bytes.get_mut(addresses..addresses + 2 * octets) {
        let (source, target) = both.split_at_mut(octets);
        source.swap_with_slice(target);
    }
    let (kind, reply) = if is_v4 { (8u8, 0u8) } else { (128, 129) };
    if let Some(room) = bytes.get_mut(packet.transport) {
        *room = reply;
    }
    let delta = checksum::delta(u64::from(kind) << 8, u64::from(reply) << 8);
    if let Some(sum) = super::rewrite::get_u16(bytes, packet.transport + 2) {
        put_u16(bytes, packet.transport + 2, checksum::updated(sum, delta));
    }
    set_ttl(bytes, packet, OWN_TTL);
    Ok(())
}

/// Sets TTL or hop limit.
fn set_ttl(bytes: &mut [u8], packet: &Packet, ttl: u8) {
    let at = packet.ip + if packet.is_v4() { 8 } else { 7 };
    if let Some(room) = bytes.get_mut(at) {
        *room = ttl;
    }
    if packet.is_v4()
        && let Some(sum) = super::rewrite::get_u16(bytes, packet.ip + 10)
    {
        let delta = checksum::delta(u64::from(packet.ttl) << 8, u64::from(ttl) << 8);
        put_u16(bytes, packet.ip + 10, checksum::updated(sum, delta));
    }
}

/// Verifies the checksum of an ICMP message that the switch itself acts upon.
///
/// # Errors
/// [`DropReason::BadIcmpChecksum`].
pub fn verify(frame: &Frame<'_>, packet: &Packet) -> Result<(), DropReason> {
    let upper = frame.bytes().get(packet.transport..packet.end).unwrap_or(&[]);
    let length = u32::try_from(upper.len()).unwrap_or(u32::MAX);
    let pseudo = if packet.flow.protocol == Protocol::ICMP {
        0
    } else {
        let (source, target) = (packet.flow.source.address, packet.flow.target.address);
        pseudo_header_sum(source, target, packet.flow.protocol, length)
    };
    if fold(checksum::sum(upper) + pseudo) == 0xffff {
        Ok(())
    } else {
        Err(DropReason::BadIcmpChecksum)
    }
}
