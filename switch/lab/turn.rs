//! A lab's turn: what one run of it holds alone, and whether who holds it is about to let go.
//!
//! A process that was killed has its lock and its socket until the kernel has undone all of it: it
//! frees the memory first, of which there may be much, on processors that may be busy. Whoever takes its
//! place waits as long as it is seen to end, and not for one that lives.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::process::stat_fields;

/// How long to wait for a process that ends: longer than freeing any amount of memory takes.
const ENDING: Duration = Duration::from_secs(30);

/// How long to wait if it cannot be told who holds it: it may be gone with a child, not yet turned into
/// another program, that has its descriptors for a moment.
const UNKNOWN: Duration = Duration::from_secs(1);

/// How long a process has to be seen alive: one that has just taken the lock has not said so yet.
const ALIVE: Duration = Duration::from_millis(50);

/// After how long that is worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(1);

/// How often is looked whether it has let go.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How the process is that holds what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// It lets go soon.
    Ends,
    /// It lets go when it likes to.
    Lives,
    /// It has no number, or none that this process may look at.
    Unknown,
}

/// Somebody who waits for their turn.
#[derive(Debug)]
pub(crate) struct Turn<'l> {
    lab: &'l str,
    begun: Instant,
    /// How the holder was seen last, and since when.
    seen: Option<(Holder, Instant)>,
    is_told: bool,
}

impl<'l> Turn<'l> {
    /// Begins to wait for what a run of this lab holds.
    pub(crate) fn of(lab: &'l str) -> Self {
        Self { lab, begun: Instant::now(), seen: None, is_told: false }
    }

    /// Lets a moment pass if it is worth waiting for this process to let go; `false`: it is not.
    pub(crate) fn wait(&mut self, process: Option<u32>) -> bool {
        let now = Instant::now();
        if !self.is_worth_it(Holder::of(process), now) {
            return false;
        }
        if now.duration_since(self.begun) >= WORTH_A_WORD && !self.is_told {
            self.is_told = true;
            let before =
                process.map_or_else(String::new, |process| format!(", process {process},"));
            tracing::info!(
                "the run of lab {} before this one{before} is ending still: it is waited for, for {} s at most",
                self.lab,
                ENDING.as_secs()
            );
        }
        thread::sleep(LOOK_AGAIN);
        true
    }

    fn is_worth_it(&mut self, holder: Holder, now: Instant) -> bool {
        let since = match self.seen {
            Some((before, since)) if before == holder => since,
            _ => now,
        };
        self.seen = Some((holder, since));
        now.duration_since(since) < holder.patience()
    }
}

impl Holder {
    fn of(process: Option<u32>) -> Self {
        let Some(process) = process.filter(|process| *process != std::process::id()) else {
            return Self::Unknown;
        };
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else { return Self::Unknown };
        if ends(&stat) || is_killed(&status) { Self::Ends } else { Self::Lives }
    }

    const fn patience(self) -> Duration {
        match self {
            Self::Ends => ENDING,
            Self::Lives => ALIVE,
            Self::Unknown => UNKNOWN,
        }
    }
}

/// Whether a process is on its way out, or gone but for its number.
///
/// Source: proc_pid_stat(5), fields 3 and 9; `PF_EXITING`, `PF_DUMPCORE` and `PF_SIGNALED` of Linux's
/// `sched.h`.
fn ends(stat: &str) -> bool {
    const LEAVING: u32 = 0x4 | 0x200 | 0x400;
    let mut fields = stat_fields(stat);
    let state = fields.next().unwrap_or_default();
    let flags: u32 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or_default();
    matches!(state, "Z" | "X" | "x") || flags & LEAVING != 0
}

/// Whether `SIGKILL` waits for a process.
///
/// Source: proc_pid_status(5), `SigPnd` and `ShdPnd`.
fn is_killed(status: &str) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let pending = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    status.lines().filter_map(pending).any(|mask| mask & KILL != 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_ends_is_told_from_who_lives() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let of = |process| Holder::of(Some(process));
        assert_eq!(of(child.id()), Holder::Lives);
        child.kill().unwrap();
        // killed from here on, whether it has noticed or not, until somebody asks for its exit code
        let process = child.id();
        assert_eq!(of(process), Holder::Ends);
        child.wait().unwrap();
        assert_eq!(of(process), Holder::Unknown);
        assert_eq!(Holder::of(None), Holder::Unknown);
        assert_eq!(of(std::process::id()), Holder::Unknown);
    }

    #[test]
    fn the_words_of_the_kernel_are_read_whatever_a_program_is_called() {
        let stat = |state: &str, flags: u32| {
            format!("7 (a) R b) {state} 1 7 7 0 -1 {flags} 90 0 0 0 0 0 0 0 20 0 1 0 5\n")
        };
        assert!(!ends(&stat("S", 0x40_0000)));
        assert!(!ends(&stat("R", 0x40_0100)));
        assert!(ends(&stat("Z", 0)));
        assert!(ends(&stat("D", 0x40_0004)));
        assert!(ends(&stat("R", 0x40_0400)));
        assert!(!ends(""));
        let status =
            |own: &str, shared: &str| format!("Name:\ta\nSigPnd:\t{own}\nShdPnd:\t{shared}\n");
        let (none, kill) = ("0000000000000000", "0000000000000100");
        assert!(!is_killed(&status(none, none)));
        assert!(!is_killed(&status(none, "0000000000004000")));
        assert!(is_killed(&status(kill, none)));
        assert!(is_killed(&status(none, kill)));
    }

    #[test]
    fn who_lives_is_not_waited_for_and_who_ends_is_for_long() {
        let mut turn = Turn::of("demo");
        let at = |millis| turn.begun + Duration::from_millis(millis);
        let moments = [0, 40, 60, 30_000, 30_070, 30_900, 31_080].map(at);
        let [begun, soon, sure, late, gone, still_gone, enough] = moments;
        let mut is_worth_it = |holder, now| turn.is_worth_it(holder, now);
        assert!(is_worth_it(Holder::Lives, begun));
        assert!(is_worth_it(Holder::Lives, soon));
        assert!(!is_worth_it(Holder::Lives, sure));
        assert!(is_worth_it(Holder::Ends, sure));
        assert!(is_worth_it(Holder::Ends, late));
        assert!(!is_worth_it(Holder::Ends, gone));
        assert!(is_worth_it(Holder::Unknown, gone));
        assert!(is_worth_it(Holder::Unknown, still_gone));
        assert!(!is_worth_it(Holder::Unknown, enough));
    }
}
