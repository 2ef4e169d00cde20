//! A thread that keeps rights which others have given up, and does for them what takes these.
//!
//! It starts a thread for each piece of work, which inherits its rights: entering a namespace is for
//! good, and whatever waits holds up nobody else. Only code of this program can ask, by a closure.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use tokio::sync::oneshot;

use crate::threads;

type Work = Box<dyn FnOnce() + Send>;

static KEEPER: OnceLock<Sender<Work>> = OnceLock::new();

/// Starts the thread, if it is not there, with the rights of the calling one.
///
/// # Errors
/// The system has no more threads.
pub fn start() -> io::Result<()> {
    if KEEPER.get().is_some() {
        return Ok(());
    }
    let (sender, works) = mpsc::channel::<Work>();
    threads::start("keeper", move || {
        for work in works {
            // without a thread the work is dropped, which whoever waits for it notices
            if let Err(error) = spawn(work) {
                tracing::warn!("no namespace can be entered: {error}");
            }
        }
    })?;
    // of two that come at once one is enough: the other ends, having nobody who sends to it
    let _ = KEEPER.set(sender);
    Ok(())
}

/// Does this on a thread of its own: with the keeper's rights, or where nobody has given up any,
/// with the caller's. Dropped undone if there is no such thread.
///
/// # Errors
/// The system has no more threads.
pub fn ask(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work: Work = Box::new(work);
    match KEEPER.get() {
        Some(keeper) => keeper.send(work).map_err(|_| io::ErrorKind::BrokenPipe.into()),
        None => spawn(work),
    }
}

fn spawn(work: Work) -> io::Result<()> {
    threads::start("inside", work).map(drop)
}

/// Does this as [`ask`] says; other tasks of the caller's thread go on meanwhile.
///
/// # Errors
/// What `work` says, or that there is no thread for it.
pub async fn done<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    // whoever asked may have gone meanwhile
    ask(move || drop(sender.send(work())))?;
    done.await.map_err(|_| threads::short())?
}

/// Does this as [`ask`] says, and waits for it.
///
/// # Errors
/// What `work` says, or that there is no thread for it.
pub fn wait<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = mpsc::channel();
    // whoever asked waits below
    ask(move || drop(sender.send(work())))?;
    done.recv().map_err(|_| threads::short())?
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn work_is_done_and_answered() {
        start().unwrap();
        start().unwrap();
        assert_eq!(
            wait(|| Ok(thread::current().name().map(str::to_owned))).unwrap().unwrap(),
            "inside"
        );
        assert!(wait(|| Err::<(), _>(io::Error::other("no"))).is_err());
    }

    #[test]
    fn a_thread_without_rights_has_work_done_with_them() {
        start().unwrap();
        let before = rustix::thread::capabilities(None).unwrap().permitted;
        let asked = thread::spawn(|| {
            crate::rights::keep_none().unwrap();
            wait(|| Ok(rustix::thread::capabilities(None)?.permitted)).unwrap()
        });
        assert_eq!(asked.join().unwrap(), before);
    }
}
