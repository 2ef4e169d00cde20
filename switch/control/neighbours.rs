//! Neighbours of a running lab: kept, published, shown, and reported where two claim one address.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kswitch_tables::{PortId, Reachability, SegmentId, Snapshot};

use super::answer::Office;
use super::request::NeighbourRecord;
use super::running::{Error, Running};
use super::views::{Places, now, seconds};
use crate::threads;

/// How often neighbours are looked at while there are any.
const STEP: Duration = Duration::from_millis(100);

/// How often it is looked whether there are any, unless a worker says so.
const IDLE: Duration = Duration::from_secs(2);

/// Keeps the neighbours of a lab until that is closed.
///
/// # Errors
/// The system has no more threads.
pub(super) fn keep(office: &Arc<Office>) -> io::Result<()> {
    let office = Arc::clone(office);
    let kept = threads::start("neighbours", move || {
        let enrol = |running: &mut Running| running.switch.shared.keeper.enrol();
        let mut is_open = office.with_running(enrol).is_some();
        while is_open {
            let kept = office.with_running(|running| {
                running.keep_neighbours().map(|()| running.neighbourhood.is_idle())
            });
            is_open = kept.is_some();
            let is_idle = kept.is_none_or(|kept| {
                kept.unwrap_or_else(|error| {
                    tracing::error!("not published: {error}");
                    false
                })
            });
            if is_open {
                thread::park_timeout(if is_idle { IDLE } else { STEP });
            }
        }
    });
    kept.map(drop)
}

impl Running {
    /// Asks again for neighbours that have not answered, publishes who was found, and reports who
    /// claims what others have.
    fn keep_neighbours(&mut self) -> Result<(), Error> {
        let Some(snapshot) = self.switch.snapshot() else { return Ok(()) };
        let now = self.switch.shared.ahead.tick(self.switch.start, Instant::now());
        let switch = &self.switch;
        let send = &mut |port: PortId, frame: &[u8]| switch.send(port, frame);
        self.neighbourhood.step(&snapshot, now, send);
        for contest in self.neighbourhood.contests() {
            let places = Places { running: self, snapshot: &snapshot };
            tracing::warn!(
                address = %contest.address.to_ip(),
                mac = %contest.mac,
                port = places.port(contest.port),
                link = places.segment(contest.segment),
                "duplicate address: another machine claims it"
            );
        }
        if !self.neighbourhood.has_changed() {
            return Ok(());
        }
        let found = self.neighbourhood.found(&self.names);
        if found == self.observed.neighbours {
            return Ok(());
        }
        self.observed.neighbours = found;
        self.change(Arc::clone(&self.cluster))
    }

    /// Says aloud what the edge answers for, and what moved.
    pub(super) fn announce(&mut self, snapshot: &Snapshot) {
        let switch = &self.switch;
        self.neighbourhood.announce(snapshot, &mut |port, frame| switch.send(port, frame));
    }

    /// Says to every machine where its gateways are.
    pub(super) fn remind(&mut self) {
        let Some(snapshot) = self.switch.snapshot() else { return };
        let (switch, ports) = (&self.switch, self.attached.keys().copied());
        self.neighbourhood.remind(&snapshot, ports, &mut |port, frame| switch.send(port, frame));
    }
}

/// Everyone who was asked for, and everyone who claims what others have.
pub(super) fn records(running: &Running) -> Vec<NeighbourRecord> {
    let Some(snapshot) = running.switch.snapshot() else { return Vec::new() };
    let (places, now) = (Places { running, snapshot: &snapshot }, now(running));
    let segment = |id: SegmentId| places.segment(id);
    let shared = &running.switch.shared;
    let asked = shared.neighbours.entries().map(|neighbour| NeighbourRecord {
        address: neighbour.address.to_ip(),
        mac: neighbour.place.map(|(mac, _)| mac.to_string()),
        port: neighbour.place.map(|(_, port)| places.port(port)),
        segment: segment(neighbour.segment),
        state: match neighbour.state {
            Reachability::Reachable => "reachable",
            Reachability::Stale => "stale",
            Reachability::Incomplete if neighbour.has_failed(now) => "failed",
            Reachability::Incomplete => "incomplete",
        }
        .into(),
        age_seconds: seconds(now.since(neighbour.since)),
    });
    let claimed = shared.contests.entries().map(|contest| NeighbourRecord {
        address: contest.address.to_ip(),
        mac: Some(contest.mac.to_string()),
        port: Some(places.port(contest.port)),
        segment: segment(contest.segment),
        state: "duplicate".into(),
        age_seconds: seconds(now.since(contest.heard)),
    });
    let mut records: Vec<_> = asked.chain(claimed).collect();
    records.sort_by(|a, b| (&a.segment, &a.address).cmp(&(&b.segment, &b.address)));
    records
}
