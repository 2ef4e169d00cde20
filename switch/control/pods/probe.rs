//! Asking a container how it is, again and again, and how long to leave alone what fails.

use std::time::Duration;

use kswitch_config::{Probe, Program};
use tokio::time::{sleep, timeout};

use super::ask::Target;

/// What has come of asking again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Often enough in a row it was well.
    Good,
    /// Often enough in a row it was not.
    Bad,
}

/// Asks until one of the verdicts is reached that was not the last.
#[derive(Debug)]
pub(super) struct Asking<'p> {
    probe: &'p Probe,
    target: &'p Target,
    program: &'p Program,
    is_first: bool,
}

impl<'p> Asking<'p> {
    pub(super) const fn new(probe: &'p Probe, target: &'p Target, program: &'p Program) -> Self {
        Self { probe, target, program, is_first: true }
    }

    /// The next verdict, `last` being the one before it.
    pub(super) async fn next(&mut self, last: Option<Verdict>) -> Verdict {
        let (mut good, mut bad) = (0, 0);
        loop {
            let pause = if self.is_first { self.probe.delay } else { self.probe.period };
            self.is_first = false;
            sleep(pause).await;
            let Probe { action, timeout: patience, .. } = self.probe;
            let asking = self.target.ask(action, *patience, self.program);
            let asked = timeout(*patience, asking).await;
            if matches!(asked, Ok(Ok(true))) {
                (good, bad) = (good + 1, 0);
            } else {
                (good, bad) = (0, bad + 1);
            }
            if good >= self.probe.successes && last != Some(Verdict::Good) {
                return Verdict::Good;
            }
            if bad >= self.probe.failures && last != Some(Verdict::Bad) {
                return Verdict::Bad;
            }
        }
    }
}

/// How long to wait before a program is started again.
///
/// Source: kubelet, container restart back-off: from ten seconds, doubled each time, up to five
/// minutes; from the start again after a run of ten minutes.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    const FIRST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_mins(5);
    const FORGOTTEN: Duration = Duration::from_mins(10);

    /// The wait after a run that took so long: none after the first.
    pub(super) fn after(&mut self, run: Duration) -> Duration {
        if run >= Self::FORGOTTEN {
            self.next = Duration::ZERO;
        }
        let now = self.next;
        self.next = if now.is_zero() { Self::FIRST } else { (now * 2).min(Self::LONGEST) };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_again_and_again_is_left_alone_for_longer() {
        let mut back_off = BackOff::default();
        let mut after = |seconds| back_off.after(Duration::from_secs(seconds)).as_secs();
        assert_eq!([1; 8].map(&mut after), [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!([600, 1].map(&mut after), [0, 10]);
    }
}
