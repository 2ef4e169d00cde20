//! Going on as another program, or as the same one anew, in the same process.
//!
//! To become another program is to end at once, as by `kill -9`, but for the number of the process and
//! its children: workers are cut off wherever they are, and what the next one finds is what it would
//! find after a kill. So there is one way back, and it is walked often.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::control::request::{Failure, Response};
use crate::rights::keeper;

/// The program to become, once the main thread hears of it.
static NEXT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// How long the client who asked has for reading that it begins.
const LAST_WORD: Duration = Duration::from_millis(50);

/// The variable of the environment by which a process knows of the panics before it.
const PANICS: &str = "KSWITCH_PANICS";

/// So many panics in so many seconds are no accident any more.
const PANICS_MAX: u32 = 3;
const PANICS_WITHIN: u64 = 60;

/// Has the main thread become this program, if it would run the lab.
pub(in crate::control) fn request(config: &Path, binary: Option<PathBuf>) -> Response {
    let binary = match binary.map_or_else(own_binary, Ok) {
        Ok(binary) => binary,
        Err(error) => return Response::failed(Failure::Internal, error.to_string()),
    };
    let name = binary.display();
    let mut check = Command::new(&binary);
    check.arg("--config").arg(config).arg("--check").stdin(Stdio::null());
    match check.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Response::failed(Failure::Invalid, format!("{name} refuses the lab: {said}"));
        }
        Err(error) => {
            return Response::failed(Failure::Invalid, format!("cannot run {name}: {error}"));
        }
    }
    *NEXT.lock().unwrap_or_else(PoisonError::into_inner) = Some(binary.clone());
    if let Err(error) = kill(Pid::this(), Signal::SIGUSR2) {
        return Response::failed(Failure::Internal, error.to_string());
    }
    Response::Done { lines: vec![format!("goes on as {name}")] }
}

/// Becomes the program that was asked for. Comes back only if that fails, and then nothing has
/// changed.
pub(in crate::control) fn go_on() {
    let Some(binary) = NEXT.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    thread::sleep(LAST_WORD);
    let error = become_program(Some(binary.clone()), None);
    tracing::error!("cannot become {}: {error}", binary.display());
}

/// Turns this process into a program with the same arguments; `None`: the one it is. Comes back with
/// why not.
///
/// The thread that keeps what rights there are does it: the others have fewer, which a program that
/// they start would have as well.
fn become_program(binary: Option<PathBuf>, panics: Option<Panics>) -> io::Error {
    let turn = move || -> io::Result<()> {
        let mut command = Command::new(binary.map_or_else(own_binary, Ok)?);
        command.args(std::env::args_os().skip(1));
        if let Some(panics) = panics {
            command.env(PANICS, panics.to_string());
        }
        Err(command.exec())
    };
    keeper::wait(turn).err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// The file of this program; if another one was put in its place, that one.
fn own_binary() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // Source: proc_pid_exe(5)
    let name = path.as_os_str().as_bytes();
    Ok(match name.strip_suffix(b" (deleted)") {
        Some(name) => OsString::from_vec(name.to_vec()).into(),
        None => path,
    })
}

/// From now on a panic that would end the switch, or leave it with a worker less, has the process begin
/// anew: flows, machines and programs of pods are taken over.
pub(in crate::control) fn survive_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread");
        // where panics unwind, whoever waits for another thread deals with it
        let is_fatal = cfg!(panic = "abort") || name.starts_with("worker-") || name == "sweep";
        if is_fatal {
            begin_anew(name);
        }
    }));
}

fn begin_anew(thread: &str) {
    // of the next program it is the same clock, and nobody sets it
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let now = now.map_or(0, |since| since.as_secs());
    let past = std::env::var(PANICS).ok().and_then(|text| Panics::parse(&text));
    let panics = Panics::after(past, now);
    if panics.count > PANICS_MAX {
        tracing::error!(
            "{thread} panicked, the {}th time within a minute: the switch stays down; \
             `kswitch clean` removes what is left",
            panics.count
        );
        std::process::abort();
    }
    tracing::error!("{thread} panicked: the switch begins anew, flows go on");
    let error = become_program(None, Some(panics));
    tracing::error!("cannot begin anew: {error}");
    std::process::abort();
}

/// Panics of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Panics {
    count: u32,
    /// When the first of them was, seconds since 1970.
    first: u64,
}

impl Panics {
    fn parse(text: &str) -> Option<Self> {
        let (count, first) = text.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, first: first.parse().ok()? })
    }

    /// With another one now.
    fn after(past: Option<Self>, now: u64) -> Self {
        match past {
            // the clock may have been put back
            Some(past) if now.abs_diff(past.first) < PANICS_WITHIN => {
                Self { count: past.count.saturating_add(1), ..past }
            }
            _ => Self { count: 1, first: now },
        }
    }
}

impl fmt::Display for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_count_while_they_come_close_together() {
        let mut panics = Panics::after(None, 1_000);
        for (now, count) in [(1_010, 2), (1_059, 3), (1_060, 1), (1_061, 2), (900, 1)] {
            panics = Panics::after(Panics::parse(&panics.to_string()), now);
            assert_eq!(panics.count, count, "{now}");
        }
        assert_eq!(Panics::parse("nonsense"), None);
    }
}
