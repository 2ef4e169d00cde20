//! The frames that the generator sends, and what the sink reads in them.
//!
//! Every frame is a UDP datagram as a socket sends it, not to be fragmented and with a checksum, whose
//! first octets say which flow it belongs to, its place there and when it was sent: as much as fits
//! the smallest Ethernet frame.

use std::net::{IpAddr, SocketAddr};

/// Octets of an Ethernet header.
pub const ETHERNET: usize = 14;
const UDP: usize = 8;
/// Octets of what the sink wants to know.
const STAMP: usize = 18;
/// Octets of a virtio header.
pub const VIRTIO_HEADER: usize = 10;
/// A virtio header's word for many datagrams.
const GSO_UDP_L4: u8 = 5;

/// Octets of the headers of a UDP datagram over IPv4.
pub const DATAGRAM_HEADERS: usize = 28;

/// Marks a frame as the generator's.
const MAGIC: u16 = 0x6b73;
/// Octets of the check sequence, which counts for a frame's size but is never seen.
pub const CHECK_SEQUENCE: usize = 4;

/// Where a frame goes and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// Ethernet destination: the next hop's.
    pub target_mac: [u8; 6],
    /// Where from; ports above this one tell flows apart.
    pub source: SocketAddr,
    /// Where to.
    pub target: SocketAddr,
    /// Octets with Ethernet header and check sequence, as RFC 2544 counts them.
    pub size: usize,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its flow.
    pub flow: u32,
    /// Its place in the flow; wraps.
    pub sequence: u32,
    /// When it was sent, by [`crate::clock::now`].
    pub sent: u64,
}

/// A frame to be sent again and again with other stamps.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    transport: usize,
    first_port: u16,
    /// The sum of what the UDP checksum covers and no stamp changes; `None` if that is left to others.
    constant: Option<u32>,
}

fn put(bytes: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + octets.len()) {
        room.copy_from_slice(octets);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let whole: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    whole + odd.first().map_or(0, |last| u32::from(*last) << 8)
}

fn checksum(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(0)
}

impl Template {
    /// A frame of this shape; `None` if source and target are of different families, or the size
    /// is below the least.
    pub fn new(shape: &Shape) -> Option<Self> {
        let Shape { source_mac, target_mac, source, target, size } = *shape;
        let octets = size.checked_sub(CHECK_SEQUENCE)?;
        let mut bytes = vec![0; octets];
        put(&mut bytes, 0, &target_mac);
        put(&mut bytes, 6, &source_mac);
        let transport = match (source.ip(), target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                put(&mut bytes, 12, &[8, 0, 0x45, 0]);
                put(&mut bytes, 16, &u16::try_from(octets - ETHERNET).ok()?.to_be_bytes());
                put(&mut bytes, 20, &[0x40, 0, 64, 17]);
                put(&mut bytes, 26, &source.octets());
                put(&mut bytes, 30, &target.octets());
                let header = checksum(sum(bytes.get(ETHERNET..34)?));
                put(&mut bytes, 24, &header.to_be_bytes());
                34
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                put(&mut bytes, 12, &[0x86, 0xdd, 0x60]);
                let payload = octets.checked_sub(ETHERNET + 40)?;
                put(&mut bytes, 18, &u16::try_from(payload).ok()?.to_be_bytes());
                put(&mut bytes, 20, &[17, 64]);
                put(&mut bytes, 22, &source.octets());
                put(&mut bytes, 38, &target.octets());
                54
            }
            _ => return None,
        };
        let udp_octets = octets.checked_sub(transport)?;
        if udp_octets < UDP + STAMP {
            return None;
        }
        put(&mut bytes, transport + 2, &target.port().to_be_bytes());
        put(&mut bytes, transport + 4, &u16::try_from(udp_octets).ok()?.to_be_bytes());
        put(&mut bytes, transport + UDP, &MAGIC.to_be_bytes());
        let addresses = if target.is_ipv4() { 26 } else { 22 };
        let pseudo = 17 + u32::try_from(udp_octets).ok()?;
        let constant = Some(sum(bytes.get(addresses..)?) + pseudo);
        let first_port = source.port();
        Some(Self { bytes, transport, first_port, constant })
    }

    /// Datagrams over IPv4 of this shape, so many as one frame behind a virtio header: whoever wants
    /// them one by one cuts it. The stamp is that of the first. `None` as for [`Self::new`].
    ///
    /// Source: virtio 1.2 §5.1.6, `VIRTIO_NET_HDR_GSO_UDP_L4`.
    pub fn together(shape: &Shape, datagrams: u16) -> Option<Self> {
        const NEEDS_CSUM: u8 = 1;
        const HEADERS: usize = ETHERNET + DATAGRAM_HEADERS;
        let each = shape.size.checked_sub(CHECK_SEQUENCE + HEADERS)?;
        let more = usize::from(datagrams.checked_sub(1)?).checked_mul(each)?;
        let mut whole = Self::new(&Shape { size: shape.size.checked_add(more)?, ..*shape })?;
        if shape.source.is_ipv6() {
            return None;
        }
        let udp_octets = u32::try_from(whole.bytes.len() - ETHERNET - 20).ok()?;
        // what the checksum covers beside the datagram itself, for whoever cuts the frame to go on from
        let pseudo = !checksum(sum(whole.bytes.get(26..34)?) + 17 + udp_octets);
        put(&mut whole.bytes, whole.transport + 6, &pseudo.to_be_bytes());
        let mut header = vec![NEEDS_CSUM, GSO_UDP_L4];
        for field in [HEADERS, each, ETHERNET + 20, 6] {
            header.extend(u16::try_from(field).ok()?.to_ne_bytes());
        }
        whole.constant = None;
        whole.bytes.splice(0..0, header);
        whole.transport += VIRTIO_HEADER;
        Some(whole)
    }

    /// The octets to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Makes it the frame of this stamp.
    pub fn stamp(&mut self, stamp: Stamp) {
        let Self { transport, first_port, constant, .. } = *self;
        let Stamp { flow, sequence, sent } = stamp;
        let offset = u16::try_from(flow & 0xffff).unwrap_or(0);
        let port = first_port.wrapping_add(offset);
        put(&mut self.bytes, transport, &port.to_be_bytes());
        let at = transport + UDP + 2;
        let mut octets = [0; STAMP - 2];
        put(&mut octets, 0, &flow.to_be_bytes());
        put(&mut octets, 4, &sequence.to_be_bytes());
        put(&mut octets, 8, &sent.to_be_bytes());
        put(&mut self.bytes, at, &octets);
        if let Some(constant) = constant {
            let value = match checksum(constant + u32::from(port) + sum(&octets)) {
                0 => u16::MAX,
                value => value,
            };
            put(&mut self.bytes, transport + 6, &value.to_be_bytes());
        }
    }
}

/// The stamps of the datagrams in a buffer that came in, virtio header first, whatever was translated
/// on their way; none that is not the generator's.
///
/// Source: virtio 1.2 §5.1.6, `gso_size`: datagrams of a flow may come as one frame.
pub fn read_all(buffer: &[u8]) -> impl Iterator<Item = Stamp> {
    let (header, frame) = buffer.split_at_checked(VIRTIO_HEADER).unwrap_or_default();
    let each = match header {
        [_, GSO_UDP_L4, _, _, low, high, ..] => u16::from_ne_bytes([*low, *high]),
        _ => 0,
    };
    let payload = payload(frame).unwrap_or_default();
    let each = if each == 0 { payload.len() } else { usize::from(each) };
    payload.chunks(each.max(1)).filter_map(read)
}

/// What the UDP header of a frame is before.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let transport = match frame.get(12..14)? {
        [8, 0] if frame.get(23) == Some(&17) => {
            ETHERNET + usize::from(frame.get(ETHERNET)? & 15) * 4
        }
        [0x86, 0xdd] if frame.get(20) == Some(&17) => 54,
        _ => return None,
    };
    frame.get(transport + UDP..)
}

/// The stamp of a datagram.
fn read(payload: &[u8]) -> Option<Stamp> {
    let (stamp, _) = payload.split_first_chunk::<STAMP>()?;
    let (magic, rest) = stamp.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let is_ours = u16::from_be_bytes(*magic) == MAGIC;
    is_ours.then_some(Stamp {
        flow: u32::from_be_bytes(*flow),
        sequence: u32::from_be_bytes(*sequence),
        sent: u64::from_be_bytes(*rest.first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(source: &str, target: &str, size: usize) -> Shape {
        Shape {
            source_mac: [2, 0, 0, 0, 0, 1],
            target_mac: [2, 0, 0, 0, 0, 2],
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            size,
        }
    }

    fn read(frame: &[u8]) -> Option<Stamp> {
        let buffer = [&[0; VIRTIO_HEADER], frame].concat();
        read_all(&buffer).next()
    }

    #[test]
    fn what_is_stamped_is_read() {
        let stamp = Stamp { flow: 70_001, sequence: u32::MAX, sent: 1 << 50 };
        for (source, target, size) in [
            ("10.0.0.1:1024", "10.0.0.2:9", 64),
            ("10.0.0.1:1024", "10.0.0.2:9", 1518),
            ("[fd00::1]:1024", "[fd00::2]:9", 84),
        ] {
            let mut template = Template::new(&shape(source, target, size)).unwrap();
            template.stamp(stamp);
            assert_eq!(template.bytes().len(), size - CHECK_SEQUENCE);
            assert_eq!(read(template.bytes()), Some(stamp));
        }
    }

    #[test]
    fn headers_are_right() {
        let mut v4 = Template::new(&shape("10.0.0.1:1024", "10.0.0.2:9", 64)).unwrap();
        v4.stamp(Stamp { flow: 3, sequence: 1, sent: 2 });
        assert_eq!(checksum(sum(&v4.bytes()[14..34])), 0);
        assert_eq!(v4.bytes()[34..38], [4, 3, 0, 9]);
        assert_eq!(checksum(sum(&v4.bytes()[26..]) + 17 + 26), 0);
        let mut v6 = Template::new(&shape("[fd00::1]:1024", "[fd00::2]:9", 84)).unwrap();
        v6.stamp(Stamp { flow: 0, sequence: 7, sent: 99 });
        let bytes = v6.bytes();
        let udp = u32::try_from(bytes.len() - 54).unwrap();
        assert_eq!(checksum(sum(&bytes[22..54]) + 17 + udp + sum(&bytes[54..])), 0);
    }

    #[test]
    fn datagrams_go_together_behind_a_header_that_says_so() {
        let shape = shape("10.0.0.1:1024", "10.0.0.2:9", 64);
        let mut whole = Template::together(&shape, 16).unwrap();
        let stamp = Stamp { flow: 3, sequence: 1, sent: 2 };
        whole.stamp(stamp);
        let (header, frame) = whole.bytes().split_at(VIRTIO_HEADER);
        let fields: Vec<_> =
            header[2..].chunks(2).map(|two| u16::from_ne_bytes(two.try_into().unwrap())).collect();
        assert_eq!((&header[..2], &fields[..]), (&[1, 5][..], &[42, 18, 34, 6][..]));
        assert_eq!(frame.len(), 42 + 16 * 18);
        assert_eq!(frame[16..18], (28u16 + 16 * 18).to_be_bytes());
        assert_eq!(checksum(sum(&frame[14..34])), 0);
        // RFC 768, the pseudo header
        let pseudo = sum(&frame[26..34]) + 17 + 8 + 16 * 18;
        assert_eq!(u32::from(u16::from_be_bytes([frame[40], frame[41]])), pseudo % 0xffff);
        assert_eq!(read(frame), Some(stamp));
        let mut two = Template::together(&shape, 2).unwrap();
        two.stamp(stamp);
        let later = Stamp { sequence: 2, ..stamp };
        let mut one = Template::new(&shape).unwrap();
        one.stamp(later);
        put(&mut two.bytes, VIRTIO_HEADER + 42 + 18, &one.bytes()[42..]);
        assert_eq!(read_all(two.bytes()).collect::<Vec<_>>(), [stamp, later]);
        assert!(Template::together(&shape, 0).is_none());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Template::new(&shape("10.0.0.1:1", "10.0.0.2:9", 63)).is_none());
        assert!(Template::new(&shape("[fd00::1]:1", "[fd00::2]:9", 64)).is_none());
        assert!(Template::new(&shape("10.0.0.1:1", "[fd00::2]:9", 128)).is_none());
        assert_eq!(read(&[0; 60]), None);
    }
}
