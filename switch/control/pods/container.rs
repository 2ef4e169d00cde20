//! One run of a container's program.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::Program;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::log::{LINE_MAX, Log};
use crate::lab::process;
use crate::rights::{self, keeper};

/// Added to the number of the signal that ended a program, for its exit code.
const SIGNAL: i32 = 128;

/// A program that runs, and all that it started. Whatever is left of them ends when this is dropped.
#[derive(Debug)]
pub(super) struct Run {
    child: Child,
    group: Pid,
    /// What is said to those that are left: once the first process has ended, the others go at once.
    last_word: Signal,
}

/// A command in the namespaces of a machine; what it says goes to `log`.
///
/// # Errors
/// There is no such program or directory, or what else the system says.
pub(super) async fn start(
    namespace: &str,
    program: &Program,
    command: &[String],
    log: Option<&Arc<Log>>,
) -> io::Result<Run> {
    let (name, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.directory)
        .stdin(Stdio::null())
        .process_group(0);
    let output = || if log.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdout(output()).stderr(output());
    let security = program.security.clone();
    // as whom, before what: whoever is not root cannot become anybody else
    security.group.or(security.user).map(|group| command.gid(group));
    security.user.map(|user| command.uid(user));
    let (namespace, runtime) = (namespace.to_owned(), Handle::current());
    let spawned = spawn_blocking(move || {
        keeper::wait(move || {
            process::inside(&namespace, || {
                rights::container(&security)?;
                let _guard = runtime.enter();
                command.spawn()
            })
        })
    });
    let mut child = spawned.await.map_err(io::Error::other)??;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
    if let Some(log) = log {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // they end with the last process that could say something
        stdout.map(|stdout| tokio::spawn(listen(stdout, Arc::clone(log))));
        stderr.map(|stderr| tokio::spawn(listen(stderr, Arc::clone(log))));
    }
    Ok(Run { child, group: Pid::from_raw(id), last_word: Signal::SIGTERM })
}

async fn listen(stream: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                log.push(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
}

impl Run {
    /// Waits for its end; answers its exit code.
    pub(super) async fn end(&mut self) -> i32 {
        let status = self.child.wait().await;
        self.last_word = Signal::SIGKILL;
        let code = |status: ExitStatus| {
            status.code().or_else(|| Some(SIGNAL + status.signal()?)).unwrap_or(SIGNAL)
        };
        status.map_or(SIGNAL, code)
    }

    /// Asks it to end, and insists after a while.
    pub(super) async fn stop(&mut self, grace: Duration) -> i32 {
        // it may have ended by itself since
        let _ = killpg(self.group, Signal::SIGTERM);
        match timeout(grace, self.end()).await {
            Ok(code) => code,
            Err(_) => {
                let _ = killpg(self.group, Signal::SIGKILL);
                self.end().await
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // none may be left
        let _ = killpg(self.group, self.last_word);
    }
}
