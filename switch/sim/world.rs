//! A cluster in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kswitch_config::link::{Direction, Faults};
use kswitch_config::{
    Cluster, Compiled, Compiler, HealthCheck, Names, NetworkBalancer, Observed, PlannedPort,
    PortKind, Zones,
};
use kswitch_tables::{Address, Generation, MacAddress, PortId, Snapshot, Tick};

use super::craft::Craft;
use super::link;
use super::read::Received;
use crate::control::conntrack_timeouts;
use crate::control::links::FaultyLinks;
use crate::control::neighbourhood::Neighbourhood;
use crate::control::sweep::Sweep;
use crate::control::switch::shared;
use crate::dataplane::capture::Capture;
use crate::dataplane::mailbox::{Command, Mailbox, View};
use crate::dataplane::watch::Watch;
use crate::dataplane::worker::Worker;
use crate::dataplane::{Counters, DropReason, Pipeline, Shared};
use crate::port::memory::Peer;
use crate::port::{Queue, Sender, memory};

/// Frames that wait in one direction of a memory port at most.
const PORT_CAPACITY: usize = 4096;

/// Connections of each family; small, so that a world is cheap.
const CONNECTIONS: usize = 16_384;

/// A machine on a port of the world.
#[derive(Debug)]
struct Machine {
    port: PlannedPort,
    peer: Peer,
}

/// A cluster in memory: tables, one worker run by hand, a clock that stands still until moved.
#[derive(Debug)]
pub struct World {
    /// What is wanted.
    pub cluster: Arc<Cluster>,
    /// What is seen.
    pub observed: Observed,
    /// The tables that workers share.
    pub shared: Arc<Shared>,
    /// What the worker counts.
    pub counters: Arc<Counters>,
    names: Names,
    health_checks: Vec<HealthCheck>,
    balancers: Vec<NetworkBalancer>,
    zones: Arc<Zones>,
    compiler: Compiler,
    worker: Worker,
    mailbox: Arc<Mailbox>,
    sweep: Sweep,
    links: FaultyLinks,
    seed: u64,
    neighbourhood: Neighbourhood,
    machines: BTreeMap<PortKind, Machine>,
    senders: Vec<Option<Sender>>,
    snapshot: Arc<Snapshot>,
    now: Tick,
}

impl World {
    /// The world of a cluster; every choice follows from `seed`.
    pub fn new(cluster: Arc<Cluster>, observed: Observed, seed: u64) -> Self {
        let mut compiler = Compiler::new(seed);
        let made = compiler.compile(&cluster, &observed, Generation(1));
        let Compiled { snapshot, names, plan, health_checks, balancers, zones } = made;
        let shared = shared(CONNECTIONS, seed);
        let ports = plan.ports.iter().map(|port| usize::from(port.id.0) + 1).max().unwrap_or(0);
        // room for ports that come later
        let counters = Arc::new(Counters::new(ports + 1024));
        let pipeline = Pipeline::new(Arc::clone(&shared), Arc::clone(&counters), seed);
        let mailbox = Arc::new(Mailbox::new(None));
        let snapshot = Arc::new(snapshot);
        let view = View { snapshot: Arc::clone(&snapshot), senders: Vec::new(), links: None };
        let worker = Worker::new(pipeline, Arc::new(view), Arc::clone(&mailbox));
        let timeouts = conntrack_timeouts(&cluster.settings.switch.timeouts);
        let sweep = Sweep::new(Arc::clone(&shared), timeouts);
        let neighbourhood = Neighbourhood::new(Arc::clone(&shared));
        let mut world = Self {
            cluster,
            observed,
            shared,
            counters,
            names,
            health_checks,
            balancers,
            zones,
            compiler,
            worker,
            mailbox,
            sweep,
            links: FaultyLinks::default(),
            seed,
            neighbourhood,
            machines: BTreeMap::new(),
            senders: Vec::new(),
            snapshot,
            now: Tick(1),
        };
        world.attach(&plan.ports);
        world.publish();
        world
    }

    /// The network load balancers, with the health of their nodes.
    pub fn balancers(&self) -> &[NetworkBalancer] {
        &self.balancers
    }

    /// Has new flows and refusals told, and frames copied, to those who look on.
    pub fn show(&mut self, watch: Arc<Watch>, capture: Arc<Capture>, start: Instant) {
        self.worker.show(watch, capture, start);
    }

    /// Makes another cluster of it, as a running lab would.
    pub fn change(&mut self, cluster: Arc<Cluster>) {
        self.cluster = cluster;
        let generation = Generation(self.snapshot.generation.0 + 1);
        let compiled = self.compiler.compile(&self.cluster, &self.observed, generation);
        let Compiled { snapshot, names, plan, health_checks, balancers, zones } = compiled;
        self.snapshot = Arc::new(snapshot);
        self.names = names;
        self.health_checks = health_checks;
        self.balancers = balancers;
        self.zones = zones;
        self.attach(&plan.ports);
        self.publish();
    }

    /// Compiles anew for what is seen now.
    pub fn observe(&mut self, observed: Observed) {
        self.observed = observed;
        self.change(Arc::clone(&self.cluster));
    }

    /// Keeps the machines like the plan.
    fn attach(&mut self, ports: &[PlannedPort]) {
        let wanted: BTreeMap<_, _> = ports.iter().map(|port| (port.kind.clone(), port)).collect();
        let gone: Vec<_> = self
            .machines
            .iter()
            .filter(|(kind, machine)| wanted.get(*kind) != Some(&&machine.port))
            .map(|(kind, machine)| (kind.clone(), machine.port.id))
            .collect();
        for (kind, id) in gone {
            self.machines.remove(&kind);
            self.put_sender(id, None);
            self.command(Command::Detach(id));
        }
        for (kind, port) in wanted {
            if self.machines.contains_key(&kind) {
                continue;
            }
            let (queue, sender, peer) = memory::pair(PORT_CAPACITY);
            self.put_sender(port.id, Some(Sender::Memory(Arc::new(sender))));
            self.command(Command::Attach(port.id, Queue::Memory(queue)));
            self.machines.insert(kind, Machine { port: port.clone(), peer });
        }
    }

    fn put_sender(&mut self, id: PortId, sender: Option<Sender>) {
        let at = usize::from(id.0);
        if self.senders.len() <= at {
            self.senders.resize(at + 1, None);
        }
        if let Some(room) = self.senders.get_mut(at) {
            *room = sender;
        }
    }

    fn command(&self, command: Command) {
        // without a waker there is nothing that can fail
        let _ = self.mailbox.command(command);
    }

    /// Has frames on one way of a link suffer, in place of what the lab file says.
    pub fn link(&mut self, of: &PortKind, direction: Direction, faults: Faults) {
        self.links.ask(of, direction, Some(faults));
        self.publish();
    }

    fn publish(&mut self) {
        let (senders, topology) = (self.senders.clone(), &self.snapshot.topology);
        let ports = self.machines.values().map(|machine| &machine.port);
        let links = self.links.links(&self.cluster, ports, topology, self.seed).map(Arc::new);
        if links.is_some() {
            self.command(Command::Board(Box::default()));
        }
        let view = View { snapshot: Arc::clone(&self.snapshot), senders, links };
        let _ = self.mailbox.publish(Arc::new(view));
        self.run();
    }

    /// Carries every frame that waits to its fate.
    pub fn run(&mut self) {
        // only waiting can fail, and memory is never waited for
        let _ = self.worker.drain(self.now);
        if self.neighbourhood.has_changed() {
            self.observed.neighbours = self.neighbourhood.found(&self.names);
            self.change(Arc::clone(&self.cluster));
        }
    }

    /// Says aloud what the edge answers for, and what moved, as a running lab does with each of its
    /// publications.
    pub fn announce(&mut self) {
        let senders = &self.senders;
        self.neighbourhood.announce(&self.snapshot, &mut |port, frame| say(senders, port, frame));
    }

    /// Says to every machine where its gateways are, as a lab does that goes on after a kill.
    pub fn remind(&mut self) {
        let (senders, ports) =
            (&self.senders, self.machines.values().map(|machine| machine.port.id));
        let send = &mut |port: PortId, frame: &[u8]| say(senders, port, frame);
        self.neighbourhood.remind(&self.snapshot, ports, send);
    }

    /// Asks again for neighbours that have not answered, second by second.
    fn keep_neighbours(&mut self, ticks: u32) {
        let then = self.now;
        for passed in (Tick::PER_SECOND..=ticks).step_by(Tick::PER_SECOND as usize) {
            if self.neighbourhood.is_idle() {
                return;
            }
            self.now = Tick(then.0.saturating_add(passed));
            let senders = &self.senders;
            let send = &mut |port: PortId, frame: &[u8]| say(senders, port, frame);
            self.neighbourhood.step(&self.snapshot, self.now, send);
            self.run();
        }
    }

    /// Lets time pass; what fell silent meanwhile is forgotten, from a second on at once.
    pub fn pass_ticks(&mut self, ticks: u32) {
        let then = self.now;
        self.keep_neighbours(ticks);
        self.now = Tick(then.0.saturating_add(ticks));
        if ticks < Tick::PER_SECOND {
            // as a running lab does: a whole round for every tenth of a second would be most of
            // the work of those who watch the clock closely
            (0..ticks).for_each(|_| self.sweep.step(self.now, &mut |_| {}));
        } else {
            self.sweep.round(self.now, &mut |_| {});
        }
        // what was under way on a slow link comes
        self.run();
    }

    /// Lets so many seconds pass.
    pub fn pass(&mut self, seconds: u32) {
        self.pass_ticks(Tick::from_secs(seconds).0);
    }

    /// The moment it is.
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// The tables of now.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// What the ids of the tables are called.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// The health checks that nodes answer now.
    pub fn health_checks(&self) -> &[HealthCheck] {
        &self.health_checks
    }

    /// What is answered now to who asks for a name.
    pub const fn zones(&self) -> &Arc<Zones> {
        &self.zones
    }

    /// The port of a machine.
    pub fn port(&self, kind: &PortKind) -> Option<&PlannedPort> {
        self.machines.get(kind).map(|machine| &machine.port)
    }

    /// The machines there are.
    pub fn machines(&self) -> impl Iterator<Item = &PortKind> {
        self.machines.keys()
    }

    /// The other end of a machine's port, for hosts with a stack of their own.
    pub fn peer(&self, kind: &PortKind) -> Option<Peer> {
        self.machines.get(kind).map(|machine| machine.peer.clone())
    }

    /// Sends a frame, virtio header first, from a machine, and carries it to its fate; `false`
    /// where there is no such machine.
    pub fn send(&mut self, from: &PortKind, frame: &[u8]) -> bool {
        let Some(machine) = self.machines.get(from) else { return false };
        machine.peer.send(frame);
        self.run();
        true
    }

    /// Sends a packet from a machine as its own stack would: to a neighbour on its link or to its
    /// router.
    pub fn send_packet(&mut self, from: &PortKind, packet: &Craft) -> bool {
        let Some(frame) = self.frame(from, packet) else { return false };
        self.send(from, &frame)
    }

    /// The frame in which a machine would send this packet.
    pub fn frame(&self, from: &PortKind, packet: &Craft) -> Option<Vec<u8>> {
        let machine = self.machines.get(from)?;
        let target = self.next_mac(&machine.port, packet.target.address)?;
        Some(packet.frame(machine.port.mac, target))
    }

    /// The Ethernet address to which the machine on `port` sends what is for `target`.
    pub fn next_mac(&self, port: &PlannedPort, target: Address) -> Option<MacAddress> {
        link::next_mac(&self.snapshot.topology, port, target)
    }

    /// The frames, virtio header first, that came to a machine since the last look.
    pub fn take(&mut self, at: &PortKind) -> Vec<Vec<u8>> {
        let Some(machine) = self.machines.get(at) else { return Vec::new() };
        std::iter::from_fn(|| machine.peer.receive()).collect()
    }

    /// The valid IP packets that came to a machine since the last look.
    pub fn packets(&mut self, at: &PortKind) -> Vec<Received> {
        self.take(at).iter().filter_map(|frame| Received::read(frame)).collect()
    }

    /// Forgets whatever came to any machine so far.
    pub fn clear(&mut self) {
        for machine in self.machines.values() {
            while machine.peer.receive().is_some() {}
        }
    }

    /// How many frames were dropped for each reason that occurred.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        DropReason::ALL
            .iter()
            .map(|reason| (reason.key(), self.counters.dropped(*reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Sends a frame of the switch's own.
fn say(senders: &[Option<Sender>], port: PortId, frame: &[u8]) {
    if let Some(Some(sender)) = senders.get(usize::from(port.0)) {
        // a machine that does not read has not heard it
        let _ = sender.send_by(0, frame);
    }
}
