//! What a worker counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use kswitch_tables::PortId;

use super::DropReason;
use super::stages::Stages;

/// A number that one thread increases and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker calls this, so a load and a store do.
    #[inline]
    pub fn add(&self, n: u64) {
        // Relaxed: a count orders nothing; readers want a recent value, no more
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Traffic of one port as one worker saw it.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub received_frames: Counter,
    /// Octets received, Ethernet header included.
    pub received_octets: Counter,
    /// Frames sent.
    pub sent_frames: Counter,
    /// Octets sent, Ethernet header included.
    pub sent_octets: Counter,
    /// Frames received here that went no further.
    pub dropped_frames: Counter,
    /// Frames not sent because the machine's queue was full.
    pub busy_frames: Counter,
    /// Times that a queue was found to have no device any more.
    pub gone: Counter,
}

/// Everything one worker counts. **Sharing**: written by its worker alone, read by anyone.
#[derive(Debug)]
pub struct Counters {
    ports: Box<[CachePadded<PortCounters>]>,
    drops: Box<[Counter]>,
    /// Frames forwarded by a binding that was found.
    pub established: Counter,
    /// Flows admitted.
    pub admitted: Counter,
    /// Judgements that would have refused a flow, had policies that are only watched been in force.
    pub audited: Counter,
    /// Frames the switch answered itself.
    pub answered: Counter,
    /// Frames flooded in a bridge.
    pub flooded: Counter,
    /// Questions for neighbours, each on all ports of the uplink.
    pub asked: Counter,
    /// ICMP errors not sent because too many were.
    pub errors_withheld: Counter,
    /// Turns of the worker's loop that found frames.
    pub busy_turns: Counter,
    /// Turns that found none.
    pub idle_turns: Counter,
    /// Times the worker slept until something was ready.
    pub sleeps: Counter,
    /// What the stages of a frame's way cost, from a sample.
    pub stages: Stages,
}

impl Counters {
    /// Counters for this many ports, all zero.
    pub fn new(ports: usize) -> Self {
        Self {
            ports: std::iter::repeat_with(CachePadded::default).take(ports).collect(),
            drops: std::iter::repeat_with(Counter::default).take(DropReason::ALL.len()).collect(),
            established: Counter::default(),
            admitted: Counter::default(),
            audited: Counter::default(),
            answered: Counter::default(),
            flooded: Counter::default(),
            asked: Counter::default(),
            errors_withheld: Counter::default(),
            busy_turns: Counter::default(),
            idle_turns: Counter::default(),
            sleeps: Counter::default(),
            stages: Stages::default(),
        }
    }

    /// The counters of a port; `None` beyond the number they were made for.
    pub fn port(&self, id: PortId) -> Option<&PortCounters> {
        self.ports.get(usize::from(id.0)).map(|port| &**port)
    }

    /// How many frames were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, Counter::get)
    }

    /// Counts a frame that came in at `port` and was dropped.
    pub fn count_drop(&self, port: PortId, reason: DropReason) {
        self.count_drops(port, reason, 1);
    }

    /// Counts so many dropped frames.
    pub fn count_drops(&self, port: PortId, reason: DropReason, frames: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            counter.add(frames);
        }
        if let Some(port) = self.port(port) {
            port.dropped_frames.add(frames);
        }
    }
}
