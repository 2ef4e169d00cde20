//! The virtio network header before each frame: what the sender left undone.

use crate::port::VNET_HEADER;

/// The header's meaning. Fields of more than one octet are little endian on the wire.
///
/// Source: virtio 1.2 §5.1.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vnet {
    /// Whether the transport checksum holds only the pseudo-header's sum.
    pub needs_checksum: bool,
    /// Kind of segmentation left to do; [`Vnet::GSO_NONE`] for none.
    pub gso_type: u8,
    /// Octets of payload in each segment.
    pub gso_size: u16,
    /// Where checksumming starts, octets from the start of the frame.
    pub checksum_start: u16,
    /// Where the checksum is, octets from there.
    pub checksum_offset: u16,
}

impl Vnet {
    /// The frame is one segment.
    pub const GSO_NONE: u8 = 0;
    /// To be cut into TCP segments over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// To be cut into UDP datagrams.
    pub const GSO_UDP_L4: u8 = 5;
    /// To be cut into TCP segments over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    const NEEDS_CSUM: u8 = 1;

    /// Reads the header.
    pub const fn read(header: &[u8; VNET_HEADER]) -> Self {
        Self {
            needs_checksum: header[0] & Self::NEEDS_CSUM != 0,
            gso_type: header[1] & 0x7f,
            gso_size: u16::from_le_bytes([header[4], header[5]]),
            checksum_start: u16::from_le_bytes([header[6], header[7]]),
            checksum_offset: u16::from_le_bytes([header[8], header[9]]),
        }
    }

    /// Writes the header of a frame whose own headers have so many octets.
    pub(super) fn write(self, header: &mut [u8; VNET_HEADER], headers: u16) {
        let Self { needs_checksum, gso_type, gso_size, checksum_start, checksum_offset } = self;
        let [flags, kind, words @ ..] = header;
        (*flags, *kind) = (if needs_checksum { Self::NEEDS_CSUM } else { 0 }, gso_type);
        let values = [headers, gso_size, checksum_start, checksum_offset];
        for (word, value) in words.as_chunks_mut().0.iter_mut().zip(values) {
            *word = value.to_le_bytes();
        }
    }
}
