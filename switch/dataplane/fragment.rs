//! Fragments: which flow the later ones belong to.
//!
//! Only the first fragment of a packet has ports. What it says is remembered by the packet's
//! identification, so that later fragments find the same binding in conntrack and are rewritten in
//! their IP header alone. Later fragments that come first wait for it. Fragments leave as they came,
//! but for packets whose transport header itself is cut: these are put together first (`assemble`).
//!
//! All fragments of a packet come in by one queue, so that each worker keeps its own. Room and
//! time are bounded. Where it is short, the oldest packet of the port that has most gives way, so that
//! a port that floods takes none from others.
//!
//! Source: RFC 791 §3.2; RFC 8200 §4.5; RFC 4787 REQ-14 (any order); RFC 5722 (overlaps).

mod assemble;

use kswitch_tables::{Address, PortId, Protocol, Tick};

use super::frame::Fragment;
use super::{DropReason, Packet};
use crate::port::BUFFER_OCTETS;

/// How long after its latest fragment a packet is remembered.
///
/// Source: RFC 8200 §4.5 allows 60 s, Linux `ipfrag_time` is 30 s.
pub const FRAGMENT_MAX_AGE: Tick = Tick::from_secs(30);

/// Packets remembered for each value of the hash; there are [`SETS`] values.
const WAYS: usize = 8;
const SETS: usize = 64;

/// Pieces of one packet: 65,535 octets in fragments of 1,280.
const PIECES_MAX: usize = 64;

/// Fragments that wait for the first of their packet, over all packets.
const HELD_MAX: usize = 256;

/// Those of one port.
const HELD_OF_PORT: usize = HELD_MAX / 4;

/// Octets of a buffer that waits: virtio and Ethernet header and a packet of an ordinary link.
/// Longer fragments that come before the first one are dropped.
const HELD_OCTETS: usize = 2048;

/// What identifies the packet that a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    ingress: PortId,
    source: Address,
    target: Address,
    protocol: u8,
    id: u32,
}

/// What the first fragment said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// It has not come yet.
    Awaited,
    /// Its protocol, and its ports, host order.
    Ports(Protocol, u16, u16),
    /// Its transport header goes on in the next: all wait for each other.
    Spread,
    /// It went no further, and so shall the others.
    Refused,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    first: First,
    seen: Tick,
    /// Start and end of each piece, octets.
    pieces: [(u32, u32); PIECES_MAX],
    count: usize,
    /// Where the last piece ends, once that has come.
    end: Option<u32>,
}

/// A fragment that waits.
#[derive(Debug)]
struct Held {
    key: Option<Key>,
    buffer: Box<[u8]>,
    length: usize,
}

/// What to do with a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// It belongs to the flow of this protocol with these ports.
    Ports(Protocol, u16, u16),
    /// It waits.
    Held,
    /// It was the last that all waited for: [`Fragments::assemble`] has the packet.
    Whole,
}

/// The packets in pieces that one worker knows.
#[derive(Debug)]
pub struct Fragments {
    sets: Box<[[Option<Entry>; WAYS]]>,
    held: Box<[Held]>,
    /// Where a packet is put together.
    whole: Box<[u8]>,
}

impl Default for Fragments {
    fn default() -> Self {
        let held = || Held { key: None, buffer: vec![0; HELD_OCTETS].into(), length: 0 };
        Self {
            sets: std::iter::repeat_with(|| [const { None }; WAYS]).take(SETS).collect(),
            held: std::iter::repeat_with(held).take(HELD_MAX).collect(),
            whole: vec![0; BUFFER_OCTETS].into(),
        }
    }
}

impl Fragments {
    /// Takes note of a first fragment.
    ///
    /// # Errors
    /// [`DropReason::FragmentOverlap`].
    pub fn first(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
        now: Tick,
    ) -> Result<(), DropReason> {
        let (source, target) = (packet.flow.source.port, packet.flow.target.port);
        let entry = self.entry(ingress, packet, fragment, now)?;
        if entry.first == First::Refused {
            return Err(DropReason::FragmentOverlap);
        }
        entry.first = First::Ports(packet.flow.protocol, source, target);
        if entry.is_whole() {
            self.forget(key(ingress, packet, fragment));
        }
        Ok(())
    }

    /// Takes note of a later fragment, and keeps it where the first one has not come.
    ///
    /// # Errors
    /// [`DropReason::FragmentOverlap`]; [`DropReason::Fragmented`] where the first one was refused
    /// or there is no room to wait.
    pub fn later(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
        now: Tick,
        buffer: &[u8],
    ) -> Result<Later, DropReason> {
        let entry = self.entry(ingress, packet, fragment, now)?;
        match entry.first {
            First::Ports(protocol, source, target) => {
                if entry.is_whole() {
                    let key = entry.key;
                    self.forget(key);
                }
                Ok(Later::Ports(protocol, source, target))
            }
            First::Refused => Err(DropReason::Fragmented),
            First::Awaited | First::Spread => {
                let is_whole = entry.first == First::Spread && entry.is_whole();
                let key = entry.key;
                self.hold(key, buffer)?;
                Ok(if is_whole { Later::Whole } else { Later::Held })
            }
        }
    }

    /// Keeps a fragment.
    fn hold(&mut self, key: Key, buffer: &[u8]) -> Result<(), DropReason> {
        let is_of_port = |held: &&Held| held.key.is_some_and(|of| of.ingress == key.ingress);
        if self.held.iter().filter(is_of_port).count() >= HELD_OF_PORT {
            return Err(DropReason::Fragmented);
        }
        let free = self.held.iter_mut().find(|held| held.key.is_none());
        let held = free.ok_or(DropReason::Fragmented)?;
        let room = held.buffer.get_mut(..buffer.len()).ok_or(DropReason::Fragmented)?;
        room.copy_from_slice(buffer);
        held.length = buffer.len();
        held.key = Some(key);
        Ok(())
    }

    /// Takes it back that the first fragment of a packet has come: it will come again.
    pub fn put_off(&mut self, ingress: PortId, packet: &Packet, fragment: Fragment) {
        let Some(entry) = self.find(key(ingress, packet, fragment)) else { return };
        entry.first = First::Awaited;
        let count = entry.count;
        let known = entry.pieces.get_mut(..count).unwrap_or(&mut []);
        if let Some(at) = known.iter().position(|(start, _)| *start == 0) {
            known.swap(at, count - 1);
            entry.count -= 1;
        }
    }

    /// Remembers that the packet of this fragment goes no further.
    pub fn refuse(&mut self, ingress: PortId, packet: &Packet, fragment: Fragment) {
        let key = key(ingress, packet, fragment);
        if let Some(entry) = self.find(key) {
            entry.first = First::Refused;
        }
        self.drop_held(key);
    }

    /// Hands out a fragment that waited for this packet's first one; [`Fragments::put_back`] takes
    /// the buffer again.
    pub fn take_held(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
    ) -> Option<(Box<[u8]>, usize)> {
        let key = key(ingress, packet, fragment);
        let held = self.held.iter_mut().find(|held| held.key == Some(key))?;
        held.key = None;
        Some((std::mem::take(&mut held.buffer), held.length))
    }

    /// Takes a buffer of [`Fragments::take_held`] again.
    pub fn put_back(&mut self, buffer: Box<[u8]>) {
        if let Some(held) = self.held.iter_mut().find(|held| held.buffer.is_empty()) {
            held.buffer = buffer;
        }
    }

    /// The entry of a fragment's packet, made where there is none, with the piece noted in it.
    fn entry(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
        now: Tick,
    ) -> Result<&mut Entry, DropReason> {
        let key = key(ingress, packet, fragment);
        let at = self.place(key, now);
        let set = self.sets.get_mut(set_of(key)).ok_or(DropReason::Fragmented)?;
        let slot = set.get_mut(at).ok_or(DropReason::Fragmented)?;
        let fresh = || Entry {
            key,
            first: First::Awaited,
            seen: now,
            pieces: [(0, 0); _],
            count: 0,
            end: None,
        };
        let entry = slot.get_or_insert_with(fresh);
        entry.seen = now;
        entry.note(packet, fragment)?;
        Ok(entry)
    }

    /// The way of this packet in its set; one made free for it where it has none.
    fn place(&mut self, key: Key, now: Tick) -> usize {
        let Some(set) = self.sets.get_mut(set_of(key)) else { return 0 };
        let is_live = |entry: &Entry| now.since(entry.seen) < FRAGMENT_MAX_AGE.0;
        if let Some(at) =
            set.iter().position(|e| e.as_ref().is_some_and(|e| e.key == key && is_live(e)))
        {
            return at;
        }
        let share = |ingress| set.iter().flatten().filter(|e| e.key.ingress == ingress).count();
        // a way that is free, or as good as free; else the oldest of the port that has most
        let worth = |entry: &Option<Entry>| match entry {
            Some(entry) if is_live(entry) => (share(entry.key.ingress), now.since(entry.seen)),
            _ => (usize::MAX, 0),
        };
        let oldest = (0..WAYS).max_by_key(|at| set.get(*at).map(worth)).unwrap_or(0);
        let gone = set.get_mut(oldest).and_then(Option::take);
        if let Some(gone) = gone {
            self.drop_held(gone.key);
        }
        oldest
    }

    /// Forgets a packet all pieces of which have come: its identification may serve another, and
    /// with thousands of packets a second soon does.
    fn forget(&mut self, key: Key) {
        if let Some(set) = self.sets.get_mut(set_of(key)) {
            set.iter_mut()
                .filter(|at| at.as_ref().is_some_and(|e| e.key == key))
                .for_each(|at| *at = None);
        }
    }

    fn find(&mut self, key: Key) -> Option<&mut Entry> {
        let set = self.sets.get_mut(set_of(key))?;
        set.iter_mut().flatten().find(|entry| entry.key == key)
    }

    fn drop_held(&mut self, key: Key) {
        for held in self.held.iter_mut().filter(|held| held.key == Some(key)) {
            held.key = None;
        }
    }
}

impl Entry {
    /// Notes a piece. The same piece again is dropped; one that overlaps another spoils the packet.
    fn note(&mut self, packet: &Packet, fragment: Fragment) -> Result<(), DropReason> {
        let start = u32::from(fragment.offset);
        let end = start + u32::try_from(packet.end - packet.transport).unwrap_or(u32::MAX);
        let known = self.pieces.get(..self.count).unwrap_or(&[]);
        if known.contains(&(start, end)) {
            return Err(DropReason::FragmentOverlap);
        }
        let overlaps = known.iter().any(|(from, to)| start < *to && *from < end);
        // every piece but the last is whole words, and none reaches beyond the largest packet
        let is_ragged = fragment.more && !(end - start).is_multiple_of(8);
        if overlaps || is_ragged || end > u32::from(u16::MAX) || self.count == PIECES_MAX {
            self.first = First::Refused;
            return Err(DropReason::FragmentOverlap);
        }
        if let Some(piece) = self.pieces.get_mut(self.count) {
            *piece = (start, end);
            self.count += 1;
        }
        if !fragment.more {
            self.end = Some(end);
        }
        Ok(())
    }

    /// Whether all pieces have come: none overlap, so their lengths tell.
    fn is_whole(&self) -> bool {
        let known = self.pieces.iter().take(self.count);
        self.end.is_some_and(|end| known.map(|(from, to)| to - from).sum::<u32>() == end)
    }
}

const fn key(ingress: PortId, packet: &Packet, fragment: Fragment) -> Key {
    Key {
        ingress,
        source: packet.flow.source.address,
        target: packet.flow.target.address,
        // in IPv6 later fragments may not know what is behind the first one's further headers
        protocol: if packet.is_v4() { packet.flow.protocol.0 } else { 0 },
        id: fragment.id,
    }
}

/// The set of a packet: neighbouring identifications lie in different ones.
fn set_of(key: Key) -> usize {
    let mixed = key.source.low32() ^ key.target.low32().rotate_left(16);
    let mixed = mixed.wrapping_mul(0x9e37_79b1) >> 16;
    (mixed.wrapping_add(key.id) as usize) % SETS
}
