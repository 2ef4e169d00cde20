//! A worker: receive a burst, judge each frame, send.
//!
//! After start a worker neither allocates, locks, logs, nor sleeps except in poll. Every queue is
//! owned by one worker; any worker sends on any port.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kswitch_tables::{PortId, Tick};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::capture::Capture;
use super::mailbox::{Command, Mailbox, View};
use super::pipeline::{Output, Pipeline};
use super::watch::Watch;
use super::{Counters, DropReason, Frame, Parsed};
use crate::port::{BUFFER_OCTETS, Queue, Sent, VNET_HEADER};

/// Frames taken from one queue before the next queue has its turn.
pub const BURST: usize = 32;

/// Token of the mailbox's waker; queues have the tokens below.
pub const WAKE: Token = Token(usize::MAX);

/// Turns between looks at which further queues have become ready, while some are.
const TURNS_BETWEEN_POLLS: u32 = 8;

/// Buffers lie this far apart: a multiple of the cache line that is odd in lines, so that the
/// heads of a burst fall into different cache sets.
const BUFFER_STRIDE: usize = BUFFER_OCTETS.next_multiple_of(128) + 64;

/// A burst of frames: their buffers, and what parsing found.
struct Burst {
    buffers: Vec<Box<[u8]>>,
    frames: [(usize, Result<Parsed, DropReason>, u64); BURST],
    count: usize,
}

/// One queue and its port.
#[derive(Debug)]
struct Receiver {
    port: PortId,
    queue: Queue,
    /// Whether it is in the list of those to be looked at.
    is_listed: bool,
}

/// A worker, not yet running or run by hand.
pub struct Worker {
    pipeline: Pipeline,
    view: Arc<View>,
    mailbox: Arc<Mailbox>,
    receivers: Vec<Option<Receiver>>,
    /// Indices of receivers that may have frames.
    ready: VecDeque<usize>,
    burst: Burst,
    capture: Option<Arc<Capture>>,
    /// When the clock of ticks started.
    start: Instant,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("receivers", &self.receivers.len()).finish_non_exhaustive()
    }
}

/// Sends on the view's ports and counts what was sent.
struct Egress<'v> {
    view: &'v View,
    counters: &'v Counters,
    /// Who wants copies, and when the burst is carried, nanoseconds.
    capture: Option<(&'v Capture, u64)>,
}

impl Output for Egress<'_> {
    #[inline]
    fn send(&mut self, port: PortId, buffer: &[u8]) {
        let sender = self.view.senders.get(usize::from(port.0)).and_then(Option::as_ref);
        let sent = sender.map_or(Sent::Gone, |sender| sender.send(buffer));
        let reason = match sent {
            Sent::Done => {
                if let Some((capture, nanos)) = self.capture {
                    capture.sent(port, nanos, buffer);
                }
                if let Some(counters) = self.counters.port(port) {
                    counters.sent_frames.add(1);
                    counters.sent_octets.add((buffer.len() - VNET_HEADER) as u64);
                }
                return;
            }
            Sent::Busy => DropReason::PortBusy,
            Sent::Gone => DropReason::PortGone,
            Sent::Unfinished => DropReason::PortUnfinished,
        };
        self.counters.count_drop(port, reason);
        if let Some(counters) = self.counters.port(port)
            && sent == Sent::Busy
        {
            counters.busy_frames.add(1);
        }
    }
}

impl Worker {
    /// A worker that judges by `view` and takes what comes by `mailbox`.
    pub fn new(pipeline: Pipeline, view: Arc<View>, mailbox: Arc<Mailbox>) -> Self {
        mailbox.adopt(view.snapshot.generation);
        let buffers = (0..BURST).map(|_| vec![0u8; BUFFER_STRIDE].into_boxed_slice()).collect();
        Self {
            pipeline,
            view,
            mailbox,
            receivers: Vec::new(),
            ready: VecDeque::new(),
            burst: Burst {
                buffers,
                frames: [(0, Err(DropReason::FrameTooShort), 0); BURST],
                count: 0,
            },
            capture: None,
            start: Instant::now(),
        }
    }

    /// Has new flows and refusals told, and frames copied, to those who look on; times of copies
    /// count from `start`.
    pub fn show(&mut self, watch: Arc<Watch>, capture: Arc<Capture>, start: Instant) {
        self.pipeline.watch = Some(watch);
        self.capture = Some(capture);
        self.start = start;
    }

    /// The pipeline, for tests that look at its tables and counters.
    pub const fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Runs until told to stop; spins for `spin` after the last frame before it waits. Ticks are
    /// counted from `start`.
    ///
    /// # Errors
    /// If waiting fails, or a queue cannot be waited for.
    pub fn run(mut self, mut poll: Poll, spin: Duration, start: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut last_frame = start;
        let mut turns = 0;
        self.take_mail(Some(&poll))?;
        while !self.mailbox.is_stopped() {
            let clock = Instant::now();
            if self.ready.is_empty() || turns >= TURNS_BETWEEN_POLLS {
                turns = 0;
                let spinning = clock.duration_since(last_frame) < spin;
                let now = !self.ready.is_empty() || spinning;
                if !now {
                    self.pipeline.counters.sleeps.add(1);
                }
                self.wait(&mut poll, &mut events, now.then_some(Duration::ZERO))?;
            }
            turns += 1;
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
                self.take_mail(Some(poll))?;
            } else {
                self.list(event.token().0);
            }
        }
        Ok(())
    }

    /// Puts a receiver on the list of those to be looked at.
    fn list(&mut self, at: usize) {
        if let Some(Some(receiver)) = self.receivers.get_mut(at)
            && !receiver.is_listed
        {
            receiver.is_listed = true;
            self.ready.push_back(at);
        }
    }

    /// One burst from every queue on the list; answers the frames carried. A queue left before
    /// it was empty stays on the list, since readiness is told only once.
    pub fn turn(&mut self, now: Tick) -> usize {
        let mut carried = 0;
        for _ in 0..self.ready.len() {
            let Some(at) = self.ready.pop_front() else { break };
            let emptied = self.receive(at);
            carried += self.burst.count;
            self.carry(at, now);
            if emptied {
                if let Some(Some(receiver)) = self.receivers.get_mut(at) {
                    receiver.is_listed = false;
                }
            } else {
                self.ready.push_back(at);
            }
        }
        carried
    }

    /// For tests: takes the mail and carries frames until every queue is empty.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub fn drain(&mut self, now: Tick) -> io::Result<usize> {
        self.take_mail(None)?;
        let mut carried = 0;
        loop {
            (0..self.receivers.len()).for_each(|at| self.list(at));
            match self.turn(now) {
                0 => return Ok(carried),
                more => carried += more,
            }
        }
    }

    /// Fills the burst from one queue; answers whether the queue is empty now.
    fn receive(&mut self, at: usize) -> bool {
        self.burst.count = 0;
        let Some(Some(receiver)) = self.receivers.get_mut(at) else { return true };
        let counters = self.pipeline.counters.port(receiver.port);
        let mut octets = 0;
        let mut emptied = false;
        for (buffer, slot) in self.burst.buffers.iter_mut().zip(&mut self.burst.frames) {
            let room = buffer.get_mut(..BUFFER_OCTETS).unwrap_or(&mut []);
            // any error but "none for now" means that the port went: its removal is on the way
            let Ok(length) = receiver.queue.receive(room) else {
                emptied = true;
                break;
            };
            octets += length.saturating_sub(VNET_HEADER);
            let parsed = Frame::new(buffer.get_mut(..length).unwrap_or(&mut [])).parse();
            let hash = match &parsed {
                Ok(Parsed::Ip(packet)) => {
                    let hash = self.pipeline.shared.conntrack.hash(&packet.flow);
                    self.pipeline.shared.conntrack.warm(&packet.flow, hash);
                    hash
                }
                _ => 0,
            };
            *slot = (length, parsed, hash);
            self.burst.count += 1;
        }
        if let Some(counters) = counters {
            counters.received_frames.add(self.burst.count as u64);
            counters.received_octets.add(octets as u64);
        }
        emptied
    }

    /// Carries each frame of the burst to its fate.
    fn carry(&mut self, at: usize, now: Tick) {
        let Some(Some(receiver)) = self.receivers.get(at) else { return };
        let port = receiver.port;
        let counters = Arc::clone(&self.pipeline.counters);
        let capture = self.capture.as_deref().filter(|capture| capture.is_on());
        let capture = capture.map(|capture| (capture, nanos_since(self.start)));
        let mut egress = Egress { view: &self.view, counters: &counters, capture };
        let frames = self.burst.buffers.iter_mut().zip(&self.burst.frames).take(self.burst.count);
        for (buffer, (length, parsed, hash)) in frames {
            let mut frame = Frame::new(buffer.get_mut(..*length).unwrap_or(&mut []));
            let snapshot = &self.view.snapshot;
            let copied = capture.and_then(|(capture, nanos)| {
                Some((capture, capture.begin(port, nanos, frame.buffer())?))
            });
            let parsed = (*parsed, *hash);
            let verdict =
                self.pipeline.forward(snapshot, now, port, &mut frame, parsed, &mut egress);
            if let Some((capture, copied)) = copied {
                capture.end(copied, verdict);
            }
        }
    }

    /// Takes views and commands from the mailbox.
    fn take_mail(&mut self, poll: Option<&Poll>) -> io::Result<()> {
        while let Some(command) = self.mailbox.take_command() {
            match command {
                Command::Attach(port, queue) => self.attach(port, queue, poll)?,
                Command::Detach(port) => self.detach(port, poll),
            }
        }
        if let Some(view) = self.mailbox.take_view() {
            // the control side keeps its own reference, so nothing is freed here
            self.view = view;
            self.mailbox.adopt(self.view.snapshot.generation);
        }
        Ok(())
    }

    fn attach(&mut self, port: PortId, queue: Queue, poll: Option<&Poll>) -> io::Result<()> {
        let at = self.receivers.iter().position(Option::is_none).unwrap_or(self.receivers.len());
        if let (Some(poll), Some(descriptor)) = (poll, queue.descriptor()) {
            let interest = Interest::READABLE;
            poll.registry().register(&mut SourceFd(&descriptor), Token(at), interest)?;
        }
        let receiver = Some(Receiver { port, queue, is_listed: false });
        match self.receivers.get_mut(at) {
            Some(free) => *free = receiver,
            None => self.receivers.push(receiver),
        }
        // frames may have come before readiness was asked for
        self.list(at);
        Ok(())
    }

    fn detach(&mut self, port: PortId, poll: Option<&Poll>) {
        for receiver in &mut self.receivers {
            if receiver.as_ref().is_some_and(|receiver| receiver.port == port)
                && let Some(gone) = receiver.take()
                && let (Some(poll), Some(descriptor)) = (poll, gone.queue.descriptor())
            {
                // closing the descriptor forgets it as well; this only does so at once
                let _ = poll.registry().deregister(&mut SourceFd(&descriptor));
            }
        }
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
