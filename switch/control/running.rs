//! A running lab: what is wanted, what was made of it, and the way from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use kswitch_config::{
    Cluster, Compiled, Compiler, HealthCheck, Names, NetworkBalancer, Observed, Plan, PlannedPort,
};
use kswitch_tables::{Generation, PortId, Snapshot};

use super::balancers::Balancers;
use super::capture::Captures;
use super::diversions::{self, Diversions};
use super::echoes::Echoes;
use super::gates;
use super::health::HealthChecks;
use super::hosts::{Files, changed_files, echo_specs, host_spec};
use super::lags::{Lags, News};
use super::links::FaultyLinks;
use super::loopbacks::Loopbacks;
use super::monitor::Monitor;
use super::name_servers::NameServers;
use super::neighbourhood::Neighbourhood;
use super::network::Watchers;
use super::nodes;
use super::pods::Pods;
use super::repairs::Repairs;
use super::restart;
use super::restart::flows::{Flows, Seed};
use super::rollouts::Since;
use super::switch::{self, Options, Switch};
use crate::agents::dns::Dns;
use crate::agents::echo::Echo;
use crate::lab::{self, Lab};
use crate::threads;

/// How long workers may take to look at their mail before that is worth a word.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// What can go wrong with a lab as a whole.
#[derive(Debug)]
pub enum Error {
    /// In making or removing namespaces and links.
    Lab(lab::Error),
    /// In starting the switch.
    Switch(switch::Error),
    /// In talking to the workers.
    Worker(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lab(error) => error.fmt(f),
            Self::Switch(error) => error.fmt(f),
            Self::Worker(_) => f.write_str("cannot reach a worker"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lab(error) => error.source(),
            Self::Switch(error) => error.source(),
            Self::Worker(error) => Some(error),
        }
    }
}

/// An error and its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

impl From<lab::Error> for Error {
    fn from(error: lab::Error) -> Self {
        Self::Lab(error)
    }
}

impl From<switch::Error> for Error {
    fn from(error: switch::Error) -> Self {
        Self::Switch(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Worker(error)
    }
}

/// A running lab.
///
/// Fields are dropped in this order: listeners, then workers, then namespaces.
#[derive(Debug)]
pub struct Running {
    /// What is wanted.
    pub cluster: Arc<Cluster>,
    /// What is seen.
    pub observed: Observed,
    /// What ids of the published snapshot are called.
    pub names: Arc<Names>,
    /// The network load balancers, with the health of their nodes.
    pub network: Vec<NetworkBalancer>,
    diversions: Diversions,
    health_checks: HealthChecks,
    loopbacks: Loopbacks,
    name_servers: NameServers,
    /// The pods that bring programs.
    pub(super) pods: Pods,
    /// Since when pods are ready.
    pub(super) since: Since,
    changes: Option<Receiver<()>>,
    echoes: Echoes,
    /// Who is told what befalls flows.
    pub monitor: Arc<Monitor>,
    /// Who is handed frames.
    pub captures: Arc<Captures>,
    pub(super) balancers: Balancers,
    pub(super) links: FaultyLinks,
    pub(super) lags: Lags,
    pub(super) repairs: Repairs,
    seed: u64,
    pub(super) neighbourhood: Neighbourhood,
    pub(super) watchers: Watchers,
    /// The workers and their tables.
    pub switch: Switch,
    lab: Lab,
    compiler: Compiler,
    pub(super) attached: BTreeMap<PortId, PlannedPort>,
    generation: Generation,
}

impl Running {
    /// Brings a cluster up: namespaces, links, workers, listeners.
    ///
    /// `progress` hears of the namespaces made so far and of how many there will be.
    ///
    /// # Errors
    /// The first failure; nothing is left of the lab then.
    pub fn start(
        cluster: Arc<Cluster>,
        echo: Echo,
        options: &Options,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, Error> {
        let name = &cluster.settings.lab.name;
        let lab = if options.survives { Lab::resume(name)? } else { Lab::open(name)? };
        let (mut pods, changes) = Pods::new(echo.runtime().clone());
        if options.survives {
            pods.survive(&lab::kept::directory(name));
        }
        let watchers = Watchers::new(echo.runtime().clone(), pods.teller());
        let http_balancers = Balancers::new(pods.teller());
        let mut ready_pods = pods.readiness(&cluster);
        let waiting_pods = gates::judge(&cluster, &BTreeSet::new(), &mut ready_pods);
        let observed = Observed { ready_pods, waiting_pods, ..Observed::default() };
        let flows = Self::flows(&cluster, options)?;
        let directory = lab::kept::directory(name);
        let io =
            if options.survives { restart::frame_io(&directory, options.io) } else { options.io };
        let options = &Options { seed: flows.seed, io, ..*options };
        let mut compiler = Compiler::new(options.seed);
        let (adopted, compiled) = thread::scope(|scope| {
            let adopted = threads::start_within(scope, "adopt", || flows.adopt());
            let compiled = compiler.compile(&cluster, &observed, Generation(1));
            // without a thread for it, one after the other
            let adopted = adopted.map(|thread| thread.join().unwrap_or_default());
            (adopted.unwrap_or_else(|_| flows.adopt()), compiled)
        });
        let Compiled { mut snapshot, names, plan, health_checks, balancers, zones } = compiled;
        // a flow is judged anew by any generation but that under which it was judged
        let generation = Generation(adopted.newest.0.wrapping_add(1));
        snapshot.generation = generation;
        flows.settle(&snapshot);
        if lab.reclaimed() > 0 {
            tracing::info!("removed {} namespaces of a run that was killed", lab.reclaimed());
        }
        let switch = Switch::start(options, snapshot.clone(), (flows.shared, flows.start))?;
        let monitor = Monitor::new(switch.watches.clone(), switch.start);
        let (shared, start) = (Arc::clone(&switch.shared), switch.start);
        let captures = Captures::new(switch.captures.clone(), shared, start);
        let mut running = Self {
            monitor: Arc::new(monitor),
            captures: Arc::new(captures),
            cluster,
            observed,
            names: Arc::new(names),
            network: balancers,
            diversions: Diversions::default(),
            health_checks: HealthChecks::new(echo.runtime().clone()),
            loopbacks: Loopbacks::new(echo.runtime().clone()),
            name_servers: NameServers::new(Dns::new(echo.runtime().clone(), zones)),
            pods,
            since: Since::default(),
            changes: Some(changes),
            echoes: Echoes::new(echo),
            balancers: http_balancers,
            links: FaultyLinks::default(),
            lags: Lags::default(),
            repairs: Repairs::default(),
            seed: options.seed,
            neighbourhood: Neighbourhood::new(Arc::clone(&switch.shared)),
            watchers,
            switch,
            lab,
            compiler,
            attached: BTreeMap::new(),
            generation,
        };
        running.attach(plan.ports.clone(), progress)?;
        running.hear(&snapshot, health_checks);
        running.publish(snapshot)?;
        if running.lab.adopted() > 0 {
            running.remind();
        }
        restart::tell(&running.lab, adopted);
        running.lab.settle()?;
        running.listen();
        running.since.note(&running.cluster, &running.observed);
        Ok(running)
    }

    /// The tables of a killed run of the same lab, or new ones.
    fn flows(cluster: &Cluster, options: &Options) -> Result<Flows, Error> {
        if !options.survives {
            return Ok(Flows::fresh(options));
        }
        let directory = lab::kept::directory(&cluster.settings.lab.name);
        let seed = cluster.settings.switch.seed.map_or(Seed::Random, |_| Seed::Given);
        Flows::open(&directory, options, seed).map_err(|source| {
            switch::Error::Tables { connections: options.connections, source }.into()
        })
    }

    /// Makes another cluster of the running one. What did not change is not touched.
    ///
    /// # Errors
    /// If new machines cannot be made: the old cluster goes on then, unchanged.
    pub fn change(&mut self, cluster: Arc<Cluster>) -> Result<(), Error> {
        let generation = Generation(self.generation.0 + 1);
        self.look(&cluster);
        self.since.note(&cluster, &self.observed);
        let mut compiled = self.compiler.compile(&cluster, &self.observed, generation);
        if self.watchers.leave(&cluster, &self.network, &compiled.balancers) {
            self.observed.draining = self.watchers.draining();
            compiled = self.compiler.compile(&cluster, &self.observed, generation);
        }
        let Compiled { snapshot, names, plan, health_checks, balancers, zones } = compiled;
        let (going, coming) = self.difference(&plan);
        let before = std::mem::replace(&mut self.cluster, cluster);
        // a machine that changes its address goes before it comes: one name, one namespace
        let (replaced, gone): (Vec<_>, Vec<_>) =
            going.into_iter().partition(|old| coming.iter().any(|new| new.kind == old.kind));
        self.remove(&replaced)?;
        if let Err(error) = self.attach(coming, &|_, _| {}) {
            self.cluster = before;
            return Err(error);
        }
        // who comes answers before anybody is sent there
        self.echoes.add(echo_specs(&nodes::awake(&self.cluster, &self.observed)));
        self.generation = generation;
        self.names = Arc::new(names);
        self.watchers.tell(&self.monitor, &self.network, &balancers);
        self.network = balancers;
        self.hear(&snapshot, health_checks);
        self.publish(snapshot)?;
        self.name_servers.dns.publish(zones);
        if !self.switch.settled(generation, SETTLE_PATIENCE) {
            tracing::warn!("a worker is slow to take generation {}", generation.0);
        }
        self.remove(&gone)?;
        if !gone.is_empty() {
            // the view that workers have now holds the devices of those who went
            self.publish_links()?;
        }
        self.write_files(&before)?;
        self.listen();
        self.switch.free();
        Ok(())
    }

    /// Tells nodes what they are to serve, each in its time.
    fn hear(&mut self, snapshot: &Snapshot, checks: Vec<HealthCheck>) {
        let news = News { served: Arc::clone(&snapshot.served), checks: checks.into() };
        self.lags.publish(&self.cluster, news, Instant::now());
    }

    /// Publishes anew if a node has heard of a change by now; answers when one does next.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub(super) fn catch_up(&mut self) -> Result<Option<Instant>, Error> {
        if self.lags.catch_up(Instant::now())
            && let Some(last) = self.switch.snapshot()
        {
            self.generation = Generation(self.generation.0 + 1);
            self.publish(Snapshot { generation: self.generation, ..Snapshot::clone(&last) })?;
            self.health_checks.keep(&self.cluster, &self.lags);
        }
        Ok(self.lags.next())
    }

    /// Publishes a snapshot, and tells those who look on what it means.
    fn publish(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let lagging = self.lags.served(&self.names);
        let snapshot = Arc::new(Snapshot { lagging, ..snapshot });
        self.monitor.follow(Arc::clone(&self.names), Arc::clone(&snapshot));
        self.captures.follow(Arc::clone(&self.names));
        let (ports, topology) = (self.attached.values(), &snapshot.topology);
        self.switch.fault(self.links.links(&self.cluster, ports, topology, self.seed))?;
        self.switch.publish(Arc::clone(&snapshot))?;
        self.announce(&snapshot);
        Ok(())
    }

    /// Publishes what is wrong with links now.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub(super) fn publish_links(&mut self) -> Result<(), Error> {
        let Some(snapshot) = self.switch.snapshot() else { return Ok(()) };
        let (ports, topology) = (self.attached.values(), &snapshot.topology);
        self.switch.fault(self.links.links(&self.cluster, ports, topology, self.seed))?;
        Ok(self.switch.publish(snapshot)?)
    }

    /// Publishes anew for what is observed now.
    ///
    /// # Errors
    /// As [`Running::change`].
    pub fn observe(&mut self, observed: Observed) -> Result<(), Error> {
        self.observed = observed;
        self.change(Arc::clone(&self.cluster))
    }

    /// Takes note of how pods and nodes are now.
    fn look(&mut self, cluster: &Cluster) {
        let mut ready = self.ready_pods(cluster);
        let opened = self.balancers.opened(cluster);
        self.observed.waiting_pods = gates::judge(cluster, opened, &mut ready);
        self.observed.ready_pods = ready;
        self.observed.node_health = self.watchers.seen();
        self.observed.draining = self.watchers.draining();
    }

    /// Publishes anew if pods or nodes are well that were not, or the other way round.
    ///
    /// # Errors
    /// As [`Running::change`].
    pub fn observe_pods(&mut self) -> Result<(), Error> {
        for (service, place, is_healthy, asked) in self.balancers.turned() {
            self.monitor.health(&service, &place, is_healthy, &asked);
        }
        let before = self.observed.clone();
        let cluster = Arc::clone(&self.cluster);
        self.look(&cluster);
        if self.observed == before { Ok(()) } else { self.change(cluster) }
    }

    /// Which pods are ready, as far as that is seen.
    fn ready_pods(&self, cluster: &Cluster) -> BTreeMap<(String, String), bool> {
        let mut ready = self.pods.readiness(cluster);
        nodes::overrule(&mut ready, cluster, &self.observed);
        ready
    }

    /// What hears of each change in how pods are, for whoever asks first.
    pub const fn take_changes(&mut self) -> Option<Receiver<()>> {
        self.changes.take()
    }

    /// Whether a namespace is still called what this lab called it.
    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        self.lab.has_namespace(namespace)
    }

    /// The ports there are.
    pub fn ports(&self) -> impl Iterator<Item = &PlannedPort> {
        self.attached.values()
    }

    /// The generation published last.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes the lab down and says what could not be removed.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn close(self) -> Result<(), Error> {
        let Self {
            health_checks,
            loopbacks,
            name_servers,
            pods,
            echoes,
            balancers,
            watchers,
            mut switch,
            lab,
            ..
        } = self;
        drop((health_checks, loopbacks, name_servers, pods, echoes, balancers, watchers));
        switch.stop();
        drop(switch);
        Ok(lab.close()?)
    }

    /// Ports that go, and ports that come.
    fn difference(&self, plan: &Plan) -> (Vec<PlannedPort>, Vec<PlannedPort>) {
        let wanted: BTreeMap<_, _> = plan.ports.iter().map(|port| (port.id, port)).collect();
        let going = self.attached.iter().filter(|(id, old)| wanted.get(*id) != Some(old));
        let going = going.map(|(_, old)| old.clone()).collect();
        let coming = wanted.into_iter().filter(|(id, new)| self.attached.get(id) != Some(*new));
        (going, coming.map(|(_, new)| new.clone()).collect())
    }

    fn attach(
        &mut self,
        ports: Vec<PlannedPort>,
        progress: &dyn Fn(usize, usize),
    ) -> Result<(), Error> {
        let workers = self.switch.workers().count();
        let specs: Vec<_> =
            ports.iter().map(|port| host_spec(&self.cluster, port, workers)).collect();
        let hosts = self.lab.add_hosts(&specs, progress)?;
        for (port, host) in ports.into_iter().zip(hosts) {
            self.switch.attach(port.id, host.queues, host.sender);
            self.attached.insert(port.id, port);
        }
        Ok(())
    }

    /// Removes machines, all in one go: each look for processes left inside is at every process.
    pub(super) fn remove(&mut self, going: &[PlannedPort]) -> Result<(), Error> {
        if going.is_empty() {
            return Ok(());
        }
        let mut namespaces = Vec::with_capacity(going.len());
        for old in going {
            self.switch.detach(old.id)?;
            self.attached.remove(&old.id);
            self.diversions.leave(&old.namespace);
            self.health_checks.leave(&old.namespace);
            self.loopbacks.leave(&old.namespace);
            self.name_servers.leave(&old.namespace);
            self.pods.leave(&old.namespace);
            self.echoes.leave(&old.namespace);
            self.balancers.leave(&old.namespace);
            self.watchers.leave_namespace(&self.cluster, &old.namespace);
            namespaces.push(old.namespace.clone());
        }
        Ok(self.lab.remove_hosts(&namespaces)?)
    }

    /// Writes the files of machines that stay, as they are to be now.
    fn write_files(&self, before: &Cluster) -> Result<(), Error> {
        for (namespace, files) in changed_files(before, &self.cluster) {
            let Files { hostname, resolv_conf, hosts } = files;
            let (resolv_conf, hosts) = (resolv_conf.as_deref(), hosts.as_deref());
            self.lab.write_files(&namespace, &hostname, resolv_conf, hosts)?;
        }
        Ok(())
    }

    /// The name servers, and what they were asked.
    pub const fn dns(&self) -> &Dns {
        &self.name_servers.dns
    }

    /// Has everybody listen who is to, and does not.
    pub(super) fn listen(&mut self) {
        let awake = nodes::awake(&self.cluster, &self.observed);
        self.diversions.keep(diversions::of_nodes(&self.cluster, self.attached.values()));
        self.health_checks.keep(&self.cluster, &self.lags);
        self.loopbacks.keep(&self.cluster);
        self.name_servers.keep(&awake);
        self.pods.keep(&awake);
        self.echoes.keep(echo_specs(&awake));
        self.balancers.keep(&self.cluster, &self.observed);
        self.watchers.keep(&self.cluster, &self.network);
    }
}
