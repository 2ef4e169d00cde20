//! What is wrong with links: what the lab file says, and what was asked for since.

use std::collections::BTreeMap;
use std::sync::Arc;

use kswitch_config::link::{Direction, Faults, QUEUE};
use kswitch_config::{Cluster, PlannedPort, PortKind};
use kswitch_tables::Topology;

use super::metrics::LinkReading;
use super::request::{Failure, LaneRecord, LinkRecord, Response, Selector};
use super::running::{Running, with_causes};
use super::views;
use crate::dataplane::link::{Fault, Lane, Links};
use crate::trace::Faulty;

/// One direction of a link.
type Way = (PortKind, Direction);

/// What is wrong with the links of a lab.
#[derive(Debug, Default)]
pub struct FaultyLinks {
    /// What was asked for, in place of what the file says.
    asked: BTreeMap<Way, Faults>,
    /// What is in force.
    lanes: BTreeMap<Way, (Faults, Arc<Lane>)>,
}

impl FaultyLinks {
    /// Asks for faults in place of what the file says; with `None` for what the file says.
    pub fn ask(&mut self, of: &PortKind, direction: Direction, faults: Option<Faults>) {
        let way = (of.clone(), direction);
        match faults {
            Some(faults) => drop(self.asked.insert(way, faults)),
            None => drop(self.asked.remove(&way)),
        }
    }

    /// What is wrong now, for workers; lanes that stay as they were go on from where they were.
    pub fn links<'p>(
        &mut self,
        cluster: &Cluster,
        ports: impl Iterator<Item = &'p PlannedPort>,
        topology: &Topology,
        seed: u64,
    ) -> Option<Links> {
        if self.asked.is_empty() && self.lanes.is_empty() && cluster.links.is_empty() {
            return None;
        }
        let ports: BTreeMap<_, _> = ports.map(|port| (&port.kind, port.id)).collect();
        self.asked.retain(|(of, _), _| ports.contains_key(of));
        let written =
            cluster.links.iter().map(|link| ((link.of.clone(), link.direction), link.faults));
        let mut wanted: BTreeMap<Way, Faults> = written.collect();
        wanted.extend(self.asked.iter().map(|(way, faults)| (way.clone(), *faults)));
        wanted.retain(|(of, _), faults| !faults.is_none() && ports.contains_key(of));
        self.lanes.retain(|way, (faults, _)| wanted.get(way) == Some(faults));
        let mut links = Links::default();
        for (way, faults) in wanted {
            let (_, lane) = self.lanes.entry(way.clone()).or_insert_with(|| {
                (faults, Arc::new(Lane::new(fault(&faults, seed_of(&way, seed)))))
            });
            let (of, direction) = &way;
            let Some(id) = ports.get(of).copied() else { continue };
            let router = topology.port(id).map(|port| port.router);
            let lanes = match (of, router) {
                (PortKind::Node { .. }, Some(router)) => links.router_mut(router),
                (PortKind::Node { .. }, None) => continue,
                (PortKind::Pod { .. } | PortKind::External { .. }, _) => links.port_mut(id),
            };
            match direction {
                Direction::From => lanes.from = Some(Arc::clone(lane)),
                Direction::To => lanes.to = Some(Arc::clone(lane)),
            }
        }
        (!self.lanes.is_empty()).then_some(links)
    }

    /// What is wrong now.
    pub(super) fn in_force(&self) -> Faulty {
        self.lanes.iter().map(|(way, (faults, _))| (way.clone(), *faults)).collect()
    }

    /// What befell frames on each link with which anything is wrong.
    pub(super) fn readings(&self) -> Vec<LinkReading> {
        let reading = |((of, direction), (_, lane)): (&Way, &(Faults, Arc<Lane>))| LinkReading {
            name: of.to_string(),
            direction: direction.name(),
            toll: lane.toll().into(),
        };
        self.lanes.iter().map(reading).collect()
    }

    fn record(&self, of: &PortKind, direction: Direction) -> Option<LaneRecord> {
        let way = (of.clone(), direction);
        let (faults, lane) = self.lanes.get(&way)?;
        let origin = if self.asked.contains_key(&way) { "asked for" } else { "lab file" };
        Some(LaneRecord {
            faults: faults.to_string(),
            origin: origin.to_owned(),
            toll: lane.toll().into(),
        })
    }
}

/// In the units of workers.
fn fault(faults: &Faults, seed: u64) -> Fault {
    let Faults {
        delay,
        jitter,
        loss,
        duplicate,
        corrupt,
        reorder,
        rate,
        queue,
        partition,
        seed: own,
    } = *faults;
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4);
    Fault {
        delay: nanos(delay),
        jitter: nanos(jitter),
        loss: loss.0,
        duplicate: duplicate.0,
        corrupt: corrupt.0,
        reorder: reorder.0,
        rate: rate.map_or(0, |rate| rate.0),
        queue: nanos(queue.unwrap_or(QUEUE)),
        partition,
        seed: own.unwrap_or(seed),
    }
}

/// A seed of its own for each way, the same in each run.
///
/// Source: the hash is FNV-1a of 64 bits.
fn seed_of((of, direction): &Way, seed: u64) -> u64 {
    let text = format!("{of} {}", direction.name());
    text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash: u64, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Does what a client asks of a link.
pub(super) fn link(
    running: &mut Running,
    of: &str,
    directions: &[Direction],
    faults: Option<Faults>,
) -> Response {
    let Some(of) = running.cluster.link_of(of) else {
        return Response::failed(Failure::NotFound, format!("no link of {of}"));
    };
    if let Err((_, message, help)) = faults.unwrap_or_default().check() {
        return Response::failed(Failure::Invalid, format!("{message}: {help}"));
    }
    for direction in directions {
        running.links.ask(&of, *direction, faults);
    }
    if let Err(error) = running.publish_links() {
        return Response::failed(Failure::Internal, with_causes(&error));
    }
    let line = |direction: &Direction| {
        let lane = running.links.record(&of, *direction);
        let faults = lane.map_or_else(|| "none".to_owned(), |lane| lane.faults);
        format!("link/{of} {} it: {faults}", direction.name())
    };
    Response::Done { lines: directions.iter().map(line).collect() }
}

/// Every link, and what is wrong with it.
pub(super) fn records(running: &Running, select: &Selector) -> Vec<LinkRecord> {
    let record = |port: &PlannedPort| {
        let [from, to] = Direction::ALL.map(|way| running.links.record(&port.kind, way));
        LinkRecord { name: port.kind.to_string(), from, to }
    };
    running.ports().filter(|port| views::is_meant(select, port)).map(record).collect()
}
