//! Frames from every machine of a lab, one after the other.
//!
//! The octets are a script: of each step the first says from whom (the low four bits) and what to
//! mend before it is sent ([`MACS`], [`HEADER`], [`TRANSPORT`]), so that chance gets past the
//! checks; two say how long the frame is; the frame follows, virtio header first. A length of
//! [`PAUSE`] lets so many seconds pass as the first octet says.

use std::path::Path;
use std::sync::Arc;

use kswitch::dataplane::checksum::{fold, pseudo_header_sum, sum};
use kswitch::dataplane::frame::ETHERNET_HEADER;
use kswitch::dataplane::{Frame, Parsed};
use kswitch::port::VNET_HEADER;
use kswitch::sim::World;
use kswitch::sim::read::Received;
use kswitch_config::{Draft, Observed, PortKind};
use kswitch_tables::{Endpoint, Protocol};

/// Ethernet addresses become the machine's and its router's.
pub const MACS: u8 = 0x10;
/// The IPv4 header's checksum becomes right.
pub const HEADER: u8 = 0x20;
/// The transport header's checksum becomes right.
pub const TRANSPORT: u8 = 0x40;
/// Length of what is no frame.
pub const PAUSE: u16 = u16::MAX;

/// Steps of a script at most: what comes later is not more hostile.
const STEPS: usize = 64;

/// The lab in memory.
pub fn world() -> World {
    let draft = Draft::read_text("lab.toml", super::LAB, Path::new("/nonexistent"));
    let cluster = draft.validate(None).expect("the lab is valid");
    World::new(Arc::new(cluster), Observed::default(), 1)
}

pub fn enter(octets: &[u8]) {
    let mut world = world();
    let machines: Vec<PortKind> = world.machines().cloned().collect();
    let mut rest = octets;
    let mut all_intact = true;
    for _ in 0..STEPS {
        let [who, low, high, after @ ..] = rest else { break };
        let length = u16::from_le_bytes([*low, *high]);
        if length == PAUSE {
            world.pass(u32::from(*who));
            rest = after;
            continue;
        }
        let (frame, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let Some(machine) = machines.get(usize::from(who & 0x0f) % machines.len()) else { break };
        let mut frame = frame.to_vec();
        mend(&world, machine, *who, &mut frame);
        all_intact &= is_whole(&frame);
        world.send(machine, &frame);
        for machine in &machines {
            for received in world.take(machine) {
                judge(&received, all_intact);
            }
        }
    }
}

/// Whether nothing is left undone in a frame, and no checksum is wrong.
fn is_whole(frame: &[u8]) -> bool {
    frame.get(..VNET_HEADER).is_some_and(|header| header.iter().all(|&octet| octet == 0))
        && Received::read(frame).is_none_or(|received| received.is_intact)
}

/// What the switch sends can be read; it made no checksum wrong that was right.
fn judge(frame: &[u8], all_intact: bool) {
    let mut copy = frame.to_vec();
    let sent = Frame::new(&mut copy);
    if let Err(reason) = sent.parse() {
        panic!("what was sent would be dropped: {reason:?} {frame:02x?}");
    }
    if all_intact && let Some(received) = Received::read(frame) {
        assert!(received.is_intact, "a checksum was made wrong: {received:?}");
    }
}

/// Makes right what the script says.
fn mend(world: &World, machine: &PortKind, what: u8, frame: &mut [u8]) {
    let Some(port) = world.port(machine) else { return };
    let Some(bytes) = frame.get_mut(VNET_HEADER..) else { return };
    if what & HEADER != 0
        && bytes.get(12..14) == Some(&[8, 0])
        && let Some(octets) = bytes.get(ETHERNET_HEADER).map(|octet| usize::from(octet & 0xf) * 4)
        && octets >= 20
        && let Some(header) = bytes.get_mut(ETHERNET_HEADER..ETHERNET_HEADER + octets)
    {
        header[10..12].fill(0);
        let checksum = !fold(sum(header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let mut copy = frame.to_vec();
    let Ok(Parsed::Ip(packet)) = Frame::new(&mut copy).parse() else { return };
    let Some(bytes) = frame.get_mut(VNET_HEADER..) else { return };
    if what & MACS != 0 {
        bytes[6..12].copy_from_slice(&port.mac.0);
        if let Some(next) = world.next_mac(port, packet.flow.target.address) {
            bytes[..6].copy_from_slice(&next.0);
        }
    }
    let at = match packet.flow.protocol {
        Protocol::TCP => 16,
        Protocol::UDP => 6,
        Protocol::ICMP | Protocol::ICMPV6 => 2,
        _ => return,
    };
    if what & TRANSPORT != 0 && packet.fragment.is_none() {
        let ends = (packet.flow.source, packet.flow.target);
        let Some(upper) = bytes.get_mut(packet.transport..packet.end) else { return };
        correct(packet.flow.protocol, ends, at, upper);
    }
}

/// Puts the right checksum `at` its place.
fn correct(protocol: Protocol, ends: (Endpoint, Endpoint), at: usize, upper: &mut [u8]) {
    let length = u32::try_from(upper.len()).unwrap_or(u32::MAX);
    let Some(field) = upper.get_mut(at..at + 2) else { return };
    field.fill(0);
    let pseudo = match protocol {
        Protocol::ICMP => 0,
        _ => pseudo_header_sum(ends.0.address, ends.1.address, protocol, length),
    };
    let checksum = match (protocol, !fold(pseudo + sum(upper))) {
        (Protocol::UDP, 0) => 0xffff,
        (_, checksum) => checksum,
    };
    upper[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
