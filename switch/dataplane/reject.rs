//! Refusing aloud: a TCP reset.

use kswitch_tables::Protocol;

use super::frame::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};
use super::icmp::{Envelope, Message, seal};
use super::{Frame, Kind, Packet};

impl Message {
    /// Builds the reset that answers a TCP segment to a closed port; `false` if the segment must
    /// not be answered.
    ///
    /// Source: RFC 9293 §3.10.7.1.
    pub fn reset(&mut self, envelope: &Envelope, frame: &Frame<'_>, packet: &Packet) -> bool {
        let Kind::Tcp(flags) = packet.kind else { return false };
        let segment = frame.bytes().get(packet.transport..packet.end).unwrap_or(&[]);
        let Some(header) = segment.first_chunk::<20>() else { return false };
        if flags & TCP_RST != 0 || packet.fragment.is_some() {
            return false;
        }
        let word = |at: usize| -> u32 {
            let octets = header.get(at..).and_then(<[u8]>::first_chunk);
            octets.map_or(0, |octets| u32::from_be_bytes(*octets))
        };
        let octets = segment.len().saturating_sub(usize::from(header[12] >> 4) * 4);
        let length = u32::try_from(octets).unwrap_or(0)
            + u32::from(flags & TCP_SYN != 0)
            + u32::from(flags & TCP_FIN != 0);
        let (sequence, acknowledged, answer) = if flags & TCP_ACK != 0 {
            (word(8), 0, TCP_RST)
        } else {
            (0, word(4).wrapping_add(length), TCP_RST | TCP_ACK)
        };
        let room = self.start(envelope, Protocol::TCP, 20);
        if let Some(room) = room.first_chunk_mut::<20>() {
            room[0..2].copy_from_slice(&packet.flow.target.port.to_be_bytes());
            room[2..4].copy_from_slice(&packet.flow.source.port.to_be_bytes());
            room[4..8].copy_from_slice(&sequence.to_be_bytes());
            room[8..12].copy_from_slice(&acknowledged.to_be_bytes());
            room[12] = 5 << 4;
            room[13] = answer;
        }
        seal(room, envelope, Protocol::TCP, 16);
        true
    }
}
