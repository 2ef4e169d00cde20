//! Sockets made inside a network namespace that the runtime's own threads are not in.
//!
//! A socket belongs to the namespace of the thread that made it. So a thread is started for each
//! socket, enters the namespace, and ends: no thread that does anything else ever changes its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

use crate::rights::keeper;

/// A network namespace, kept alive.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<OwnedFd>);

impl Namespace {
    /// The one of the calling thread.
    ///
    /// # Errors
    ///
    /// `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Does this on a thread of its own inside the namespace.
    ///
    /// # Errors
    ///
    /// What `work` says, or why the namespace cannot be entered.
    pub(crate) async fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let namespace = Arc::clone(&self.0);
        keeper::done(move || {
            setns(&*namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        })
        .await
    }
}
