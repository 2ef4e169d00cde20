//! Connections on real TAPs.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use kswitch_config::PortKind;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::caller::Caller;
use super::super::converse::converse;
use super::super::format::Transport;
use super::super::hosts::{self, endpoint};
use super::super::stage::{Arrival, Attempt, Bench, Call, Fetched, Outcome, Stage, more_drops};
use super::super::topology::{Broken, Lab, Machine};
use super::super::wire::Wire;
use super::connection::{self, Attempted, Connection, Unconnected};
use super::fetch::fetch;
use super::frames::{Frames, Hosts};
use super::silence;
use super::site::Site;
use crate::dataplane::Kind;
use crate::dataplane::frame::{TCP_ACK, TCP_SYN};
use crate::sim::read::Received;

/// Tries where chance has a part.
const TRIES: u32 = 60;

/// Where callers take the ports of SCTP from.
const FIRST_PORT: u16 = 32_768;

/// A lab in which connections are opened by real sockets.
#[derive(Debug)]
pub struct Sockets {
    /// By name, what was called and the connection.
    open: BTreeMap<String, (Call, Held)>,
    /// Machines in memory, which speak SCTP where the kernel does not.
    by_hand: hosts::Hosts,
    /// Raw sockets that keep kernels from refusing SCTP, by namespace.
    hushed: BTreeMap<String, Vec<Socket>>,
    next_port: u16,
    frames: Frames,
}

/// A connection that stays open.
#[derive(Debug)]
enum Held {
    Socket(Connection),
    ByHand(PortKind, Box<Caller>),
}

impl Sockets {
    /// Sockets of a lab just made.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(site: Site, lab: &Lab) -> Result<Self, Broken> {
        let frames = Frames::new(site, Hosts::Answer)?;
        let mut by_hand = hosts::Hosts::default();
        by_hand.keep(lab, &[]);
        let (open, hushed) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { open, by_hand, hushed, next_port: FIRST_PORT, frames })
    }

    /// The lab itself.
    pub const fn site(&self) -> &Site {
        &self.frames.site
    }

    /// The lab itself, to have more servers in it.
    pub const fn site_mut(&mut self) -> &mut Site {
        &mut self.frames.site
    }

    /// Tries connections side by side; whoever is outside listens wherever it is called.
    fn try_all(&mut self, calls: &[Call]) -> Vec<(Attempt, Option<Connection>)> {
        for call in calls {
            self.listen_outside(call);
        }
        let site = self.site();
        let drops = site.drops();
        let dropped = silence::dropped(site);
        let opened: Vec<_> = calls.iter().map(|call| open(site, call)).collect();
        let waiting =
            AtomicU64::new(calls.iter().map(|call| silence::frames(call.transport)).sum());
        let call = async |opened: io::Result<Unconnected>, transport| {
            let attempted = match opened {
                Ok(unconnected) => unconnected.call().await,
                Err(error) => Err(error),
            };
            waiting.fetch_sub(silence::frames(transport), Ordering::Relaxed);
            attempted
        };
        let attempted = site.block_on(async {
            let over = tokio::sync::Notify::new();
            let calls = opened.into_iter().zip(calls).map(async |(opened, call_of)| {
                tokio::select! {
                    attempted = call(opened, call_of.transport) => attempted,
                    () = over.notified() => Ok((Outcome::Silent, None)),
                }
            });
            let watch = async {
                silence::falls(site, &waiting, dropped).await;
                over.notify_waiters();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                attempted = join_all(calls) => attempted,
                () = watch => Vec::new(),
            }
        });
        let drops = more_drops(&drops, &site.drops());
        attempted.into_iter().map(|attempted| told(attempted, &drops)).collect()
    }

    /// Tries one connection and looks where its packets come to.
    fn try_one(&mut self, call: &Call) -> (Attempt, Option<Connection>) {
        // what came before is not of this connection
        self.frames.take();
        let mut tried = self.try_all(std::slice::from_ref(call));
        let Some((mut attempt, connection)) = tried.pop() else {
            return (Attempt::of(Outcome::Silent), None);
        };
        if !matches!(attempt.outcome, Outcome::Served(_)) {
            attempt.arrivals = self.arrivals(call);
        }
        (attempt, connection)
    }

    /// The packets that began a connection and came to a machine.
    fn arrivals(&mut self, call: &Call) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (at, received) in self.frames.packets() {
            let flow = received.packet.flow;
            let (source, target) = received.ends();
            let (source, target) = (hosts::socket(source), hosts::socket(target));
            let begins = flow.protocol == call.transport.protocol() && begins(&received);
            let is_answer = at == call.from.kind && source == call.to;
            let arrival = Arrival { machine: at.to_string(), source, target };
            if begins && !is_answer && !arrivals.contains(&arrival) {
                arrivals.push(arrival);
            }
        }
        arrivals
    }

    /// Hosts outside listen everywhere: at least where they are called.
    fn listen_outside(&mut self, call: &Call) {
        let site = self.site_mut();
        let owner = site.owner(call.to.ip()).map(|port| port.kind.clone());
        if let Some(owner @ PortKind::External { .. }) = owner
            && call.transport != Transport::Sctp
            && let Err(error) = site.serve(&owner, call.transport, call.to.port())
        {
            tracing::warn!("{owner} cannot listen at {}: {error}", call.to);
        }
    }

    /// Whether SCTP has to be spoken by hand.
    fn is_by_hand(call: &Call) -> bool {
        call.transport == Transport::Sctp
            && Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP)).is_err()
    }

    /// Tries a connection by frames that are made by hand.
    fn by_hand(&mut self, call: &Call) -> (Attempt, Box<Caller>) {
        let port = call.source_port.unwrap_or(self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        let source = match call.from.address {
            own if own.is_loopback() => {
                let mut own = self.site().addresses_of(&call.from.kind).into_iter();
                own.find(|ip| ip.is_ipv4() == call.to.is_ipv4()).unwrap_or(call.from.address)
            }
            own => own,
        };
        let local = endpoint(source, port);
        let remote = endpoint(call.to.ip(), call.to.port());
        let (mut caller, first) = Caller::open(local, remote, call.transport);
        let attempt = match self.hush() {
            Ok(()) => {
                let kind = &call.from.kind;
                converse(&mut self.frames, &mut self.by_hand, kind, &mut caller, first)
            }
            Err(error) => failed(&error),
        };
        (attempt, Box::new(caller))
    }

    /// Keeps kernels from refusing a protocol that they do not have.
    fn hush(&mut self) -> io::Result<()> {
        let ports: Vec<_> = self.site().ports().cloned().collect();
        for port in ports {
            if self.hushed.contains_key(&port.namespace) {
                continue;
            }
            let raw = |domain| Socket::new(domain, Type::RAW, Some(Protocol::SCTP));
            let open = || [Domain::IPV4, Domain::IPV6].into_iter().map(raw).collect();
            let sockets = self.site().inside(&port.kind, open)?;
            self.hushed.insert(port.namespace, sockets);
        }
        Ok(())
    }
}

/// Opens the socket of a call where it comes from.
fn open(site: &Site, call: &Call) -> io::Result<Unconnected> {
    let Call { from, source_port, to, transport } = call;
    let port = source_port.unwrap_or(0);
    // who uses the loopback address has another one towards the outside
    let is_at_home = !from.address.is_loopback() || to.ip().is_loopback();
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let address = if is_at_home { from.address } else { any };
    let local = SocketAddr::new(address, port);
    site.inside(&from.kind, || connection::open(Some(local), *to, *transport))
}

/// Whether two calls are of the same ports of the same machines.
fn has_same_ends(a: &Call, b: &Call) -> bool {
    a.source_port.is_some()
        && (a.source_port, &a.from, a.to, a.transport)
            == (b.source_port, &b.from, b.to, b.transport)
}

/// Whether a packet is one that begins something: an answer or the end of it is not.
fn begins(received: &Received) -> bool {
    match received.packet.kind {
        Kind::Tcp(flags) => flags & (TCP_SYN | TCP_ACK) == TCP_SYN,
        _ => true,
    }
}

/// What came of a call, in the words of judges.
fn told(attempted: io::Result<Attempted>, drops: &[&'static str]) -> (Attempt, Option<Connection>) {
    match attempted {
        Ok((outcome, connection)) => {
            let attempt = Attempt { drops: drops.to_vec(), ..Attempt::of(outcome) };
            (attempt, connection)
        }
        Err(error) => (failed(&error), None),
    }
}

/// A call that this machine did not let be made.
fn failed(error: &io::Error) -> Attempt {
    let mut attempt = Attempt::of(Outcome::Silent);
    attempt.remarks.push(format!("the caller could not call: {error}"));
    attempt
}

impl Bench for Sockets {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        // a namespace does not go as long as a socket holds it, and the next one of its name is another
        self.hushed.clear();
        self.frames.change(lab)?;
        self.by_hand.keep(lab, &[]);
        Ok(())
    }

    fn enter_at(&mut self, node: &str) -> Result<(), Broken> {
        self.frames.enter_at(node)
    }

    fn pass(&mut self, seconds: u32) {
        self.frames.pass(seconds);
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.site().drops()
    }
}

impl Stage for Sockets {
    fn call(&mut self, call: &Call) -> Attempt {
        if Self::is_by_hand(call) { self.by_hand(call).0 } else { self.try_one(call).0 }
    }

    fn call_all(&mut self, calls: &[Call]) -> Vec<Attempt> {
        if calls.iter().any(Self::is_by_hand) {
            return calls.iter().map(|call| self.call(call)).collect();
        }
        self.try_all(calls).into_iter().map(|(attempt, _)| attempt).collect()
    }

    fn open(&mut self, name: &str, call: &Call) -> Attempt {
        // two of the same ends cannot be: the older one goes
        self.open.retain(|open, (held, _)| open != name && !has_same_ends(held, call));
        if Self::is_by_hand(call) {
            let (attempt, caller) = self.by_hand(call);
            let held = Held::ByHand(call.from.kind.clone(), caller);
            self.open.insert(name.to_owned(), (call.clone(), held));
            return attempt;
        }
        let (attempt, connection) = self.try_one(call);
        if let Some(connection) = connection {
            connection.end_at_once();
            self.open.insert(name.to_owned(), (call.clone(), Held::Socket(connection)));
        }
        attempt
    }

    fn exchange(&mut self, name: &str) -> Result<Attempt, Broken> {
        let held = self.open.remove(name);
        let (call, held) =
            held.ok_or_else(|| Broken(format!("no connection is open as {name}")))?;
        let (attempt, held) = match held {
            Held::ByHand(kind, mut caller) => {
                let question = caller.ask();
                let attempt =
                    converse(&mut self.frames, &mut self.by_hand, &kind, &mut caller, question);
                (attempt, Held::ByHand(kind, caller))
            }
            Held::Socket(mut connection) => {
                let site = self.site();
                let (drops, dropped) = (site.drops(), silence::dropped(site));
                let (begun, waiting) = (Instant::now(), AtomicU64::new(1));
                let outcome = site.block_on(async {
                    tokio::select! {
                        outcome = connection.ask() => outcome,
                        () = silence::falls(site, &waiting, dropped) => Ok(Outcome::Silent),
                    }
                });
                let outcome = outcome.or_else(|error| connection::outcome_of(error, begun));
                let attempted = outcome.map(|outcome| (outcome, None));
                let drops = more_drops(&drops, &site.drops());
                (told(attempted, &drops).0, Held::Socket(connection))
            }
        };
        self.open.insert(name.to_owned(), (call, held));
        Ok(attempt)
    }

    fn fetch(&mut self, from: &Machine, to: SocketAddr, path: &str) -> Fetched {
        let call = Call { from: from.clone(), source_port: None, to, transport: Transport::Tcp };
        let site = self.site();
        let (begun, waiting, dropped) = (Instant::now(), AtomicU64::new(1), silence::dropped(site));
        let fetched = site.block_on(async {
            let asking = async {
                let connection = open(site, &call)?.connect().await?;
                let stream = connection.into_stream();
                let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
                fetch(stream, &to.to_string(), path).await
            };
            tokio::select! {
                fetched = asking => fetched,
                () = silence::falls(site, &waiting, dropped) => {
                    Ok(Fetched::Nobody(Outcome::Silent))
                }
            }
        });
        fetched.unwrap_or_else(|error| {
            let text = error.to_string();
            let outcome = connection::outcome_of(error, begun);
            Fetched::Nobody(outcome.unwrap_or(Outcome::Refused(text)))
        })
    }

    fn tries(&self, _backends: usize) -> u32 {
        TRIES
    }

    fn addresses_of(&self, node: &str) -> Vec<IpAddr> {
        self.site().addresses_of(&PortKind::Node { name: node.to_owned() })
    }
}
