//! How many flows each backend carries.

use std::sync::atomic::{AtomicU32, Ordering};

/// Index of a backend's counter in [`Loads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u16);

impl LoadId {
    /// Of backends that nobody counts for.
    pub const NONE: Self = Self(u16::MAX);
    /// How many backends can be counted for.
    pub const COUNT: usize = u16::MAX as usize;
}

/// Flows per backend, for choices that prefer the idle.
///
/// A counter outlives snapshots: its id is the same for as long as its backend is there. An id that
/// is given away while flows of its last backend live begins with these.
///
/// **Sharing**: whoever records a flow adds it, and whoever removes the flow takes it off again. A
/// count is a hint for choosing, so a reader may see it a moment late.
#[derive(Debug, Default)]
pub struct Loads {
    counters: Box<[AtomicU32]>,
}

impl Loads {
    /// Counters for ids below `capacity`, all zero. Other ids are not counted.
    pub fn new(capacity: usize) -> Self {
        Self { counters: std::iter::repeat_with(AtomicU32::default).take(capacity).collect() }
    }

    /// Flows of this backend now; zero for one that is not counted.
    pub fn get(&self, id: LoadId) -> u32 {
        // Relaxed here and below: a count orders nothing
        self.counter(id).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Counts a flow that was recorded.
    pub fn add(&self, id: LoadId) {
        if let Some(counter) = self.counter(id) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes off a flow that was freed; never below zero.
    pub fn remove(&self, id: LoadId) {
        if let Some(counter) = self.counter(id) {
            let less = |count: u32| count.checked_sub(1);
            // an error means that it was zero already, and stays so
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn counter(&self, id: LoadId) -> Option<&AtomicU32> {
        self.counters.get(id.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down_but_not_below_zero() {
        let loads = Loads::new(2);
        loads.add(LoadId(1));
        loads.add(LoadId(1));
        loads.remove(LoadId(1));
        loads.remove(LoadId(0));
        assert_eq!((loads.get(LoadId(0)), loads.get(LoadId(1))), (0, 1));
    }

    #[test]
    fn ids_beyond_the_counters_are_not_counted() {
        let loads = Loads::new(1);
        loads.add(LoadId::NONE);
        loads.remove(LoadId::NONE);
        assert_eq!(loads.get(LoadId::NONE), 0);
    }
}
