//! Which processors there are, and who keeps off those of the workers.
//!
//! A worker that stands still for a few milliseconds loses what does not fit the queues of its ports
//! meanwhile. Compiling, clients and the machines' own servers would make it stand still whenever the
//! scheduler gives them a turn on its processor, so they stay off it where there is another.

use std::sync::OnceLock;

use core_affinity::CoreId;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The processors that the process was started with.
static ALL: OnceLock<Vec<CoreId>> = OnceLock::new();

/// The processors that the process may use, in the order in which workers take them.
pub(in crate::control) fn all() -> &'static [CoreId] {
    ALL.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Has the calling thread, and threads that it starts from now on, leave the processors of so many
/// workers to these, if any is left. Programs of pods and what becomes of the process at an upgrade
/// are started by another thread, and have all of them.
pub(in crate::control) fn leave_to(workers: usize) {
    let others = rest(all(), workers);
    let mut set = CpuSet::new();
    let known = others.iter().filter(|core| set.set(core.id).is_ok()).count();
    if known > 0
        && let Err(error) = sched_setaffinity(Pid::from_raw(0), &set)
    {
        tracing::warn!("the processors of workers are not theirs alone: {error}");
    }
}

/// The processors beyond the first `workers`.
fn rest(all: &[CoreId], workers: usize) -> &[CoreId] {
    all.get(workers..).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_processors_of_their_own_where_there_are_more() {
        let all: Vec<_> = (0..4).map(|id| CoreId { id }).collect();
        assert_eq!(rest(&all, 3), &all[3..]);
        assert!(rest(&all, 4).is_empty() && rest(&all, 9).is_empty());
    }

    #[test]
    fn the_processors_are_those_of_the_start_whatever_a_thread_may_use_now() {
        let before = all().to_vec();
        std::thread::spawn(|| leave_to(1)).join().unwrap();
        std::thread::spawn(move || {
            leave_to(1);
            assert_eq!(all(), before);
        })
        .join()
        .unwrap();
    }
}
