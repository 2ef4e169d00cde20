//! The load balancers in front of the nodes, kept like those that are wanted.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use kswitch_config::routing::{Routing, route};
use kswitch_config::{Cluster, Observed, PortKind};
use tokio::runtime::{Builder, Runtime};

use super::issuing::Issuing;
use super::request_log::{RequestLog, log};
use crate::agents::namespace::Namespace;
use crate::agents::proxy::network::Home;
use crate::agents::proxy::{Network, Proxy};
use crate::lab::namespace;
use crate::rights::{self, told};

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
    fn start(requests: &Arc<RequestLog>) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("balancer")
            .on_thread_start(|| told("load balancers", rights::keep_none()))
            .enable_all()
            .build()?;
        let homes = Arc::<RwLock<HashMap<_, _>>>::default();
        let network = Network::Namespaces(Arc::clone(&homes));
        let mut proxy = Proxy::new(runtime.handle().clone(), network, Some(log(requests)));
        proxy.check_health();
        Ok(Self { proxy, homes, entered: HashMap::new(), runtime })
    }
}

impl Balancers {
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
            match Running::start(&self.requests) {
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
            if homes.get(&at.address).is_some_and(|home| home.sources == at.sources) {
                continue;
            }
            let name = host(&at.name).namespace(lab);
            match namespace::enter(&name, Namespace::current).and_then(|opened| opened) {
                Ok(namespace) => {
                    let home = Home { namespace, sources: at.sources.clone() };
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
