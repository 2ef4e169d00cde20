//! The cluster's name servers: they answer what [`Zones`] say, over UDP and TCP.
//!
//! Their sockets are in the namespaces of the pods that are name servers, so that questions and
//! answers pass the switch like everything else. All answer from the same zones, which are replaced
//! whole when a new state of the cluster is published.

pub mod client;
pub mod message;
mod upstream;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kswitch_config::Zones;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::datagrams::{self, Sender};
use super::listen::{self, Tasks};
use super::namespace::Namespace;
use message::{Code, Outcome, Reply, Transport, Unknown};

/// Connections one server holds at a time; the newest beyond are closed.
const CONNECTIONS: usize = 256;

/// Questions that wait for somebody outside, of one server; the newest beyond are lost.
const WAITING: usize = 1_024;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Name servers of one lab.
#[derive(Clone, Debug)]
pub struct Dns {
    runtime: Handle,
    shared: Arc<Shared>,
}

/// What all servers share.
#[derive(Debug)]
struct Shared {
    zones: RwLock<Arc<Zones>>,
    counters: Counters,
}

/// What was asked so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers by transport and code.
    answers: [[AtomicU64; Code::ALL.len()]; 2],
    /// Questions that were passed on.
    forwarded: AtomicU64,
}

impl Counters {
    fn count(&self, transport: Transport, code: Code) {
        let [udp, tcp] = &self.answers;
        let row = if transport == Transport::Udp { udp } else { tcp };
        let at = Code::ALL.iter().position(|own| *own == code);
        if let Some(counter) = at.and_then(|at| row.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers by transport and code; each pair once.
    pub fn answers(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = ["udp", "tcp"].into_iter().zip(&self.answers);
        let all = rows.flat_map(|(transport, row)| {
            let cells = Code::ALL.iter().zip(row);
            cells.map(move |(code, n)| (transport, code.name(), n.load(Ordering::Relaxed)))
        });
        all.collect()
    }

    /// Questions that were passed on to somebody outside.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }
}

/// Sockets of one server, inside its namespace and not yet answered on.
#[derive(Debug)]
pub struct Sockets {
    datagrams: Vec<std::net::UdpSocket>,
    listeners: Vec<std::net::TcpListener>,
    namespace: Namespace,
}

impl Sockets {
    /// Opens these ports, host order, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// A port cannot be opened: the message names it.
    pub fn open(udp: &[u16], tcp: &[u16]) -> io::Result<Self> {
        let named = |kind: &str, port: u16| {
            let text = format!("{kind} port {port}");
            move |error: io::Error| io::Error::new(error.kind(), format!("{text}: {error}"))
        };
        let datagrams = udp.iter().map(|port| datagrams::open(*port).map_err(named("UDP", *port)));
        let listeners =
            tcp.iter().map(|port| listen::everywhere(*port).map_err(named("TCP", *port)));
        Ok(Self {
            datagrams: datagrams.collect::<io::Result<_>>()?,
            listeners: listeners.collect::<io::Result<_>>()?,
            namespace: Namespace::current()?,
        })
    }
}

/// A running name server; dropping it closes its sockets.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    _tasks: Tasks,
}

impl Dns {
    /// Name servers that answer from these zones.
    pub fn new(runtime: Handle, zones: Arc<Zones>) -> Self {
        let shared = Shared { zones: RwLock::new(zones), counters: Counters::default() };
        Self { runtime, shared: Arc::new(shared) }
    }

    /// Lets all servers answer from these zones from now on.
    pub fn publish(&self, zones: Arc<Zones>) {
        *self.shared.zones.write().unwrap_or_else(PoisonError::into_inner) = zones;
    }

    /// What was asked so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Starts answering on these sockets; ends when the [`Server`] is dropped.
    ///
    /// # Errors
    ///
    /// A socket cannot be registered with the runtime.
    pub fn serve(&self, sockets: Sockets) -> io::Result<Server> {
        let Sockets { datagrams, listeners, namespace } = sockets;
        let host = Arc::new(Host {
            shared: Arc::clone(&self.shared),
            namespace,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        });
        let _guard = self.runtime.enter();
        let mut tasks = Tasks::default();
        for socket in datagrams {
            let socket = Arc::new(UdpSocket::from_std(socket)?);
            let task = self.runtime.spawn(answer_datagrams(socket, Arc::clone(&host)));
            tasks.push(task.abort_handle());
        }
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            let task = self.runtime.spawn(accept(listener, Arc::clone(&host)));
            tasks.push(task.abort_handle());
        }
        Ok(Server { _tasks: tasks })
    }
}

/// What the tasks of one server share.
#[derive(Debug)]
struct Host {
    shared: Arc<Shared>,
    namespace: Namespace,
    connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Host {
    fn zones(&self) -> Arc<Zones> {
        Arc::clone(&self.shared.zones.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts an answer, and logs it where that is wanted.
    fn told(&self, reply: &Reply, transport: Transport, client: std::net::SocketAddr) {
        self.shared.counters.count(transport, reply.code);
        if self.zones().settings().log {
            let Reply { code, octets, .. } = reply;
            let by = if transport == Transport::Udp { "udp" } else { "tcp" };
            tracing::info!(
                "dns: {client} {by} {}: {} in {} octets",
                reply.question(),
                code.name(),
                octets.len()
            );
        }
    }

    /// Asks somebody outside for the rest of an answer.
    async fn complete(&self, unknown: Unknown) -> Option<Reply> {
        self.shared.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        let servers = self.zones().settings().upstream.clone();
        let said = upstream::ask(&self.namespace, &servers, &unknown).await;
        match unknown.complete(said.as_deref()) {
            Outcome::Answered(reply) => Some(*reply),
            Outcome::Unknown(_) | Outcome::Ignored => None,
        }
    }
}

async fn answer_datagrams(socket: Arc<UdpSocket>, host: Arc<Host>) {
    let answering = Arc::clone(&socket);
    datagrams::answer_all(&socket, |request, sender| {
        match message::answer(&host.zones(), request, Transport::Udp) {
            Outcome::Ignored => None,
            Outcome::Answered(reply) => {
                host.told(&reply, Transport::Udp, sender.address);
                Some(reply.octets)
            }
            Outcome::Unknown(unknown) => {
                answer_later(*unknown, sender.clone(), Arc::clone(&answering), &host);
                None
            }
        }
    })
    .await;
}

fn answer_later(unknown: Unknown, sender: Sender, socket: Arc<UdpSocket>, host: &Arc<Host>) {
    let Ok(permit) = Arc::clone(&host.waiting).try_acquire_owned() else { return };
    let host = Arc::clone(host);
    // it ends by itself, soon after its server at the latest
    tokio::spawn(async move {
        if let Some(reply) = host.complete(unknown).await {
            host.told(&reply, Transport::Udp, sender.address);
            sender.answer(&socket, &reply.octets);
        }
        drop(permit);
    });
}

async fn accept(listener: TcpListener, host: Arc<Host>) {
    listen::accept(listener, |stream| {
        let permit = Arc::clone(&host.connections).try_acquire_owned().ok()?;
        let host = Arc::clone(&host);
        Some(async move {
            // whatever ends a connection concerns its client alone
            let _ = converse(stream, &host).await;
            drop(permit);
        })
    })
    .await;
}

/// Answers the requests of a connection, one after another.
///
/// Source: RFC 1035 §4.2.2; RFC 7766.
async fn converse(mut stream: TcpStream, host: &Host) -> io::Result<()> {
    let client = datagrams::canonical(stream.peer_addr()?);
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    loop {
        let length = timeout(SILENCE, stream.read_u16()).await??;
        request.resize(usize::from(length), 0);
        timeout(SILENCE, stream.read_exact(&mut request)).await??;
        let reply = match message::answer(&host.zones(), &request, Transport::Tcp) {
            Outcome::Ignored => None,
            Outcome::Answered(reply) => Some(*reply),
            Outcome::Unknown(unknown) => host.complete(*unknown).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        host.told(&reply, Transport::Tcp, client);
        let length = u16::try_from(reply.octets.len()).map_err(io::Error::other)?;
        let mut octets = length.to_be_bytes().to_vec();
        octets.extend(&reply.octets);
        timeout(SILENCE, stream.write_all(&octets)).await??;
    }
}
