//! Which backend, and which of its places.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hyper::HeaderMap;
use kswitch_config::routing::{
    Backend, BackendKey, PersistenceKind, Place, Rule, Target, TargetBackend,
};

use super::Shared;

/// 2⁶⁴ divided by the golden ratio: its multiples fall evenly into any parts of a whole.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    /// By rule, so that one rule's requests do not shift another's.
    rules: RwLock<HashMap<String, Arc<AtomicU64>>>,
    backends: RwLock<HashMap<BackendKey, Arc<AtomicUsize>>>,
}

impl Turns {
    /// A number of 64 bits; those of one rule fall evenly into any parts.
    pub fn share(&self, rule: &str) -> u64 {
        let turns = {
            let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
            rules.get(rule).cloned()
        };
        let turns = turns.unwrap_or_else(|| {
            let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(rules.entry(rule.to_owned()).or_default())
        });
        turns.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN)
    }

    /// The number of this turn.
    fn next(&self, backend: &BackendKey) -> usize {
        let turns = {
            let backends = self.backends.read().unwrap_or_else(PoisonError::into_inner);
            backends.get(backend).cloned()
        };
        let turns = turns.unwrap_or_else(|| {
            let mut backends = self.backends.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(backends.entry(backend.clone()).or_default())
        });
        turns.fetch_add(1, Ordering::Relaxed)
    }
}

/// The backend whose turn it is, by weight; `None` if all weigh nothing.
pub fn target<'r>(shared: &Shared, rule: &'r Rule) -> Option<&'r Target> {
    if let [only] = rule.targets.as_slice() {
        return Some(only).filter(|target| target.weight > 0);
    }
    let all: u64 = rule.targets.iter().map(|target| u64::from(target.weight)).sum();
    // the part of the whole in which the number falls
    let share = u128::from(shared.turns.share(&rule.name)) * u128::from(all);
    let mut at = u64::try_from(share >> 64).unwrap_or(0);
    rule.targets.iter().find(|target| {
        let weight = u64::from(target.weight);
        let is_it = at < weight;
        at = at.saturating_sub(weight);
        is_it
    })
}

/// What a client is known by where its requests stay at one place; `None`: they need not.
pub fn key(backend: &Backend, client: IpAddr, headers: Option<&HeaderMap>) -> Option<u64> {
    let by = backend.affinity.as_ref()?;
    match by.kind {
        PersistenceKind::ClientIp => Some(hash(client)),
        PersistenceKind::HeaderHash => Some(hash(headers?.get(by.name.as_str())?.as_bytes())),
        PersistenceKind::Cookie | PersistenceKind::Header => None,
    }
}

/// The place of a backend whose turn it is, among those that are healthy; with a key, always the
/// same one for it.
pub fn place<'b>(shared: &Shared, backend: &'b Backend, key: Option<u64>) -> Option<&'b Place> {
    shared.health.choose(backend, |usable| {
        if let Some(key) = key {
            // the place of the highest score: others keep theirs when one goes
            return usable.iter().max_by_key(|place| hash((key, place.address)));
        }
        let count = usable.iter().count();
        let turn = shared.turns.next(&backend.key);
        // who turns ill meanwhile is the next one's business
        usable.iter().nth(turn.checked_rem(count)?).or_else(|| usable.iter().next())
    })
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What a client is told to be known again by: the place that it had.
pub fn token(place: SocketAddr) -> String {
    format!("{:016x}", hash(place))
}

/// The place that a token stands for, and the backend that has it.
pub fn known<'r>(shared: &Shared, rule: &'r Rule, wanted: &str) -> Option<(&'r Target, &'r Place)> {
    rule.targets.iter().find_map(|target| {
        let TargetBackend::Service(backend) = &target.backend else { return None };
        Some((target, known_place(shared, backend, wanted)?))
    })
}

/// The place of a backend that a token stands for.
pub fn known_place<'b>(shared: &Shared, backend: &'b Backend, wanted: &str) -> Option<&'b Place> {
    shared
        .health
        .choose(backend, |usable| usable.iter().find(|place| token(place.address) == wanted))
}
