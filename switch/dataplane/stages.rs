//! What the stages of a frame's way cost, so that "is it the switch or the TAP?" has an answer.
//!
//! One burst in [`BURSTS_PER_SAMPLE`] is timed, the same for all stages; the others cost a worker
//! one subtraction. In a burst that is timed frames are sent in a call of their own, which io_uring
//! would otherwise make one with the reading of the next burst.

use std::time::Instant;

use super::counters::Counter;

/// One burst in so many is timed.
pub const BURSTS_PER_SAMPLE: u32 = 64;

/// Time that one worker spent on its sampled bursts, by stage. What a stage takes for a frame is
/// its nanoseconds over its frames; its share of the whole is that of these quotients.
///
/// **Sharing**: written by its worker alone, read by anyone. The fields are written one after the
/// other, so that a reader may see a burst in some of them only.
#[derive(Debug, Default)]
pub struct Stages {
    /// Bursts timed, those alone that had frames.
    pub bursts: Counter,
    /// Frames they had.
    pub frames: Counter,
    /// Nanoseconds in which these frames were received: the system calls that read them.
    pub receive_nanos: Counter,
    /// Nanoseconds in which they were parsed and hashed, and their places in conntrack looked at.
    pub parse_nanos: Counter,
    /// Nanoseconds in which they were looked up, judged and rewritten, sending left out.
    pub judge_nanos: Counter,
    /// Frames whose sending was timed: those that the timed bursts, or the bursts before them, sent.
    pub sent_frames: Counter,
    /// Nanoseconds in which those were sent: the system calls that write them, inside which the
    /// receivers' protocol stacks run.
    pub send_nanos: Counter,
}

/// Times a worker's bursts for [`Stages`].
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// Bursts until the next that is timed.
    left: u32,
    /// When the stage before ended, while a burst is timed.
    lap: Option<Instant>,
}

impl Stopwatch {
    /// Hears of a new burst; answers whether it is to be timed. The first is.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        let is_timed = self.left == 0;
        self.lap = is_timed.then(Instant::now);
        self.left = self.left.saturating_sub(1);
        is_timed
    }

    /// Nanoseconds since the stage before ended; zero while nothing is timed.
    #[inline]
    pub(super) fn lap(&mut self) -> u64 {
        self.lap.as_mut().map_or(0, |lap| {
            let now = Instant::now();
            nanos(now.duration_since(std::mem::replace(lap, now)))
        })
    }

    /// Whether this burst is timed.
    #[inline]
    pub(super) const fn is_running(&self) -> bool {
        self.lap.is_some()
    }

    /// Ends the timing of a burst. One that had no frames does not count: the next is timed instead.
    pub(super) const fn end(&mut self, had_frames: bool) {
        if self.lap.take().is_some() && had_frames {
            self.left = BURSTS_PER_SAMPLE - 1;
        }
    }
}

/// Nanoseconds of a duration.
pub(super) fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_burst_in_so_many_is_timed_and_empty_ones_do_not_count() {
        let mut stopwatch = Stopwatch::default();
        let mut timed = Vec::new();
        for burst in 0..3 * BURSTS_PER_SAMPLE {
            if stopwatch.begin() {
                timed.push(burst);
            }
            assert_eq!(stopwatch.is_running(), timed.last() == Some(&burst));
            stopwatch.end(burst != 0);
            assert!(!stopwatch.is_running());
        }
        assert_eq!(timed, [0, 1, 1 + BURSTS_PER_SAMPLE, 1 + 2 * BURSTS_PER_SAMPLE]);
    }

    #[test]
    fn laps_are_from_one_to_the_next_and_nothing_unless_timed() {
        let mut stopwatch = Stopwatch::default();
        assert_eq!(stopwatch.lap(), 0);
        assert!(stopwatch.begin());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(stopwatch.lap() >= 2_000_000);
        let whole = Instant::now();
        let lap = stopwatch.lap();
        assert!(lap < 2_000_000 || nanos(whole.elapsed()) >= 2_000_000, "{lap}");
        stopwatch.end(true);
        assert_eq!(stopwatch.lap(), 0);
    }
}
