//! A lab in memory: the real tables, pipeline and worker, machines that answer, a virtual clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use kswitch_config::{Cluster, EntryPolicy, Observed, PlannedPort, PortKind};
use kswitch_tables::{Address, MacAddress};

use super::caller::Caller;
use super::converse::converse;
use super::dns::NameServer;
use super::format::{HostRef, Transport, dns};
use super::hosts::{HEALTH_CHECK, Hosts, endpoint};
use super::stage::{Attempt, Bench, Call, Fetched, Outcome, Stage};
use super::topology::{Broken, Lab, Machine};
use super::wire::Wire;
use crate::agents::dns::message;
use crate::agents::health;
use crate::sim::World;
use crate::sim::craft::Craft;

/// Seed of every choice, so that a case always goes the same way.
pub(super) const SEED: u64 = 0x6b73_7769_7463_6800;

/// Where callers take their ports from.
const FIRST_PORT: u16 = 32_768;

/// Tries where chance has a part.
const TRIES: u32 = 60;

/// A lab in memory.
#[derive(Debug)]
pub struct Memory {
    world: World,
    hosts: Hosts,
    open: BTreeMap<String, (PortKind, Caller)>,
    next_port: u16,
}

impl Memory {
    /// The lab of a case as it is at the start.
    pub fn new(lab: &Lab) -> Self {
        let cluster = Arc::clone(lab.cluster());
        let world = World::new(cluster, Observed::default(), SEED);
        let mut hosts = Hosts::default();
        hosts.keep(lab, world.health_checks());
        Self { world, hosts, open: BTreeMap::new(), next_port: FIRST_PORT }
    }

    fn say(&mut self, kind: &PortKind, caller: &mut Caller, first: Craft) -> Attempt {
        let mut hosts = std::mem::take(&mut self.hosts);
        let attempt = converse(self, &mut hosts, kind, caller, first);
        self.hosts = hosts;
        attempt
    }

    fn fresh_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    /// The caller's end of a call, and the other one, as packets show them; `None` where the call
    /// never leaves its node.
    fn ends(&mut self, call: &Call) -> Option<(PortKind, SocketAddr, SocketAddr)> {
        let port = call.source_port.unwrap_or_else(|| self.fresh_port());
        let kind = call.from.kind.clone();
        if !call.to.ip().is_loopback() {
            return Some((kind, SocketAddr::new(self.source_of(call), port), call.to));
        }
        // a process on the node takes node ports of the loopback address to the node's own
        let PortKind::Node { name } = &kind else { return None };
        let address = proxied(&self.world.cluster, name, call)?;
        let to = SocketAddr::new(address, call.to.port());
        Some((kind, SocketAddr::new(address, port), to))
    }

    /// The address a call is sent from: a process that uses the loopback address has another one
    /// towards the outside.
    fn source_of(&self, call: &Call) -> IpAddr {
        let own = call.from.address;
        if !own.is_loopback() {
            return own;
        }
        let addresses =
            self.world.port(&call.from.kind).into_iter().flat_map(|port| &port.addresses);
        let mut addresses = addresses.map(ipnet::IpNet::addr);
        addresses.find(|ip| ip.is_ipv4() == call.to.is_ipv4()).unwrap_or(own)
    }
}

impl Bench for Memory {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        self.world.change(Arc::clone(lab.cluster()));
        self.hosts.keep(lab, self.world.health_checks());
        let machines: Vec<PortKind> = self.world.machines().cloned().collect();
        self.hosts.forget(|kind| machines.contains(kind));
        Ok(())
    }

    fn enter_at(&mut self, node: &str) -> Result<(), Broken> {
        let entry = EntryPolicy::everything_at(node);
        if self.world.observed.entry != entry {
            let observed = Observed { entry, ..self.world.observed.clone() };
            self.world.observe(observed);
        }
        Ok(())
    }

    fn pass(&mut self, seconds: u32) {
        self.world.pass(seconds);
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.world.drops()
    }
}

impl NameServer for Memory {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        Bench::change(self, lab)
    }

    fn ask(
        &mut self,
        _from: Option<&HostRef>,
        request: &[u8],
        transport: dns::Transport,
    ) -> Option<Vec<u8>> {
        let transport = match transport {
            dns::Transport::Udp => message::Transport::Udp,
            dns::Transport::Tcp => message::Transport::Tcp,
        };
        match message::answer(self.world.zones(), request, transport) {
            message::Outcome::Answered(reply) => Some(reply.octets),
            message::Outcome::Unknown(_) | message::Outcome::Ignored => None,
        }
    }
}

impl Wire for Memory {
    fn machines(&self) -> Vec<PortKind> {
        self.world.machines().cloned().collect()
    }

    fn port(&self, machine: &PortKind) -> Option<PlannedPort> {
        self.world.port(machine).cloned()
    }

    fn next_mac(&self, machine: &PortKind, target: Address) -> Option<MacAddress> {
        self.world.next_mac(self.world.port(machine)?, target)
    }

    fn send(&mut self, machine: &PortKind, frame: &[u8]) {
        self.world.send(machine, frame);
    }

    fn take(&mut self) -> Vec<(PortKind, Vec<u8>)> {
        let machines = Wire::machines(self);
        let take = |at: PortKind| {
            let frames = self.world.take(&at);
            frames.into_iter().map(move |frame| (at.clone(), frame))
        };
        machines.into_iter().flat_map(take).collect()
    }
}

impl Stage for Memory {
    fn call(&mut self, call: &Call) -> Attempt {
        let Some((kind, local, remote)) = self.ends(call) else { return stays_home(call) };
        let (local, remote) =
            (endpoint(local.ip(), local.port()), endpoint(remote.ip(), remote.port()));
        let (mut caller, first) = Caller::open(local, remote, call.transport);
        self.say(&kind, &mut caller, first)
    }

    fn open(&mut self, name: &str, call: &Call) -> Attempt {
        let Some((kind, local, remote)) = self.ends(call) else { return stays_home(call) };
        let (local, remote) =
            (endpoint(local.ip(), local.port()), endpoint(remote.ip(), remote.port()));
        let (mut caller, first) = Caller::open(local, remote, call.transport);
        let attempt = self.say(&kind, &mut caller, first);
        self.open.insert(name.to_owned(), (kind, caller));
        attempt
    }

    fn exchange(&mut self, name: &str) -> Result<Attempt, Broken> {
        let open = self.open.remove(name);
        let (kind, mut caller) =
            open.ok_or_else(|| Broken(format!("no connection is open as {name}")))?;
        let question = caller.ask();
        let attempt = self.say(&kind, &mut caller, question);
        self.open.insert(name.to_owned(), (kind, caller));
        Ok(attempt)
    }

    fn fetch(&mut self, from: &Machine, to: SocketAddr, _path: &str) -> Fetched {
        let call = Call { from: from.clone(), source_port: None, to, transport: Transport::Tcp };
        let attempt = self.call(&call);
        let Outcome::Served(witness) = &attempt.outcome else {
            return Fetched::Nobody(attempt.outcome);
        };
        let cluster = &self.world.cluster;
        let node = cluster.nodes.iter().find(|node| node.addresses.contains(&witness.at.ip()));
        let check = self.world.health_checks().iter().find(|check| check.port == witness.at.port());
        let (Some(node), Some(check), HEALTH_CHECK) = (node, check, witness.who.as_str()) else {
            return Fetched::Nobody(attempt.outcome);
        };
        let health::Answer { status, headers, body } = health::answer(check, &node.name);
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value)).into();
        Fetched::Answer { status, headers, json: Some(body) }
    }

    fn tries(&self, _backends: usize) -> u32 {
        TRIES
    }

    fn addresses_of(&self, node: &str) -> Vec<IpAddr> {
        let port = self.world.port(&PortKind::Node { name: node.to_owned() });
        port.map_or_else(Vec::new, |port| {
            let own = port.addresses.iter().map(ipnet::IpNet::addr);
            own.chain(port.loopback.iter().copied()).collect()
        })
    }
}

/// The address of the node at which a node port is offered to its own processes, if the loopback
/// address offers it.
fn proxied(cluster: &Cluster, node: &str, call: &Call) -> Option<IpAddr> {
    let node_ports = &cluster.settings.cluster.node_ports;
    let to = call.to;
    let is_offered = node_ports.localhost
        && call.transport == Transport::Tcp
        && to.ip() == Ipv4Addr::LOCALHOST
        && (node_ports.addresses.is_empty()
            || node_ports.addresses.iter().any(|net| net.contains(&to.ip())));
    let is_node_port = || {
        cluster.services.iter().filter_map(|service| service.spec.as_ref()).any(|spec| {
            let mut ports = spec.ports.iter().flatten();
            ports.any(|port| {
                port.protocol.as_deref().unwrap_or("TCP") == "TCP"
                    && port.node_port == Some(i32::from(to.port()))
            })
        })
    };
    if !is_offered || !is_node_port() {
        return None;
    }
    let offers = |ip: &IpAddr| {
        let ranges = &node_ports.addresses;
        ip.is_ipv4() && (ranges.is_empty() || ranges.iter().any(|net| net.contains(ip)))
    };
    cluster.node(node)?.addresses.iter().copied().find(offers)
}

/// What comes of a call to the loopback address that nobody there takes.
fn stays_home(call: &Call) -> Attempt {
    let mut attempt = Attempt::of(Outcome::Refused("nobody listens on the node".to_owned()));
    attempt.remarks.push(format!("{} does not leave its node", call.to));
    attempt
}
