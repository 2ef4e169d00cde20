//! The atomics of this module: the processor's, or the model checker's.

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{
    AtomicU32, AtomicU32 as AtomicStamp, AtomicU64, AtomicU64 as AtomicLife, AtomicUsize, Ordering,
    fence,
};

#[cfg(loom)]
pub(super) use checked::{AtomicLife, AtomicStamp};
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Lets another thread get on with what this one waits for.
#[inline]
pub(super) fn pause() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// The words by which threads decide who does what, under the model checker.
///
/// Of the accesses to an atomic the checker (0.7.2) remembers the last one alone. A thread that
/// loads and then stores is taken to conflict with its own load only, and the orders of its store
/// and other threads' earlier accesses go unexplored (tokio-rs/loom#166, #392). Here each access
/// first takes a turn, by a relaxed read-modify-write of another atomic: that conflicts with every
/// other access, and orders nothing in the memory model.
#[cfg(loom)]
mod checked {
    use loom::sync::atomic::{self, AtomicU32, Ordering};

    macro_rules! taking_turns {
        ($name:ident, $atomic:ident, $word:ty) => {
            #[derive(Debug)]
            pub(in super::super) struct $name {
                word: atomic::$atomic,
                turn: AtomicU32,
            }

            impl $name {
                pub(in super::super) fn new(value: $word) -> Self {
                    Self { word: atomic::$atomic::new(value), turn: AtomicU32::new(0) }
                }

                fn word(&self) -> &atomic::$atomic {
                    self.turn.fetch_add(1, Ordering::Relaxed);
                    &self.word
                }

                pub(in super::super) fn load(&self, order: Ordering) -> $word {
                    self.word().load(order)
                }

                pub(in super::super) fn store(&self, value: $word, order: Ordering) {
                    self.word().store(value, order);
                }

                pub(in super::super) fn compare_exchange(
                    &self,
                    current: $word,
                    new: $word,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$word, $word> {
                    self.word().compare_exchange(current, new, success, failure)
                }
            }
        };
    }

    taking_turns!(AtomicStamp, AtomicU32, u32);
    taking_turns!(AtomicLife, AtomicU64, u64);
}
