//! How a worker sends: frame by frame, or all that a burst sends together.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use kswitch_tables::{Address, PortId};

use super::burst::{BURST, Burst};
use super::capture::{Capture, Copied};
use super::coalesce::{Coalescer, Joined};
use super::link::crossing::{addresses, lanes};
use super::link::line::Errand;
use super::link::{Ferry, Links};
use super::mailbox::View;
use super::pipeline::{Output, Verdict};
use super::segment::Segmenter;
use super::stages::nanos;
use super::{Counters, DropReason};
use crate::port::batch::Batch;
use crate::port::{Sender, Sent, VNET_HEADER, is_unfinished};

/// Frames that may wait to be sent together.
const WAITING_MAX: usize = BURST;

/// A frame to be sent with the others of its burst.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    port: PortId,
    /// Its number in the burst.
    frame: usize,
    /// By which copies know it.
    copied: u64,
}

/// What a worker has yet to send, and what it needs for that.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Vec<Waiting>,
    segmenter: Segmenter,
    batch: Option<Batch>,
    /// What joins datagrams, if anything does.
    coalescer: Option<Box<Coalescer>>,
    /// Whether frames wait to be sent together.
    gathers: bool,
    /// Which worker this is: it sends through the queues that it receives from.
    worker: usize,
    capture: Option<Arc<Capture>>,
    /// When the burst is carried, nanoseconds; `None` while nobody wants copies.
    copied_at: Option<u64>,
    /// What sending took in the burst that is being carried; `None` unless it is timed.
    sending: Option<Sending>,
    /// What takes frames over faulty links, once there have been any.
    ferry: Option<Box<Ferry>>,
    /// When the burst is carried, nanoseconds; kept while there are faulty links.
    nanos: u64,
}

/// What sending took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sending {
    /// How many frames were sent.
    pub(super) frames: u64,
    /// Nanoseconds that took.
    pub(super) nanos: u64,
}

impl Outbox {
    /// Of this worker, empty.
    pub(super) fn new(worker: usize) -> Self {
        let waiting = Vec::with_capacity(WAITING_MAX);
        let segmenter = Segmenter::default();
        Self {
            waiting,
            segmenter,
            batch: None,
            coalescer: None,
            gathers: false,
            worker,
            capture: None,
            copied_at: None,
            sending: None,
            ferry: None,
            nanos: 0,
        }
    }

    /// Which worker this is.
    pub(super) const fn number(&mut self, worker: usize) {
        self.worker = worker;
    }

    /// Copies frames for those who look on.
    pub(super) fn show(&mut self, capture: Arc<Capture>) {
        self.capture = Some(capture);
    }

    /// Sees whether anybody wants copies of the frames of a burst; `nanos` says when it is carried.
    pub(super) fn look(&mut self, nanos: impl FnOnce() -> u64) {
        let is_on = self.capture.as_ref().is_some_and(|capture| capture.is_on());
        self.copied_at = is_on.then(nanos);
    }

    /// Takes frames over faulty links with this from now on.
    pub(super) fn board(&mut self, ferry: Box<Ferry>) {
        self.ferry.get_or_insert(ferry);
    }

    /// What takes frames over faulty links.
    pub(super) fn ferry(&mut self) -> Option<&mut Ferry> {
        self.ferry.as_deref_mut()
    }

    /// When the next frame on a faulty link is through, nanoseconds.
    #[inline]
    pub(super) fn next_at(&self) -> Option<u64> {
        self.ferry.as_ref()?.line.next_at()
    }

    /// Says when the burst is carried, where links are faulty.
    pub(super) const fn date(&mut self, nanos: u64) {
        self.nanos = nanos;
    }

    /// Hands a frame to the machine behind a port, now.
    pub(super) fn deliver(
        &mut self,
        view: &View,
        counters: &Counters,
        port: PortId,
        buffer: &[u8],
    ) {
        self.hand_over(view, counters, (port, buffer), Tally::of(buffer));
    }

    /// As [`Self::deliver`], a frame that is to be counted as this.
    fn hand_over(
        &mut self,
        view: &View,
        counters: &Counters,
        (port, buffer): (PortId, &[u8]),
        tally: Tally,
    ) {
        let Some(sender) = view.sender(port) else {
            return count(counters, port, tally, Sent::Gone);
        };
        let sent = if is_unfinished(buffer) && !sender.takes_offloads() {
            Sent::Unfinished
        } else {
            self.send_now(sender, buffer, tally)
        };
        let number = self.onlooker().map_or(0, |(capture, _)| capture.number());
        self.settle(sender, counters, port, (buffer, number, tally), sent);
    }

    /// Joins datagrams from this time on.
    pub(super) fn coalesce(&mut self) {
        self.coalescer.get_or_insert_default();
    }

    /// Whether a frame may go with others, or come before all that waits.
    #[inline]
    const fn joins(&self) -> bool {
        self.coalescer.is_some() && self.waiting.is_empty()
    }

    /// Takes a frame that may go with others; `false`: it goes by itself, now.
    fn join(&mut self, view: &View, counters: &Counters, port: PortId, buffer: &[u8]) -> bool {
        let Some(mut coalescer) = self.coalescer.take() else { return false };
        let is_taken =
            coalescer.take(port, buffer, |joined| self.send_joined(view, counters, &joined));
        self.coalescer = Some(coalescer);
        is_taken
    }

    /// Sends what was joined.
    pub(super) fn part(&mut self, view: &View, counters: &Counters) {
        if let Some(mut coalescer) = self.coalescer.take() {
            coalescer.finish(|joined| self.send_joined(view, counters, &joined));
            self.coalescer = Some(coalescer);
        }
    }

    fn send_joined(&mut self, view: &View, counters: &Counters, joined: &Joined<'_>) {
        let tally = Tally { frames: joined.datagrams.into(), octets: joined.octets() };
        self.hand_over(view, counters, (joined.port, joined.buffer), tally);
    }

    /// Who wants copies, and when the burst is carried.
    fn onlooker(&self) -> Option<(&Capture, u64)> {
        Some((self.capture.as_deref()?, self.copied_at?))
    }

    /// Sends what belongs together by this from now on.
    pub(super) fn adopt(&mut self, batch: Batch) {
        self.batch = Some(batch);
    }

    /// Whether frames may wait for each other.
    pub(super) const fn has_batch(&self) -> bool {
        self.batch.is_some()
    }

    /// Has the frames of the burst that comes wait for each other, or be sent at once.
    pub(super) const fn gather(&mut self, is_wanted: bool) {
        self.gathers = is_wanted;
    }

    /// How many frames wait to be sent.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Times what is sent at once from here on, or no more; answers what that took so far.
    pub(super) fn time(&mut self, is_wanted: bool) -> Sending {
        let wanted = is_wanted.then(Sending::default);
        std::mem::replace(&mut self.sending, wanted).unwrap_or_default()
    }

    /// Sends a frame at once.
    fn send_now(&mut self, sender: &Sender, buffer: &[u8], tally: Tally) -> Sent {
        let Some(sending) = &mut self.sending else { return sender.send_by(self.worker, buffer) };
        let start = Instant::now();
        let sent = sender.send_by(self.worker, buffer);
        sending.frames += tally.frames;
        sending.nanos += nanos(start.elapsed());
        sent
    }

    /// Sends what waits, all of it frames of `burst`.
    pub(super) fn flush(&mut self, view: &View, counters: &Counters, burst: &Burst) {
        if !self.waiting.is_empty() {
            self.exchange(view, counters, burst, std::iter::empty(), |_| {});
        }
    }

    /// Sends what waits, all of it frames of `burst`, and reads frames into rooms, in one call;
    /// `read` gets the octets of each, or the negative of an error number. Answers whether
    /// anything could be read this way.
    pub(super) fn exchange<'a>(
        &mut self,
        view: &'a View,
        counters: &Counters,
        burst: &'a Burst,
        reads: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
        read: impl FnOnce(&[i32]),
    ) -> bool {
        let mut waiting = std::mem::take(&mut self.waiting);
        let worker = self.worker;
        let writes = waiting.iter().filter_map(|Waiting { port, frame, .. }| {
            Some((view.sender(*port)?.batched_by(worker)?, burst.frame(*frame)))
        });
        let mut batch = self.batch.take();
        let done = batch.as_mut().and_then(|batch| batch.exchange(writes, reads).ok());
        let has_read = done.is_some();
        let results = done.map_or(&[][..], |done| {
            read(done.reads);
            done.writes
        });
        for (number, Waiting { port, frame, copied }) in waiting.iter().enumerate() {
            let (Some(sender), frame) = (view.sender(*port), burst.frame(*frame)) else { continue };
            let sent = results.get(number).map_or_else(
                || sender.send_by(worker, frame),
                |result| Sent::from_result(*result, frame),
            );
            self.settle(sender, counters, *port, (frame, *copied, Tally::of(frame)), sent);
        }
        waiting.clear();
        self.waiting = waiting;
        // once refused, refused for good
        self.batch = batch.filter(|_| has_read);
        has_read
    }

    /// Counts what was sent; finishes and cuts what the receiver could not take as it was. Copies
    /// know the frame by `number`.
    fn settle(
        &mut self,
        sender: &Sender,
        counters: &Counters,
        port: PortId,
        (buffer, number, tally): (&[u8], u64, Tally),
        sent: Sent,
    ) {
        let mut worst = sent;
        if sent == Sent::Unfinished {
            let mut answered = Sent::Done;
            let cut = self.segmenter.send(buffer, |segment| {
                let sent = sender.send_by(self.worker, segment);
                if sent != Sent::Done {
                    answered = sent;
                }
            });
            worst = if cut { answered } else { Sent::Unfinished };
        }
        if worst == Sent::Done
            && let Some((capture, nanos)) = self.onlooker()
        {
            capture.sent(port, nanos, buffer, number);
        }
        count(counters, port, tally, worst);
    }
}

/// As what a frame is counted.
#[derive(Clone, Copy, Debug)]
struct Tally {
    /// One, or as many as were joined.
    frames: u64,
    /// Octets that they had, virtio headers left out.
    octets: usize,
}

impl Tally {
    /// That of a frame by itself, virtio header first.
    const fn of(buffer: &[u8]) -> Self {
        Self { frames: 1, octets: buffer.len().saturating_sub(VNET_HEADER) }
    }
}

/// Counts what was sent, or was not.
fn count(counters: &Counters, port: PortId, tally: Tally, sent: Sent) {
    let Tally { frames, octets } = tally;
    let reason = match sent {
        Sent::Done => {
            if let Some(counters) = counters.port(port) {
                counters.sent_frames.add(frames);
                counters.sent_octets.add(octets as u64);
            }
            return;
        }
        Sent::Busy => DropReason::PortBusy,
        Sent::Gone => DropReason::PortGone,
        Sent::Unfinished => DropReason::PortUnfinished,
    };
    counters.count_drops(port, reason, frames);
    if let Some(counters) = counters.port(port)
        && sent == Sent::Busy
    {
        counters.busy_frames.add(frames);
    }
}

/// Sends on the view's ports and counts what was sent.
pub(super) struct Egress<'w> {
    view: &'w View,
    counters: &'w Counters,
    outbox: &'w mut Outbox,
    /// The port that the burst came in at.
    ingress: PortId,
    /// The frame being carried: its number in the burst, and where its buffer begins.
    current: Option<(usize, *const u8)>,
    /// Its copy.
    copied: Option<Box<Copied>>,
    /// Whether its octets are of use as they came.
    is_watched: bool,
    /// By which copies know it.
    number: u64,
    /// The address it is for, where links are faulty.
    asked: Option<Address>,
}

impl<'w> Egress<'w> {
    pub(super) fn new(
        view: &'w View,
        counters: &'w Counters,
        outbox: &'w mut Outbox,
        ingress: PortId,
    ) -> Self {
        let is_watched = view.links.is_some() || outbox.onlooker().is_some();
        Self {
            view,
            counters,
            outbox,
            ingress,
            current: None,
            copied: None,
            is_watched,
            number: 0,
            asked: None,
        }
    }

    /// Looks at a frame as it came.
    #[cold]
    fn note(&mut self, buffer: &[u8]) {
        if let Some((capture, nanos)) = self.outbox.onlooker() {
            self.copied = capture.begin(self.ingress, nanos, buffer);
            self.number = capture.number();
        }
        if self.view.links.is_some() {
            self.asked = addresses(buffer).map(|(_, target)| target);
        }
    }

    /// Sends a frame over the faulty links on its way; `false` if there are none.
    #[cold]
    fn takes_long(&mut self, links: &Links, port: PortId, buffer: &[u8]) -> bool {
        let topology = &self.view.snapshot.topology;
        let (lanes, count) = lanes(links, topology, (self.ingress, port), self.asked, buffer);
        let lanes = lanes.get(..count).unwrap_or(&[]);
        let Some(ferry) = self.outbox.ferry.as_deref_mut().filter(|_| count > 0) else {
            return false;
        };
        let errand = Errand::Send(port);
        ferry.take(lanes, errand, self.outbox.nanos, buffer, |reason| {
            self.counters.count_drop(self.ingress, reason);
        });
        true
    }

    /// The number of the frame of which this is the buffer, if it may wait for others.
    #[inline]
    fn waits(&self, sender: &Sender, buffer: &[u8]) -> Option<usize> {
        let (number, start) = self.current?;
        let may_wait = self.outbox.gathers
            && self.view.links.is_none()
            && std::ptr::eq(buffer.as_ptr(), start)
            && self.outbox.waiting.len() < WAITING_MAX
            && sender.batched_by(self.outbox.worker).is_some();
        may_wait.then_some(number)
    }
}

impl Output for Egress<'_> {
    #[inline]
    fn begin(&mut self, number: usize, buffer: &[u8]) {
        self.current = Some((number, buffer.as_ptr()));
        if self.is_watched {
            self.note(buffer);
        }
    }

    #[inline]
    fn end(&mut self, verdict: Verdict) {
        if let Some(copied) = self.copied.take()
            && let Some(capture) = &self.outbox.capture
        {
            capture.end(copied, verdict);
        }
    }

    #[inline]
    fn send(&mut self, port: PortId, buffer: &[u8]) {
        if let Some(sender) = self.view.sender(port) {
            // what waits goes later than what is joined, and must not be overtaken by it
            if self.outbox.joins()
                && !self.is_watched
                && sender.takes_offloads()
                && self.outbox.join(self.view, self.counters, port, buffer)
            {
                return;
            }
            if let Some(frame) = self.waits(sender, buffer) {
                let copied = self.number;
                self.outbox.waiting.push(Waiting { port, frame, copied });
                return;
            }
        }
        if self.is_watched
            && let Some(links) = self.view.links.as_deref()
            && self.takes_long(links, port, buffer)
        {
            return;
        }
        self.outbox.deliver(self.view, self.counters, port, buffer);
    }
}
