//! Forgetting what has been silent for too long.

use std::sync::Arc;

use kswitch_tables::Tick;
use kswitch_tables::conntrack::{Cursor, Death, Timeouts};

use crate::dataplane::Shared;
use crate::dataplane::bridge::LEARNED_MAX_AGE;

/// How long one round through a table takes, in steps of a tenth of a second.
const ROUND_STEPS: u64 = 50;

/// A walk through the shared tables that never ends, a bounded piece at a time.
#[derive(Debug)]
pub struct Sweep {
    shared: Arc<Shared>,
    timeouts: Timeouts,
    connections: Cursor,
    affinities: u32,
    /// The longest affinity timeout in force.
    affinity_timeout: Tick,
    steps: u64,
}

impl Sweep {
    /// A walk through these tables by these timeouts.
    pub fn new(shared: Arc<Shared>, timeouts: Timeouts) -> Self {
        Self {
            shared,
            timeouts,
            connections: Cursor::default(),
            affinities: 0,
            // Source: Kubernetes caps ClientIPConfig.timeoutSeconds at a day
            affinity_timeout: Tick::from_secs(86_400),
            steps: 0,
        }
    }

    /// One step, to be taken every tenth of a second; costs nothing where nothing is remembered.
    pub fn step(&mut self, now: Tick, on_death: &mut impl FnMut(Death)) {
        self.steps += 1;
        let conntrack = &self.shared.conntrack;
        if !conntrack.is_empty() {
            let slots: u64 = conntrack.slots().iter().sum();
            let piece = usize::try_from(slots.div_ceil(ROUND_STEPS)).unwrap_or(usize::MAX);
            conntrack.expire(&mut self.connections, piece, now, &self.timeouts, &mut *on_death);
        }
        if !self.shared.affinity.is_empty() {
            self.shared.affinity.expire(&mut self.affinities, 4096, now, self.affinity_timeout.0);
        }
        if self.steps.is_multiple_of(ROUND_STEPS) && !self.shared.fdb.is_empty() {
            self.shared.fdb.expire(now, LEARNED_MAX_AGE.0);
        }
    }

    /// A whole round at once: for virtual time.
    pub fn round(&mut self, now: Tick, on_death: &mut impl FnMut(Death)) {
        (0..ROUND_STEPS).for_each(|_| self.step(now, on_death));
    }
}
