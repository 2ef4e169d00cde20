//! A single frame, parsed.

use kswitch::dataplane::{Frame, Parsed};
use kswitch::sim::read::Received;

pub fn enter(octets: &[u8]) {
    let mut buffer = octets.to_vec();
    let frame = Frame::new(&mut buffer);
    let length = frame.bytes().len();
    let _ = frame.vnet();
    if let Ok(Parsed::Ip(packet)) = frame.parse() {
        let ends = [packet.ip, packet.transport, packet.end, length];
        assert!(ends.is_sorted(), "offsets of {length} octets: {ends:?}");
        let received = Received::read(octets).expect("it was read before");
        let _ = (received.upper(), received.data(), received.icmp());
    }
}
