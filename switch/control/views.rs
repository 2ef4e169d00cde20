//! The running lab as clients see it: Kubernetes objects where there are such, else records.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod as PodObject;
use kswitch_config::{Cluster, Pod, PortKind, Workload, endpoint_slices};
use kswitch_tables::conntrack::Connection;
use kswitch_tables::{PortId, Route, RouterId, RouterRole, SegmentId, Snapshot, Tick};
use serde::Serialize;
use serde_json::{Value, json};

use super::balanced;
use super::conntrack_timeouts;
use super::flows::Meant;
use super::gates;
use super::neighbours;
use super::objects;
pub(super) use super::request::Traffic;
use super::request::{
    Failure, FdbRecord, FlowRecord, Kind, PortRecord, Response, RouteRecord, Selector, WorkerRecord,
};
use super::running::Running;
use crate::dataplane::counters::{Counter, Counters};
use crate::dataplane::worker::tick;

/// Answers `get`.
pub(super) fn get(running: &Running, kind: Kind, select: &Selector) -> Response {
    let items = match found(running, kind, select) {
        Response::Objects { items } => items,
        other => return other,
    };
    let items = items.into_iter().map(|item| objects::complete(kind, item));
    let mut items: Vec<_> = items.collect();
    if matches!(kind, Kind::Routes | Kind::Fdb | Kind::Neighbours) {
        items.retain(|item| objects::is_meant(select, item));
    }
    Response::Objects { items }
}

fn found(running: &Running, kind: Kind, select: &Selector) -> Response {
    let cluster = &running.cluster;
    match kind {
        Kind::Nodes => objects(cluster.nodes.iter().map(|node| &*node.object), select),
        Kind::Pods => objects(cluster.pods.iter().map(|pod| seen(running, pod)), select),
        Kind::Services => objects(cluster.services.iter().map(|service| &**service), select),
        Kind::EndpointSlices => {
            let slices = endpoint_slices(cluster, &running.observed);
            objects(slices.iter().map(|slice| &**slice), select)
        }
        Kind::Namespaces => objects(namespaces(cluster), select),
        Kind::NetworkPolicies => {
            objects(cluster.network_policies.iter().map(|policy| &**policy), select)
        }
        Kind::ClusterNetworkPolicies => {
            objects(cluster.cluster_network_policies.iter().map(|policy| &**policy), select)
        }
        Kind::Deployments | Kind::ReplicaSets | Kind::StatefulSets | Kind::DaemonSets => {
            objects(cluster.workloads.iter().filter_map(|workload| made(workload, kind)), select)
        }
        Kind::Ports => Response::records(ports(running, select)),
        Kind::Links => Response::records(super::links::records(running, select)),
        Kind::Workers => Response::records(workers(running, select)),
        Kind::Routes => Response::records(routes(running)),
        Kind::Fdb => Response::records(fdb(running)),
        Kind::Neighbours => Response::records(neighbours::records(running)),
        _ => balanced::get(running, kind, select),
    }
}

/// A pod as it is seen.
fn seen<'r>(running: &Running, pod: &'r Pod) -> Cow<'r, PodObject> {
    let is_ready = running.observed.is_pod_ready(pod);
    let seen = match running.pods.state(pod) {
        Some(state) => Cow::Owned(state.told(&pod.object, is_ready)),
        None if is_ready == pod.is_ready() => Cow::Borrowed(&*pod.object),
        None => {
            let mut object = PodObject::clone(&pod.object);
            let status = object.status.get_or_insert_default();
            let conditions = status.conditions.iter_mut().flatten();
            for condition in conditions.filter(|condition| condition.type_ == "Ready") {
                if is_ready { "True" } else { "False" }.clone_into(&mut condition.status);
            }
            Cow::Owned(object)
        }
    };
    if pod.has_balancer_gate() {
        let is_open = running.balancers.is_open(pod);
        return Cow::Owned(gates::told(seen.into_owned(), is_open));
    }
    seen
}

/// What a container has said, from a line on.
pub(super) fn log(
    running: &Running,
    namespace: &str,
    name: &str,
    container: Option<&str>,
    from: u64,
) -> Response {
    let not_found = |message| Response::failed(Failure::NotFound, message);
    if let Some((kind, name)) = name.split_once('/') {
        return balanced::log(running, kind, namespace, name, from);
    }
    let Some(pod) = running.cluster.pod(namespace, name) else {
        return not_found(format!("no pod {name} in namespace {namespace}"));
    };
    if running.pods.state(pod).is_none() {
        return not_found(format!("the echo server stands in for pod {name}: it has no command"));
    }
    match running.pods.log(pod, container) {
        Some(log) => {
            let (lines, next) = log.since(from);
            Response::Log { lines, next }
        }
        None => {
            let container = container.unwrap_or_default();
            not_found(format!("no container {container} in pod {name}"))
        }
    }
}

/// Kubernetes objects as JSON, those that a selector takes.
pub(super) fn objects<T: Serialize>(
    all: impl IntoIterator<Item = T>,
    select: &Selector,
) -> Response {
    let taken = |object: &Value| {
        let text = |key: &str| object.pointer(key).and_then(Value::as_str);
        select.takes(text("/metadata/namespace"), text("/metadata/name").unwrap_or_default())
    };
    let values = all.into_iter().filter_map(|object| serde_json::to_value(object).ok());
    Response::Objects { items: values.filter(taken).collect() }
}

/// The namespaces as Kubernetes objects.
fn namespaces(cluster: &Cluster) -> impl Iterator<Item = Value> + '_ {
    cluster.namespaces.iter().map(|(name, labels)| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
            "status": { "phase": "Active" },
        })
    })
}

/// A workload, if it is of this kind.
fn made(workload: &Workload, kind: Kind) -> Option<Value> {
    let value = match (workload, kind) {
        (Workload::Deployment(object), Kind::Deployments) => serde_json::to_value(&**object),
        (Workload::ReplicaSet(object), Kind::ReplicaSets) => serde_json::to_value(&**object),
        (Workload::StatefulSet(object), Kind::StatefulSets) => serde_json::to_value(&**object),
        (Workload::DaemonSet(object), Kind::DaemonSets) => serde_json::to_value(&**object),
        _ => return None,
    };
    value.ok()
}

/// What the workers counted at a port, together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PortTraffic {
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
    pub(super) busy: u64,
}

/// What was carried at a port, over all workers.
pub(super) fn traffic(running: &Running, id: PortId) -> PortTraffic {
    let mut sum = PortTraffic::default();
    for port in running.switch.workers().filter_map(|(_, counters)| counters.port(id)) {
        sum.received.frames += port.received_frames.get();
        sum.received.octets += port.received_octets.get();
        sum.sent.frames += port.sent_frames.get();
        sum.sent.octets += port.sent_octets.get();
        sum.busy += port.busy_frames.get();
    }
    sum
}

/// What is behind a port, in a word.
pub(super) const fn role(kind: &PortKind) -> &'static str {
    match kind {
        PortKind::Node { .. } => "node",
        PortKind::External { .. } => "external",
        PortKind::Pod { .. } => "pod",
    }
}

fn ports(running: &Running, select: &Selector) -> Vec<PortRecord> {
    let snapshot = running.switch.snapshot();
    let record = |port: &kswitch_config::PlannedPort| {
        let traffic = traffic(running, port.id);
        let router = snapshot.as_ref().and_then(|s| Some(s.topology.port(port.id)?.router));
        PortRecord {
            name: port.kind.to_string(),
            role: role(&port.kind).into(),
            node: router.and_then(|router| node_name(running, snapshot.as_deref()?, router)),
            mac: port.mac.to_string(),
            addresses: port.addresses.iter().map(ipnet::IpNet::addr).collect(),
            mtu: port.mtu,
            received: traffic.received,
            sent: traffic.sent,
            send_busy: traffic.busy,
        }
    };
    running.ports().filter(|port| is_meant(select, port)).map(record).collect()
}

/// Whether a port, or its link, is meant.
pub(super) fn is_meant(select: &Selector, port: &kswitch_config::PlannedPort) -> bool {
    match &port.kind {
        PortKind::Pod { namespace, name } => select.takes(Some(namespace), name),
        PortKind::Node { name } | PortKind::External { name } => select.takes(None, name),
    }
}

fn workers(running: &Running, select: &Selector) -> Vec<WorkerRecord> {
    let record = |(number, (core, counters)): (usize, (usize, &Counters))| {
        let stages = &counters.stages;
        let each = |nanos: u64, frames: &Counter| nanos.checked_div(frames.get());
        WorkerRecord {
            name: format!("worker-{number}"),
            core,
            io: running.switch.io.name().into(),
            frames: counters.established.get() + counters.admitted.get(),
            receive_nanos: each(stages.receive_nanos.get(), &stages.frames),
            judge_nanos: each(stages.parse_nanos.get() + stages.judge_nanos.get(), &stages.frames),
            send_nanos: each(stages.send_nanos.get(), &stages.sent_frames),
        }
    };
    let all = running.switch.workers().enumerate().map(record);
    all.filter(|worker| select.takes(None, &worker.name)).collect()
}

/// A node's name; `None` for the edge.
fn node_name(running: &Running, snapshot: &Snapshot, router: RouterId) -> Option<String> {
    let is_node = snapshot.topology.router(router)?.role == RouterRole::Node;
    is_node.then(|| running.names.router(router).map(str::to_owned))?
}

fn router_name(running: &Running, snapshot: &Snapshot, router: RouterId) -> String {
    node_name(running, snapshot, router).unwrap_or_else(|| "edge".into())
}

fn routes(running: &Running) -> Vec<RouteRecord> {
    let Some(snapshot) = running.switch.snapshot() else { return Vec::new() };
    let mut records = Vec::new();
    let routers = (0..).map(RouterId).zip(&snapshot.topology.routers);
    for (id, router) in routers {
        let name = router_name(running, &snapshot, id);
        let Some(table) = snapshot.topology.tables.get(router.table) else { continue };
        for (prefix, route) in table.iter() {
            let (action, via) = match route {
                Route::Router(next) if *next == id => ("connected", None),
                Route::Router(next) => ("router", Some(router_name(running, &snapshot, *next))),
                Route::Connected => ("connected", None),
                Route::Via(next) => ("host", Some(next.to_string())),
                Route::Discard => ("discard", None),
                Route::Blackhole => ("blackhole", None),
            };
            let (router, prefix) = (name.clone(), prefix.to_string());
            records.push(RouteRecord { router, prefix, action: action.into(), via });
        }
    }
    records.sort_by(|a, b| (&a.router, &a.prefix).cmp(&(&b.router, &b.prefix)));
    records
}

/// What links and ports are called.
#[derive(Clone, Copy)]
pub(super) struct Places<'r> {
    pub(super) running: &'r Running,
    pub(super) snapshot: &'r Snapshot,
}

impl Places<'_> {
    /// A bridge: its node's name, or `uplink`.
    pub(super) fn segment(&self, id: SegmentId) -> String {
        let router = self.snapshot.topology.segment(id).map(|segment| segment.router);
        let node = router.and_then(|router| node_name(self.running, self.snapshot, router));
        node.unwrap_or_else(|| "uplink".into())
    }

    /// A port: the machine behind it.
    pub(super) fn port(&self, id: PortId) -> String {
        let port = self.running.ports().find(|port| port.id == id);
        port.map_or_else(|| format!("port {}", id.0), |port| port.kind.to_string())
    }
}

fn fdb(running: &Running) -> Vec<FdbRecord> {
    let Some(snapshot) = running.switch.snapshot() else { return Vec::new() };
    let places = Places { running, snapshot: &snapshot };
    let known = snapshot.topology.bridge_ports.iter().map(|((segment, mac), port)| FdbRecord {
        segment: places.segment(*segment),
        mac: mac.to_string(),
        port: places.port(*port),
        age_seconds: None,
    });
    let now = now(running);
    let learned = running.switch.shared.fdb.entries().map(|station| FdbRecord {
        segment: places.segment(station.segment),
        mac: station.mac.to_string(),
        port: places.port(station.port),
        age_seconds: Some(seconds(now.since(station.seen))),
    });
    let mut records: Vec<_> = known.chain(learned).collect();
    records.sort_by(|a, b| (&a.segment, &a.mac).cmp(&(&b.segment, &b.mac)));
    records
}

/// The live flows.
pub(super) fn flows(running: &Running, meant: &Meant) -> Vec<FlowRecord> {
    let timeouts = conntrack_timeouts(&running.cluster.settings.switch.timeouts);
    let now = now(running);
    let record = |connection: Connection| {
        let left =
            timeouts.of(connection.life.state).saturating_sub(now.since(connection.life.seen));
        FlowRecord {
            protocol: connection.original.protocol.to_string(),
            state: connection.life.state.name().into(),
            source: connection.original.source.to_string(),
            target: connection.original.target.to_string(),
            reply_source: connection.forward.target.to_string(),
            reply_target: connection.forward.source.to_string(),
            expires_seconds: seconds(left),
        }
    };
    running
        .switch
        .shared
        .conntrack
        .connections()
        .filter(|flow| meant.takes(flow))
        .map(record)
        .collect()
}

/// What happened to flows so far, by name.
pub(super) fn events(running: &Running) -> BTreeMap<String, u64> {
    let sum = |of: fn(&crate::dataplane::Counters) -> u64| {
        running.switch.workers().map(|(_, counters)| of(counters)).sum()
    };
    let deaths = running.monitor.deaths();
    let deaths = deaths.into_iter().map(|(cause, count)| (format!("ended-{cause}"), count));
    let mut events = BTreeMap::from([
        ("admitted".into(), sum(|counters| counters.admitted.get())),
        ("found".into(), sum(|counters| counters.established.get())),
    ]);
    events.extend(deaths);
    events
}

/// The moment it is in the lab.
pub(super) fn now(running: &Running) -> Tick {
    tick(running.switch.start, std::time::Instant::now())
}

pub(super) fn seconds(ticks: u32) -> f64 {
    f64::from(ticks) / f64::from(Tick::PER_SECOND)
}
