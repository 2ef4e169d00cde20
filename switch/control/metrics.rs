//! The counters, for Prometheus: `http://127.0.0.1:9464/metrics`.

mod text;
pub mod token;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::sleep;
use tracing::info;

use super::monitor::RefusedBy;
use super::request::{Record, TollRecord};
use crate::agents::http::{self, Answer};
use crate::trace::Query;
use token::Token;

/// Where the counters are unless the lab says otherwise.
pub const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_464);

/// Ports after the default one that are tried while it is taken, as by another lab.
const OTHER_PORTS: u16 = 99;

/// Connections served at a time; the newest beyond are closed.
const MAX_CONNECTIONS: usize = 32;

/// How long to leave the listener alone when accepting fails, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Media type of the text format.
///
/// Source: Prometheus, exposition formats, "Text-based format", version 0.0.4.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The live page: the lab as a map, drawn from `/lab.json`.
const PAGE: &str = include_str!("metrics/page.html");

const PAGE_TYPE: &str = "text/html; charset=utf-8";

/// Every counter at one moment. Counters only rise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Generation of the published snapshot.
    pub generation: u64,
    /// The ports, each once.
    pub ports: Vec<PortReading>,
    /// Frames that went no further, by reason; every reason, each once.
    pub drops: Vec<(&'static str, u64)>,
    /// The workers, by index.
    pub workers: Vec<WorkerReading>,
    /// The table of flows.
    pub conntrack: ConntrackReading,
    /// The name servers.
    pub dns: DnsReading,
    /// How often each policy refused, or would have.
    pub refused: Vec<(RefusedBy, u64)>,
    /// Nodes of network load balancers, and how often their health has changed.
    pub balancers: BalancerReading,
    /// Events of which nobody could be told.
    pub events_lost: u64,
    /// Machines that had lost their interface or namespace and were made again.
    pub machines_renewed: u64,
    /// Machines outside that were asked for.
    pub neighbours: u64,
    /// Addresses that more than one machine claims.
    pub duplicate_addresses: u64,
    /// Connections that have ended, by cause.
    pub deaths: Vec<(&'static str, u64)>,
    /// Faulty links.
    pub links: Vec<LinkReading>,
}

/// How the nodes of network load balancers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerReading {
    /// The Service, the node, and whether it is healthy for it.
    pub nodes: Vec<(String, String, bool)>,
    /// How often a node was found healthy that was not, or the other way round.
    pub health_changes: u64,
}

/// What the name servers were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsReading {
    /// Answers by transport and code, each pair once.
    pub answers: Vec<(&'static str, &'static str, u64)>,
    /// Questions that were passed on to somebody outside.
    pub forwarded: u64,
}

/// What one port carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortReading {
    /// What it is called: `default/client`, `node/node-a`, `ext/internet`.
    pub name: String,
    /// What is behind it: `pod`, `node`, `external`.
    pub kind: &'static str,
    /// Frames from the machine behind it.
    pub received_frames: u64,
    /// Octets of those frames.
    pub received_octets: u64,
    /// Frames to the machine behind it.
    pub sent_frames: u64,
    /// Octets of those frames.
    pub sent_octets: u64,
    /// Frames not sent because the machine's queue was full.
    pub send_busy: u64,
}

/// What one worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerReading {
    /// The core it is pinned to.
    pub core: usize,
    /// Turns of its loop that found frames.
    pub busy_turns: u64,
    /// Turns that found none.
    pub idle_turns: u64,
    /// Times it slept until a port was ready.
    pub sleeps: u64,
    /// Frames it received.
    pub frames: u64,
    /// What its sampled bursts took.
    pub stages: StagesReading,
}

/// What the sampled bursts of a worker took, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StagesReading {
    /// Frames received in them.
    pub frames: u64,
    /// Receiving those.
    pub receive: u64,
    /// Parsing, judging and rewriting them.
    pub pipeline: u64,
    /// Frames sent in them.
    pub sent_frames: u64,
    /// Sending those.
    pub send: u64,
}

/// What befell frames on one direction of a faulty link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkReading {
    /// Whose.
    pub name: String,
    /// `from` it or `to` it.
    pub direction: &'static str,
    /// What befell how many.
    pub toll: TollRecord,
}

/// How full conntrack is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConntrackReading {
    /// Flows in it.
    pub entries: u64,
    /// Flows it has room for.
    pub capacity: u64,
}

impl Record for Reading {
    const KIND: &'static str = "Counters";
}

/// Where readings come from.
///
/// **Sharing**: read by several scrapers at a time, on threads that may block.
pub trait Source: Send + Sync {
    /// The counters now.
    fn read(&self) -> Reading;

    /// The lab as the live page draws it.
    fn lab(&self) -> Value {
        Value::Null
    }

    /// What would become of a packet: a trace, or `error`.
    fn trace(&self, _query: Query) -> Value {
        Value::Null
    }
}

/// Opens the address, in the namespace of the calling thread.
///
/// With `None`, [`DEFAULT_ADDRESS`] or, while that is taken, the next free port after it.
///
/// # Errors
///
/// The address is taken, or not of this machine; the message names it.
pub fn bind(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    let first = address.unwrap_or(DEFAULT_ADDRESS);
    let others = if address.is_some() { 0 } else { OTHER_PORTS };
    let last = first.port().saturating_add(others);
    for port in first.port()..=last {
        match TcpListener::bind(SocketAddr::new(first.ip(), port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && port < last => {}
            Err(error) => {
                let message = format!("metrics at {}: {error}", SocketAddr::new(first.ip(), port));
                return Err(io::Error::new(error.kind(), message));
            }
            Ok(listener) => {
                let bound = listener.local_addr()?;
                if others > 0 && port != first.port() {
                    info!("{first} is taken: metrics are at http://{bound}/metrics");
                }
                return Ok(listener);
            }
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// A running server of counters; dropping it closes its listener and connections.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves readings from this source, to those who know the token if there is one.
///
/// # Errors
///
/// The listener cannot be registered with the runtime.
pub fn serve(
    listener: TcpListener,
    source: Arc<dyn Source>,
    token: Option<Token>,
    runtime: &Handle,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let _guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let task = runtime.spawn(accept(listener, source, token)).abort_handle();
    Ok(Server { address, task })
}

async fn accept(listener: tokio::net::TcpListener, source: Arc<dyn Source>, token: Option<Token>) {
    let token = token.map(Arc::new);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    let (source, token) = (Arc::clone(&source), token.clone());
                    connections.spawn(async move {
                        http::serve(stream, |request| {
                            let (source, token) = (Arc::clone(&source), token.clone());
                            async move { admit(&request, source, token.as_deref()).await }
                        })
                        .await
                    });
                }
                Ok(_) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Something that the source says, in JSON.
async fn say(say: impl FnOnce() -> Value + Send + 'static) -> Answer {
    match spawn_blocking(say).await {
        Ok(value) => http::json(StatusCode::OK, &value),
        Err(error) => http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// The packet that is asked about after `?`.
fn query(uri: &Uri) -> Query {
    let mut query = Query::default();
    for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*key {
            "from" => query.from = value.into_owned(),
            "to" => query.to = value.into_owned(),
            "protocol" => query.protocol = Some(value.into_owned()),
            _ => {}
        }
    }
    query
}

/// Answers those who may ask.
async fn admit<B>(
    request: &hyper::Request<B>,
    source: Arc<dyn Source>,
    token: Option<&Token>,
) -> Answer {
    let (method, uri) = (request.method(), request.uri());
    match token {
        None => answer(method, uri, source).await,
        Some(token) if !token.is_known(uri, request.headers()) => token::refusal(),
        Some(token) if token.is_in(uri) => token.keep(answer(method, uri, source).await),
        Some(_) => answer(method, uri, source).await,
    }
}

async fn answer(method: &Method, uri: &Uri, source: Arc<dyn Source>) -> Answer {
    match (method, uri.path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            // On a thread of its own, as the echo servers run on those that serve this.
            match spawn_blocking(move || text::write(&source.read())).await {
                Ok(text) => http::typed(StatusCode::OK, MEDIA_TYPE, text),
                Err(error) => {
                    http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("no reading: {error}\n"))
                }
            }
        }
        (&Method::GET | &Method::HEAD, "/") => http::typed(StatusCode::OK, PAGE_TYPE, PAGE),
        (&Method::GET, "/lab.json") => say(move || source.lab()).await,
        (&Method::GET, "/trace") => {
            let query = query(uri);
            say(move || source.trace(query)).await
        }
        (_, "/" | "/metrics" | "/lab.json" | "/trace") => {
            http::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        }
        _ => http::text(StatusCode::NOT_FOUND, "only / and /metrics are here\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    struct Fixed;

    impl Source for Fixed {
        fn read(&self) -> Reading {
            Reading { drops: vec![("no_endpoint", 7)], ..Reading::default() }
        }
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_scrape_is_answered_and_the_end_closes() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let server = serve(listener, Arc::new(Fixed), None, runtime.handle()).unwrap();
        let address = server.address();
        let answer = get(address, "/metrics");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nkswitch_drops_total{reason=\"no_endpoint\"} 7\n"), "{answer}");
        assert!(get(address, "/other").starts_with("HTTP/1.1 404"));
        drop(server);
        drop(runtime);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn whoever_does_not_know_the_token_is_told_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "0123456789abcdef").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let token = Some(Token::read(&path).unwrap());
        let server = serve(listener, Arc::new(Fixed), token, runtime.handle()).unwrap();
        for path in ["/", "/metrics", "/lab.json", "/trace", "/nothing"] {
            let answer = get(server.address(), path);
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
            assert!(!answer.contains("kswitch_"), "{answer}");
        }
        let answer = get(server.address(), "/metrics?token=0123456789abcdef");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains("set-cookie: kswitch-token=0123456789abcdef; HttpOnly"),
            "{answer}"
        );
    }

    #[test]
    fn only_an_address_nobody_asked_for_gives_way() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(Some(address)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");

        let first = bind(None).unwrap();
        let second = bind(None).unwrap();
        assert!(second.local_addr().unwrap().port() > first.local_addr().unwrap().port());
    }
}
