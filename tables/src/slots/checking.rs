//! How models are run, and how they prove that they find bugs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kswitch-tables --release --lib loom`
//!
//! Every model runs as it is, and must pass; then once for each of the bugs it claims to find, and
//! must fail. How many executions were explored is printed, and must not be few: the checker
//! (0.7.2) is known to stop early without a word (tokio-rs/loom#166, #392), which is why the thread
//! that loads and then stores is the main one where there is a choice, and why
//! [`AtomicStamp`](super::atomic::AtomicStamp) takes turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::plant::Plant;

/// How many preemptions of a thread by the other are explored; `None` is all. The environment's
/// `LOOM_MAX_PREEMPTIONS` goes before it.
type Bound = Option<usize>;

/// Runs a model as it is, and with each of the bugs it must find.
pub(crate) fn check(name: &str, bound: Bound, model: fn(Option<Plant>), finds: &[Plant]) {
    let explored = explore(bound, model, None).expect("the model fails as it is");
    eprintln!("{name}: {explored} executions");
    assert!(explored > 5, "{name} explores next to nothing");
    for plant in finds {
        let outcome = explore(bound, model, Some(*plant));
        eprintln!("{name}: {plant:?} {}", if outcome.is_err() { "found" } else { "MISSED" });
        assert!(outcome.is_err(), "{name} does not find {plant:?}");
    }
}

/// The number of executions of a model; an error if one of them fails.
fn explore(bound: Bound, model: fn(Option<Plant>), plant: Option<Plant>) -> Result<usize, ()> {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let run = move || {
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 20_000;
        if builder.preemption_bound.is_none() {
            builder.preemption_bound = bound;
        }
        builder.check(move || {
            counter.fetch_add(1, Relaxed);
            model(plant);
        });
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| ())?;
    Ok(count.load(Relaxed))
}
