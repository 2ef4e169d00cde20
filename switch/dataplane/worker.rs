//! A worker: receive a burst, judge each frame, send.
//!
//! After start a worker neither allocates, locks, logs, nor sleeps except in poll. Every queue is
//! owned by one worker; any worker sends on any port.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kswitch_tables::{PortId, Tick};
use mio::{Events, Poll, Token};

use super::burst::{Arrival, BURST, Burst};
use super::capture::Capture;
use super::egress::{Egress, Outbox};
use super::link::line::Errand;
use super::mailbox::{Command, Mailbox, View};
use super::pipeline::Pipeline;
use super::stages::Stopwatch;
use super::warm::Warm;
use super::watch::Watch;
use super::{Counters, Frame};
use crate::port::batch::{Batch, Io};
use crate::port::{Queue, is_gone};

/// Token of the mailbox's waker; queues have the tokens below.
pub const WAKE: Token = Token(usize::MAX);

/// Turns between looks at which further queues have become ready, while some are.
const TURNS_BETWEEN_POLLS: u32 = 8;

/// How a worker runs.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Which of the workers it is.
    pub number: usize,
    /// How long it polls on after its last frame before it sleeps.
    pub spin: Duration,
    /// How it reads and writes frames.
    pub io: Io,
    /// Whether datagrams of a flow are joined where they leave together.
    pub coalesces: bool,
}

/// How often is looked at what epoll does not tell of: frames that wait for neighbours.
const LOOK: Duration = Duration::from_millis(100);

/// One queue and its port.
#[derive(Debug)]
struct Receiver {
    port: PortId,
    queue: Queue,
    /// Whether it is in the list of those to be looked at.
    is_listed: bool,
    /// How many frames to ask for at once: there may be twice as many as there were last time.
    appetite: usize,
}

/// Nanoseconds of a tick.
const TICK_NANOS: u64 = 1_000_000_000 / Tick::PER_SECOND as u64;

/// Frames that a queue is asked for at once when it had none lately: the first of them is on its way
/// before the queue is asked whether there are more.
const APPETITE_LEAST: usize = 1;

/// Frames up to which a request to io_uring costs more than the calls that it saves.
const FEW: usize = 4;

/// A worker, not yet running or run by hand.
pub struct Worker {
    pipeline: Pipeline,
    view: Arc<View>,
    mailbox: Arc<Mailbox>,
    receivers: Vec<Option<Receiver>>,
    /// Indices of receivers that may have frames.
    ready: VecDeque<usize>,
    /// Those that are read at each turn.
    warm: Warm,
    burst: Burst,
    /// The burst before, of which frames may wait to be sent.
    before: Burst,
    outbox: Outbox,
    stopwatch: Stopwatch,
    counters: Arc<Counters>,
    /// When the clock of ticks started.
    start: Instant,
    /// The moment, nanoseconds since then; kept while links are faulty.
    nanos: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("receivers", &self.receivers.len()).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that judges by `view` and takes what comes by `mailbox`.
    pub fn new(pipeline: Pipeline, view: Arc<View>, mailbox: Arc<Mailbox>) -> Self {
        mailbox.adopt(view.snapshot.generation);
        Self {
            counters: Arc::clone(&pipeline.counters),
            pipeline,
            view,
            mailbox,
            receivers: Vec::new(),
            ready: VecDeque::new(),
            warm: Warm::default(),
            burst: Burst::default(),
            before: Burst::default(),
            outbox: Outbox::new(0),
            stopwatch: Stopwatch::default(),
            start: Instant::now(),
            nanos: 0,
        }
    }

    /// Has new flows and refusals told, and frames copied, to those who look on; times of copies
    /// count from `start`.
    pub fn show(&mut self, watch: Arc<Watch>, capture: Arc<Capture>, start: Instant) {
        self.pipeline.watch = Some(watch);
        self.outbox.show(capture);
        self.start = start;
    }

    /// The pipeline, for tests that look at its tables and counters.
    pub const fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// If waiting fails, a queue cannot be waited for, or io_uring is refused that was insisted on.
    pub fn run(mut self, mut poll: Poll, manner: &Manner) -> io::Result<()> {
        let Manner { number, spin, io, coalesces } = *manner;
        let start = self.start;
        self.outbox.number(number);
        if coalesces {
            self.outbox.coalesce();
        }
        match io {
            Io::ReadWrite => {}
            Io::IoUring => self.outbox.adopt(Batch::new()?),
            Io::Auto => {
                if let Ok(batch) = Batch::new() {
                    self.outbox.adopt(batch);
                }
            }
        }
        let mut events = Events::with_capacity(256);
        let mut last_frame = start;
        let mut turns = 0;
        self.warm.begin(poll.registry().try_clone()?, !spin.is_zero());
        self.take_mail()?;
        while !self.mailbox.is_stopped() {
            let clock = Instant::now();
            let is_quiet = self.ready.is_empty() && self.warm.is_empty();
            if is_quiet || turns >= TURNS_BETWEEN_POLLS {
                turns = 0;
                let spinning = clock.duration_since(last_frame) < spin;
                let timeout = if !self.ready.is_empty() || spinning {
                    Some(Duration::ZERO)
                } else {
                    self.pipeline.counters.sleeps.add(1);
                    if self.warm.cool() { self.patience() } else { Some(LOOK) }
                };
                self.wait(&mut poll, &mut events, timeout)?;
            }
            turns += 1;
            if self.has_faulty_links() {
                self.nanos = nanos_since(start);
            }
            if self.turn(self.pipeline.shared.ahead.tick(start, clock)) > 0 {
                self.pipeline.counters.busy_turns.add(1);
                last_frame = clock;
            } else {
                self.pipeline.counters.idle_turns.add(1);
            }
        }
        Ok(())
    }

    /// Waits for queues to become ready or for mail.
    fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &*events {
            if event.token() == WAKE {
                self.take_mail()?;
            } else {
                self.list(event.token().0);
            }
        }
        Ok(())
    }

    fn list(&mut self, at: usize) {
        list(&mut self.receivers, &mut self.ready, at);
    }

    /// One burst from every queue on the list; answers the frames carried. A queue left before
    /// it was empty stays on the list, since readiness is told only once.
    pub fn turn(&mut self, now: Tick) -> usize {
        let mut carried = 0;
        self.outbox.date(self.nanos);
        for at in self.warm.turn() {
            list(&mut self.receivers, &mut self.ready, at);
        }
        for _ in 0..self.ready.len() {
            let Some(at) = self.ready.pop_front() else { break };
            let emptied = self.receive(at);
            carried += self.burst.len();
            if !self.burst.is_empty() {
                self.carry(at, now);
                let receiver = self.receivers.get(at).and_then(Option::as_ref);
                self.warm.heard(at, receiver.and_then(|receiver| receiver.queue.descriptor()));
            }
            if emptied {
                if let Some(Some(receiver)) = self.receivers.get_mut(at) {
                    receiver.is_listed = false;
                }
            } else {
                self.ready.push_back(at);
            }
        }
        self.outbox.flush(&self.view, &self.counters, &self.burst);
        if self.outbox.next_at().is_some_and(|at| at <= self.nanos) {
            carried += self.let_through(now);
        }
        if self.pipeline.has_pending() {
            self.carry_pending(now);
        }
        carried
    }

    /// Carries frames on whose neighbours are known now, and refuses those whose are not to be.
    #[cold]
    fn carry_pending(&mut self, now: Tick) {
        let start = self.start;
        self.outbox.look(|| nanos_since(start));
        let snapshot = &self.view.snapshot;
        while let Some(mut released) = self.pipeline.release(snapshot, now) {
            let port = released.ingress;
            let mut egress = Egress::new(&self.view, &self.counters, &mut self.outbox, port);
            let mut frame =
                Frame::new(released.buffer.get_mut(..released.length).unwrap_or(&mut []));
            if let Some(refusal) = released.refusal {
                self.pipeline.give_up(snapshot, now, port, (&frame, refusal), &mut egress);
            } else {
                let arrival = Arrival::of(&frame, &self.pipeline.shared.conntrack);
                self.pipeline.forward(snapshot, now, port, &mut frame, &arrival, &mut egress);
            }
            self.pipeline.take_back(released);
        }
    }

    /// For tests: takes the mail and carries frames until every queue is empty.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn drain(&mut self, now: Tick) -> io::Result<usize> {
        self.take_mail()?;
        let mut carried = 0;
        self.nanos = u64::from(now.0) * TICK_NANOS;
        loop {
            (0..self.receivers.len()).for_each(|at| self.list(at));
            match self.turn(now) {
                0 => return Ok(carried),
                more => carried += more,
            }
        }
    }

    /// Fills the burst from one queue; answers whether the queue is empty now. What the burst before
    /// left waiting is sent on the way.
    fn receive(&mut self, at: usize) -> bool {
        let Some(Some(receiver)) = self.receivers.get_mut(at) else {
            self.outbox.flush(&self.view, &self.counters, &self.burst);
            self.burst.clear();
            return true;
        };
        if self.outbox.has_batch() {
            // one's frames may wait while the other is filled; otherwise one is enough, and is in cache
            std::mem::swap(&mut self.burst, &mut self.before);
        }
        self.burst.clear();
        let stages = &self.counters.stages;
        if self.stopwatch.begin() {
            let sent = self.outbox.waiting() as u64;
            self.outbox.flush(&self.view, &self.counters, &self.before);
            if sent > 0 {
                stages.sent_frames.add(sent);
                stages.send_nanos.add(self.stopwatch.lap());
            }
        }
        // A frame or two alone are quicker read and written one by one: what a request costs beside
        // its call is saved only where many share the call.
        let is_many = self.outbox.has_batch() && receiver.appetite > FEW;
        self.outbox.gather(is_many);
        let descriptor = receiver.queue.batched().filter(|_| is_many);
        let mut gone = false;
        let emptied = if let Some(descriptor) = descriptor {
            let asked = receiver.appetite;
            let mut results = [0; BURST];
            let rooms = self.burst.rooms(asked).map(|room| (descriptor, room));
            let has_read =
                self.outbox.exchange(&self.view, &self.counters, &self.before, rooms, |read| {
                    results.iter_mut().zip(read).for_each(|(result, read)| *result = *read);
                });
            let results = results.iter().take(if has_read { asked } else { 0 });
            let refused = results.clone().find(|result| **result < 0);
            gone = refused.is_some_and(|code| is_gone(&io::Error::from_raw_os_error(-code)));
            self.burst.received(results.map(|result| usize::try_from(*result).ok()));
            has_read && self.burst.len() < asked
        } else {
            self.outbox.flush(&self.view, &self.counters, &self.before);
            let mut emptied = false;
            self.burst.fill(receiver.appetite, |room| {
                let received = receiver.queue.receive(room);
                emptied |= received.is_err();
                received.inspect_err(|error| gone |= is_gone(error)).ok()
            });
            emptied
        };
        receiver.appetite = (2 * self.burst.len()).clamp(APPETITE_LEAST, BURST);
        if self.burst.is_empty() {
            self.stopwatch.end(false);
        } else if self.stopwatch.is_running() {
            stages.bursts.add(1);
            stages.frames.add(self.burst.len() as u64);
            stages.receive_nanos.add(self.stopwatch.lap());
        }
        let octets = self.burst.prepare(&self.pipeline.shared.conntrack);
        if let Some(counters) = self.counters.port(receiver.port) {
            counters.received_frames.add(self.burst.len() as u64);
            counters.received_octets.add(octets as u64);
            if gone {
                // there is nothing to be done here; whoever reads this may have the machine made again
                counters.gone.add(1);
            }
        }
        emptied
    }

    /// Carries each frame of the burst to its fate.
    fn carry(&mut self, at: usize, now: Tick) {
        let Some(Some(receiver)) = self.receivers.get(at) else { return };
        let port = receiver.port;
        if let Some(links) = &self.view.links
            && let Some(lane) = links.of_port(port)
            && let Some(ferry) = self.outbox.ferry()
        {
            for number in 0..self.burst.len() {
                let (lanes, errand) = ([Some(lane)], Errand::Carry(port));
                ferry.take(&lanes, errand, self.nanos, self.burst.frame(number), |reason| {
                    self.counters.count_drop(port, reason);
                });
            }
            self.stopwatch.end(false);
            return;
        }
        self.carry_from(port, now);
    }

    /// Carries each frame of the burst to its fate, as ones that came in at this port.
    fn carry_from(&mut self, port: PortId, now: Tick) {
        let start = self.start;
        let stages = &self.counters.stages;
        if self.stopwatch.is_running() {
            stages.parse_nanos.add(self.stopwatch.lap());
            self.outbox.time(true);
        }
        self.outbox.look(|| nanos_since(start));
        let mut egress = Egress::new(&self.view, &self.counters, &mut self.outbox, port);
        let snapshot = &self.view.snapshot;
        self.burst.carry(&mut self.pipeline, snapshot, now, port, &mut egress);
        self.outbox.part(&self.view, &self.counters);
        if self.stopwatch.is_running() {
            let sent = self.outbox.time(false);
            stages.judge_nanos.add(self.stopwatch.lap().saturating_sub(sent.nanos));
            stages.sent_frames.add(sent.frames);
            stages.send_nanos.add(sent.nanos);
            self.stopwatch.end(true);
        }
    }

    /// Whether frames may wait for a link, or be to wait.
    fn has_faulty_links(&self) -> bool {
        self.view.links.is_some() || self.outbox.next_at().is_some()
    }

    /// How long to sleep: until the next frame is through with its link, in whole milliseconds, as
    /// poll would sleep longer than it is told, or until neighbours are looked for; `None`: until
    /// something comes.
    fn patience(&self) -> Option<Duration> {
        let looks = self.pipeline.has_pending().then_some(LOOK);
        let left = self.outbox.next_at().map(|at| at.saturating_sub(nanos_since(self.start)));
        let through = left.map(|left| Duration::from_millis(left / 1_000_000));
        looks.into_iter().chain(through).min()
    }

    /// Sends, or carries on, what is through with its link; answers how many frames that were.
    #[cold]
    fn let_through(&mut self, now: Tick) -> usize {
        // not more than wait now, or what is not late at all would have it go round and round
        let waiting = self.outbox.ferry().map_or(0, |ferry| ferry.line.len());
        for passed in 0..waiting {
            let Some(ferry) = self.outbox.ferry() else { return passed };
            let (mut errand, nanos) = (None, self.nanos);
            self.burst.fill(1, |room| {
                let (what, frame) = ferry.line.take(nanos)?;
                room.get_mut(..frame.len())?.copy_from_slice(frame);
                errand = Some(what);
                Some(frame.len())
            });
            match errand {
                Some(Errand::Carry(port)) => {
                    self.burst.prepare(&self.pipeline.shared.conntrack);
                    self.carry_from(port, now);
                    self.outbox.flush(&self.view, &self.counters, &self.burst);
                }
                Some(Errand::Send(port)) => {
                    let start = self.start;
                    self.outbox.look(|| nanos_since(start));
                    self.outbox.deliver(&self.view, &self.counters, port, self.burst.frame(0));
                }
                None => return passed,
            }
        }
        waiting
    }

    /// Takes views and commands from the mailbox.
    fn take_mail(&mut self) -> io::Result<()> {
        while let Some(command) = self.mailbox.take_command() {
            match command {
                Command::Attach(port, queue) => self.attach(port, queue)?,
                Command::Detach(port) => self.detach(port),
                Command::Board(ferry) => self.outbox.board(ferry),
                #[expect(clippy::panic, reason = "asked for, to see how the others get on")]
                Command::Panic => panic!("a client asked for it"),
            }
        }
        if let Some(view) = self.mailbox.take_view() {
            // the control side keeps its own reference, so nothing is freed here
            self.view = view;
            self.mailbox.adopt(self.view.snapshot.generation);
        }
        Ok(())
    }

    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()> {
        let at = self.receivers.iter().position(Option::is_none).unwrap_or(self.receivers.len());
        if let Some(descriptor) = queue.descriptor() {
            self.warm.watch(at, descriptor)?;
        }
        let receiver = Some(Receiver { port, queue, is_listed: false, appetite: APPETITE_LEAST });
        match self.receivers.get_mut(at) {
            Some(free) => *free = receiver,
            None => self.receivers.push(receiver),
        }
        // frames may have come before readiness was asked for
        self.list(at);
        Ok(())
    }

    fn detach(&mut self, port: PortId) {
        if let Some(ferry) = self.outbox.ferry() {
            // another machine may come to be behind this port
            ferry.line.forget(port);
        }
        for (at, receiver) in self.receivers.iter_mut().enumerate() {
            if receiver.as_ref().is_some_and(|receiver| receiver.port == port)
                && let Some(gone) = receiver.take()
                && let Some(descriptor) = gone.queue.descriptor()
            {
                // closing the descriptor forgets it as well; this only does so at once
                self.warm.forget(at, descriptor);
            }
        }
    }
}

/// Puts a receiver on the list of those to be looked at.
fn list(receivers: &mut [Option<Receiver>], ready: &mut VecDeque<usize>, at: usize) {
    if let Some(Some(receiver)) = receivers.get_mut(at)
        && !receiver.is_listed
    {
        receiver.is_listed = true;
        ready.push_back(at);
    }
}

/// Nanoseconds from `start` until now.
fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The tick of a moment, counted from `start`.
pub fn tick(start: Instant, now: Instant) -> Tick {
    let tenths = now.duration_since(start).as_millis() / 100;
    Tick(u32::try_from(tenths).unwrap_or(u32::MAX))
}
