//! Where the slots of a table are.

use std::ops::Deref;

use super::Slot;

/// The slots of a table: its own, or lent to it for good.
///
/// Both lie in memory as a pointer and a length in the same places, so a look at them costs no
/// decision.
pub(super) enum Room<const KEY: usize, const VALUE: usize> {
    /// Allocated by the table, and freed with it.
    Own(Box<[Slot<KEY, VALUE>]>),
    /// In memory that may outlive the process.
    Lent(&'static [Slot<KEY, VALUE>]),
}

impl<const KEY: usize, const VALUE: usize> Deref for Room<KEY, VALUE> {
    type Target = [Slot<KEY, VALUE>];

    #[inline]
    fn deref(&self) -> &Self::Target {
        match self {
            Self::Own(slots) => slots,
            Self::Lent(slots) => slots,
        }
    }
}
