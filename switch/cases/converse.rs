//! Connections made by hand: packets to and fro between a caller and machines that behave like
//! machines.

use kswitch_config::PortKind;

use super::caller::Caller;
use super::hosts::{Hosts, socket};
use super::stage::{Arrival, Attempt, more_drops};
use super::wire::Wire;
use crate::dataplane::Kind;
use crate::sim::craft::Craft;
use crate::sim::read::Received;

/// Rounds of packets and answers that a connection may take.
const ROUNDS: usize = 64;

/// Carries packets to and fro until nobody says anything any more. Whatever else is on the wire,
/// of other protocols than the caller's, is left alone.
pub fn converse(
    wire: &mut impl Wire,
    hosts: &mut Hosts,
    kind: &PortKind,
    caller: &mut Caller,
    first: Craft,
) -> Attempt {
    let drops = wire.drops();
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut remarks = Vec::new();
    let mut waiting = vec![(kind.clone(), first)];
    // what came before is no answer
    wire.take();
    for _ in 0..ROUNDS {
        for (kind, packet) in waiting.drain(..) {
            if !wire.send_ip(&kind, packet.target.address, &packet.packet()) {
                remarks.push(format!("{kind} cannot send"));
            }
        }
        for (at, packet) in arrived(wire, caller, &mut remarks) {
            if at == *kind && caller.expects(&packet) {
                waiting.extend(caller.hear(&packet).map(|answer| (at, answer)));
                continue;
            }
            if let Some((kind, code)) = packet.icmp().filter(|_| is_error(&packet)) {
                let flow = packet.packet.flow;
                remarks.push(format!("ICMP type {kind} code {code} came to {at}: {flow}"));
                continue;
            }
            let (source, target) = packet.ends();
            let (source, target) = (socket(source), socket(target));
            let arrival = Arrival { machine: at.to_string(), source, target };
            if !arrivals.contains(&arrival) {
                arrivals.push(arrival);
            }
            let answers = hosts.answer(&at, &packet);
            waiting.extend(answers.into_iter().map(|answer| (at.clone(), answer)));
        }
        if waiting.is_empty() {
            break;
        }
    }
    let drops = more_drops(&drops, &wire.drops());
    remarks.extend(caller.take_remarks());
    Attempt { outcome: caller.outcome().clone(), arrivals, drops, remarks }
}

/// Whether a packet says what became of another.
const fn is_error(packet: &Received) -> bool {
    matches!(packet.packet.kind, Kind::IcmpError)
}

/// The packets that came to machines which take them, and where.
fn arrived(
    wire: &mut impl Wire,
    caller: &Caller,
    remarks: &mut Vec<String>,
) -> Vec<(PortKind, Received)> {
    let mut arrived = Vec::new();
    for (kind, frame) in wire.take() {
        let Some(packet) = Received::read(&frame) else { continue };
        let Some(port) = wire.port(&kind) else { continue };
        let flow = packet.packet.flow;
        let target = flow.target.address.to_ip();
        let is_own = port.addresses.iter().any(|net| net.addr() == target)
            || port.loopback.contains(&target);
        let is_of_caller = flow.protocol == caller.protocol() || is_error(&packet);
        if packet.macs.0 != port.mac || !is_of_caller {
            // flooded: another machine's; or somebody else's talk
        } else if !packet.is_intact {
            remarks.push(format!("{flow} came to {kind} with a wrong checksum"));
        } else if is_own {
            arrived.push((kind, packet));
        } else {
            remarks.push(format!("{flow} came to {kind}, which has no such address"));
        }
    }
    arrived
}
