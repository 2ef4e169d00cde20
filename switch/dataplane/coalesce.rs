//! Datagrams of a flow that go the same way one after the other, handed over as one frame.
//!
//! To write to a TAP costs a system call and the receiver's way through its protocol stack, however
//! long the frame is. So datagrams that came in together and leave together are joined, as network
//! cards join them, and the receiver's kernel takes them apart again where its sockets want them one
//! by one. Nothing waits for company: what a burst has joined is sent at its end. The order within a
//! flow stays.
//!
//! Only what can be taken apart into the same datagrams again is joined: equal headers, equal
//! lengths but for the last, checksums that are there and right.
//!
//! Source: virtio 1.2 §5.1.6.2, `VIRTIO_NET_HDR_GSO_UDP_L4`; RFC 6864 §4 (identification of datagrams
//! that may not be fragmented means nothing); Linux, "Segmentation offloads", generic receive offload.

use std::ops::Range;

use kswitch_tables::{PortId, Protocol};

use super::checksum::{fold, pseudo_header_sum_of, sum};
use super::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER};
use super::rewrite::{get_u16, put_u16, seal_ipv4};
use super::vnet::Vnet;
use crate::port::{BUFFER_OCTETS, VNET_HEADER};

/// Flows that are joined beside each other.
const RUNS: usize = 4;

/// Datagrams of one frame at most: what kernels take.
///
/// Source: Linux, `UDP_MAX_SEGMENTS`: 64, in later ones 128.
const DATAGRAMS_MAX: u16 = 64;

/// Where the IP header begins in a buffer.
const IP: usize = VNET_HEADER + ETHERNET_HEADER;
const UDP_HEADER: usize = 8;
const CHECKSUM_OFFSET: u16 = 6;
const DONT_FRAGMENT: u8 = 0x40;
/// More fragments, and where one belongs.
const FRAGMENT: u16 = 0x3fff;

/// A buffer that is one datagram, and may be joined with others.
#[derive(Clone, Copy, Debug)]
struct Datagram<'b> {
    buffer: &'b [u8],
    /// Where the UDP header begins in the buffer.
    transport: usize,
}

impl<'b> Datagram<'b> {
    /// What a buffer holds, if it is such a datagram.
    #[inline]
    fn of(buffer: &'b [u8]) -> Option<Self> {
        let vnet = Vnet::read(buffer.first_chunk()?);
        let ethertype = get_u16(buffer, IP - 2)?;
        let (transport, protocol, end) = if ethertype == ETHERTYPE_IPV4 {
            let is_whole = *buffer.get(IP)? == 0x45 && get_u16(buffer, IP + 6)? & FRAGMENT == 0;
            let protocol = *buffer.get(IP + 9).filter(|_| is_whole)?;
            (IP + 20, protocol, IP + usize::from(get_u16(buffer, IP + 2)?))
        } else if ethertype == ETHERTYPE_IPV6 {
            let end = IP + IPV6_HEADER + usize::from(get_u16(buffer, IP + 4)?);
            (IP + IPV6_HEADER, *buffer.get(IP + 6)?, end)
        } else {
            return None;
        };
        // one machine's, not all machines'
        let is_for_one = buffer.get(VNET_HEADER)? & 1 == 0;
        if Protocol(protocol) != Protocol::UDP
            || !is_for_one
            || vnet.gso_type != Vnet::GSO_NONE
            || end != buffer.len()
            || end <= transport + UDP_HEADER
            || usize::from(get_u16(buffer, transport + 4)?) != end - transport
        {
            return None;
        }
        let datagram = Self { buffer, transport };
        datagram.has_checksum(vnet).then_some(datagram)
    }

    /// Whether its checksum is there, and right or yet to be made.
    fn has_checksum(&self, vnet: Vnet) -> bool {
        let Self { buffer, transport } = *self;
        if vnet.needs_checksum {
            return usize::from(vnet.checksum_start) == transport - VNET_HEADER
                && vnet.checksum_offset == CHECKSUM_OFFSET;
        }
        let covered = buffer.get(transport..).unwrap_or(&[]);
        get_u16(covered, usize::from(CHECKSUM_OFFSET)).is_some_and(|checksum| checksum != 0)
            && fold(self.pseudo_sum(covered.len()) + sum(covered)) == 0xffff
    }

    const fn is_v4(&self) -> bool {
        self.transport == IP + 20
    }

    /// The sum of the pseudo-header of a datagram of so many octets between these ends.
    fn pseudo_sum(&self, octets: usize) -> u64 {
        let addresses = self.flow().start..self.transport;
        let addresses = self.buffer.get(addresses).unwrap_or(&[]);
        pseudo_header_sum_of(addresses, Protocol::UDP, octets)
    }

    /// Octets that say which flow it is of: addresses and ports.
    const fn flow(&self) -> Range<usize> {
        let addresses = if self.is_v4() { IP + 12 } else { IP + 8 };
        addresses..self.transport + 4
    }

    /// Octets in which all datagrams of one frame agree beside these.
    const fn manner(&self) -> [Range<usize>; 2] {
        if self.is_v4() {
            // all of Ethernet's, and kind of service; fragmentation, TTL, protocol
            [VNET_HEADER..IP + 2, IP + 6..IP + 10]
        } else {
            // as much, and flow label; next header, hop limit
            [VNET_HEADER..IP + 4, IP + 6..IP + 8]
        }
    }

    fn payload(&self) -> &'b [u8] {
        self.buffer.get(self.transport + UDP_HEADER..).unwrap_or(&[])
    }
}

/// Datagrams that are one frame.
#[derive(Debug)]
struct Run {
    port: PortId,
    /// Where the UDP header begins in the room.
    transport: usize,
    room: Box<[u8]>,
    octets: usize,
    /// Octets of the first one's payload.
    each: usize,
    datagrams: u16,
    /// Whether the last was shorter than the others, so that none may come behind it.
    is_ended: bool,
}

impl Run {
    fn new() -> Self {
        let room = vec![0; BUFFER_OCTETS].into_boxed_slice();
        let port = PortId(0);
        Self { port, transport: 0, room, octets: 0, each: 0, datagrams: 0, is_ended: false }
    }

    fn start(&mut self, port: PortId, datagram: &Datagram<'_>) {
        let octets = datagram.buffer.len();
        let Some(room) = self.room.get_mut(..octets) else { return };
        room.copy_from_slice(datagram.buffer);
        self.port = port;
        self.transport = datagram.transport;
        self.octets = octets;
        self.each = datagram.payload().len();
        self.datagrams = 1;
        self.is_ended = false;
    }

    /// Whether a datagram is of the same flow.
    #[inline]
    fn is_of(&self, port: PortId, datagram: &Datagram<'_>) -> bool {
        self.port == port
            && self.transport == datagram.transport
            && self.agrees(datagram, datagram.flow())
    }

    #[inline]
    fn agrees(&self, datagram: &Datagram<'_>, octets: Range<usize>) -> bool {
        self.room.get(octets.clone()) == datagram.buffer.get(octets)
    }

    /// Whether a datagram of the same flow can be told apart again when it is appended.
    fn fits(&self, datagram: &Datagram<'_>) -> bool {
        let length = datagram.payload().len();
        !self.is_ended
            && self.datagrams < DATAGRAMS_MAX
            && length <= self.each
            && self.octets + length <= IP + usize::from(u16::MAX)
            && datagram.manner().into_iter().all(|octets| self.agrees(datagram, octets))
            && self.is_numbered(datagram)
    }

    /// Whether its identification is the one that it gets where the frame is cut, or means nothing.
    fn is_numbered(&self, datagram: &Datagram<'_>) -> bool {
        let [first, this] =
            [&self.room, datagram.buffer].map(|buffer| get_u16(buffer, IP + 4).unwrap_or(0));
        let may_not_be_cut =
            datagram.buffer.get(IP + 6).is_some_and(|flags| flags & DONT_FRAGMENT != 0);
        !datagram.is_v4() || may_not_be_cut || this == first.wrapping_add(self.datagrams)
    }

    fn append(&mut self, datagram: &Datagram<'_>) {
        let payload = datagram.payload();
        let end = self.octets + payload.len();
        let Some(room) = self.room.get_mut(self.octets..end) else { return };
        room.copy_from_slice(payload);
        self.octets = end;
        self.datagrams += 1;
        self.is_ended = payload.len() < self.each;
    }

    /// The frame, its headers as whoever cuts it needs them; a datagram alone is what it was.
    fn finish(&mut self) -> Joined<'_> {
        let Self { transport, octets, each, datagrams, .. } = *self;
        let room = self.room.get_mut(..octets).unwrap_or(&mut []);
        if datagrams > 1 {
            seal(room, transport, each);
        }
        Joined { port: self.port, buffer: room, datagrams, headers: transport + UDP_HEADER }
    }
}

/// Writes lengths, checksums and virtio header of a frame of many datagrams of `each` octets.
#[expect(clippy::cast_possible_truncation, reason = "no frame is longer than 65,535 octets")]
fn seal(room: &mut [u8], transport: usize, each: usize) {
    let covered = room.len() - transport;
    let pseudo = fold(Datagram { buffer: room, transport }.pseudo_sum(covered));
    put_u16(room, transport + 4, covered as u16);
    put_u16(room, transport + usize::from(CHECKSUM_OFFSET), pseudo);
    if transport == IP + 20 {
        put_u16(room, IP + 2, (room.len() - IP) as u16);
        seal_ipv4(room.get_mut(IP..transport).unwrap_or(&mut []));
    } else {
        put_u16(room, IP + 4, covered as u16);
    }
    let start = transport - VNET_HEADER;
    let vnet = Vnet {
        needs_checksum: true,
        gso_type: Vnet::GSO_UDP_L4,
        gso_size: each as u16,
        checksum_start: start as u16,
        checksum_offset: CHECKSUM_OFFSET,
    };
    if let Some(header) = room.first_chunk_mut() {
        vnet.write(header, (start + UDP_HEADER) as u16);
    }
}

/// A frame to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined<'r> {
    pub(super) port: PortId,
    pub(super) buffer: &'r [u8],
    /// How many datagrams it is.
    pub(super) datagrams: u16,
    /// Octets of the headers that each of them had, virtio header included.
    headers: usize,
}

impl Joined<'_> {
    /// Octets that the datagrams had as frames of their own, virtio headers left out.
    pub(super) fn octets(&self) -> usize {
        let more = usize::from(self.datagrams.saturating_sub(1));
        (self.buffer.len() - VNET_HEADER) + more * (self.headers - VNET_HEADER)
    }
}

/// What a burst has joined so far.
#[derive(Debug)]
pub(super) struct Coalescer {
    runs: [Run; RUNS],
    /// How many of them there are.
    count: usize,
    /// The one that has to go when there is no room.
    oldest: usize,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self { runs: std::array::from_fn(|_| Run::new()), count: 0, oldest: 0 }
    }
}

impl Coalescer {
    /// Takes a frame to a port, to be sent by `send`, now or later, after those of its flow that were
    /// taken before; `false`: it is to be sent by itself, and all that was taken before has been.
    #[inline]
    pub(super) fn take(
        &mut self,
        port: PortId,
        buffer: &[u8],
        mut send: impl FnMut(Joined<'_>),
    ) -> bool {
        let Some(datagram) = Datagram::of(buffer) else {
            self.finish(send);
            return false;
        };
        let runs = self.runs.iter_mut().take(self.count);
        if let Some(run) = runs.into_iter().find(|run| run.is_of(port, &datagram)) {
            if run.fits(&datagram) {
                run.append(&datagram);
            } else {
                send(run.finish());
                run.start(port, &datagram);
            }
            return true;
        }
        if let Some(run) = self.runs.get_mut(self.count) {
            self.count += 1;
            run.start(port, &datagram);
        } else if let Some(run) = self.runs.get_mut(self.oldest) {
            self.oldest = (self.oldest + 1) % RUNS;
            send(run.finish());
            run.start(port, &datagram);
        }
        true
    }

    /// Sends all that was taken.
    #[inline]
    pub(super) fn finish(&mut self, send: impl FnMut(Joined<'_>)) {
        self.runs.iter_mut().take(self.count).map(Run::finish).for_each(send);
        (self.count, self.oldest) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
