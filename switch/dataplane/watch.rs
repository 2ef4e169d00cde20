//! What a worker tells those who look on: new flows and refusals, never the frames of known flows.
//!
//! Each worker has rings of its own, which the control side empties. A full ring forgets the newest,
//! and counts it; a worker waits for nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use kswitch_tables::conntrack::State;
use kswitch_tables::policy::{Contact, Denied};
use kswitch_tables::{Binding, Flow, Generation, PortId, Tick};

use super::DropReason;
use super::counters::Counter;

/// Events that wait for the control side at most, of each worker.
pub const EVENTS_MAX: usize = 8192;

/// Refusals by policies that wait at most, of each worker.
pub const REFUSALS_MAX: usize = 2048;

/// What befell a flow.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When.
    pub at: Tick,
    /// Under which tables.
    pub generation: Generation,
    /// The port that its frame came in at.
    pub ingress: PortId,
    /// The flow as its frame had it; `None` for what is no IP packet.
    pub flow: Option<Flow>,
    /// The [label](kswitch_tables::Frontend::label) of the frontend that was asked.
    pub frontend: Option<u32>,
    /// What.
    pub what: What,
}

/// What befell it.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// It was admitted.
    Opened(Binding),
    /// Its frame went no further.
    Refused {
        /// Why.
        reason: DropReason,
        /// What the policies said, where they were it.
        denied: Option<(Contact, Denied)>,
        /// Whether the flow was under way, and ended by it.
        is_end: bool,
    },
    /// Policies that are only watched would have refused it.
    Audited(Contact, Denied),
    /// It was forgotten in this state, to make room for another.
    Displaced(State),
}

/// A worker's rings. **Sharing**: one worker puts, the control side takes; neither waits.
#[derive(Debug)]
pub struct Watch {
    is_on: CachePadded<AtomicBool>,
    events: ArrayQueue<Event>,
    refusals: ArrayQueue<Event>,
    /// Events that found their ring full.
    pub lost: Counter,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            is_on: CachePadded::default(),
            events: ArrayQueue::new(EVENTS_MAX),
            refusals: ArrayQueue::new(REFUSALS_MAX),
            lost: Counter::default(),
        }
    }
}

impl Watch {
    /// Whether anybody wants to know of more than the refusals by policies.
    #[inline]
    pub fn is_on(&self) -> bool {
        // Relaxed: an event more or less at the beginning and the end of looking on is no matter
        self.is_on.load(Ordering::Relaxed)
    }

    /// Has everything told from now on, or refusals by policies alone.
    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Tells something. Only the owning worker calls this.
    pub(super) fn tell(&self, event: Event) {
        let ring = match event.what {
            // these are counted for each policy, whether anybody looks on or not
            What::Refused { denied: Some(_), .. } | What::Audited(..) => &self.refusals,
            _ => &self.events,
        };
        if ring.push(event).is_err() {
            self.lost.add(1);
        }
    }

    /// The next event, refusals by policies first.
    pub fn take(&self) -> Option<Event> {
        self.refusals.pop().or_else(|| self.events.pop())
    }
}

/// What is known of the frame being judged, to be told with its fate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// The label of the frontend that was asked.
    pub(super) frontend: Option<u32>,
    /// What the policies said against it.
    pub(super) denied: Option<(Contact, Denied)>,
    /// Whether its flow was under way, and ends.
    pub(super) is_end: bool,
}
