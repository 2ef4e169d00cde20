//! Traces over the tables of the running lab.

use std::path::Path;
use std::sync::Arc;

use kswitch_config::{Cluster, Compiler, Draft, Names, Observed, PlannedPort};
use kswitch_tables::{Generation, Snapshot, Tick};

use super::request::{Failure, Response};
use super::running::Running;
use super::views;
use crate::dataplane::Shared;
use crate::trace::{self, Faulty, Query, Tables};

/// A lab as it is at one moment; nothing waits for whoever looks at it.
#[derive(Debug)]
pub(super) struct Moment {
    cluster: Arc<Cluster>,
    names: Arc<Names>,
    snapshot: Arc<Snapshot>,
    ports: Vec<PlannedPort>,
    draft: Draft,
    shared: Arc<Shared>,
    now: Tick,
    faults: Faulty,
}

impl Moment {
    /// The lab now; `None` before anything was published.
    pub(super) fn of(running: &Running, draft: &Draft) -> Option<Self> {
        Some(Self {
            cluster: Arc::clone(&running.cluster),
            names: Arc::clone(&running.names),
            snapshot: running.switch.snapshot()?,
            ports: running.ports().cloned().collect(),
            draft: draft.clone(),
            shared: Arc::clone(&running.switch.shared),
            now: views::now(running),
            faults: running.links.in_force(),
        })
    }

    fn tables(&self) -> Tables<'_> {
        Tables {
            cluster: &self.cluster,
            snapshot: &self.snapshot,
            names: &self.names,
            ports: &self.ports,
            draft: &self.draft,
            affinity: Some((&self.shared.affinity, self.now)),
            faults: Some(&self.faults),
        }
    }

    /// What would become of a packet.
    pub(super) fn trace(&self, query: &Query) -> Response {
        match trace::trace(&self.tables(), query) {
            Ok(report) => Response::records([report]),
            Err(message) => Response::failed(Failure::NotFound, message),
        }
    }

    /// What would change if the lab became like this file.
    pub(super) fn changes(&self, path: &Path) -> Response {
        let draft = Draft::read(path).with_addons();
        let cluster = match draft.validate(Some(&self.cluster)) {
            Ok(cluster) => Arc::new(cluster),
            Err(errors) => return Response::failed(Failure::Invalid, errors.to_string()),
        };
        let compiled = Compiler::new(0).compile(&cluster, &Observed::default(), Generation(1));
        let after = Tables::of(&compiled, &cluster, &draft);
        Response::records([trace::changes(&self.tables(), &after)])
    }
}
