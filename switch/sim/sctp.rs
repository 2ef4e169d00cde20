//! SCTP packets with one chunk, as hosts exchange them to open an association.
//!
//! Source: RFC 9260 §3.

use kswitch_tables::{Endpoint, Protocol};

use super::craft::{Body, Craft};
use super::read::Received;
use crate::dataplane::rewrite::crc32c;

/// Chunk types. Source: RFC 9260 §3.2.
pub const INIT: u8 = 1;
/// Acknowledges an [`INIT`].
pub const INIT_ACK: u8 = 2;
/// Ends an association at once.
pub const ABORT: u8 = 6;
/// Hands back the cookie of an [`INIT_ACK`].
pub const COOKIE_ECHO: u8 = 10;
/// Acknowledges a [`COOKIE_ECHO`].
pub const COOKIE_ACK: u8 = 11;

/// Octets of the common header.
const COMMON_HEADER: usize = 12;

/// Octets of the fixed part of an INIT or INIT ACK.
const INIT_PART: usize = 16;

/// Type of the parameter that carries a cookie.
const STATE_COOKIE: u16 = 7;

/// A packet with one chunk; `tag` is the verification tag of who receives it.
pub fn packet(source: Endpoint, target: Endpoint, tag: u32, kind: u8, value: &[u8]) -> Craft {
    let mut octets = Vec::new();
    octets.extend(source.port.to_be_bytes());
    octets.extend(target.port.to_be_bytes());
    octets.extend(tag.to_be_bytes());
    octets.extend([0; 4]);
    octets.extend([kind, 0]);
    octets.extend(length_of(value.len() + 4));
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    let sum = crc32c(&octets);
    if let Some(room) = octets.get_mut(8..COMMON_HEADER) {
        room.copy_from_slice(&sum.to_le_bytes());
    }
    Craft { source, target, ttl: 64, body: Body::Raw(Protocol::SCTP, octets) }
}

/// The value of an INIT or INIT ACK; `tag` is the one by which its sender wants to be addressed.
pub fn init(tag: u32, cookie: &[u8]) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    // window, streams out and in, first sequence number
    value.extend(65_535_u32.to_be_bytes());
    value.extend([0, 1, 0, 1]);
    value.extend(1_u32.to_be_bytes());
    if !cookie.is_empty() {
        value.extend(STATE_COOKIE.to_be_bytes());
        value.extend(length_of(cookie.len() + 4));
        value.extend(cookie);
    }
    value
}

fn length_of(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

/// A chunk as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its type.
    pub kind: u8,
    /// Its value, without padding.
    pub value: Vec<u8>,
}

impl Chunk {
    /// The first chunk of a packet with a right checksum.
    pub fn read(packet: &Received) -> Option<Self> {
        let upper = packet.upper();
        let mut summed = upper.to_vec();
        summed.get_mut(8..COMMON_HEADER)?.fill(0);
        if upper.get(8..COMMON_HEADER)? != crc32c(&summed).to_le_bytes() {
            return None;
        }
        let [kind, _, high, low] = *upper.get(COMMON_HEADER..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = upper.get(COMMON_HEADER + 4..COMMON_HEADER + length)?;
        Some(Self { kind, value: value.to_vec() })
    }

    /// The tag by which the sender of an INIT or INIT ACK wants to be addressed.
    pub fn tag(&self) -> Option<u32> {
        self.value.first_chunk().map(|tag| u32::from_be_bytes(*tag))
    }

    /// The cookie of an INIT ACK.
    pub fn cookie(&self) -> Option<&[u8]> {
        let [kind_high, kind_low, high, low, ..] = self.value.get(INIT_PART..)? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let is_cookie = u16::from_be_bytes([*kind_high, *kind_low]) == STATE_COOKIE;
        self.value.get(INIT_PART + 4..INIT_PART + length).filter(|_| is_cookie)
    }
}
