//! Neighbours outside, kept for as long as they answer; addresses of the edge, said aloud.
//!
//! Workers ask once and learn; whoever does not answer is asked again here, and who fell silent is
//! asked whether it is still there. Workers need no timer for it, and a neighbour that is in use
//! needs nobody to notice that.
//!
//! Source: RFC 4861 §7.2.2, §7.2.6, §7.3; RFC 5227 §2.1, §2.3.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kswitch_config::{Names, Neighbour, Neighbours, PortKind};
use kswitch_tables::{
    Address, Asked, Contest, MacAddress, PortId, Reachability, RouterRole, Segment, SegmentId,
    Snapshot, Tick,
};

use crate::dataplane::Shared;
use crate::dataplane::icmp::Message;

/// How long a neighbour is believed to be where it was.
///
/// Source: RFC 4861 §10, `REACHABLE_TIME`, 30 s; doubled, since here every neighbour is asked.
const REACHABLE: Tick = Tick::from_secs(60);

/// How long it is remembered that a neighbour did not answer: packets for it are refused at once.
const FAILED: Tick = Tick::from_secs(5);

/// How long a claim to another's address is shown after it was heard last.
const CONTESTED: Tick = Tick::from_secs(300);

/// Keeps what workers learn of neighbours.
#[derive(Debug)]
pub struct Neighbourhood {
    shared: Arc<Shared>,
    message: Message,
    /// [`kswitch_tables::Neighbours::changes`] when it was looked at last.
    changes: u64,
    /// Which addresses were said to be where.
    said: BTreeMap<(SegmentId, Address), MacAddress>,
    /// Claims that were reported.
    reported: Vec<(SegmentId, Address, MacAddress)>,
}

impl Neighbourhood {
    /// Of these tables.
    pub fn new(shared: Arc<Shared>) -> Self {
        let message = Message::default();
        Self { shared, message, changes: 0, said: BTreeMap::new(), reported: Vec::new() }
    }

    /// Whether there is nobody to keep.
    pub fn is_idle(&self) -> bool {
        self.shared.neighbours.is_empty() && self.shared.contests.is_empty()
    }

    /// One step, to be taken every tenth of a second: asks again, and forgets.
    pub fn step(&mut self, snapshot: &Snapshot, now: Tick, send: &mut impl FnMut(PortId, &[u8])) {
        let neighbours = &self.shared.neighbours;
        if !neighbours.is_empty() {
            neighbours.expire(now, REACHABLE.0, FAILED.0);
            for neighbour in neighbours.entries() {
                let is_given_up = neighbour.has_failed(now);
                if neighbour.state == Reachability::Reachable || is_given_up {
                    continue;
                }
                let (id, address) = (neighbour.segment, neighbour.address);
                let Some(segment) = snapshot.topology.segment(id) else { continue };
                if neighbours.ask_again(id, address, now) != Asked::Ask {
                    continue;
                }
                let mac = neighbour.place.map(|(mac, _)| mac);
                if let Some(question) = self.message.question(segment, address, mac) {
                    segment.members.iter().for_each(|member| send(*member, question));
                }
            }
        }
        if !self.shared.contests.is_empty() {
            self.shared.contests.expire(now, CONTESTED.0);
        }
    }

    /// Whether places changed since this was asked last.
    pub fn has_changed(&mut self) -> bool {
        let changes = self.shared.neighbours.changes();
        std::mem::replace(&mut self.changes, changes) != changes
    }

    /// Who is where.
    pub fn found(&self, names: &Names) -> Neighbours {
        let placed = self.shared.neighbours.entries().filter_map(|neighbour| {
            let (mac, port) = neighbour.place?;
            let at = names.port(port)?.clone();
            let is_outside = matches!(at, PortKind::External { .. });
            is_outside.then_some((neighbour.address.to_ip(), Neighbour { mac, at }))
        });
        placed.collect()
    }

    /// Claims that were not reported yet.
    pub fn contests(&mut self) -> Vec<Contest> {
        let key = |contest: &Contest| (contest.segment, contest.address, contest.mac);
        let all: Vec<_> = self.shared.contests.entries().collect();
        let (known, new): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|contest| self.reported.contains(&key(contest)));
        self.reported = known.iter().chain(&new).map(key).collect();
        new
    }

    /// Says to all of a link which Ethernet address has what the edge answers for there, after
    /// asking whether anybody else has it; and which one a pod's address has moved to.
    pub fn announce(&mut self, snapshot: &Snapshot, send: &mut impl FnMut(PortId, &[u8])) {
        let mut said = BTreeMap::new();
        for (id, segment) in (0..).map(SegmentId).zip(&snapshot.topology.segments) {
            let router = snapshot.topology.router(segment.router);
            let is_edge = router.is_some_and(|router| router.role == RouterRole::Edge);
            for address in own_addresses(snapshot, segment, is_edge) {
                said.insert((id, address), segment.router_mac);
                if is_edge && !self.said.contains_key(&(id, address)) {
                    let probe = self.message.probe(segment.router_mac, address);
                    segment.members.iter().for_each(|member| send(*member, probe));
                    let word = self.message.announcement(segment.router_mac, address, true);
                    segment.members.iter().for_each(|member| send(*member, word));
                }
            }
            for member in &segment.members {
                let Some(port) = snapshot.topology.port(*member) else { continue };
                for address in &port.addresses {
                    said.insert((id, *address), port.mac);
                    if self.said.get(&(id, *address)).is_none_or(|before| *before == port.mac) {
                        continue;
                    }
                    let word = self.message.announcement(port.mac, *address, false);
                    let others = segment.members.iter().filter(|other| *other != member);
                    others.for_each(|other| send(*other, word));
                }
            }
        }
        self.said = said;
    }

    /// Says to the machines behind these ports which Ethernet address their gateways have: those that
    /// asked while nobody was there would ask again only after a second.
    ///
    /// Source: RFC 1122 §2.3.2.1 (one question a second at most); RFC 4861 §10, `RETRANS_TIMER`.
    pub fn remind(
        &mut self,
        snapshot: &Snapshot,
        ports: impl IntoIterator<Item = PortId>,
        send: &mut impl FnMut(PortId, &[u8]),
    ) {
        for id in ports {
            let Some(port) = snapshot.topology.port(id) else { continue };
            for gateway in snapshot.topology.gateways(port) {
                send(id, self.message.announcement(port.router_mac, gateway.address, true));
            }
        }
    }
}

/// The addresses that a router answers for on its bridge.
fn own_addresses(snapshot: &Snapshot, segment: &Segment, is_edge: bool) -> Vec<Address> {
    let mut own: Vec<Address> = segment.gateways.iter().map(|gateway| gateway.address).collect();
    // load balancers' addresses within the prefix of the link are answered for as well
    let is_near = |address: &Address| {
        is_edge && segment.gateways.iter().any(|gateway| gateway.on_link.contains(*address))
    };
    let led = snapshot.forwarding.iter().map(|((address, ..), _)| address).filter(is_near);
    let led: BTreeSet<Address> = led.collect();
    own.extend(led);
    own
}
