//! How many there are of something, for each number.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts of what comes and goes, by number.
///
/// **Sharing**: whoever makes a thing adds it, and whoever ends it takes it off again. A count is a
/// hint, so a reader may see it a moment late.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Box<[AtomicU32]>,
}

impl Tally {
    /// Counts for numbers below `capacity`, all zero. Other numbers are not counted.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { counts: std::iter::repeat_with(AtomicU32::default).take(capacity).collect() }
    }

    /// How many there are now; zero for what is not counted.
    pub(crate) fn get(&self, number: u16) -> u32 {
        // Relaxed here and below: a count orders nothing
        self.count(number).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts one more.
    pub(crate) fn add(&self, number: u16) {
        if let Some(count) = self.count(number) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one less; never below zero.
    pub(crate) fn remove(&self, number: u16) {
        if let Some(count) = self.count(number) {
            let less = |count: u32| count.checked_sub(1);
            // an error means that it was zero already, and stays so
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn count(&self, number: u16) -> Option<&AtomicU32> {
        self.counts.get(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down_but_not_below_zero() {
        let tally = Tally::new(2);
        tally.add(1);
        tally.add(1);
        tally.remove(1);
        tally.remove(0);
        assert_eq!((tally.get(0), tally.get(1)), (0, 1));
    }

    #[test]
    fn numbers_beyond_the_counts_are_not_counted() {
        let tally = Tally::new(1);
        tally.add(u16::MAX);
        tally.remove(u16::MAX);
        assert_eq!(tally.get(u16::MAX), 0);
    }
}
