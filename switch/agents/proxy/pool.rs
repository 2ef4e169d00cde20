//! Connections to backends, used again while both sides keep them open.

mod line;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kswitch_config::routing::{BackendProtocol, BackendTls};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::CONNECT;
use super::table::Table;
use super::{Error, Shared, tls};

pub use line::Answer;
use line::Line;

/// A body on its way.
pub type Body = BoxBody<Bytes, Error>;

/// Connections to one place that are kept without being used.
const IDLE_MAX: usize = 256;

/// How long one is kept.
const IDLE: Duration = Duration::from_mins(1);

/// Octets on their way in one request, and in all of a connection, under HTTP/2.
const WINDOW: u32 = 1 << 20;

/// From which address, to which place, and what is spoken: without TLS, in TLS with anybody, or as a
/// policy has it, by its number.
type Key = (IpAddr, SocketAddr, u64);

/// The TLS of a key.
const PLAIN: u64 = 0;
const ANYBODY: u64 = 1;

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct To {
    /// The address of the load balancer that sends it.
    pub from: IpAddr,
    /// The place.
    pub place: SocketAddr,
    /// What the certificate of the place has to be; `None`: anything.
    pub tls: Option<Arc<BackendTls>>,
    /// The certificate that the place is shown if it asks for one.
    pub identity: Option<Arc<CertifiedKey>>,
}

impl To {
    const fn key(&self, tls: u64) -> Key {
        (self.from, self.place, tls)
    }
}

/// A connection, and since when it has not been used.
type Waiting = (Line, Instant);

/// The TLS of a key, the certificate that is shown, and what is spoken in it.
type TlsKey = (u64, Option<usize>, &'static [u8]);

/// What is ready to speak TLS; the certificate is held, so that no other has its place in memory.
type Ready = (Option<Arc<CertifiedKey>>, Arc<ClientConfig>);

/// Connections to backends.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<Key, Vec<Waiting>>>,
    shared: Mutex<HashMap<Key, http2::SendRequest<Body>>>,
    /// What was made ready to speak TLS with places.
    tls: Mutex<HashMap<TlsKey, Ready>>,
    /// By place, what is dropped to end its connections.
    lives: Mutex<HashMap<SocketAddr, watch::Sender<()>>>,
}

/// Until when connections to a place may live.
pub type Life = watch::Receiver<()>;

/// Why there was no answer.
#[derive(Debug)]
pub enum Failure {
    /// The place could not be connected to; the request is as it was.
    Connect(Box<Request<Body>>, Error),
    /// The place broke off.
    Broken(Error),
}

impl Pool {
    /// How TLS is spoken with a place.
    fn tls(
        &self,
        tls: u64,
        policy: Option<&BackendTls>,
        identity: Option<&Arc<CertifiedKey>>,
        alpn: &'static [u8],
    ) -> Result<Arc<ClientConfig>, Error> {
        let key = (tls, identity.map(|own| Arc::as_ptr(own).addr()), alpn);
        let mut ready = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = ready.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = match policy {
            Some(policy) => tls::verifying(policy, identity, alpn)?,
            None => tls::client(identity, alpn),
        };
        ready.insert(key, (identity.cloned(), Arc::clone(&config)));
        Ok(config)
    }

    /// Forgets connections to places that no backend has any more, and what may have changed.
    pub(super) fn keep(&self, table: &Table) {
        let backends = table.routing.backends.values();
        let places: HashSet<SocketAddr> =
            backends.flat_map(|backend| &backend.places).map(|place| place.address).collect();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, place, _), _| places.contains(place));
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, place, _), _| places.contains(place));
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|place, life| places.contains(place) || life.receiver_count() > 0);
    }

    /// Until when connections to a place may live; its end is told as an error.
    pub fn life(&self, place: SocketAddr) -> Life {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.entry(place).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Ends the connections to a place, whatever they carry.
    pub(super) fn end(&self, place: SocketAddr) {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }

    fn take(&self, key: Key) -> Option<Line> {
        loop {
            let (mut line, since) = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.get_mut(&key)?.pop()?
            };
            if since.elapsed() > IDLE {
                // those below it have waited longer
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.remove(&key);
            } else if line.is_ready() {
                return Some(line);
            }
        }
    }

    fn put(&self, key: Key, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle.entry(key).or_default();
        if waiting.len() < IDLE_MAX {
            waiting.push((line, Instant::now()));
        }
    }
}

/// Sends a request to a place.
///
/// # Errors
/// [`Failure`].
pub async fn send(
    shared: &Arc<Shared>,
    to: To,
    protocol: BackendProtocol,
    request: Request<Body>,
) -> Result<Response<Answer>, Failure> {
    let tls = match (protocol, &to.tls) {
        (BackendProtocol::Http1 | BackendProtocol::H2c, _) => PLAIN,
        (BackendProtocol::Https | BackendProtocol::Http2, None) => ANYBODY,
        (BackendProtocol::Https | BackendProtocol::Http2, Some(tls)) => tls.id,
    };
    match protocol {
        BackendProtocol::Http1 | BackendProtocol::Https => one(shared, to, tls, request).await,
        BackendProtocol::H2c | BackendProtocol::Http2 => two(shared, to, tls, request).await,
    }
}

async fn one(
    shared: &Arc<Shared>,
    to: To,
    tls: u64,
    mut request: Request<Body>,
) -> Result<Response<Answer>, Failure> {
    let key = to.key(tls);
    while let Some(line) = shared.pool.take(key) {
        match line.send(shared, key, request).await {
            Ok(response) => return Ok(response),
            Err(mut error) => match error.take_message() {
                // it was closed while it waited: nothing was sent
                Some(unsent) => request = unsent,
                None => return Err(Failure::Broken(error.into_error().into())),
            },
        }
    }
    let connected = timeout(CONNECT, connect_one(shared, &to, tls)).await;
    let line = match connected.unwrap_or_else(|_| Err(late())) {
        Ok(line) => line,
        Err(error) => return Err(Failure::Connect(Box::new(request), error)),
    };
    line.send(shared, key, request).await.map_err(|mut error| match error.take_message() {
        Some(unsent) => Failure::Connect(Box::new(unsent), error.into_error().into()),
        None => Failure::Broken(error.into_error().into()),
    })
}

async fn two(
    shared: &Arc<Shared>,
    to: To,
    tls: u64,
    request: Request<Body>,
) -> Result<Response<Answer>, Failure> {
    let key = to.key(tls);
    let known = {
        let senders = shared.pool.shared.lock().unwrap_or_else(PoisonError::into_inner);
        senders.get(&key).filter(|sender| !sender.is_closed()).cloned()
    };
    let mut request = request;
    if let Some(mut sender) = known {
        match sender.try_send_request(request).await {
            Ok(response) => return Ok(response.map(Answer::Shared)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(Failure::Broken(error.into_error().into())),
            },
        }
    }
    let connected = timeout(CONNECT, connect_two(shared, &to, tls)).await;
    let mut sender = match connected.unwrap_or_else(|_| Err(late())) {
        Ok(sender) => sender,
        Err(error) => return Err(Failure::Connect(Box::new(request), error)),
    };
    shared.pool.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sender.clone());
    let sent = sender.try_send_request(request).await;
    sent.map(|response| response.map(Answer::Shared)).map_err(|mut error| {
        match error.take_message() {
            Some(unsent) => Failure::Connect(Box::new(unsent), error.into_error().into()),
            None => Failure::Broken(error.into_error().into()),
        }
    })
}

fn late() -> Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Anything that octets are sent over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

async fn open(
    shared: &Shared,
    to: &To,
    tls: u64,
    alpn: &'static [u8],
) -> Result<Box<dyn Stream>, Error> {
    let stream = shared.network.connect(to.from, to.place).await?;
    if tls == PLAIN {
        return Ok(Box::new(stream));
    }
    let name = match &to.tls {
        Some(policy) => ServerName::try_from(policy.hostname.clone())?,
        None => ServerName::IpAddress(to.place.ip().into()),
    };
    let config = shared.pool.tls(tls, to.tls.as_deref(), to.identity.as_ref(), alpn)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// Connects to a place, in TLS if something is said of its certificate, to pass on whatever comes.
///
/// # Errors
/// It cannot be connected to, or is somebody else.
pub(super) async fn plain(
    shared: &Shared,
    to: &To,
) -> Result<impl AsyncRead + AsyncWrite + use<>, Error> {
    let tls = to.tls.as_ref().map_or(PLAIN, |tls| tls.id);
    open(shared, to, tls, b"").await
}

async fn connect_one(shared: &Shared, to: &To, tls: u64) -> Result<Line, Error> {
    let stream = open(shared, to, tls, b"http/1.1").await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut life = shared.pool.life(to.place);
    Ok(Line::new(sender, async move {
        tokio::select! {
            // ends when either side does
            _ = connection.with_upgrades() => {}
            _ = life.changed() => {}
        }
    }))
}

async fn connect_two(
    shared: &Shared,
    to: &To,
    tls: u64,
) -> Result<http2::SendRequest<Body>, Error> {
    let stream = open(shared, to, tls, b"h2").await?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut life = shared.pool.life(to.place);
    tokio::spawn(async move {
        tokio::select! {
            _ = connection => {}
            _ = life.changed() => {}
        }
    });
    Ok(sender)
}
