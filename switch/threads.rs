//! Threads of the switch: started by name, and told of in words where there are none to be had.
//!
//! A limit of processes counts threads as well. At the start as many are asked for as a lab takes, before
//! anything is made; later what cannot be done for want of one is refused, or left undone and remembered.

use std::io;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Whether something was left undone for want of a thread.
static LEFT_UNDONE: AtomicBool = AtomicBool::new(false);

/// What a limit of processes looks like to whoever wants a thread or a program.
const SHORT: &str = "a limit of processes leaves room for no more: see `ulimit -u`, and `pids.max` of \
                     the control group";

/// Starts a thread.
///
/// # Errors
/// The system has none, in words.
pub fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(missed)
}

/// Starts a thread that ends within a scope.
///
/// # Errors
/// As [`start`].
pub fn start_within<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(missed)
}

/// Whether something was left undone for want of a thread since this was asked last.
pub fn left_undone() -> bool {
    LEFT_UNDONE.swap(false, Ordering::Relaxed)
}

/// What the system says to whoever wants a thread or a program, in words.
///
/// Source: clone(2), `EAGAIN`.
pub fn in_words(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EAGAIN) { short() } else { error }
}

/// That there are no threads.
pub fn short() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, SHORT)
}

fn missed(error: io::Error) -> io::Error {
    LEFT_UNDONE.store(true, Ordering::Relaxed);
    in_words(error)
}

/// Sees whether this process may have so many threads more, all at once.
///
/// # Errors
/// It may not, in words.
pub fn check(count: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        // nobody gets through before all are there
        let closed = gate.write();
        let started = (0..count).try_for_each(|at| {
            let waiting = Builder::new().spawn_scoped(scope, || drop(gate.read()));
            waiting.map(drop).map_err(|error| {
                let kind = error.kind();
                io::Error::new(
                    kind,
                    format!(
                        "{count} threads are wanted, and {at} could be started: {}",
                        in_words(error)
                    ),
                )
            })
        });
        drop(closed);
        started
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_asked_for_all_at_once_and_let_go() {
        check(40).unwrap();
        check(0).unwrap();
    }

    #[test]
    fn a_limit_is_told_of_in_words_and_anything_else_as_it_is() {
        let limit = in_words(io::Error::from_raw_os_error(libc::EAGAIN));
        assert!(limit.to_string().contains("pids.max"), "{limit}");
        assert_eq!(limit.kind(), io::ErrorKind::WouldBlock);
        let other = in_words(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(other.raw_os_error(), Some(libc::ENOMEM));
    }

    #[test]
    fn what_is_left_undone_is_told_once() {
        left_undone();
        assert!(start("fine", || 7).is_ok_and(|thread| thread.join().unwrap() == 7));
        missed(io::Error::from_raw_os_error(libc::EAGAIN));
        assert!(left_undone());
        assert!(!left_undone());
    }
}
