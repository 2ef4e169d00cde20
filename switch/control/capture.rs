//! Captured frames, with what became of them.
//!
//! Workers copy frames into boxes laid out here ([`crate::dataplane::capture`]); [`Captures::drain`]
//! hands what is in them to those who capture, and gives the boxes back. While nobody captures
//! there are none.

pub mod filter;
mod flow;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Instant, SystemTime};

use kswitch_config::Names;
use kswitch_tables::{Conntrack, PortId};
use serde::{Deserialize, Serialize};

use super::onlookers;
use super::request::{Record, Response};
use crate::dataplane::capture::{Capture, Copied};
use crate::dataplane::{Shared, Verdict};
use filter::Filter;

/// Boxes laid out for each worker.
const BOXES: usize = 1024;

/// Octets of a box: the largest frame there is.
pub const BOX_OCTETS: usize = 65_550;

/// Frames that wait for one client at most.
const QUEUE: usize = 4096;

/// Frames in one response.
const FRAMES_PER_RESPONSE: usize = 64;

/// A frame as it came in or went out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameRecord {
    /// The port: `default/client`, `node/node-a`, `ext/internet`.
    pub port: String,
    /// Whether the machine behind the port sent it; else it is sent to it.
    pub is_inbound: bool,
    /// When, nanoseconds since 1970.
    pub nanos: u64,
    /// Octets of the whole frame.
    pub octets: usize,
    /// Its fate and its flow.
    pub comment: String,
    /// The first octets, two hexadecimal digits each.
    pub data: String,
    /// Frames lost before this one.
    pub lost: u64,
}

impl Record for FrameRecord {
    const KIND: &'static str = "Frame";
}

/// Which frames a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The ports; `None` for any.
    pub ports: Option<Vec<PortId>>,
    /// Octets to keep of each frame.
    pub snap: usize,
    /// What must hold for a frame.
    pub filter: Option<Filter>,
    /// One frame in so many; 0 and 1 for all.
    pub sample: u64,
}

struct Session {
    id: u64,
    wish: Wish,
    queue: SyncSender<FrameRecord>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    names: Option<Arc<Names>>,
    /// The thread that drains.
    drainer: Option<Thread>,
    sessions: Vec<Session>,
    next: u64,
}

/// The desk where frames are handed out. **Sharing**: one thread drains, any may capture.
pub struct Captures {
    workers: Vec<Arc<Capture>>,
    shared: Arc<Shared>,
    start_time: SystemTime,
    is_on: AtomicBool,
    state: Mutex<State>,
}

impl fmt::Debug for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captures").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Captures {
    /// A desk for these workers, whose clock started at `start`.
    pub fn new(workers: Vec<Arc<Capture>>, shared: Arc<Shared>, start: Instant) -> Self {
        let start_time = SystemTime::now().checked_sub(start.elapsed());
        Self {
            workers,
            shared,
            start_time: start_time.unwrap_or(SystemTime::UNIX_EPOCH),
            is_on: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing is left half done by a thread that panics
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What ports are called from now on.
    pub fn follow(&self, names: Arc<Names>) {
        self.state().names = Some(names);
    }

    /// Has this thread woken when a capture begins.
    pub fn drained_by(&self, drainer: Thread) {
        self.state().drainer = Some(drainer);
    }

    /// Whether anything is captured.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Captures from now until the answer is dropped.
    pub fn begin(self: &Arc<Self>, wish: Wish) -> Stream {
        let (queue, frames) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        if state.sessions.is_empty() {
            for worker in &self.workers {
                for _ in 0..BOXES {
                    let data = Vec::with_capacity(BOX_OCTETS);
                    worker.give(Box::new(Copied { data, ..Copied::default() }));
                }
            }
        }
        state.sessions.push(Session { id, wish, queue, lost: Arc::clone(&lost) });
        self.select(&state.sessions);
        if let Some(drainer) = &state.drainer {
            // it may be about to sleep for longer than the boxes last
            drainer.unpark();
        }
        drop(state);
        Stream { captures: Arc::clone(self), id, frames, lost, lost_before: self.lost_by_workers() }
    }

    fn end(&self, id: u64) {
        let mut state = self.state();
        state.sessions.retain(|session| session.id != id);
        self.select(&state.sessions);
        if state.sessions.is_empty() {
            self.workers.iter().for_each(|worker| worker.clear());
        }
    }

    /// Has the workers copy what these sessions want.
    fn select(&self, sessions: &[Session]) {
        let is_any = sessions.iter().any(|session| session.wish.ports.is_none());
        for worker in &self.workers {
            worker.select_all(is_any);
            for port in sessions.iter().flat_map(|session| session.wish.ports.iter().flatten()) {
                worker.select(*port, true);
            }
            worker.sample(sessions.iter().map(|session| session.wish.sample).min().unwrap_or(0));
            worker.turn(!sessions.is_empty());
        }
        self.is_on.store(!sessions.is_empty(), Ordering::Relaxed);
    }

    fn lost_by_workers(&self) -> u64 {
        self.workers.iter().map(|worker| worker.lost.get()).sum()
    }

    /// Hands out what was copied since the last time, in order of time.
    pub fn drain(&self) {
        let mut copies: Vec<(usize, Box<Copied>)> = Vec::new();
        for (at, worker) in self.workers.iter().enumerate() {
            for _ in 0..BOXES {
                let Some(copied) = worker.take() else { break };
                copies.push((at, copied));
            }
        }
        if copies.is_empty() {
            return;
        }
        // what came in comes before what went out for it
        let key = |worker: usize, copied: &Copied| {
            (copied.nanos, worker, copied.number, copied.verdict.is_none())
        };
        copies.sort_by_key(|(worker, copied)| key(*worker, copied));
        let state = self.state();
        for (worker, copied) in copies {
            for session in &state.sessions {
                self.hand_out(&state, session, &copied);
            }
            if let Some(worker) = self.workers.get(worker)
                && !state.sessions.is_empty()
            {
                worker.give(copied);
            }
        }
    }

    fn hand_out(&self, state: &State, session: &Session, copied: &Copied) {
        let Wish { ports, snap, filter, sample } = &session.wish;
        let Some(port) = copied.port else { return };
        let is_sampled = *sample <= 1 || copied.number.is_multiple_of(*sample);
        let is_wanted = is_sampled
            && ports.as_ref().is_none_or(|ports| ports.contains(&port))
            && filter.as_ref().is_none_or(|filter| filter.takes(&copied.data));
        if !is_wanted {
            return;
        }
        let name = |port: PortId| {
            let name = state.names.as_ref().and_then(|names| names.port(port));
            name.map_or_else(|| format!("port {}", port.0), ToString::to_string)
        };
        let kept = copied.data.get(..*snap).unwrap_or(&copied.data);
        let since = self.start_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(0).saturating_add(copied.nanos);
        let record = FrameRecord {
            port: name(port),
            is_inbound: copied.verdict.is_some(),
            nanos,
            octets: copied.octets,
            comment: comment(copied, &self.shared.conntrack, name),
            data: hex(kept),
            lost: 0,
        };
        if let Err(TrySendError::Full(_)) = session.queue.try_send(record) {
            session.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of a frame, and which flow it is of.
fn comment(copied: &Copied, conntrack: &Conntrack, name: impl Fn(PortId) -> String) -> String {
    let fate = match copied.verdict {
        None => "sent".to_owned(),
        Some(Verdict::Forwarded(port)) => format!("forwarded to {}", name(port)),
        Some(Verdict::Flooded) => "flooded in its bridge".to_owned(),
        Some(Verdict::Answered) => "answered by the switch".to_owned(),
        Some(Verdict::Held) => "held for its first fragment".to_owned(),
        Some(Verdict::Dropped(reason)) => {
            format!("dropped, {}: {}", reason.key(), reason.meaning())
        }
    };
    match flow::of(&copied.data) {
        Some(flow) => {
            let original = flow::original(conntrack, &flow);
            format!("{fate}; flow {} {original}", flow::id(&original))
        }
        None => fate,
    }
}

/// Octets as hexadecimal digits.
fn hex(octets: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// The octets of hexadecimal digits; `None` where there are others.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    let pairs = digits?;
    Some(
        pairs
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | digit))
            .collect(),
    )
}

/// What one client captures, until it is dropped.
pub struct Stream {
    captures: Arc<Captures>,
    id: u64,
    frames: Receiver<FrameRecord>,
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

    /// Waits for frames; an empty response where there were none for a while, so that a client
    /// that has gone is noticed.
    fn next(&mut self) -> Option<Response> {
        let mut frames = onlookers::batch(&self.frames, FRAMES_PER_RESPONSE)?;
        let by_workers = self.captures.lost_by_workers();
        let lost = self.lost.load(Ordering::Relaxed) + by_workers - self.lost_before;
        if let Some(frame) = frames.first_mut().filter(|_| lost > 0) {
            frame.lost = lost;
            self.lost.store(0, Ordering::Relaxed);
            self.lost_before = by_workers;
        }
        Some(Response::records(frames))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.captures.end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_survive_their_digits() {
        let octets: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&octets)), Some(octets));
        assert_eq!(hex(&[0x0a, 0xf0]), "0af0");
        assert_eq!(unhex("0g"), None);
    }
}
