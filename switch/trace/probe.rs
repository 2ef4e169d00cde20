//! A packet that is tried and not sent: the workers' own pipeline, over the tables of one
//! generation and nothing remembered.

use std::sync::Arc;

use kswitch_config::PlannedPort;
use kswitch_tables::affinity::Affinities;
use kswitch_tables::{
    Conntrack, Contests, Endpoint, Fdb, Flow, Neighbours, PortId, Protocol, Snapshot, Tick,
};

use crate::dataplane::burst::Arrival;
use crate::dataplane::clock::Ahead;
use crate::dataplane::decision::{Decision, Trail};
use crate::dataplane::frame::{TCP_ACK, TCP_SYN};
use crate::dataplane::keeper::Keeper;
use crate::dataplane::{Counters, Frame, Output, Pipeline, Shared, Verdict};
use crate::sim::craft::{Body, Craft};
use crate::sim::link::next_mac;
use crate::sim::read::Received;
use crate::sim::sctp;

/// Flows that a probe has room for: one at a time, and its answers.
const FLOWS: usize = 64;

/// The tag of a probe's SCTP packets.
const SCTP_TAG: u32 = 0x6b73_7774;

/// Chunk types. Source: RFC 9260 §3.2.
const SCTP_INIT: u8 = 1;
const SCTP_INIT_ACK: u8 = 2;

/// What became of a packet that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its fate.
    pub verdict: Verdict,
    /// What was decided about it.
    pub decisions: Vec<Decision>,
    /// What would have been sent, and where, virtio header first.
    pub sent: Vec<(PortId, Vec<u8>)>,
}

impl Tried {
    /// The packet as it would come to the machine on `port`.
    pub fn received(&self, port: PortId) -> Option<Received> {
        let (_, frame) = self.sent.iter().find(|(to, _)| *to == port)?;
        Received::read(frame)
    }

    /// Whether the sender was told.
    pub fn is_told(&self, ingress: PortId) -> bool {
        self.sent.iter().any(|(to, _)| *to == ingress)
    }
}

/// Tries packets on the tables of one generation.
#[derive(Debug)]
pub struct Probe<'t> {
    snapshot: &'t Snapshot,
    pipeline: Pipeline,
    now: Tick,
}

/// Keeps what is sent.
#[derive(Default)]
struct Kept(Vec<(PortId, Vec<u8>)>);

impl Output for Kept {
    fn send(&mut self, port: PortId, buffer: &[u8]) {
        self.0.push((port, buffer.to_vec()));
    }
}

impl<'t> Probe<'t> {
    /// A probe of these tables; `seed` decides what is left to chance.
    pub fn new(snapshot: &'t Snapshot, seed: u64) -> Self {
        let shared = Shared {
            conntrack: Conntrack::new(FLOWS, FLOWS, seed),
            fdb: Fdb::new(FLOWS, seed),
            neighbours: Neighbours::new(FLOWS, seed),
            contests: Contests::new(FLOWS, seed),
            keeper: Keeper::default(),
            affinity: Affinities::new(FLOWS, seed),
            ahead: Ahead::default(),
        };
        let counters = Arc::new(Counters::new(snapshot.topology.ports.len()));
        let pipeline = Pipeline::new(Arc::new(shared), counters, seed);
        Self { snapshot, pipeline, now: Tick(1) }
    }

    /// The tables.
    pub const fn snapshot(&self) -> &'t Snapshot {
        self.snapshot
    }

    /// Tries a packet of the machine on `port`; `choice` is the backend to take wherever it may be
    /// taken. `None` where nothing is attached to the port.
    pub fn send(
        &mut self,
        port: &PlannedPort,
        packet: &Craft,
        choice: Option<Endpoint>,
    ) -> Option<Tried> {
        let target = next_mac(&self.snapshot.topology, port, packet.target.address)?;
        let mut buffer = packet.frame(port.mac, target);
        let mut frame = Frame::new(&mut buffer);
        let arrival = Arrival::of(&frame, &self.pipeline.shared.conntrack);
        self.pipeline.trail = Some(Box::new(Trail { decisions: Vec::new(), choice }));
        let mut kept = Kept::default();
        let (snapshot, now) = (self.snapshot, self.now);
        let verdict =
            self.pipeline.forward(snapshot, now, port.id, &mut frame, &arrival, &mut kept);
        let trail = self.pipeline.trail.take().unwrap_or_default();
        Some(Tried { verdict, decisions: trail.decisions, sent: kept.0 })
    }

    /// Has a client stick to a backend, as if it had been sent there before.
    pub fn remember(&self, client: &Endpoint, group: u32, backend: Endpoint) {
        self.pipeline.shared.affinity.remember(client.address, group, backend, self.now);
    }

    /// Forgets every packet so far.
    pub fn forget(&self) {
        self.pipeline.shared.conntrack.remove_where(|_| true, |_| {});
        self.pipeline.shared.affinity.forget_if(|_| true);
    }
}

/// The first packet of a flow.
pub fn first(flow: &Flow) -> Craft {
    let Flow { protocol, source, target } = *flow;
    match protocol {
        Protocol::TCP => Craft::syn(source, target),
        Protocol::UDP => Craft::udp(source, target, b"kswitch trace"),
        Protocol::SCTP => sctp::packet(source, target, 0, SCTP_INIT, &sctp::init(SCTP_TAG, &[])),
        Protocol::ICMP | Protocol::ICMPV6 => Craft::ping(source, target, 1),
        other => Craft { source, target, ttl: 64, body: Body::Raw(other, vec![0; 8]) },
    }
}

/// What the machine that `received` the first packet answers, if it listens.
pub fn answer(received: &Received) -> Craft {
    let Flow { protocol, source, target } = received.packet.flow.reversed();
    match protocol {
        Protocol::TCP => Craft::tcp(source, target, TCP_SYN | TCP_ACK).numbered(5000, 1001),
        Protocol::SCTP => {
            let value = sctp::init(SCTP_TAG + 1, b"kswitch");
            sctp::packet(source, target, SCTP_TAG, SCTP_INIT_ACK, &value)
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let body = Body::Echo { is_reply: true, sequence: 1, data: vec![0x5a; 56] };
            Craft { source, target, ttl: 64, body }
        }
        _ => first(&Flow { protocol, source, target }),
    }
}
