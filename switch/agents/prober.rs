//! What asks nodes how they are, for network load balancers: from a host of its own, with the
//! addresses of a cloud's checkers, over connections like any other.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use kswitch_config::{NodeCheck, NodeHealth};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::check;
use super::listen::Tasks;
use super::namespace::Namespace;
use super::proxy::Network;
use super::proxy::network::Home;
use super::streak::{Streak, Thresholds};

/// A port of a node, host order, and the node's name.
pub type Place = (u16, String);

/// A node that is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where.
    pub address: IpAddr,
    /// How.
    pub check: NodeCheck,
    /// What it counts as until it has answered.
    pub is_healthy: bool,
}

/// Asks nodes; dropping it ends that.
#[derive(Debug)]
pub struct Prober {
    runtime: Handle,
    shared: Arc<Shared>,
    asking: BTreeMap<Place, (Asked, Tasks)>,
}

#[derive(Debug)]
struct Shared {
    /// From where is asked; empty while the host is not there.
    sources: RwLock<Vec<IpAddr>>,
    network: Network,
    homes: Arc<RwLock<std::collections::HashMap<IpAddr, Home>>>,
    seen: Mutex<NodeHealth>,
    /// Hears whenever a node's health is seen to be other than before.
    changed: Sender<()>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, NodeHealth> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> Vec<IpAddr> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Prober {
    /// A prober that asks nobody yet, and tells of every change.
    pub fn new(runtime: Handle, changed: Sender<()>) -> Self {
        let homes = Arc::<RwLock<std::collections::HashMap<_, _>>>::default();
        let network = Network::Namespaces(Arc::clone(&homes));
        let (sources, seen) = (RwLock::default(), Mutex::default());
        let shared = Arc::new(Shared { sources, network, homes, seen, changed });
        Self { runtime, shared, asking: BTreeMap::new() }
    }

    /// Asks from these addresses of a namespace from now on; from none: not at all.
    pub fn settle(&self, namespace: Option<&Namespace>, sources: &[IpAddr]) {
        let sources = if namespace.is_some() { sources } else { &[] };
        let mut homes = self.shared.homes.write().unwrap_or_else(PoisonError::into_inner);
        homes.clear();
        for source in sources {
            let Some(namespace) = namespace else { break };
            let namespace = namespace.clone();
            homes
                .insert(*source, Home { namespace, sources: vec![*source], probes: vec![*source] });
        }
        drop(homes);
        *self.shared.sources.write().unwrap_or_else(PoisonError::into_inner) = sources.to_vec();
    }

    /// Whether it has a place to ask from.
    pub fn is_settled(&self) -> bool {
        !self.shared.sources().is_empty()
    }

    /// Asks these from now on, and forgets what others said.
    pub fn keep(&mut self, wanted: BTreeMap<Place, Asked>) {
        let is_same = |before: &Asked, now: &Asked| {
            (before.address, &before.check) == (now.address, &now.check)
        };
        self.asking
            .retain(|place, (before, _)| wanted.get(place).is_some_and(|now| is_same(before, now)));
        self.shared.seen().retain(|place, _| wanted.contains_key(place));
        for (place, asked) in wanted {
            if self.asking.contains_key(&place) {
                continue;
            }
            let task = ask(Arc::clone(&self.shared), place.clone(), asked.clone());
            let mut tasks = Tasks::default();
            tasks.push(self.runtime.spawn(task).abort_handle());
            self.asking.insert(place, (asked, tasks));
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> NodeHealth {
        self.shared.seen().clone()
    }
}

/// Asks one node until the task is aborted.
async fn ask(shared: Arc<Shared>, place: Place, asked: Asked) {
    let Asked { address, check, is_healthy } = asked;
    let thresholds = Thresholds { healthy: check.healthy, unhealthy: check.unhealthy };
    let mut streak = Streak::new(is_healthy);
    let mut ticks = interval(check.interval.max(LEAST));
    // a machine that was busy is not asked all the missed times at once
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_usize.. {
        ticks.tick().await;
        let sources = shared.sources();
        let mut of_family =
            sources.iter().filter(|source| source.is_ipv4() == address.is_ipv4()).cycle();
        let Some(source) = of_family.nth(turn % sources.len().max(1)) else { continue };
        let to = SocketAddr::new(address, check.port);
        let asking = async {
            let Ok(stream) = shared.network.probe(*source, to).await else { return false };
            check::is_ok(stream, check.path, &to.to_string()).await
        };
        let is_good = timeout(check.timeout, asking).await.unwrap_or(false);
        streak = streak.after(is_good, thresholds);
        let before = shared.seen().insert(place.clone(), streak.is_healthy);
        if before.unwrap_or(is_healthy) != streak.is_healthy {
            // nobody listens any more when the lab goes down
            let _ = shared.changed.send(());
        }
    }
}

/// The shortest time between two checks of a node.
const LEAST: Duration = Duration::from_millis(10);
