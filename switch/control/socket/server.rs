//! The answering side.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::{Answer, Control, Line, MAX_CLIENTS, MAX_REQUEST, PATIENCE, Request, Response};
use super::{client, line, path_of};
use crate::control::request::Failure;
use crate::lab::turn::Turn;
use crate::threads;

/// How long to leave the socket alone when accepting fails, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket of a lab, on which nobody answers yet. Removed when dropped.
///
/// To have it is to be the only switch of that lab.
#[derive(Debug)]
#[must_use = "the socket is removed when this is dropped"]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file, by which it is known from a successor's.
    file: (u64, u64),
}

/// Makes the socket of a lab, in place of one that a killed switch left behind.
///
/// # Errors
///
/// `AddrInUse` if a switch of that lab runs; `PermissionDenied` without the right to write there.
pub fn bind(directory: &Path, lab: &str) -> io::Result<Bound> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Two switches that start at once take turns here; the lock ends with the descriptor.
    let _turn = Flock::lock(File::open(directory)?, FlockArg::LockExclusive)
        .map_err(|(_, error)| io::Error::from(error))?;
    let path = path_of(directory, lab);
    let mut turn = Turn::of(lab);
    while let Some(listener) = client::listener(&path) {
        if !turn.wait(listener.process) {
            let message = format!("a switch of lab {lab} is running already");
            return Err(io::Error::new(ErrorKind::AddrInUse, message));
        }
    }
    // Nobody else may connect, not even before the mode is set: it appears under its name after.
    let unready = directory.join(format!(".{lab}.{}", process::id()));
    remove_if_there(&unready)?;
    let listener = UnixListener::bind(&unready)?;
    fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
    let metadata = fs::symlink_metadata(&unready)?;
    fs::rename(&unready, &path)?;
    Ok(Bound { listener, path, file: (metadata.dev(), metadata.ino()) })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Bound {
    /// Answers from now on, on threads of its own.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn serve(self, control: Arc<dyn Control>) -> io::Result<Server> {
        let shared = Arc::new(Shared::default());
        let listener = self.listener.try_clone()?;
        let for_thread = Arc::clone(&shared);
        let thread = threads::start("control", move || accept(&listener, &control, &for_thread))?;
        Ok(Server { bound: self, shared, thread: Some(thread) })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if is_ours {
            // It is recognised as left behind by the next start, if it stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket being answered on; dropping it cuts off its clients and removes it.
///
/// What a client asked for is not waited for: its thread ends after it, and drops its `Control`.
#[derive(Debug)]
#[must_use = "the socket is removed when this is dropped"]
pub struct Server {
    bound: Bound,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[cfg(test)]
impl Server {
    /// Clients being served.
    pub(super) fn client_count(&self) -> usize {
        self.shared.clients().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts: on Linux, `accept` fails on a socket that was shut down.
        let listener = self.bound.listener.as_raw_fd();
        let _ = nix::sys::socket::shutdown(listener, nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for stream in self.shared.clients().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    /// Clients being served, so that they can be cut off.
    clients: Mutex<BTreeMap<u64, Arc<UnixStream>>>,
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<UnixStream>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &UnixListener, control: &Arc<dyn Control>, shared: &Arc<Shared>) {
    let mut next = 0_u64;
    while !shared.stopping.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            if !shared.stopping.load(Ordering::SeqCst) {
                thread::sleep(ACCEPT_PAUSE);
            }
            continue;
        };
        let stream = Arc::new(stream);
        if shared.clients().len() >= MAX_CLIENTS {
            refuse(&stream, &format!("the switch is serving {MAX_CLIENTS} clients already"));
            continue;
        }
        next += 1;
        let client = Client { id: next, stream: Arc::clone(&stream), shared: Arc::clone(shared) };
        shared.clients().insert(next, stream);
        let (control, told) = (Arc::clone(control), Arc::clone(&client.stream));
        let served = threads::start(&format!("control-{next}"), move || client.serve(&*control));
        if let Err(error) = served {
            refuse(&told, &format!("the switch cannot look after another client: {error}"));
        }
    }
}

fn refuse(stream: &UnixStream, why: &str) {
    let busy = Response::failed(Failure::Internal, why.to_owned());
    // A new socket has room for this line; its client need not read for it to be sent.
    let _ = stream.set_nonblocking(true);
    let _ = send(stream, &Line::Last(busy));
}

/// A client and its place among those being served.
struct Client {
    id: u64,
    stream: Arc<UnixStream>,
    shared: Arc<Shared>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.clients().remove(&self.id);
    }
}

impl Client {
    /// Reads a request and answers it. A client that goes, or does not read, is not told of.
    fn serve(self, control: &dyn Control) {
        let answered = self.request().and_then(|request| match request {
            None => Ok(()),
            Some(Ok(request)) => self.answer(control.answer(request)),
            Some(Err(error)) => {
                let message = format!("the switch does not understand this request: {error}");
                let failure = Response::failed(Failure::Unsupported, message);
                send(&self.stream, &Line::Last(failure))
            }
        });
        if let Err(error) = answered
            && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::TimedOut)
        {
            let failure = Response::failed(Failure::Invalid, format!("the request: {error}"));
            let _ = send(&self.stream, &Line::Last(failure));
        }
    }

    /// The request; `None` if there was none, as from who only looks whether somebody listens.
    fn request(&self) -> io::Result<Option<serde_json::Result<Request>>> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(self.stream.try_clone()?);
        let line = line::read(&mut reader, MAX_REQUEST, Some(PATIENCE))?;
        Ok(line.map(|line| serde_json::from_slice(&line)))
    }

    fn answer(&self, answer: Answer) -> io::Result<()> {
        match answer {
            Answer::One(response) => send(&self.stream, &Line::Last(response)),
            Answer::Many(responses) => {
                for response in responses {
                    send(&self.stream, &Line::More(response))?;
                }
                send(&self.stream, &Line::End)
            }
        }
    }
}

fn send(mut stream: &UnixStream, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text)
}
