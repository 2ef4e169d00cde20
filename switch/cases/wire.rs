//! A lab at which single frames are sent and received by hand: its machines say nothing by
//! themselves.

use kswitch_config::{PlannedPort, PortKind};
use kswitch_tables::{Address, MacAddress};

use super::stage::Bench;
use crate::dataplane::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::sim::craft::ethernet;
use crate::sim::fragment;
use crate::sim::read::Received;

/// A lab at which single frames are sent and received by hand.
pub trait Wire: Bench {
    /// The machines there are.
    fn machines(&self) -> Vec<PortKind>;

    /// The port of a machine.
    fn port(&self, machine: &PortKind) -> Option<PlannedPort>;

    /// The Ethernet address to which a machine sends what is for `target`.
    fn next_mac(&self, machine: &PortKind, target: Address) -> Option<MacAddress>;

    /// Sends a frame, virtio header first, from a machine.
    fn send(&mut self, machine: &PortKind, frame: &[u8]);

    /// The frames, virtio header first, that came to any machine since the last look, once all that
    /// is on its way has come.
    fn take(&mut self) -> Vec<(PortKind, Vec<u8>)>;

    /// Sends an IP packet from a machine as its own stack would; `false` if it cannot.
    fn send_ip(&mut self, machine: &PortKind, target: Address, packet: &[u8]) -> bool {
        let (Some(port), Some(next)) = (self.port(machine), self.next_mac(machine, target)) else {
            return false;
        };
        let ethertype = if target.is_v4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        self.send(machine, &ethernet(port.mac, next, ethertype, packet));
        true
    }

    /// The packets that came to machines they were for, as [`Wire::take`]; each fragment is one.
    fn packets(&mut self) -> Vec<(PortKind, Received)> {
        let frames = self.take().into_iter();
        let packets = frames.filter_map(|(at, frame)| Some((at, Received::read(&frame)?)));
        let packets: Vec<_> = packets.collect();
        let is_for = |(at, packet): &(PortKind, Received)| {
            self.port(at).is_some_and(|port| packet.macs.0 == port.mac)
        };
        packets.into_iter().filter(is_for).collect()
    }
}

/// Puts fragments together where all of a packet came; others stay as they are.
pub fn whole(packets: Vec<(PortKind, Received)>) -> Vec<(PortKind, Received)> {
    let (pieces, mut packets): (Vec<_>, Vec<_>) =
        packets.into_iter().partition(|(_, packet)| packet.packet.fragment.is_some());
    let mut groups: Vec<Vec<(PortKind, Received)>> = Vec::new();
    for piece in pieces {
        let key = |(at, packet): &(PortKind, Received)| {
            let flow = packet.packet.flow;
            let id = packet.packet.fragment.map(|fragment| fragment.id);
            (at.clone(), flow.protocol, flow.source.address, flow.target.address, id)
        };
        let group = groups.iter_mut().find(|group| group.first().map(key) == Some(key(&piece)));
        match group {
            Some(group) => group.push(piece),
            None => groups.push(vec![piece]),
        }
    }
    for group in groups {
        match joined(&group) {
            Some(packet) => packets.push(packet),
            None => packets.extend(group),
        }
    }
    packets
}

fn joined(group: &[(PortKind, Received)]) -> Option<(PortKind, Received)> {
    let (at, first) = group.first()?;
    let pieces: Vec<Received> = group.iter().map(|(_, packet)| packet.clone()).collect();
    let packet = fragment::join(&pieces)?;
    let ethertype = if first.packet.is_v4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let frame = ethernet(first.macs.1, first.macs.0, ethertype, &packet);
    Some((at.clone(), Received::read(&frame)?))
}
