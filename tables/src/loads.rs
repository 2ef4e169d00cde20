//! How many flows each backend carries.

use crate::tally::Tally;

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
pub struct Loads(Tally);

impl Loads {
    /// Counters for ids below `capacity`, all zero. Other ids are not counted.
    pub fn new(capacity: usize) -> Self {
        Self(Tally::new(capacity))
    }

    /// Flows of this backend now; zero for one that is not counted.
    pub fn get(&self, id: LoadId) -> u32 {
        self.0.get(id.0)
    }

    /// Counts a flow that was recorded.
    pub fn add(&self, id: LoadId) {
        self.0.add(id.0);
    }

    /// Takes off a flow that was freed; never below zero.
    pub fn remove(&self, id: LoadId) {
        self.0.remove(id.0);
    }
}
