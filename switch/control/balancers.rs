//! The load balancers in front of the nodes, kept like those that are wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

use kswitch_config::routing::{Routing, route};
use kswitch_config::{Cluster, Observed, Pod, PortKind};
use tokio::runtime::{Builder, Runtime};

use super::issuing::Issuing;
use super::request_log::{RequestLog, log};
use crate::agents::namespace::Namespace;
use crate::agents::proxy::network::Home;
use crate::agents::proxy::{Network, Proxy};
use crate::lab::namespace;
use crate::rights::{self, told};
use crate::threads;

/// Threads that carry requests.
const THREADS: usize = 2;

/// The load balancers of a lab: their hosts are like any outside, their sockets are here.
#[derive(Debug, Default)]
pub(super) struct Balancers {
    running: Option<Running>,
    /// What they do; empty while there are none.
    routing: Arc<Routing>,
    /// What was told already.
    told: BTreeSet<String>,
    /// The lab's authority, and what it has issued.
    pub(super) issuing: Issuing,
    /// What they were sent.
    pub(super) requests: Arc<RequestLog>,
    /// Hears whenever a backend's health changes.
    changed: Option<Sender<()>>,
    /// Pods with a gate that have passed a check; they stay so until they end.
    opened: BTreeSet<(String, String)>,
    /// What was last seen of places.
    health: BTreeMap<(String, String), bool>,
}

/// Dropped in this order: the sockets, then what they run on.
#[derive(Debug)]
struct Running {
    proxy: Proxy,
    homes: Arc<RwLock<HashMap<IpAddr, Home>>>,
    /// Namespaces that are held, with the addresses in them.
    entered: HashMap<String, IpAddr>,
    runtime: Runtime,
}

impl Running {
    fn start(requests: &Arc<RequestLog>, changed: Option<Sender<()>>) -> io::Result<Self> {
        // the runtime takes for granted that there are
        threads::check(THREADS)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("balancer")
            .on_thread_start(|| told("load balancers", rights::keep_none()))
            .enable_all()
            .build()?;
        let homes = Arc::<RwLock<HashMap<_, _>>>::default();
        let network = Network::Namespaces(Arc::clone(&homes));
        let mut proxy = Proxy::new(runtime.handle().clone(), network, Some(log(requests)));
        proxy.check_health(changed);
        Ok(Self { proxy, homes, entered: HashMap::new(), runtime })
    }
}

impl Balancers {
    /// None yet; `changed` hears whenever a backend's health changes.
    pub(super) fn new(changed: Sender<()>) -> Self {
        Self { changed: Some(changed), ..Self::default() }
    }

    /// Pods that have passed a check of a load balancer that their gate waits for.
    ///
    /// Source: ingress-gce `pkg/neg/readiness`: healthy in one NEG suffices, once and for all.
    pub(super) fn opened(&mut self, cluster: &Cluster) -> &BTreeSet<(String, String)> {
        let backends = self.routing.backends.values().filter(|backend| backend.is_neg);
        let places = backends.flat_map(|backend| {
            let waiting = backend.places.iter().filter(|place| place.is_waiting);
            waiting.map(|place| (&backend.key, place))
        });
        let passed: Vec<(String, String)> = places
            .filter(|(key, place)| self.is_healthy(key, place.address) == Some(true))
            .filter_map(|(_, place)| place.pod.as_ref()?.split_once('/'))
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .collect();
        self.opened.extend(passed);
        self.opened.retain(|(namespace, name)| {
            cluster.pod(namespace, name).is_some_and(|pod| !pod.is_terminating())
        });
        &self.opened
    }

    /// Whether a pod has passed such a check.
    pub(super) fn is_open(&self, pod: &Pod) -> bool {
        self.opened.contains(&(pod.namespace.clone(), pod.name.clone()))
    }

    /// Places whose health is another than when this was asked last: backend, place, whether it is
    /// healthy, and what it was asked for.
    pub(super) fn turned(&mut self) -> Vec<(String, String, bool, String)> {
        let mut turned = Vec::new();
        let mut health = BTreeMap::new();
        for backend in self.routing.backends.values() {
            for place in &backend.places {
                let Some(is_healthy) = self.is_healthy(&backend.key, place.address) else {
                    continue;
                };
                let name = (backend.key.to_string(), place.address.to_string());
                let before = self.health.get(&name).copied();
                if before.unwrap_or(!place.is_waiting) != is_healthy {
                    let called = place.pod.clone().unwrap_or_else(|| name.1.clone());
                    let asked = backend.health_check.path.clone();
                    turned.push((name.0.clone(), called, is_healthy, asked));
                }
                health.insert(name, is_healthy);
            }
        }
        self.health = health;
        turned
    }

    /// Closes the sockets in a namespace that is about to go.
    pub(super) fn leave(&mut self, namespace: &str) {
        let Some(running) = &mut self.running else { return };
        let Some(address) = running.entered.remove(namespace) else { return };
        running.homes.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
        running.proxy.leave(address);
    }

    /// Does from now on what the cluster's Ingresses and Gateways say.
    pub(super) fn keep(&mut self, cluster: &Cluster, observed: &Observed) {
        let mut problems = self.issuing.keep(cluster);
        let certificates = self.issuing.certificates();
        let observed = &Observed { certificates, ..observed.clone() };
        if cluster.proxies.is_empty() && self.running.is_none() {
            // status is told all the same
            self.routing = Arc::new(route(cluster, observed));
            return;
        }
        if self.running.is_none() {
            match Running::start(&self.requests, self.changed.clone()) {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    tracing::warn!("no load balancers: {error}");
                    return;
                }
            }
        }
        let routing = Arc::new(route(cluster, observed));
        self.routing = Arc::clone(&routing);
        let Some(running) = &mut self.running else { return };
        problems.extend(running.settle(cluster));
        problems.extend(routing.remarks.iter().cloned());
        problems.extend(running.runtime.block_on(running.proxy.publish(routing)));
        for problem in &problems {
            if !self.told.contains(problem) {
                tracing::warn!("{problem}");
            }
        }
        self.told = problems.into_iter().collect();
    }

    /// What they do.
    pub(super) const fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// Whether a place of a backend answers its checks; `None` if it was not asked yet.
    pub(super) fn is_healthy(
        &self,
        backend: &kswitch_config::routing::BackendKey,
        place: std::net::SocketAddr,
    ) -> Option<bool> {
        self.running.as_ref()?.proxy.is_healthy(backend, place)
    }
}

impl Running {
    /// Holds the namespaces of load balancers that are new; says which cannot be entered.
    fn settle(&mut self, cluster: &Cluster) -> Vec<String> {
        let lab = &cluster.settings.lab.name;
        let mut homes = self.homes.write().unwrap_or_else(PoisonError::into_inner);
        let mut problems = Vec::new();
        for at in &cluster.proxies {
            if homes
                .get(&at.address)
                .is_some_and(|home| home.sources == at.sources && home.probes == at.probes)
            {
                continue;
            }
            let name = host(&at.name).namespace(lab);
            match namespace::enter(&name, Namespace::current).and_then(|opened| opened) {
                Ok(namespace) => {
                    let (sources, probes) = (at.sources.clone(), at.probes.clone());
                    let home = Home { namespace, sources, probes };
                    homes.insert(at.address, home);
                    self.entered.insert(name, at.address);
                }
                Err(error) => problems.push(format!("cannot enter namespace {name}: {error}")),
            }
        }
        problems
    }
}

fn host(name: &str) -> PortKind {
    PortKind::External { name: name.to_owned() }
}
