//! One run of a container's program.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kswitch_config::Program;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::kept::{self, Entry, Output, Register};
use super::log::{LINE_MAX, Log};
use crate::lab::process;
use crate::rights::{self, keeper};

/// Added to the number of the signal that ended a program, for its exit code.
const SIGNAL: i32 = 128;

/// A program that runs, and all that it started. Whatever is left of them ends when this is dropped.
#[derive(Debug)]
pub(super) struct Run {
    process: Process,
    group: Pid,
    /// What is said to those that are left: once the first process has ended, the others go at once.
    last_word: Signal,
}

/// Whose process it is.
#[derive(Debug)]
enum Process {
    /// A child of this process.
    Child(Child),
    /// One that a run of the lab before this one has started.
    Adopted(Entry),
}

/// How often is looked whether an adopted process still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The exit code of an adopted process that ended unseen.
const UNSEEN: i32 = 255;

/// What is to become of what a program says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ears<'a> {
    /// Nobody listens.
    None,
    /// It goes to this log. Pipes have names where there is a register.
    Log(&'a Arc<Log>, &'a Register, (&'a str, &'a str)),
}

/// Looks after a program that a run before this one has started.
pub(super) fn adopt(entry: Entry, program: &Program, ears: Ears<'_>) -> Run {
    if let Ears::Log(log, register, pod) = ears {
        for output in [Output::Standard, Output::Error] {
            if let Some(path) = register.pipe_path(pod, program, output)
                && let Ok(pipe) = pipe::OpenOptions::new().open_receiver(path)
            {
                tokio::spawn(listen(pipe, Arc::clone(log)));
            }
        }
    }
    let group = Pid::from_raw(entry.process);
    Run { process: Process::Adopted(entry), group, last_word: Signal::SIGTERM }
}

/// A command in the namespaces of a machine.
///
/// # Errors
/// There is no such program or directory, or what else the system says.
pub(super) async fn start(
    namespace: &str,
    program: &Program,
    command: &[String],
    ears: Ears<'_>,
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
    let mut named = Vec::new();
    match ears {
        Ears::None => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        Ears::Log(_, register, pod) => {
            let stdout = register.pipe(pod, program, Output::Standard)?;
            let stderr = register.pipe(pod, program, Output::Error)?;
            for (output, end) in [(Output::Standard, &stdout), (Output::Error, &stderr)] {
                if end.is_some()
                    && let Some(path) = register.pipe_path(pod, program, output)
                {
                    // while the other end is open, lest it seem closed
                    named.push(pipe::OpenOptions::new().open_receiver(path)?);
                }
            }
            command.stdout(stdout.map_or_else(Stdio::piped, Stdio::from));
            command.stderr(stderr.map_or_else(Stdio::piped, Stdio::from));
        }
    }
    let security = program.security.clone();
    // as whom, before what: whoever is not root cannot become anybody else
    security.group.or(security.user).map(|group| command.gid(group));
    security.user.map(|user| command.uid(user));
    let (namespace, runtime) = (namespace.to_owned(), Handle::current());
    let spawned = keeper::done(move || {
        // what is missing is the same for all of them; `exec` tells of it
        process::become_host(&namespace, None)?;
        rights::container(&security)?;
        let _guard = runtime.enter();
        command.spawn()
    });
    let mut child = spawned.await?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
    if let Ears::Log(log, ..) = ears {
        for pipe in named {
            tokio::spawn(listen(pipe, Arc::clone(log)));
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // they end with the last process that could say something
        stdout.map(|stdout| tokio::spawn(listen(stdout, Arc::clone(log))));
        stderr.map(|stderr| tokio::spawn(listen(stderr, Arc::clone(log))));
    }
    let process = Process::Child(child);
    Ok(Run { process, group: Pid::from_raw(id), last_word: Signal::SIGTERM })
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
    /// The number of its process.
    pub(super) const fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// Waits for its end; answers its exit code.
    pub(super) async fn end(&mut self) -> i32 {
        let status = match &mut self.process {
            Process::Child(child) => child.wait().await,
            Process::Adopted(entry) => {
                while kept::started(entry.process) == Some(entry.start) {
                    sleep(LOOK_AGAIN).await;
                }
                self.last_word = Signal::SIGKILL;
                return reaped(self.group);
            }
        };
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

/// The exit code of a process that has ended, where it is this process's to know: a switch that has
/// become another program still is the parent.
fn reaped(process: Pid) -> i32 {
    match waitpid(process, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => SIGNAL + signal as i32,
        _ => UNSEEN,
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // none may be left
        let _ = killpg(self.group, self.last_word);
    }
}
