//! What clients ask of the running lab, and what they are told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kswitch_config::{Change, Draft, NodeController, ObjectName, Outcome, PortKind};
use serde_json::{Value, json};

use super::capture;
use super::describe;
use super::flows::Meant;
use super::links;
use super::logging;
use super::metrics::{
    self, ConntrackReading, DnsReading, PortReading, Reading, StagesReading, WorkerReading,
};
use super::request::{
    ConntrackStats, Failure, HostName, Kind, Manifest, Place, Request, Response, Selector, Verb,
};
use super::restart::{self, wishes::Wishes};
use super::running::{self, Running};
use super::socket::{Answer, Control};
use super::trace::Moment;
use super::views;
use crate::dataplane::DropReason;
use crate::rights;
use crate::trace::Query;

/// Flows in one response; a listing is as many responses as it takes.
const FLOWS_PER_RESPONSE: usize = 1024;

/// The desk at which clients are answered.
///
/// **Sharing**: one client at a time looks at the lab; none waits on a worker for longer than a
/// change takes.
#[derive(Debug)]
pub(super) struct Office {
    path: PathBuf,
    desk: Mutex<Desk>,
    /// Held from the look at a draft to what is made of it, lest two changes forget each other.
    turn: Mutex<()>,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) draft: Draft,
    wishes: Wishes,
    /// `None` once the lab is being taken down.
    pub(super) running: Option<Running>,
    /// Pods that are about to end, by namespace and name, and until when they may.
    pub(super) ending: Vec<(String, String, Instant)>,
    /// Nodes that are switched off.
    pub(super) nodes: NodeController,
}

impl Office {
    pub(super) fn new(path: &Path, wishes: Wishes, draft: Draft, running: Running) -> Self {
        wishes.write(&draft, &running.cluster);
        let nodes = NodeController::default();
        let desk = Desk { draft, wishes, running: Some(running), ending: Vec::new(), nodes };
        Self { path: path.to_owned(), desk: Mutex::new(desk), turn: Mutex::new(()) }
    }

    /// Waits until no other change is under way.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        // a client whose request panicked has changed nothing halfway: drafts are validated whole
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lab down.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub(super) fn close(&self) -> Result<(), running::Error> {
        let running = self.desk().running.take();
        running.map_or(Ok(()), Running::close)
    }

    /// What there is, in a few words.
    pub(super) fn summary(&self) -> String {
        let desk = self.desk();
        let Some(running) = &desk.running else { return "closed".into() };
        let cluster = &running.cluster;
        format!(
            "{} nodes, {} pods, {} services, {} workers",
            cluster.nodes.len(),
            cluster.pods.len(),
            cluster.services.len(),
            running.switch.workers().count()
        )
    }

    /// Reads the lab's files again, for SIGHUP.
    pub(super) fn reload_and_log(&self) {
        match self.reload() {
            Response::Failed { message, .. } => tracing::error!("not reloaded: {message}"),
            _ => tracing::info!("reloaded"),
        }
    }

    /// Does something to the running lab; `None` once it is being taken down.
    pub(super) fn with_running<T>(&self, act: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.desk().running.as_mut().map(act)
    }

    /// Takes note of how pods are now.
    pub(super) fn observe_pods(&self) {
        if let Some(running) = &mut self.desk().running
            && let Err(error) = running.observe_pods()
        {
            tracing::error!("not published: {error}");
        }
    }

    /// Looks at the lab of this moment, while others may change it.
    fn look(&self, look: impl FnOnce(&Moment) -> Response) -> Response {
        let moment = {
            let desk = self.desk();
            desk.running.as_ref().and_then(|running| Moment::of(running, &desk.draft))
        };
        moment.as_ref().map_or_else(closing, look)
    }

    fn reload(&self) -> Response {
        let _turn = self.turn();
        let mut draft = Draft::read(&self.path).with_addons();
        draft.inherit(&self.desk().draft);
        self.desk().wishes.reread(&draft);
        let response = self.become_draft(draft);
        self.roll_on();
        response
    }

    /// Validates a draft against the lab as it is, and makes the lab like it.
    pub(super) fn become_draft(&self, mut draft: Draft) -> Response {
        let mut guard = self.desk();
        let desk = &mut *guard;
        let Some(running) = &mut desk.running else { return closing() };
        draft.begin_rollouts(&desk.draft, &running.cluster);
        let cluster = match draft.validate(Some(&running.cluster)) {
            Ok(cluster) => Arc::new(cluster),
            Err(errors) => return Response::failed(Failure::Invalid, errors.to_string()),
        };
        let mut lines: Vec<String> =
            cluster.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        if let Err(error) = running.change(cluster) {
            return Response::failed(Failure::Internal, running::with_causes(&error));
        }
        lines.push(format!("generation {} published", running.generation().0));
        let cluster = Arc::clone(&running.cluster);
        desk.wishes.write(&draft, &cluster);
        desk.draft = draft;
        Response::Done { lines }
    }

    fn apply(&self, manifests: &[Manifest], direction: Direction) -> Response {
        let _turn = self.turn();
        let mut draft = self.desk().draft.clone();
        let (mut done, mut warnings) = (Vec::new(), Vec::new());
        for Manifest { name, text } in manifests {
            let changed = match direction {
                Direction::Apply => draft.apply_text(name, text).map(|applied| {
                    warnings.extend(applied.warnings.iter().map(ToString::to_string));
                    applied.changes
                }),
                Direction::Delete => draft.delete_text(name, text),
            };
            match changed {
                Ok(changes) => done.extend(changes.iter().map(line)),
                Err(errors) => return Response::failed(Failure::Invalid, errors.to_string()),
            }
        }
        match self.become_draft(draft) {
            Response::Done { lines } => {
                self.roll_on();
                let lines = done.into_iter().chain(warnings).chain(lines).collect();
                Response::Done { lines }
            }
            failed => failed,
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Apply,
    Delete,
}

/// What has become of an object, as kubectl says it.
fn line(change: &Change) -> String {
    let Change { object: ObjectName { kind, namespace: _, name }, outcome } = change;
    let kind = kind.name().to_lowercase();
    let outcome = match outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::NotFound => "not found",
    };
    format!("{kind}/{name} {outcome}")
}

pub(super) fn closing() -> Response {
    Response::failed(Failure::Internal, "the lab is being taken down")
}

impl Control for Office {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Reload => return self.reload().into(),
            Request::Upgrade { binary } => {
                return restart::upgrade::request(&self.path, binary).into();
            }
            Request::Live { verb: Verb::Node { node, power } } => {
                return self.power(&node, &power).into();
            }
            Request::Live { verb } => return self.live(&verb).into(),
            Request::Apply { manifests } => return self.apply(&manifests, Direction::Apply).into(),
            Request::Delete { manifests } => {
                return self.apply(&manifests, Direction::Delete).into();
            }
            Request::Link { of, directions, faults } => {
                let Some(running) = &mut self.desk().running else { return closing().into() };
                return links::link(running, &of, &directions, faults).into();
            }
            Request::Logging { filter } => return log(filter.as_deref()).into(),
            Request::Counters => return Response::records([metrics::Source::read(self)]).into(),
            Request::Trace { query } => return self.look(|moment| moment.trace(&query)).into(),
            Request::TraceDiff { path } => {
                return self.look(|moment| moment.changes(&path)).into();
            }
            _ => {}
        }
        let desk = self.desk();
        let Some(running) = &desk.running else { return closing().into() };
        match request {
            Request::Get { kind, select } => views::get(running, kind, &select).into(),
            Request::Locate { host } => locate(running, &host).into(),
            Request::Log { namespace, pod, container, from } => {
                views::log(running, &namespace, &pod, container.as_deref(), from).into()
            }
            Request::ConntrackList { filter } => {
                let meant = match Meant::new(running, filter) {
                    Ok(meant) => meant,
                    Err(message) => return not_found(message),
                };
                let flows = views::flows(running, &meant);
                let parts: Vec<_> = flows
                    .chunks(FLOWS_PER_RESPONSE)
                    .map(|flows| Response::Flows { flows: flows.to_vec() })
                    .collect();
                Answer::Many(Box::new(parts.into_iter()))
            }
            Request::ConntrackFlush { filter } => {
                let meant = match Meant::new(running, filter) {
                    Ok(meant) => meant,
                    Err(message) => return not_found(message),
                };
                let conntrack = &running.switch.shared.conntrack;
                let told = |death| running.monitor.ended(&death);
                let removed = conntrack.remove_where(|flow| meant.takes(flow), told);
                Response::Done { lines: vec![format!("{removed} flows forgotten")] }.into()
            }
            Request::ConntrackStats => {
                let (entries, capacity) = occupancy(running);
                let events = views::events(running);
                Response::ConntrackStats(ConntrackStats { entries, capacity, events }).into()
            }
            Request::Monitor { filter } => {
                rights::stand_back(rights::SHOWER);
                Answer::Many(Box::new(running.monitor.subscribe(filter)))
            }
            Request::Describe { kind, select } => describe::describe(running, kind, &select).into(),
            Request::Capture { ports, snap, filter, sample } => {
                capture(running, &ports, (snap, sample), filter.as_deref())
            }
            Request::Fault { worker } => running.switch.fail(worker).into(),
            Request::Reload
            | Request::Upgrade { .. }
            | Request::Live { .. }
            | Request::Link { .. }
            | Request::Logging { .. }
            | Request::Apply { .. }
            | Request::Delete { .. }
            | Request::Counters
            | Request::Trace { .. }
            | Request::TraceDiff { .. } => closing().into(),
        }
    }
}

/// Says what is logged, by another filter if one is given.
fn log(filter: Option<&str>) -> Response {
    if let Some(Err(message)) = filter.map(logging::change) {
        return Response::failed(Failure::Invalid, message);
    }
    Response::Done { lines: vec![logging::filter().unwrap_or_else(|| "nothing".to_owned())] }
}

/// Connections there are, and connections there may be.
fn occupancy(running: &Running) -> (u64, u64) {
    let tables = running.switch.shared.conntrack.occupancy();
    tables.iter().fold((0, 0), |(entries, capacity), table| {
        (entries + table.connections as u64, capacity + table.capacity as u64)
    })
}

fn not_found(message: String) -> Answer {
    Response::failed(Failure::NotFound, message).into()
}

/// Begins to capture frames of the ports of these names.
fn capture(
    running: &Running,
    names: &[String],
    (snap, sample): (usize, u64),
    filter: Option<&str>,
) -> Answer {
    let filter = match filter.map(capture::filter::Filter::parse).transpose() {
        Ok(filter) => filter,
        Err(message) => {
            return Response::failed(Failure::Unsupported, format!("the filter: {message}")).into();
        }
    };
    let mut ports = Vec::new();
    for name in names {
        let full = if name.contains('/') { name.clone() } else { format!("default/{name}") };
        match running.ports().find(|port| port.kind.to_string() == full) {
            Some(port) => ports.push(port.id),
            None => return not_found(format!("no port {name}")),
        }
    }
    let ports = (!ports.is_empty()).then_some(ports);
    rights::stand_back(rights::SHOWER);
    Answer::Many(Box::new(running.captures.begin(capture::Wish { ports, snap, filter, sample })))
}

/// Where a host lives.
fn locate(running: &Running, host: &HostName) -> Response {
    let cluster = &running.cluster;
    let lab = &cluster.settings.lab.name;
    let (kind, hostname) = match host {
        HostName::Node { name } if cluster.node(name).is_some() => {
            (PortKind::Node { name: name.clone() }, name.clone())
        }
        HostName::External { name } if cluster.externals.iter().any(|e| e.name == *name) => {
            (PortKind::External { name: name.clone() }, name.clone())
        }
        HostName::Pod { namespace, name } => {
            let namespace = namespace.as_deref().unwrap_or("default");
            let Some(pod) = cluster.pod(namespace, name) else {
                return Response::failed(
                    Failure::NotFound,
                    format!("no pod {name} in namespace {namespace}"),
                );
            };
            let node = cluster.nodes.get(pod.node).map(|node| node.name.clone());
            let kind = match node {
                Some(name) if pod.host_network => PortKind::Node { name },
                _ => PortKind::Pod { namespace: namespace.to_owned(), name: name.clone() },
            };
            (kind, name.clone())
        }
        other => return Response::failed(Failure::NotFound, format!("no {other}")),
    };
    Response::Place(Place { network: kind.namespace(lab), hostname })
}

impl metrics::Source for Office {
    fn lab(&self) -> Value {
        let counters = self.read();
        let desk = self.desk();
        let Some(running) = &desk.running else { return Value::Null };
        let get = |kind| match views::get(running, kind, &Selector::default()) {
            Response::Objects { items } => items,
            _ => Vec::new(),
        };
        let mut externals = get(Kind::Ports);
        externals.retain(|port| port.get("role").is_some_and(|role| role == "external"));
        json!({
            "name": running.cluster.settings.lab.name,
            "nodes": get(Kind::Nodes),
            "pods": get(Kind::Pods),
            "services": get(Kind::Services),
            "slices": get(Kind::EndpointSlices),
            "externals": externals,
            "counters": counters,
        })
    }

    fn trace(&self, query: Query) -> Value {
        match self.look(|moment| moment.trace(&query)) {
            Response::Objects { items } => items.into_iter().next().unwrap_or_default(),
            Response::Failed { message, .. } => json!({ "error": message }),
            _ => Value::Null,
        }
    }

    fn read(&self) -> Reading {
        let desk = self.desk();
        let Some(running) = &desk.running else { return Reading::default() };
        let (entries, capacity) = occupancy(running);
        let dns = running.dns().counters();
        let drops = DropReason::ALL.iter().map(|reason| {
            let count = running.switch.workers().map(|(_, counters)| counters.dropped(*reason));
            (reason.key(), count.sum())
        });
        Reading {
            generation: running.generation().0.into(),
            ports: running.ports().map(|port| port_reading(running, port)).collect(),
            drops: drops.collect(),
            workers: running.switch.workers().map(worker_reading).collect(),
            conntrack: ConntrackReading { entries, capacity },
            dns: DnsReading { answers: dns.answers(), forwarded: dns.forwarded() },
            refused: running.monitor.refused(),
            balancers: super::network_views::reading(running),
            events_lost: running.monitor.lost(),
            machines_renewed: running.repairs.count(),
            neighbours: running.switch.shared.neighbours.len() as u64,
            duplicate_addresses: running.switch.shared.contests.len() as u64,
            deaths: running.monitor.deaths().to_vec(),
            links: running.links.readings(),
        }
    }
}

fn port_reading(running: &Running, port: &kswitch_config::PlannedPort) -> PortReading {
    let traffic = views::traffic(running, port.id);
    PortReading {
        name: port.kind.to_string(),
        kind: views::role(&port.kind),
        received_frames: traffic.received.frames,
        received_octets: traffic.received.octets,
        sent_frames: traffic.sent.frames,
        sent_octets: traffic.sent.octets,
        send_busy: traffic.busy,
    }
}

fn worker_reading((core, counters): (usize, &crate::dataplane::Counters)) -> WorkerReading {
    let stages = &counters.stages;
    WorkerReading {
        core,
        busy_turns: counters.busy_turns.get(),
        idle_turns: counters.idle_turns.get(),
        sleeps: counters.sleeps.get(),
        frames: counters.established.get() + counters.admitted.get(),
        stages: StagesReading {
            frames: stages.frames.get(),
            receive: stages.receive_nanos.get(),
            pipeline: stages.parse_nanos.get() + stages.judge_nanos.get(),
            sent_frames: stages.sent_frames.get(),
            send: stages.send_nanos.get(),
        },
    }
}
