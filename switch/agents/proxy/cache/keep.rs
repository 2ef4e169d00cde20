//! Where answers are kept, and who fetches them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use moka::ops::compute::Op;
use tokio::sync::watch;

use super::stored::{Asked, Stored};

/// Octets that are kept in all.
const OCTETS: u64 = 256 << 20;

/// Answers to one request that differ by fields of it.
///
/// Source: RFC 9110, 12.5.5, `Vary`.
const VARIANTS: usize = 16;

/// Octets that an answer takes beside its body, about.
const OVERHEAD: usize = 1_024;

type Variants = Arc<[Arc<Stored>]>;

/// Answers that are kept, and requests on their way for others.
#[derive(Debug)]
pub struct Cache {
    kept: moka::sync::Cache<String, Variants>,
    going: Mutex<HashMap<String, watch::Receiver<()>>>,
}

/// Whose turn it is to ask a backend.
pub(super) enum Turn {
    /// Mine; others wait until this is dropped.
    First(First),
    /// Somebody else's, who is waited for.
    After(watch::Receiver<()>),
}

/// The first of several that ask the same.
pub(super) struct First(
    #[expect(dead_code, reason = "others wait until it is dropped")] watch::Sender<()>,
);

impl fmt::Debug for First {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("First")
    }
}

impl Default for Cache {
    fn default() -> Self {
        let weight = |key: &String, variants: &Variants| {
            let octets: usize = variants.iter().map(|at| at.body.len() + OVERHEAD).sum();
            u32::try_from(key.len() + octets).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().weigher(weight).max_capacity(OCTETS).build();
        Self { kept, going: Mutex::default() }
    }
}

impl Cache {
    /// The answer for a request, fresh or not.
    pub(super) fn find(&self, key: &str, asked: &Asked) -> Option<Arc<Stored>> {
        let variants = self.kept.get(key)?;
        variants.iter().find(|stored| stored.is_for(asked)).cloned()
    }

    /// Keeps an answer in place of the one for the same requests.
    pub(super) fn put(&self, key: &str, stored: &Arc<Stored>) {
        self.kept.entry_by_ref(key).and_compute_with(|before| {
            let before = before.map(moka::Entry::into_value);
            let others = before.iter().flat_map(|all| all.iter());
            let others = others.filter(|other| !other.is_for(&stored.asked)).cloned();
            let all = std::iter::once(Arc::clone(stored)).chain(others).take(VARIANTS);
            Op::Put(all.collect())
        });
    }

    /// Forgets all answers to a request.
    pub(super) fn forget(&self, key: &str) {
        self.kept.invalidate(key);
    }

    /// Whether to ask, or to wait for somebody who does.
    pub(super) fn turn(&self, key: &str) -> Turn {
        let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        // those who have ended are gone when the next one comes
        going.retain(|_, first| first.has_changed().is_ok());
        if let Some(first) = going.get(key) {
            return Turn::After(first.clone());
        }
        let (sender, receiver) = watch::channel(());
        going.insert(key.to_owned(), receiver);
        Turn::First(First(sender))
    }

    /// The turn, if nobody has it.
    pub(super) fn first(&self, key: &str) -> Option<First> {
        match self.turn(key) {
            Turn::First(first) => Some(first),
            Turn::After(_) => None,
        }
    }
}
