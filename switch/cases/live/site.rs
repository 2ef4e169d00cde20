//! One lab on real TAPs.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kswitch_config::{EntryPolicy, Observed, PlannedPort, PortKind};
use kswitch_tables::{Address, MacAddress, PortId, Tick};

use super::super::format::Transport;
use super::super::memory::SEED;
use super::super::topology::{Broken, Lab};
use super::Shared;
use crate::agents::echo::{EchoPort, Identity, Server, Sockets, Speaks};
use crate::control::running::{self, Running};
use crate::control::sweep::Sweep;
use crate::control::switch::Options;
use crate::control::{conntrack_timeouts, frame_io};
use crate::dataplane::{Counters, DropReason};
use crate::lab::namespace;
use crate::sim::link;

/// Workers of a lab: two, so that replies come to another than requests.
const WORKERS: usize = 2;

/// Connections of each family; small, so that a lab is cheap.
const CONNECTIONS: usize = 16_384;

/// How long workers may take to carry what they have received.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running lab. Everything of it goes when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// Echo servers that were asked for, by where they listen.
    servers: BTreeMap<(PortKind, Transport, u16), Option<Server>>,
    /// `None` once it goes.
    running: Option<Running>,
    sweep: Sweep,
    shared: Arc<Shared>,
}

impl Site {
    /// Brings the lab of a case up.
    ///
    /// # Errors
    /// As [`Running::start`]; nothing is left of the lab then.
    pub(super) fn start(shared: Arc<Shared>, lab: &Lab) -> Result<Self, running::Error> {
        let cluster = Arc::clone(lab.cluster());
        let settings = cluster.settings.switch.clone();
        let options = Options {
            workers: WORKERS,
            spin: settings.spin,
            coalesces: settings.coalesce,
            io: frame_io(settings.io),
            connections: CONNECTIONS,
            seed: settings.seed.unwrap_or(SEED),
            survives: false,
        };
        let running = Running::start(cluster, shared.echo.clone(), &options, &|_, _| {})?;
        let timeouts = conntrack_timeouts(&settings.timeouts);
        let sweep = Sweep::new(Arc::clone(&running.switch.shared), timeouts);
        Ok(Self { servers: BTreeMap::new(), running: Some(running), sweep, shared })
    }

    /// What runs.
    ///
    /// # Panics
    /// Never: it is there until the site is dropped.
    #[expect(clippy::expect_used, reason = "taken by drop alone")]
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("there until dropped")
    }

    #[expect(clippy::expect_used, reason = "taken by drop alone")]
    fn running_mut(&mut self) -> &mut Running {
        self.running.as_mut().expect("there until dropped")
    }

    /// Makes it be as it is to be now, as `kswitch apply` would; answers once it has an effect.
    ///
    /// # Errors
    /// It cannot be made so.
    pub fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        let cluster = Arc::clone(lab.cluster());
        let changed = self.running_mut().change(cluster).map_err(|error| broken(&error));
        let running = self.running.as_ref();
        let is_there = |kind: &PortKind| {
            running.is_some_and(|running| running.ports().any(|port| port.kind == *kind))
        };
        self.servers.retain(|(kind, _, _), _| is_there(kind));
        changed
    }

    /// Has packets from outside arrive at this node from now on.
    ///
    /// # Errors
    /// They cannot be made to.
    pub fn enter_at(&mut self, node: &str) -> Result<(), Broken> {
        let entry = EntryPolicy::everything_at(node);
        let running = self.running_mut();
        if running.observed.entry == entry {
            return Ok(());
        }
        let observed = Observed { entry, ..running.observed.clone() };
        running.observe(observed).map_err(|error| broken(&error))
    }

    /// Puts the switch's clock forward; what fell silent meanwhile is forgotten.
    pub fn pass(&mut self, seconds: u32) {
        let ticks = Tick::from_secs(seconds).0;
        let Some(running) = &self.running else { return };
        let (ahead, start) = (&running.switch.shared.ahead, running.switch.start);
        ahead.put_forward(ticks);
        self.sweep.round(ahead.tick(start, Instant::now()), &mut |_| {});
    }

    /// How many frames were dropped so far, by the key of the reason.
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let dropped = |reason: DropReason| {
            self.counters().map(|counters| counters.dropped(reason)).sum::<u64>()
        };
        let all = DropReason::ALL.iter().map(|reason| (reason.key(), dropped(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// How many frames were received at a port.
    pub(super) fn received(&self, port: PortId) -> u64 {
        let ports = self.counters().filter_map(|counters| counters.port(port));
        ports.map(|port| port.received_frames.get()).sum()
    }

    fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.running().switch.workers().map(|(_, counters)| counters)
    }

    /// Waits until the workers have carried all that was sent, of which they have so many frames
    /// to receive, port by port.
    pub(super) fn settle(&self, sent: &BTreeMap<PortId, u64>) {
        let end = Instant::now() + PATIENCE;
        while sent.iter().any(|(port, count)| self.received(*port) < *count) {
            if Instant::now() >= end {
                tracing::warn!("frames that were sent did not come to the switch");
                return;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        match self.running().switch.caught_up(PATIENCE) {
            Ok(true) => {}
            Ok(false) => tracing::warn!("a worker is slow"),
            Err(error) => tracing::warn!("a worker cannot be woken: {error}"),
        }
    }

    /// The machines there are.
    pub fn ports(&self) -> impl Iterator<Item = &PlannedPort> {
        self.running().ports()
    }

    /// The port of a machine.
    pub fn port(&self, machine: &PortKind) -> Option<&PlannedPort> {
        self.ports().find(|port| port.kind == *machine)
    }

    /// The machine that has an address.
    pub fn owner(&self, ip: IpAddr) -> Option<&PlannedPort> {
        self.ports().find(|port| addresses(port).any(|own| own == ip))
    }

    /// All addresses of a machine.
    pub fn addresses_of(&self, machine: &PortKind) -> Vec<IpAddr> {
        self.port(machine).map_or_else(Vec::new, |port| addresses(port).collect())
    }

    /// The Ethernet address to which a machine sends what is for `target`.
    pub fn next_mac(&self, machine: &PortKind, target: Address) -> Option<MacAddress> {
        let snapshot = self.running().switch.snapshot()?;
        link::next_mac(&snapshot.topology, self.port(machine)?, target)
    }

    /// Does something in the namespace of a machine, on a thread of its own: sockets opened there
    /// belong to the machine for good, and work from anywhere.
    ///
    /// # Errors
    /// There is no such machine, or what the system says.
    pub fn inside<T: Send>(
        &self,
        machine: &PortKind,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let port = self.port(machine).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        namespace::enter(&port.namespace, work)?
    }

    /// Does asynchronous work, beside the echo servers, and waits for it.
    pub fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.shared.runtime.block_on(work)
    }

    /// Whether the run is broken off.
    pub fn is_interrupted(&self) -> bool {
        self.shared.is_interrupted()
    }

    /// Has an echo server listen at a port of a machine, unless something listens there. It stays
    /// as long as the machine.
    ///
    /// # Errors
    /// There is no such machine, or what the system says.
    pub fn serve(
        &mut self,
        machine: &PortKind,
        transport: Transport,
        number: u16,
    ) -> io::Result<()> {
        let key = (machine.clone(), transport, number);
        if self.servers.contains_key(&key) {
            return Ok(());
        }
        let speaks = match transport {
            Transport::Tcp => Speaks::HttpOrText,
            Transport::Udp => Speaks::Datagrams,
            Transport::Sctp => Speaks::Sctp,
        };
        let opened = self.inside(machine, || Sockets::open(&[EchoPort { number, speaks }]));
        let server = match opened {
            Ok(sockets) => Some(self.shared.echo.serve(sockets, identity(machine))?),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => return Err(error),
        };
        self.servers.insert(key, server);
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.servers.clear();
        if let Some(running) = self.running.take()
            && let Err(error) = running.close()
        {
            tracing::error!("{}", broken(&error));
        }
    }
}

/// An error with its causes.
pub(super) fn broken(error: &dyn Error) -> Broken {
    Broken(running::with_causes(error))
}

fn addresses(port: &PlannedPort) -> impl Iterator<Item = IpAddr> {
    port.addresses.iter().map(IpNet::addr).chain(port.loopback.iter().copied())
}

fn identity(machine: &PortKind) -> Identity {
    let (namespace, name) = match machine {
        PortKind::Pod { namespace, name } => (Some(namespace.clone()), name),
        PortKind::Node { name } => (Some("node".to_owned()), name),
        PortKind::External { name } => (None, name),
    };
    Identity { name: name.clone(), hostname: name.clone(), namespace, ..Identity::default() }
}
