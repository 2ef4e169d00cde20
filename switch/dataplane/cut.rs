//! Cutting an IPv4 packet into fragments that fit the next link.
//!
//! Source: RFC 791 §3.2; RFC 4787 REQ-13.

use kswitch_tables::PortId;

use super::frame::ETHERNET_HEADER;
use super::pipeline::Output;
use super::rewrite::{get_u16, put_u16, seal_ipv4};
use super::{Frame, Packet, Vnet, checksum};
use crate::port::{BUFFER_OCTETS, VNET_HEADER};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Largest IPv4 header, octets.
const HEADER_MAX: usize = 60;

/// Room in which fragments are built, one after another.
#[derive(Debug)]
pub struct Cutter(Box<[u8]>);

impl Default for Cutter {
    fn default() -> Self {
        Self(vec![0; BUFFER_OCTETS].into_boxed_slice())
    }
}

/// Whether the packet may be cut: IPv4, not forbidden by its sender, and not a frame of many
/// segments, whose sender can be told instead.
pub fn may_cut(frame: &Frame<'_>, packet: &Packet) -> bool {
    let word = get_u16(frame.bytes(), packet.ip + 6).unwrap_or(DONT_FRAGMENT);
    packet.is_v4() && word & DONT_FRAGMENT == 0 && frame.vnet().gso_type == Vnet::GSO_NONE
}

impl Cutter {
    /// Sends `frame`, already rewritten, in fragments of at most `mtu` octets.
    pub fn send(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet,
        mtu: u16,
        egress: PortId,
        out: &mut impl Output,
    ) {
        finish_checksum(frame);
        let bytes = frame.bytes();
        let header = bytes.get(packet.ip..packet.transport).unwrap_or(&[]);
        let payload = bytes.get(packet.transport..packet.end).unwrap_or(&[]);
        let room = usize::from(mtu).saturating_sub(header.len()) & !7;
        let Some(word) = get_u16(header, 6).filter(|_| room > 0) else { return };
        let ethernet = bytes.get(..ETHERNET_HEADER).unwrap_or(&[]);
        // fragments of a fragment go on from where it was
        let start = usize::from(word & OFFSET) * 8;
        let mut later = [0; HEADER_MAX];
        let later_octets = later_header(header, &mut later);
        for (number, piece) in payload.chunks(room).enumerate() {
            let at = number * room;
            let is_last = at + piece.len() == payload.len();
            let more = if is_last { word & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
            let offset = u16::try_from((start + at) / 8).unwrap_or(OFFSET) & OFFSET;
            let header =
                if number == 0 { header } else { later.get(..later_octets).unwrap_or(&[]) };
            let Some(buffer) = self.build(ethernet, header, piece, offset | more) else { return };
            out.send(egress, buffer);
        }
    }

    /// One fragment with its Ethernet and virtio header.
    fn build(&mut self, ethernet: &[u8], header: &[u8], piece: &[u8], word: u16) -> Option<&[u8]> {
        let (vnet, rest) = self.0.split_at_mut_checked(VNET_HEADER)?;
        vnet.fill(0);
        let (ethernet_room, rest) = rest.split_at_mut_checked(ethernet.len())?;
        ethernet_room.copy_from_slice(ethernet);
        let (ip, rest) = rest.split_at_mut_checked(header.len())?;
        ip.copy_from_slice(header);
        rest.get_mut(..piece.len())?.copy_from_slice(piece);
        *ip.first_mut()? = 0x40 | u8::try_from(header.len() / 4).ok()?;
        put_u16(ip, 2, u16::try_from(header.len() + piece.len()).ok()?);
        put_u16(ip, 6, word);
        seal_ipv4(ip);
        self.0.get(..VNET_HEADER + ethernet.len() + header.len() + piece.len())
    }
}

/// Writes the header of fragments after the first one: without the options that are not to be
/// copied. Answers its octets.
fn later_header(header: &[u8], room: &mut [u8; HEADER_MAX]) -> usize {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = header.split_at_checked(20).unwrap_or((header, &[]));
    let mut length = fixed.len();
    if let Some(start) = room.get_mut(..length) {
        start.copy_from_slice(fixed);
    }
    while let [kind, rest @ ..] = options {
        let octets = match *kind {
            END => break,
            NO_OPERATION => 1,
            _ => rest.first().map_or(0, |octets| usize::from(*octets)),
        };
        let Some((option, after)) = options.split_at_checked(octets).filter(|_| octets > 0) else {
            break;
        };
        if kind & COPIED != 0
            && let Some(copy) = room.get_mut(length..length + octets)
        {
            copy.copy_from_slice(option);
            length += octets;
        }
        options = after;
    }
    length.next_multiple_of(4).min(HEADER_MAX)
}

/// Computes the transport checksum that the sender left to its device.
///
/// Source: virtio 1.2 §5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
pub fn finish_checksum(frame: &mut Frame<'_>) {
    let vnet = frame.vnet();
    if !vnet.needs_checksum {
        return;
    }
    let (start, offset) = (usize::from(vnet.checksum_start), usize::from(vnet.checksum_offset));
    let bytes = frame.bytes_mut();
    // the field holds the pseudo-header's sum, so it takes part as it is
    let sum = !checksum::fold(checksum::sum(bytes.get(start..).unwrap_or(&[])));
    // in UDP, where the field is the seventh octet, zero would say that there is none
    let sum = if sum == 0 && offset == 6 { 0xffff } else { sum };
    put_u16(bytes, start + offset, sum);
    frame.clear_vnet();
}
