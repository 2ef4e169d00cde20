//! Packets whose transport header itself is cut, put together before anything is judged by it.
//!
//! Scanners send such fragments, of eight octets each; ports and checksum of a TCP segment then lie
//! in different ones, and no fragment can be judged or rewritten by itself. The packet goes on whole,
//! as through a firewall that reassembles, and is cut again where a link demands it. In IPv6 such a
//! packet is dropped.
//!
//! Source: RFC 791 §3.2; RFC 1858 §3 (tiny fragments); RFC 7112 §5 (IPv6).

use kswitch_tables::{PortId, Tick};

use super::{First, Fragments, Later, key};
use crate::dataplane::frame::{ETHERNET_HEADER, Fragment};
use crate::dataplane::rewrite::{get_u16, put_u16, seal_ipv4};
use crate::dataplane::{DropReason, Frame, Packet, Parsed};
use crate::port::VNET_HEADER;

impl Fragments {
    /// Takes note of a first fragment that ends within its transport header, and keeps it.
    ///
    /// # Errors
    /// As [`Fragments::later`]; [`DropReason::BadTransportHeader`] in IPv6.
    pub fn spread(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
        now: Tick,
        buffer: &[u8],
    ) -> Result<Later, DropReason> {
        let entry = self.entry(ingress, packet, fragment, now)?;
        if !packet.is_v4() {
            entry.first = First::Refused;
            return Err(DropReason::BadTransportHeader);
        }
        if entry.first == First::Refused {
            return Err(DropReason::FragmentOverlap);
        }
        entry.first = First::Spread;
        let is_whole = entry.is_whole();
        self.hold(key(ingress, packet, fragment), buffer)?;
        Ok(if is_whole { Later::Whole } else { Later::Held })
    }

    /// Puts the packet of this fragment together, all pieces of which are there;
    /// [`Fragments::take_back`] takes the buffer again.
    ///
    /// `None` where a piece was lost on the way.
    pub fn assemble(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
    ) -> Option<(Box<[u8]>, usize)> {
        let mut whole = std::mem::take(&mut self.whole);
        let built = self.build(ingress, packet, fragment, &mut whole);
        let key = key(ingress, packet, fragment);
        self.forget(key);
        self.drop_held(key);
        let Some(length) = built else {
            self.whole = whole;
            return None;
        };
        Some((whole, length))
    }

    /// Takes the buffer of [`Fragments::assemble`] again.
    pub fn take_back(&mut self, whole: Box<[u8]>) {
        self.whole = whole;
    }

    fn build(
        &mut self,
        ingress: PortId,
        packet: &Packet,
        fragment: Fragment,
        whole: &mut [u8],
    ) -> Option<usize> {
        const IP: usize = VNET_HEADER + ETHERNET_HEADER;
        let key = key(ingress, packet, fragment);
        // headers are those of the first, which alone may have all options
        let (mut header, mut payload) = (None, 0);
        for held in self.held.iter_mut().filter(|held| held.key == Some(key)) {
            let frame = Frame::new(held.buffer.get_mut(..held.length)?);
            let Ok(Parsed::Ip(piece)) = frame.parse() else { return None };
            let at = usize::from(piece.fragment?.offset);
            if at == 0 {
                header = Some(piece.transport - piece.ip);
                let octets = VNET_HEADER + piece.transport;
                whole.get_mut(..octets)?.copy_from_slice(frame.buffer().get(..octets)?);
            }
            payload = payload.max(at + piece.end - piece.transport);
        }
        let header = header?;
        for held in self.held.iter_mut().filter(|held| held.key == Some(key)) {
            let frame = Frame::new(held.buffer.get_mut(..held.length)?);
            let Ok(Parsed::Ip(piece)) = frame.parse() else { return None };
            let octets = frame.bytes().get(piece.transport..piece.end)?;
            let at = IP + header + usize::from(piece.fragment?.offset);
            whole.get_mut(at..at + octets.len())?.copy_from_slice(octets);
        }
        let ip = whole.get_mut(IP..IP + header)?;
        put_u16(ip, 2, u16::try_from(header + payload).ok()?);
        // neither more fragments nor an offset; whether it may be cut stays
        let word = get_u16(ip, 6)? & 0x4000;
        put_u16(ip, 6, word);
        seal_ipv4(ip);
        Some(IP + header + payload)
    }
}
