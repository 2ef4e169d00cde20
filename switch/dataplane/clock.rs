//! The clock that workers judge by.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use kswitch_tables::Tick;

use super::worker::tick;

/// How far the clock was put forward, in ticks. Waiting for what takes hours is no test of a lab
/// whose sockets are real; putting its clock forward is.
///
/// **Sharing**: the control side puts it forward, any worker reads it once a turn.
#[derive(Debug, Default)]
pub struct Ahead(AtomicU32);

impl Ahead {
    /// Puts the clock forward by so many ticks.
    pub fn put_forward(&self, ticks: u32) {
        // Relaxed: no table is published by the clock; a worker may see the new time a turn later
        let sum = self.0.load(Ordering::Relaxed).saturating_add(ticks);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// The tick of a moment, of a clock that started at `start`.
    pub fn tick(&self, start: Instant, now: Instant) -> Tick {
        // Relaxed, as above
        Tick(tick(start, now).0.saturating_add(self.0.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_put_forward_stays_so() {
        let (ahead, start) = (Ahead::default(), Instant::now());
        let later = start + Duration::from_secs(2);
        assert_eq!(ahead.tick(start, later), Tick(20));
        ahead.put_forward(Tick::from_secs(60).0);
        ahead.put_forward(Tick::from_secs(60).0);
        assert_eq!(ahead.tick(start, later), Tick(1220));
    }
}
