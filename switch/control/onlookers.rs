//! The thread that empties what workers tell and copy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::capture::Captures;
use super::monitor::Monitor;
use crate::rights;
use crate::threads;

/// How long to wait between two looks, while nobody looks on: refusals are counted all the same.
const IDLE: Duration = Duration::from_millis(100);

/// While somebody does.
const WATCHED: Duration = Duration::from_millis(20);

/// While frames are captured: rings are full after a few milliseconds.
const CAPTURING: Duration = Duration::from_millis(2);

/// How long a stream waits before it says that there was nothing: by that a client that has gone is
/// noticed.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What has come to a stream: nothing after a while of silence, else one and at most `more`; `None`
/// once nothing will come any more.
pub(super) fn batch<T>(queue: &Receiver<T>, more: usize) -> Option<Vec<T>> {
    let first = match queue.recv_timeout(HEARTBEAT) {
        Ok(first) => Some(first),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return None,
    };
    Some(first.into_iter().chain(queue.try_iter().take(more)).collect())
}

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(super) struct Onlookers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Onlookers {
    /// Empties what is told to these from now on.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn start(monitor: Arc<Monitor>, captures: Arc<Captures>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = threads::start("onlookers", move || {
            rights::stand_back(rights::ONLOOKER);
            captures.drained_by(thread::current());
            while !stopping.load(Ordering::Relaxed) {
                monitor.drain();
                captures.drain();
                thread::park_timeout(match (captures.is_on(), monitor.is_watched()) {
                    (true, _) => CAPTURING,
                    (false, true) => WATCHED,
                    (false, false) => IDLE,
                });
            }
        });
        Ok(Self { stop, thread: Some(thread?) })
    }
}

impl Drop for Onlookers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // it ends on its own; a panic in it must not keep the lab from going down
            let _ = thread.join();
        }
    }
}
