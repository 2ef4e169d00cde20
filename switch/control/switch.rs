//! The switch as the control side holds it: shared tables, workers, what was published to them.

use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kswitch_tables::affinity::Affinities;
use kswitch_tables::{Conntrack, Contests, Fdb, Generation, Neighbours, PortId, Snapshot};
use mio::Poll;

use super::cores;
use super::request::{Failure, Response};
use crate::dataplane::capture::Capture;
use crate::dataplane::clock::Ahead;
use crate::dataplane::keeper::Keeper;
use crate::dataplane::link::Links;
use crate::dataplane::mailbox::{Command, Mailbox, View};
use crate::dataplane::watch::Watch;
use crate::dataplane::worker::{Manner, WAKE, Worker};
use crate::dataplane::{Counters, Pipeline, Shared};
use crate::port::batch::Io;
use crate::port::{Queue, Sender, choice, pages};
use crate::rights;
use crate::threads;

/// Ports that a worker has counters for: as many as a [`PortId`] can number.
const PORTS_MAX: usize = 1 << 16;

/// Ethernet addresses and neighbours that are learned at most; what the lab made itself is known
/// without learning.
const LEARNED_MAX: usize = 8192;

/// Addresses claimed twice that are remembered at most.
const CONTESTS_MAX: usize = 256;

/// Clients that are remembered at most for session affinity.
pub const AFFINITIES_MAX: usize = 65_536;

/// The variable of the environment that allows clients to have the switch fail.
const FAULTS: &str = "KSWITCH_FAULTS";

/// Sizes, threads and seed of a switch.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pinned threads.
    pub workers: usize,
    /// How long a worker polls on after its last frame before it sleeps.
    pub spin: Duration,
    /// Whether datagrams of a flow are joined where they leave together.
    pub coalesces: bool,
    /// How workers read and write frames.
    pub io: Io,
    /// Connections of each family that are tracked at most.
    pub connections: usize,
    /// Seed of hashing and of random choices.
    pub seed: u64,
    /// Whether flows and machines are kept for the next run when this one is killed, and those of a
    /// killed one taken over.
    pub survives: bool,
}

/// What can go wrong in starting a switch.
#[derive(Debug)]
pub enum Error {
    /// The machine does not say which processors it has.
    NoCores,
    /// A worker could not be pinned to its processor.
    Pin {
        /// The processor.
        core: usize,
    },
    /// The system refused something that a worker needs.
    Worker(io::Error),
    /// There is no room for the tables.
    Tables {
        /// Connections of each family that they were to hold.
        connections: usize,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCores => f.write_str("cannot tell which processors there are"),
            Self::Pin { core } => write!(f, "cannot pin a worker to processor {core}"),
            Self::Worker(_) => f.write_str("cannot start a worker"),
            Self::Tables { connections, .. } => {
                write!(f, "cannot hold {connections} connections of each family")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Worker(source) | Self::Tables { source, .. } => Some(source),
            Self::NoCores | Self::Pin { .. } => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Worker(error)
    }
}

/// Leaves the calling worker what receiving and sending takes.
fn confine() {
    // a kernel that has no such filters is the user's choice; frames are forwarded all the same
    if let Err(error) = rights::keep_none() {
        tracing::warn!("a worker keeps its capabilities: {error}");
    }
    if let Err(error) = rights::calls::keep_workers() {
        tracing::warn!("a worker keeps all system calls: {error}");
    }
}

/// The tables that all workers share, empty.
pub fn shared(connections: usize, seed: u64) -> Arc<Shared> {
    let conntrack = Conntrack::advised(connections, connections, seed, &pages::enlarge);
    shared_of(conntrack, Affinities::new(AFFINITIES_MAX, seed), seed)
}

/// The tables that all workers share, of which two may have something in them.
pub fn shared_of(conntrack: Conntrack, affinity: Affinities, seed: u64) -> Arc<Shared> {
    Arc::new(Shared {
        conntrack,
        fdb: Fdb::new(LEARNED_MAX, seed),
        neighbours: Neighbours::new(LEARNED_MAX, seed),
        contests: Contests::new(CONTESTS_MAX, seed),
        keeper: Keeper::default(),
        affinity,
        ahead: Ahead::default(),
    })
}

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    /// Tables that all workers share.
    pub shared: Arc<Shared>,
    /// When the clock of ticks started.
    pub start: Instant,
    /// How workers read and write frames.
    pub io: Io,
    /// What workers tell of flows.
    pub watches: Vec<Arc<Watch>>,
    /// What workers copy of frames.
    pub captures: Vec<Arc<Capture>>,
    workers: Vec<Running>,
    senders: Vec<Option<Sender>>,
    /// Queues of ports that workers receive from once they can send on them, with their number.
    coming: Vec<(usize, (PortId, Queue))>,
    links: Option<Arc<Links>>,
    has_ferries: bool,
    /// Views that a worker may still hold, newest last. Freed here, never by a worker.
    views: Vec<Arc<View>>,
}

#[derive(Debug)]
struct Running {
    core: usize,
    counters: Arc<Counters>,
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<io::Result<()>>,
}

impl Switch {
    /// Starts the workers, each pinned to a processor, judging by `snapshot` over tables whose ticks
    /// count from `start`; no port yet.
    ///
    /// # Errors
    /// [`Error`], as it says. Workers already started are stopped.
    pub fn start(
        options: &Options,
        snapshot: Snapshot,
        (shared, start): (Arc<Shared>, Instant),
    ) -> Result<Self, Error> {
        let cores = cores::all();
        if cores.is_empty() {
            return Err(Error::NoCores);
        }
        let view =
            Arc::new(View { snapshot: Arc::new(snapshot), senders: Vec::new(), links: None });
        let mut switch = Self {
            shared,
            start,
            io: choice::settle(options.io),
            watches: Vec::new(),
            captures: Vec::new(),
            workers: Vec::new(),
            senders: Vec::new(),
            coming: Vec::new(),
            links: None,
            has_ferries: false,
            views: vec![Arc::clone(&view)],
        };
        for (number, core) in cores.iter().cycle().take(options.workers).enumerate() {
            match switch.spawn(options, number, *core, &view) {
                Ok((running, watch, capture)) => {
                    switch.workers.push(running);
                    switch.watches.push(watch);
                    switch.captures.push(capture);
                }
                Err(error) => {
                    switch.stop();
                    return Err(error);
                }
            }
        }
        Ok(switch)
    }

    fn spawn(
        &self,
        options: &Options,
        number: usize,
        core: core_affinity::CoreId,
        view: &Arc<View>,
    ) -> Result<(Running, Arc<Watch>, Arc<Capture>), Error> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Some(mio::Waker::new(poll.registry(), WAKE)?)));
        let counters = Arc::new(Counters::new(PORTS_MAX));
        let seed = options.seed.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let pipeline = Pipeline::new(Arc::clone(&self.shared), Arc::clone(&counters), seed);
        let mut worker = Worker::new(pipeline, Arc::clone(view), Arc::clone(&mailbox));
        let (watch, capture) = (Arc::<Watch>::default(), Arc::<Capture>::default());
        worker.show(Arc::clone(&watch), Arc::clone(&capture), self.start);
        let Options { spin, coalesces, .. } = *options;
        let manner = Manner { number, spin, io: self.io, coalesces };
        let (pinned, is_pinned) = mpsc::channel();
        let thread = threads::start(&format!("worker-{number}"), move || {
            let done = core_affinity::set_for_current(core);
            // the starter waits for this word; without it there is nobody to run for
            if pinned.send(done).is_err() || !done {
                return Ok(());
            }
            confine();
            worker.run(poll, &manner)
        })?;
        if is_pinned.recv() != Ok(true) {
            return Err(Error::Pin { core: core.id });
        }
        Ok((Running { core: core.id, counters, mailbox, thread }, watch, capture))
    }

    /// Attaches a port from the next publication on: its queues are spread over the workers, and all of
    /// them may send on it.
    pub fn attach(&mut self, id: PortId, queues: Vec<Queue>, sender: Sender) {
        let at = usize::from(id.0);
        if self.senders.len() <= at {
            self.senders.resize(at + 1, None);
        }
        if let Some(room) = self.senders.get_mut(at) {
            *room = Some(sender);
        }
        // Not before the view that sends on the port: a machine's first question would be read, and its
        // answer have no way back; most ask again only after a second.
        self.coming.extend(queues.into_iter().map(|queue| (id, queue)).enumerate());
    }

    /// Detaches a port: no worker receives from it any more, and after the next publication none
    /// sends on it.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub fn detach(&mut self, id: PortId) -> io::Result<()> {
        if let Some(room) = self.senders.get_mut(usize::from(id.0)) {
            *room = None;
        }
        self.coming.retain(|(_, (port, _))| *port != id);
        self.shared.fdb.flush_port(id);
        self.shared.neighbours.flush_port(id);
        self.workers.iter().try_for_each(|worker| worker.mailbox.command(Command::Detach(id)))
    }

    /// Says what is wrong with links from the next publication on; `None`: nothing.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub fn fault(&mut self, links: Option<Links>) -> io::Result<()> {
        self.links = links.map(Arc::new);
        if self.links.is_some() && !self.has_ferries {
            self.has_ferries = true;
            for worker in &self.workers {
                worker.mailbox.command(Command::Board(Box::default()))?;
            }
        }
        Ok(())
    }

    /// Sends a frame of the switch's own, virtio header first, if the port is there.
    pub fn send(&self, port: PortId, frame: &[u8]) {
        if let Some(Some(sender)) = self.senders.get(usize::from(port.0)) {
            // what is lost is asked or said again
            let _ = sender.send_by(0, frame);
        }
    }

    /// Publishes a snapshot with the ports attached now, and frees what no worker holds.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) -> io::Result<()> {
        let (senders, links) = (self.senders.clone(), self.links.clone());
        let view = Arc::new(View { snapshot, senders, links });
        self.views.push(Arc::clone(&view));
        for worker in &self.workers {
            worker.mailbox.publish(Arc::clone(&view))?;
        }
        for (number, (id, queue)) in std::mem::take(&mut self.coming) {
            let worker = (usize::from(id.0) + number) % self.workers.len().max(1);
            if let Some(worker) = self.workers.get(worker) {
                worker.mailbox.command(Command::Attach(id, queue))?;
            }
        }
        drop(view);
        self.free();
        Ok(())
    }

    /// Frees the views that no worker holds; the newest stays.
    pub fn free(&mut self) {
        let newest = self.views.len().saturating_sub(1);
        let mut at = 0;
        self.views.retain(|view| {
            at += 1;
            at > newest || Arc::strong_count(view) > 1
        });
    }

    /// The snapshot published last.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.views.last().map(|view| Arc::clone(&view.snapshot))
    }

    /// Waits until every worker judges by `generation` or a later one; `false` after `patience`.
    pub fn settled(&self, generation: Generation, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            if self.workers.iter().all(|worker| worker.mailbox.generation() >= generation) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until every worker has carried what it had received before; `false` after `patience`.
    ///
    /// Mail is taken between two turns, of which one may have begun before it was put: so twice.
    ///
    /// # Errors
    /// If a worker cannot be woken.
    pub fn caught_up(&self, patience: Duration) -> io::Result<bool> {
        let Some(view) = self.views.last() else { return Ok(true) };
        let end = Instant::now() + patience;
        for _ in 0..2 {
            for worker in &self.workers {
                worker.mailbox.publish(Arc::clone(view))?;
            }
            while !self.workers.iter().all(|worker| worker.mailbox.is_taken()) {
                if Instant::now() >= end {
                    return Ok(false);
                }
                thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(true)
    }

    /// Each worker's processor and counters.
    pub fn workers(&self) -> impl Iterator<Item = (usize, &Counters)> {
        self.workers.iter().map(|worker| (worker.core, &*worker.counters))
    }

    /// How often a queue of a port was found to have no device any more.
    pub fn times_gone(&self, id: PortId) -> u64 {
        self.workers().filter_map(|(_, counters)| Some(counters.port(id)?.gone.get())).sum()
    }

    /// Whether every worker still runs.
    pub fn is_alive(&self) -> bool {
        self.workers.iter().all(|worker| !worker.thread.is_finished())
    }

    /// Has a worker panic, where the environment of this process allows such things.
    pub fn fail(&self, worker: usize) -> Response {
        if std::env::var_os(FAULTS).is_none() {
            let message = format!("only a switch that was started with {FAULTS}=1 fails on demand");
            return Response::failed(Failure::Unsupported, message);
        }
        match self.workers.get(worker).map(|worker| worker.mailbox.command(Command::Panic)) {
            Some(Ok(())) => Response::Done { lines: vec![format!("worker {worker} will panic")] },
            Some(Err(error)) => Response::failed(Failure::Internal, error.to_string()),
            None => Response::failed(Failure::NotFound, format!("no worker {worker}")),
        }
    }

    /// Ends the workers.
    pub fn stop(&mut self) {
        for worker in &self.workers {
            // a worker that cannot be woken is spinning, and sees the word all the same
            let _ = worker.mailbox.stop();
        }
        for worker in self.workers.drain(..) {
            match worker.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("a worker failed: {error}"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop();
    }
}
