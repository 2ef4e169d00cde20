//! Queues that are read without being asked for.
//!
//! Where epoll waits for a queue, whoever fills it has to tell epoll of each frame, and the worker
//! needs a call to be told by it. So a few queues that had frames lately are out of epoll's hands,
//! and read at each turn, until the worker is about to sleep.

use std::io;
use std::os::fd::RawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Queues that are warm at the same time: each costs a call a turn.
const QUEUES: usize = 4;

/// Turns without frames after which a queue gives way to one that has some.
const QUIET: u32 = 64;

/// One of them.
#[derive(Debug)]
struct Queue {
    /// Its number with the worker.
    at: usize,
    descriptor: RawFd,
    /// Turns since it had frames.
    quiet: u32,
}

/// What epoll waits for, and what it need not.
#[derive(Debug, Default)]
pub(super) struct Warm {
    queues: Vec<Queue>,
    /// How many there may be.
    most: usize,
    registry: Option<Registry>,
}

impl Warm {
    /// From this time on there is somebody to tell of queues, and some are warm where the worker
    /// `looks_on` after its last frame.
    pub(super) fn begin(&mut self, registry: Registry, looks_on: bool) {
        self.most = if looks_on { QUEUES } else { 0 };
        self.queues.reserve(self.most);
        self.registry = Some(registry);
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Waits for a queue.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(super) fn watch(&self, at: usize, descriptor: RawFd) -> io::Result<()> {
        let Some(registry) = &self.registry else { return Ok(()) };
        registry.register(&mut SourceFd(&descriptor), Token(at), Interest::READABLE)
    }

    /// Waits for a queue no longer, which is about to be closed.
    pub(super) fn forget(&mut self, at: usize, descriptor: RawFd) {
        let known = self.queues.len();
        self.queues.retain(|queue| queue.at != at);
        if self.queues.len() == known {
            self.leave(descriptor);
        }
    }

    fn leave(&self, descriptor: RawFd) {
        if let Some(registry) = &self.registry {
            // epoll may go on to tell of it: that costs a call, no frame
            let _ = registry.deregister(&mut SourceFd(&descriptor));
        }
    }

    /// Begins a turn; answers the queues to be read in it.
    pub(super) fn turn(&mut self) -> impl Iterator<Item = usize> {
        self.queues.iter_mut().map(|queue| {
            queue.quiet = queue.quiet.saturating_add(1);
            queue.at
        })
    }

    /// Takes note that a queue had frames.
    pub(super) fn heard(&mut self, at: usize, descriptor: Option<RawFd>) {
        let Some(descriptor) = descriptor.filter(|_| self.most > 0) else { return };
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.at == at) {
            queue.quiet = 0;
            return;
        }
        if self.queues.len() == self.most {
            let Some(quiet) = self.queues.iter().position(|queue| queue.quiet > QUIET) else {
                return;
            };
            let queue = self.queues.swap_remove(quiet);
            if self.watch(queue.at, queue.descriptor).is_err() {
                self.queues.push(queue);
                return;
            }
        }
        self.leave(descriptor);
        self.queues.push(Queue { at, descriptor, quiet: 0 });
    }

    /// Has epoll wait for all again; `false` if it does not for one, which is to be looked at.
    pub(super) fn cool(&mut self) -> bool {
        let Self { queues, registry: Some(registry), .. } = self else { return true };
        queues.retain(|Queue { at, descriptor, .. }| {
            registry.register(&mut SourceFd(descriptor), Token(*at), Interest::READABLE).is_err()
        });
        queues.is_empty()
    }
}
