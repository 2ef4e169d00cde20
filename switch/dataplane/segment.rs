//! Cutting a super-frame into the segments that its sender left to the device.
//!
//! Frames of a pod may be up to 64 KB long and without transport checksum; a port whose receiver
//! takes neither gets them finished and cut here.
//!
//! Source: virtio 1.2 §5.1.6.2 (what the header says); RFC 9293 §3.8.1, RFC 6864 §4 (what differs
//! from segment to segment).

use kswitch_tables::Protocol;

use super::checksum::{fold, pseudo_header_sum_of, sum};
use super::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TCP_FIN};
use super::rewrite::{get_u16, put_u16, seal_ipv4};
use super::{Frame, Vnet, cut};
use crate::port::{BUFFER_OCTETS, VNET_HEADER};

/// TCP's PSH flag: only the last segment may carry it.
const TCP_PSH: u8 = 0x08;
/// TCP's CWR flag: only the first segment may carry it.
///
/// Source: RFC 3168 §6.1.2.
const TCP_CWR: u8 = 0x80;

/// Octets of an IPv6 header.
const IPV6_HEADER: usize = super::frame::IPV6_HEADER;

/// Room in which segments are built, one after another.
#[derive(Debug)]
pub struct Segmenter(Box<[u8]>);

impl Default for Segmenter {
    fn default() -> Self {
        Self(vec![0; BUFFER_OCTETS].into_boxed_slice())
    }
}

/// Where the parts of a super-frame are, octets from the start of the Ethernet header.
#[derive(Clone, Copy, Debug)]
struct Layout {
    is_v4: bool,
    protocol: Protocol,
    transport: usize,
    payload: usize,
    end: usize,
}

impl Segmenter {
    /// Hands each segment of a buffer, virtio header first, to `send`; a frame that only lacks its
    /// checksum is one segment. `false`, and nothing was sent, if the header asks for what it
    /// cannot be.
    pub fn send(&mut self, buffer: &[u8], mut send: impl FnMut(&[u8])) -> bool {
        let Some((header, bytes)) = buffer.split_first_chunk::<VNET_HEADER>() else { return false };
        let vnet = Vnet::read(header);
        if vnet.gso_type == Vnet::GSO_NONE {
            let Some(room) = self.0.get_mut(..buffer.len()) else { return false };
            room.copy_from_slice(buffer);
            let mut frame = Frame::new(room);
            cut::finish_checksum(&mut frame);
            frame.clear_vnet();
            send(frame.buffer());
            return true;
        }
        let Some(layout) = layout(vnet, bytes) else { return false };
        let Some(headers) = bytes.get(..layout.payload) else { return false };
        let Some(payload) = bytes.get(layout.payload..layout.end) else { return false };
        let size = usize::from(vnet.gso_size);
        let count = payload.len().div_ceil(size).max(1);
        for number in 0..count {
            let start = number * size;
            let part = payload.get(start..payload.len().min(start + size)).unwrap_or(&[]);
            let place = Place { number, start, is_last: number + 1 == count };
            let Some(segment) = self.build(&layout, headers, part, place) else { return false };
            send(segment);
        }
        true
    }

    /// One segment behind a header that asks for nothing.
    fn build(
        &mut self,
        layout: &Layout,
        headers: &[u8],
        part: &[u8],
        place: Place,
    ) -> Option<&[u8]> {
        let octets = headers.len() + part.len();
        let (vnet, bytes) = self.0.split_at_mut_checked(VNET_HEADER)?;
        vnet.fill(0);
        let bytes = bytes.get_mut(..octets)?;
        let (head, body) = bytes.split_at_mut_checked(headers.len())?;
        head.copy_from_slice(headers);
        body.copy_from_slice(part);
        address(layout, head, octets, place)?;
        number(layout, head, octets, place)?;
        let checksum_at = layout.transport + layout.checksum_offset();
        put_u16(bytes, checksum_at, 0);
        let covered = octets - layout.transport;
        let whole = pseudo_sum(layout, bytes, covered)? + sum(bytes.get(layout.transport..)?);
        let checksum = match !fold(whole) {
            0 if layout.protocol == Protocol::UDP => 0xffff,
            checksum => checksum,
        };
        put_u16(bytes, checksum_at, checksum);
        self.0.get(..VNET_HEADER + octets)
    }
}

/// Which segment of its frame one is.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: usize,
    /// Where its payload begins in that of the frame, octets.
    start: usize,
    is_last: bool,
}

impl Layout {
    /// Where the checksum is in the transport header.
    const fn checksum_offset(&self) -> usize {
        if matches!(self.protocol, Protocol::TCP) { 16 } else { 6 }
    }
}

/// Finds headers and payload; `None` if they are not what the virtio header says.
fn layout(vnet: Vnet, bytes: &[u8]) -> Option<Layout> {
    let is_v4 = match get_u16(bytes, 12)? {
        ETHERTYPE_IPV4 => true,
        ETHERTYPE_IPV6 => false,
        _ => return None,
    };
    let ip_octets = usize::from(get_u16(bytes, ETHERNET_HEADER + if is_v4 { 2 } else { 4 })?)
        + if is_v4 { 0 } else { IPV6_HEADER };
    let protocol = match vnet.gso_type {
        Vnet::GSO_TCPV4 if is_v4 => Protocol::TCP,
        Vnet::GSO_TCPV6 if !is_v4 => Protocol::TCP,
        Vnet::GSO_UDP_L4 => Protocol::UDP,
        _ => return None,
    };
    let transport = usize::from(vnet.checksum_start);
    let header_octets = match protocol {
        Protocol::TCP => usize::from(bytes.get(transport + 12)? >> 4) * 4,
        _ => 8,
    };
    let (payload, end) = (transport + header_octets, ETHERNET_HEADER + ip_octets);
    let fixed = if is_v4 { 20 } else { IPV6_HEADER };
    let is_whole = vnet.needs_checksum
        && vnet.gso_size > 0
        && transport >= ETHERNET_HEADER + fixed
        && payload <= end
        && end <= bytes.len();
    is_whole.then_some(Layout { is_v4, protocol, transport, payload, end })
}

/// Writes the IP header's lengths, and for IPv4 identification and checksum.
fn address(layout: &Layout, head: &mut [u8], octets: usize, place: Place) -> Option<()> {
    let ip_octets = octets - ETHERNET_HEADER;
    let ip = head.get_mut(ETHERNET_HEADER..layout.transport)?;
    if layout.is_v4 {
        put_u16(ip, 2, u16::try_from(ip_octets).ok()?);
        let number = u16::try_from(place.number).ok()?;
        let id = get_u16(ip, 4)?.wrapping_add(number);
        put_u16(ip, 4, id);
        seal_ipv4(ip);
    } else {
        put_u16(ip, 4, u16::try_from(ip_octets - IPV6_HEADER).ok()?);
    }
    Some(())
}

/// Writes TCP's sequence number and flags, or UDP's length.
fn number(layout: &Layout, head: &mut [u8], octets: usize, place: Place) -> Option<()> {
    let transport = head.get_mut(layout.transport..)?;
    if layout.protocol == Protocol::UDP {
        put_u16(transport, 4, u16::try_from(octets - layout.transport).ok()?);
        return Some(());
    }
    let sequence = transport.get_mut(4..)?.first_chunk_mut::<4>()?;
    let first = u32::from_be_bytes(*sequence);
    *sequence = first.wrapping_add(u32::try_from(place.start).ok()?).to_be_bytes();
    let flags = transport.get_mut(13)?;
    if !place.is_last {
        *flags &= !(TCP_FIN | TCP_PSH);
    }
    if place.number > 0 {
        *flags &= !TCP_CWR;
    }
    Some(())
}

/// The sum of the pseudo-header of a segment whose upper-layer packet has `covered` octets.
fn pseudo_sum(layout: &Layout, bytes: &[u8], covered: usize) -> Option<u64> {
    let addresses = if layout.is_v4 { 12..20 } else { 8..40 };
    let ip = bytes.get(ETHERNET_HEADER..)?;
    Some(pseudo_header_sum_of(ip.get(addresses)?, layout.protocol, covered))
}
