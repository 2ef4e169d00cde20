//! Who keeps what workers learn, and is woken when there is something new.

use std::sync::OnceLock;
use std::thread::{self, Thread};

/// The thread of the control side that keeps neighbours. **Sharing**: set once, woken by anyone.
#[derive(Debug, Default)]
pub struct Keeper(OnceLock<Thread>);

impl Keeper {
    /// Has the calling thread woken from now on; the first one stays.
    pub fn enrol(&self) {
        // a second keeper would only be woken less often than it could be
        let _ = self.0.set(thread::current());
    }

    /// Wakes the keeper, if there is one. **Cost**: a system call where it sleeps; never on the way
    /// of established flows.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}
