//! What befalls flows, as it happens, in the words of the cluster; and how often policies refused.
//!
//! Workers tell of new flows and refusals in rings of their own; [`Monitor::drain`] empties them,
//! counts what policies refused, and tells those who look on. Each of them has a queue of bounded
//! length: who does not read loses events, and is told how many.

mod filter;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kswitch_config::{Explanation, Names, explain};
use kswitch_tables::conntrack::Death;
use kswitch_tables::policy::{Contact, Denied, Direction};
use kswitch_tables::{Flow, Snapshot, Tick, murmur3_x64_128};

use serde::Serialize;

pub use filter::Filter;
pub use record::EventRecord;

use super::onlookers;
use super::request::Response;
use crate::dataplane::watch::{Event, Watch, What};

/// Events that wait for one client at most.
const QUEUE: usize = 8192;

/// Events in one response.
const EVENTS_PER_RESPONSE: usize = 256;

/// Generations whose names are kept: workers may lag behind by one.
const GENERATIONS: usize = 2;

/// Why connections end: both sides have closed, one has reset it, it was silent for too long, it
/// made room for another, somebody asked for it.
pub const CAUSES: [&str; 5] = ["finished", "reset", "silent", "displaced", "removed"];

/// Refusals by one policy, in one direction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedBy {
    /// The policy: `namespace/name`; empty for the default of the lab.
    pub policy: String,
    /// `egress` or `ingress`.
    pub direction: &'static str,
    /// Whether the policy is only watched, and nothing was refused.
    pub is_audited: bool,
}

/// What the numbers of one generation mean.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) names: Arc<Names>,
    pub(super) snapshot: Arc<Snapshot>,
}

/// A client that looks on.
struct Subscriber {
    id: u64,
    filter: Filter,
    queue: SyncSender<Arc<EventRecord>>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    /// The newest last.
    subjects: VecDeque<Subject>,
    subscribers: Vec<Subscriber>,
    next: u64,
    refused: BTreeMap<RefusedBy, u64>,
}

/// The desk where events are told. **Sharing**: one thread drains, any may subscribe.
pub struct Monitor {
    watches: Vec<Arc<Watch>>,
    start: Instant,
    /// The moment of `start` on the calendar.
    start_time: SystemTime,
    is_watched: AtomicBool,
    /// Connections that have ended, by [`CAUSES`].
    ended: [AtomicU64; CAUSES.len()],
    state: Mutex<State>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}

impl Monitor {
    /// A desk for these workers, whose clock of ticks started at `start`.
    pub fn new(watches: Vec<Arc<Watch>>, start: Instant) -> Self {
        let start_time = SystemTime::now().checked_sub(start.elapsed());
        Self {
            watches,
            start,
            start_time: start_time.unwrap_or(SystemTime::UNIX_EPOCH),
            is_watched: AtomicBool::new(false),
            ended: Default::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing is left half done by a thread that panics
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the numbers of a new generation mean; to be told before it is published.
    pub fn follow(&self, names: Arc<Names>, snapshot: Arc<Snapshot>) {
        let mut state = self.state();
        state.subjects.push_back(Subject { names, snapshot });
        while state.subjects.len() > GENERATIONS {
            state.subjects.pop_front();
        }
    }

    /// Whether anybody looks on.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// How often policies refused, or would have, so far.
    pub fn refused(&self) -> Vec<(RefusedBy, u64)> {
        self.state().refused.iter().map(|(by, count)| (by.clone(), *count)).collect()
    }

    /// How many connections have ended, by cause; all causes there are.
    pub fn deaths(&self) -> [(&'static str, u64); CAUSES.len()] {
        let count = |at: usize| self.ended.get(at).map_or(0, |count| count.load(Ordering::Relaxed));
        std::array::from_fn(|at| (CAUSES.get(at).copied().unwrap_or_default(), count(at)))
    }

    /// Events that no ring had room for.
    pub fn lost(&self) -> u64 {
        self.watches.iter().map(|watch| watch.lost.get()).sum()
    }

    /// Looks on from now until the answer is dropped.
    pub fn subscribe(self: &Arc<Self>, filter: Filter) -> Stream {
        let (queue, events) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.subscribers.push(Subscriber { id, filter, queue, lost: Arc::clone(&lost) });
        self.turn(true);
        drop(state);
        Stream { monitor: Arc::clone(self), id, events, lost, lost_before: self.lost() }
    }

    fn turn(&self, is_on: bool) {
        self.is_watched.store(is_on, Ordering::Relaxed);
        self.watches.iter().for_each(|watch| watch.turn(is_on));
    }

    fn leave(&self, id: u64) {
        let mut state = self.state();
        state.subscribers.retain(|subscriber| subscriber.id != id);
        if state.subscribers.is_empty() {
            self.turn(false);
        }
    }

    /// Tells all that the workers told since the last time.
    pub fn drain(&self) {
        for watch in &self.watches {
            // as many as a ring holds: a busy worker keeps nobody else waiting
            for _ in 0..crate::dataplane::watch::EVENTS_MAX {
                let Some(event) = watch.take() else { break };
                self.tell(&event);
            }
        }
    }

    /// Tells of a connection that has ended.
    pub fn ended(&self, death: &Death) {
        let cause = record::cause(death);
        let known = CAUSES.iter().zip(&self.ended).find(|(name, _)| **name == cause);
        if let Some((_, count)) = known {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if !self.is_watched() {
            return;
        }
        let mut state = self.state();
        let Some(subject) = state.subjects.back().cloned() else { return };
        let now = crate::dataplane::worker::tick(self.start, Instant::now());
        let record = record::ended(&subject, self.time(now), death);
        state.publish(&death.connection.original, record);
    }

    /// Tells of a place of a load balancer that is found healthy, or not any more.
    pub fn health(&self, service: &str, place: &str, is_healthy: bool, asked: &str) {
        if !self.is_watched() {
            return;
        }
        let record = EventRecord::health(service, place, is_healthy, asked);
        self.state().publish(&nothing(), record);
    }

    /// Tells of a machine that has lost what it needs, or was made again.
    pub fn machine(&self, name: &str, verdict: &str, meaning: &str) {
        if self.is_watched() {
            self.state().publish(&nothing(), EventRecord::machine(name, verdict, meaning));
        }
    }

    fn tell(&self, event: &Event) {
        let mut state = self.state();
        let generation = event.generation;
        let of = |subject: &&Subject| subject.snapshot.generation == generation;
        let subject = state.subjects.iter().find(of).or(state.subjects.back()).cloned();
        let Some(subject) = subject else { return };
        let explained = explained(&subject, event);
        if let Some((explanation, is_audited)) = &explained {
            state.count(explanation, *is_audited);
        }
        if state.subscribers.is_empty() {
            return;
        }
        let explanation = explained.map(|(explanation, _)| explanation);
        let record = record::of(&subject, self.time(event.at), event, explanation.as_ref());
        state.publish(&event.flow.unwrap_or_else(nothing), record);
    }

    /// The moment of a tick, on the calendar.
    fn time(&self, at: Tick) -> SystemTime {
        let tenths = Duration::from_millis(u64::from(at.0) * u64::from(1000 / Tick::PER_SECOND));
        self.start_time.checked_add(tenths).unwrap_or(self.start_time)
    }
}

/// What stands for the flow of an event about none.
const fn nothing() -> Flow {
    let nowhere = kswitch_tables::Endpoint::new(kswitch_tables::Address::v4(0), 0);
    Flow { protocol: kswitch_tables::Protocol(0), source: nowhere, target: nowhere }
}

/// Why policies refuse what an event is about, and whether they are only watched. Policies of
/// another generation cannot be asked any more.
fn explained(subject: &Subject, event: &Event) -> Option<(Explanation, bool)> {
    let (contact, denied, is_audited): (&Contact, &Denied, bool) = match &event.what {
        What::Refused { denied: Some((contact, denied)), .. } => (contact, denied, false),
        What::Audited(contact, denied) => (contact, denied, true),
        _ => return None,
    };
    let Subject { names, snapshot } = subject;
    (snapshot.generation == event.generation)
        .then(|| (explain(&snapshot.policies, names.policies(), contact, denied), is_audited))
}

impl State {
    /// Counts a refusal for each policy that has a part in it.
    fn count(&mut self, explanation: &Explanation, is_audited: bool) {
        let direction = match explanation.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        let mut policies = record::policies(explanation);
        if policies.is_empty() {
            policies.push(String::new());
        }
        for policy in policies {
            let by = RefusedBy { policy, direction, is_audited };
            *self.refused.entry(by).or_default() += 1;
        }
    }

    /// Hands a record to those who want it.
    fn publish(&mut self, flow: &Flow, record: EventRecord) {
        let record = Arc::new(record);
        let (hash, _) = murmur3_x64_128(flow.to_string().as_bytes(), 0);
        for subscriber in &self.subscribers {
            if !subscriber.filter.takes(&record, hash) {
                continue;
            }
            if let Err(TrySendError::Full(_)) = subscriber.queue.try_send(Arc::clone(&record)) {
                subscriber.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What one client sees, until it is dropped.
pub struct Stream {
    monitor: Arc<Monitor>,
    id: u64,
    events: Receiver<Arc<EventRecord>>,
    lost: Arc<AtomicU64>,
    lost_before: u64,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Iterator for Stream {
    type Item = Response;

    /// Waits for events; an empty response where there were none for a while, so that a client
    /// that has gone is noticed.
    fn next(&mut self) -> Option<Response> {
        let batch = onlookers::batch(&self.events, EVENTS_PER_RESPONSE)?;
        let mut events: Vec<_> = batch.into_iter().map(|event| (*event).clone()).collect();
        let by_workers = self.monitor.lost();
        let lost = self.lost.swap(0, Ordering::Relaxed) + by_workers - self.lost_before;
        self.lost_before = by_workers;
        if lost > 0 {
            events.push(EventRecord::lost(lost));
        }
        Some(Response::records(events))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.monitor.leave(self.id);
    }
}
