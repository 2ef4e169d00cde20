//! Frames whose transport checksum the sender left to somebody else.
//!
//! AF_XDP hands over octets alone: that a sender left the checksum to the interface is not told. Such
//! a frame has the sum of its pseudo-header where the checksum belongs, and is known by it. One frame
//! in 65,536 has that sum as its own right checksum, and comes to no harm: it is computed anew, to
//! what it was.

use super::super::VNET_HEADER;

const ETHERNET: usize = 14;
const NEEDS_CHECKSUM: u8 = 1;

/// The virtio header that says what this frame leaves open.
pub(super) fn header(frame: &[u8]) -> [u8; VNET_HEADER] {
    let mut header = [0; VNET_HEADER];
    if let Some((start, offset)) = open_checksum(frame) {
        let [a, b] = start.to_le_bytes();
        let [c, d] = offset.to_le_bytes();
        header = [NEEDS_CHECKSUM, 0, 0, 0, 0, 0, a, b, c, d];
    }
    header
}

/// Where checksumming starts, and how far behind that the checksum is, of a TCP or UDP packet whose
/// checksum is the sum of its pseudo-header. Packets with extension headers are not looked into.
///
/// Source: RFC 9293 §3.1, RFC 8200 §8.1.
fn open_checksum(frame: &[u8]) -> Option<(u16, u16)> {
    let packet = frame.get(ETHERNET..)?;
    let (addresses, protocol, octets, upper) = match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => {
            let header = packet.first_chunk::<20>()?;
            let length = usize::from(header[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let is_piece = u16::from_be_bytes([header[6], header[7]]) << 2 != 0;
            if is_piece || length < 20 {
                return None;
            }
            (header.get(12..20)?, header[9], total.checked_sub(length)?, length)
        }
        [0x86, 0xdd] => {
            let header = packet.first_chunk::<40>()?;
            let octets = usize::from(u16::from_be_bytes([header[4], header[5]]));
            (header.get(8..40)?, header[6], octets, 40)
        }
        _ => return None,
    };
    let offset = match protocol {
        6 => 16,
        17 => 6,
        _ => return None,
    };
    let found = packet.get(upper + offset..)?.first_chunk().map(|sum| u16::from_be_bytes(*sum))?;
    let (words, _) = addresses.as_chunks::<2>();
    let sum: usize = words.iter().map(|word| usize::from(u16::from_be_bytes(*word))).sum();
    let mut sum = sum + usize::from(protocol) + octets;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let start = u16::try_from(ETHERNET + upper).ok()?;
    // zero is UDP's word for none at all
    (sum == usize::from(found) && found != 0).then_some((start, u16::try_from(offset).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(sum: [u8; 2]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend([10, 4, 0, 2, 10, 8, 0, 80]);
        frame.extend([0x10, 0x00, 0, 53, 0, 12, sum[0], sum[1], 1, 2, 3, 4]);
        frame
    }

    #[test]
    fn a_pseudo_headers_sum_in_the_place_of_the_checksum_is_one_left_open() {
        // 0a04 + 0002 + 0a08 + 0050 + 17 + 12
        let open = udp([0x14, 0x7b]);
        assert_eq!(header(&open), [1, 0, 0, 0, 0, 0, 34, 0, 6, 0]);
        for sum in [[0x14, 0x7c], [0, 0]] {
            assert_eq!(header(&udp(sum)), [0; VNET_HEADER]);
        }
        let mut piece = open.clone();
        piece[20] = 0x20;
        assert_eq!(header(&piece), [0; VNET_HEADER]);
        assert!((0..open.len()).all(|end| end > 41 || header(&open[..end]) == [0; VNET_HEADER]));
    }

    #[test]
    fn ipv6_has_longer_addresses() {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfe; 16]);
        let words = 8 * 0xfdfdusize + 8 * 0xfefe + 6 + 20;
        let sum = u16::try_from((words & 0xffff) + (words >> 16)).unwrap().to_be_bytes();
        frame.extend([0; 16]);
        frame.extend(sum);
        frame.extend([0; 2]);
        assert_eq!(header(&frame), [1, 0, 0, 0, 0, 0, 54, 0, 16, 0]);
    }
}
