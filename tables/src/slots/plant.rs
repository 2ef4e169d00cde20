//! Bugs that the model checker can put into the protocol, to prove that its models would find them.
//!
//! Outside the model a table has none, and what asks for them is decided at compile time.

#[cfg(not(all(loom, test)))]
use super::atomic::Ordering;

/// A mistake at one place of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// `read` does not look at the stamp again.
    NoRecheck,
    /// `read` has no fence before it looks again.
    NoReadFence,
    /// `read` does not acquire the stamp.
    RelaxedRead,
    /// `claim` does not acquire the slot from the one who freed it.
    RelaxedClaim,
    /// `claim` has no fence before it writes the key.
    NoClaimFence,
    /// `claim` leaves the version as it was.
    SameVersion,
    /// `claim` does not count the slots its entry passes.
    NoOverflow,
    /// `claim_on` does not acquire the stamp.
    RelaxedLook,
    /// `settle` has no fence between showing its entry and looking for rivals.
    NoSettleFence,
    /// `settle` does not look for rivals.
    NoSettle,
    /// `settle` leaves a rival at a higher position alone.
    NoOust,
    /// `commit` does not release the value.
    RelaxedCommit,
    /// `replace` has no fence before it writes the value.
    NoReplaceFence,
    /// `replace` does not release the value.
    RelaxedReplace,
    /// `replace` does not see whether the entry was removed meanwhile.
    NoHandOver,
    /// `replace` has no fence before it sees that.
    NoHandOverFence,
    /// `bury` has no fence before it looks at the stamp.
    NoBuryFence,
    /// `vacate` leaves the slots passed counted.
    NoUncount,
    /// `remove` stores death instead of swapping it for what was observed.
    BlindRemove,
    /// `refresh` does not release, and `life` does not acquire.
    RelaxedLife,
    /// `refresh` and `remove` do not tell an entry from its successor.
    NoTag,
    /// Conntrack records the original direction before the reply's.
    OriginalFirst,
    /// Conntrack reserves the original direction first, whichever key is the lesser.
    CallOrder,
    /// Conntrack takes the remains of a removed connection for a living one.
    NoOrphans,
    /// Conntrack refreshes the reply direction's copy of a life, not the life.
    CopyOnly,
    /// Conntrack does not look whether the copy of a life is that of the latest.
    CopyOnce,
    /// Conntrack looks for the reply direction after it has removed the original.
    LatePeer,
    /// Conntrack takes the original in a reply's other slot for that reply's own.
    AnyOwner,
}

/// What a table does wrong on purpose: nothing, outside the models.
#[cfg(not(all(loom, test)))]
#[derive(Debug)]
pub(super) struct Plants;

#[cfg(not(all(loom, test)))]
#[expect(clippy::unused_self, reason = "the models' namesake looks into itself")]
impl Plants {
    #[inline]
    pub(super) const fn has(&self, _: Plant) -> bool {
        false
    }

    /// `right`, unless the bug is planted.
    #[inline]
    pub(super) const fn order(&self, _: Plant, right: Ordering) -> Ordering {
        right
    }
}

/// What a table does wrong on purpose.
#[cfg(all(loom, test))]
#[derive(Debug)]
pub(super) struct Plants(pub(super) Option<Plant>);

#[cfg(all(loom, test))]
impl Plants {
    pub(super) const fn has(&self, plant: Plant) -> bool {
        matches!(self.0, Some(planted) if planted as u32 == plant as u32)
    }

    pub(super) fn order(
        &self,
        plant: Plant,
        right: super::atomic::Ordering,
    ) -> super::atomic::Ordering {
        if self.has(plant) { super::atomic::Ordering::Relaxed } else { right }
    }
}
