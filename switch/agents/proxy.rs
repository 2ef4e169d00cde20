//! The HTTP(S) load balancer: ends connections of clients, and opens its own to backends.
//!
//! What it does with requests follows from a [`Routing`], which is swapped as a whole: a request
//! sees one from its beginning to its end. Sockets are opened and closed as the routing says; those
//! that stay are not touched. Where sockets are opened is the [`Network`]'s business: on loopback in
//! tests, in the namespaces of the lab's load balancers otherwise.
//!
//! One connection: [`connection`] (TLS, HTTP/1.1 or HTTP/2) -> [`request`] (which rule, filters) ->
//! `guard` (who may) -> `cache` -> [`choose`] (which place) -> [`forward`] (by a connection of the
//! [`pool`]).

pub mod authority;
pub mod cache;
pub mod choose;
pub mod connection;
pub mod cors;
pub mod datagram;
pub mod forward;
mod guard;
pub mod head;
pub mod health;
pub mod identity;
pub mod limits;
pub mod network;
pub mod pool;
pub mod record;
pub mod request;
pub mod silence;
pub mod stream;
pub mod table;
pub mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kswitch_config::routing::{ALL_NOTED, BackendKey, Routing, SocketKind};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use health::Health;
pub use network::Network;
use pool::Pool;
use table::Table;

/// Connections that one load balancer holds at most; the newest beyond are closed.
const CONNECTIONS: usize = 16_384;

/// An error of any kind, as bodies have them.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What is told of a request when its answer begins.
pub type Log = Arc<dyn Fn(record::Record) + Send + Sync>;

/// A running load balancer; dropping it closes its sockets.
pub struct Proxy {
    shared: Arc<Shared>,
    runtime: Handle,
    listening: BTreeMap<(SocketAddr, Sort), Listening>,
    checks: Option<AbortHandle>,
}

/// What all connections of a load balancer share.
pub struct Shared {
    table: RwLock<Arc<Table>>,
    /// Where sockets are opened.
    pub network: Network,
    /// Connections to backends.
    pub pool: Pool,
    /// Which places may be used.
    pub health: Health,
    /// Whose turn it is.
    pub turns: choose::Turns,
    /// Answers that are kept.
    pub cache: cache::Cache,
    /// How many requests clients have sent.
    pub limits: limits::Limits,
    /// What vouches for clients; `None` on a machine without random numbers.
    pub signer: Option<identity::Signer>,
    permits: Arc<Semaphore>,
    log: Option<Log>,
}

/// A kind of socket, of which one address and port may have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Connections,
    Datagrams,
}

#[derive(Debug)]
struct Listening {
    kind: SocketKind,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.listening.keys()).finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Shared")
    }
}

impl Shared {
    /// What is done with requests now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a request is told of, of which so many of a million are.
    pub fn is_noted(&self, noted: Option<u32>) -> bool {
        let Some(noted) = noted else { return self.log.is_some() };
        let share = u128::from(self.turns.share("log")) * u128::from(ALL_NOTED);
        self.log.is_some() && share >> 64 < u128::from(noted)
    }

    /// Tells of a request.
    pub fn told(&self, record: record::Record) {
        if let Some(log) = &self.log {
            log(record);
        }
    }
}

impl Proxy {
    /// A load balancer that listens nowhere yet.
    pub fn new(runtime: Handle, network: Network, log: Option<Log>) -> Self {
        let shared = Arc::new(Shared {
            table: RwLock::default(),
            network,
            pool: Pool::default(),
            health: Health::default(),
            turns: choose::Turns::default(),
            cache: cache::Cache::default(),
            limits: limits::Limits::default(),
            signer: identity::Signer::new().ok(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            log,
        });
        Self { shared, runtime, listening: BTreeMap::new(), checks: None }
    }

    /// Checks the health of backends from now on, and tells whenever it changes.
    pub fn check_health(&mut self, changed: Option<Sender<()>>) {
        if let Some(changed) = changed {
            self.shared.health.tell(changed);
        }
        let checking = health::check(Arc::clone(&self.shared));
        self.checks = Some(self.runtime.spawn(checking).abort_handle());
    }

    /// Does from now on what a routing says. What cannot be listened on comes back, with the reason.
    pub async fn publish(&mut self, routing: Arc<Routing>) -> Vec<String> {
        let table = Arc::new(Table::new(routing));
        let wanted: BTreeMap<_, _> = table.sockets().collect();
        let before = {
            let mut now = self.shared.table.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, Arc::clone(&table))
        };
        for (place, patience) in before.going(&table) {
            let ending = drain(Arc::clone(&self.shared), place, patience);
            self.runtime.spawn(ending);
        }
        self.listening
            .retain(|(place, _), at| wanted.get(&(*place, sort(at.kind))) == Some(&at.kind));
        let mut problems = Vec::new();
        for ((place, sort), kind) in wanted {
            if self.listening.contains_key(&(place, sort)) {
                continue;
            }
            match self.listen(place, kind).await {
                Ok(task) => {
                    self.listening.insert((place, sort), Listening { kind, task });
                }
                Err(error) => problems.push(format!("cannot listen on {place}: {error}")),
            }
        }
        self.shared.pool.keep(&table);
        problems
    }

    async fn listen(&self, place: SocketAddr, kind: SocketKind) -> std::io::Result<AbortHandle> {
        let shared = Arc::clone(&self.shared);
        if kind == SocketKind::Udp {
            let socket = shared.network.bind(place).await?;
            return Ok(self.runtime.spawn(datagram::serve(shared, place, socket)).abort_handle());
        }
        let listener = shared.network.listen(place).await?;
        Ok(self.runtime.spawn(connection::accept(shared, place, kind, listener)).abort_handle())
    }

    /// Whether a place answers its checks; `None` if it was not asked yet.
    pub fn is_healthy(&self, backend: &BackendKey, place: SocketAddr) -> Option<bool> {
        self.shared.health.of(backend, place)
    }

    /// Closes the sockets of a load balancer whose namespace is about to go.
    pub fn leave(&mut self, address: std::net::IpAddr) {
        self.listening.retain(|(place, _), _| place.ip() != address);
    }
}

/// Ends what a place that went still carries, once its time is up, unless it has come back.
async fn drain(shared: Arc<Shared>, place: SocketAddr, patience: Duration) {
    tokio::time::sleep(patience).await;
    if !shared.table().has_place(place) {
        shared.pool.end(place);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(checks) = &self.checks {
            checks.abort();
        }
    }
}

const fn sort(kind: SocketKind) -> Sort {
    match kind {
        SocketKind::Udp => Sort::Datagrams,
        SocketKind::Http | SocketKind::Tls | SocketKind::Tcp => Sort::Connections,
    }
}
