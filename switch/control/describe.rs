//! An object with all that has to do with it, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use kswitch_config::{FrontendName, Pod, PortKind, endpoint_slices, matches};
use kswitch_tables::policy::Direction;
use kswitch_tables::{Address, Snapshot};
use serde_json::Value;

use super::balanced;
use super::flows::{FlowFilter, Meant};
use super::request::{Failure, Kind, Response, Selector};
use super::running::Running;
use super::views;

/// Answers `describe`: the object that is named, in lines.
pub(super) fn describe(running: &Running, kind: Kind, select: &Selector) -> Response {
    let Response::Objects { items } = views::get(running, kind, select) else {
        return Response::failed(Failure::Internal, "no objects");
    };
    if items.is_empty() {
        let name = select.name.as_deref().unwrap_or_default();
        let message = format!("no {name:?} among the {}", kind.plural());
        return Response::failed(Failure::NotFound, message);
    }
    let mut lines = Vec::new();
    for item in &items {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let mut page = Page { lines: &mut lines };
        page.object(item);
        let text =
            |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        match kind {
            Kind::Pods => {
                if let Some(pod) = running.cluster.pod(namespace, name) {
                    page.pod(running, pod);
                }
            }
            Kind::Nodes => page.node(running, name),
            Kind::Services => page.service(running, namespace, name),
            Kind::NetworkPolicies => page.policy(running, namespace, name),
            _ => {}
        }
    }
    Response::Done { lines }
}

struct Page<'l> {
    lines: &'l mut Vec<String>,
}

impl Page<'_> {
    /// The object itself: what it says, indented.
    fn object(&mut self, object: &Value) {
        let Value::Object(members) = object else { return };
        for (key, value) in members.iter().filter(|(key, _)| *key != "apiVersion") {
            self.value(0, &title(key), value);
        }
    }

    fn value(&mut self, depth: usize, key: &str, value: &Value) {
        let indent = "  ".repeat(depth);
        match value {
            Value::Null => {}
            Value::Object(members) if members.is_empty() => {}
            Value::Object(members) => {
                self.lines.push(format!("{indent}{key}:"));
                for (key, value) in members {
                    self.value(depth + 1, &title(key), value);
                }
            }
            Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
                let items: Vec<_> = items.iter().map(plain).collect();
                self.lines.push(format!("{indent}{key}: {}", items.join(", ")));
            }
            Value::Array(items) => {
                self.lines.push(format!("{indent}{key}:"));
                for (number, item) in items.iter().enumerate() {
                    self.value(depth + 1, &(number + 1).to_string(), item);
                }
            }
            other => self.lines.push(format!("{indent}{key}: {}", plain(other))),
        }
    }

    fn list(&mut self, key: &str, items: &[String]) {
        if items.is_empty() {
            self.lines.push(format!("{key}: <none>"));
            return;
        }
        self.lines.push(format!("{key}:"));
        self.lines.extend(items.iter().map(|item| format!("  {item}")));
    }

    /// What policies, services, the switch and conntrack have to do with a pod.
    fn pod(&mut self, running: &Running, pod: &Pod) {
        let slices = endpoint_slices(&running.cluster, &running.observed);
        let mut services: Vec<String> = slices
            .iter()
            .filter(|slice| {
                slice.endpoints.iter().flatten().any(|endpoint| {
                    endpoint.target_ref.as_ref().is_some_and(|target| {
                        target.name.as_deref() == Some(&pod.name)
                            && target.namespace.as_deref() == Some(&pod.namespace)
                    })
                })
            })
            .filter_map(|slice| {
                let labels = slice.metadata.labels.as_ref()?;
                let name = labels.get("kubernetes.io/service-name")?;
                Some(format!("{}/{name}", slice.metadata.namespace.as_deref()?))
            })
            .collect();
        services.sort_unstable();
        services.dedup();
        self.list("Services", &services);
        if let Some(snapshot) = running.switch.snapshot() {
            for (key, direction) in
                [("Ingress policies", Direction::Ingress), ("Egress policies", Direction::Egress)]
            {
                self.list(key, &policies(running, &snapshot, pod, direction));
            }
        }
        let kind = if pod.host_network {
            let node = running.cluster.nodes.get(pod.node);
            PortKind::Node { name: node.map(|node| node.name.clone()).unwrap_or_default() }
        } else {
            PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() }
        };
        self.machine(running, &kind);
    }

    fn node(&mut self, running: &Running, name: &str) {
        let of_node = |pod: &&std::sync::Arc<Pod>| {
            running.cluster.nodes.get(pod.node).is_some_and(|node| node.name == name)
        };
        let pods = running.cluster.pods.iter().filter(of_node);
        let pods: Vec<_> = pods.map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        self.list("Pods", &pods);
        if let Some(node) = running.cluster.node(name) {
            let behind = running.lags.behind(name);
            let lag = node.endpoint_lag();
            if !lag.is_zero() {
                self.lines
                    .push(format!("Hears of endpoints: {lag:?} later, of {behind} changes yet"));
            }
        }
        self.machine(running, &PortKind::Node { name: name.to_owned() });
    }

    /// What a machine's port carried, and how many flows are its.
    fn machine(&mut self, running: &Running, kind: &PortKind) {
        let Some(port) = running.ports().find(|port| port.kind == *kind) else { return };
        let traffic = views::traffic(running, port.id);
        self.lines.push("Port:".to_owned());
        self.lines.push(format!("  MAC: {}", port.mac));
        self.lines.push(format!("  MTU: {}", port.mtu));
        for (what, traffic) in [("Received", traffic.received), ("Sent", traffic.sent)] {
            let views::Traffic { frames, octets } = traffic;
            self.lines.push(format!("  {what}: {frames} frames, {octets} octets"));
        }
        let filter = FlowFilter { machine: Some(kind.to_string()), ..FlowFilter::default() };
        if let Ok(meant) = Meant::new(running, filter) {
            let flows = running.switch.shared.conntrack.connections();
            let count = flows.filter(|flow| meant.takes(flow)).count();
            self.lines.push(format!("Flows: {count}"));
        }
    }

    /// Where a Service is served, and by whom.
    fn service(&mut self, running: &Running, namespace: &str, name: &str) {
        let Some(snapshot) = running.switch.snapshot() else { return };
        for (_, frontend) in snapshot.served.frontends.iter() {
            let found = running.names.frontend(frontend.label);
            let Some(named @ FrontendName::Service { service, .. }) = &found else { continue };
            let is_it = service.metadata.name.as_deref() == Some(name)
                && service.metadata.namespace.as_deref() == Some(namespace);
            if !is_it {
                continue;
            }
            let backends = frontend.serving.iter().map(|backend| {
                match machine(running, &snapshot, backend.address) {
                    Some(machine) => format!("{backend} {machine}"),
                    None => backend.to_string(),
                }
            });
            let mut line = named.to_string();
            // writing to a string does not fail
            let _ = write!(line, ", {}", policy_name(frontend.policy));
            let backends: Vec<_> = backends.collect();
            self.list(&line, &backends);
        }
        for (line, places) in balanced::proxies(running, namespace, name) {
            self.list(&line, &places);
        }
    }

    /// The pods that a policy selects.
    fn policy(&mut self, running: &Running, namespace: &str, name: &str) {
        let found = running.cluster.network_policies.iter().find(|policy| {
            policy.metadata.name.as_deref() == Some(name)
                && policy.metadata.namespace.as_deref() == Some(namespace)
        });
        let selector = found.and_then(|policy| policy.spec.as_ref()?.pod_selector.clone());
        let selector = selector.unwrap_or_default();
        let none = BTreeMap::new();
        let pods = running.cluster.pods.iter().filter(|pod| {
            let labels = pod.object.metadata.labels.as_ref().unwrap_or(&none);
            pod.namespace == namespace && !pod.host_network && matches(&selector, labels)
        });
        let pods: Vec<_> = pods.map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        self.list("Selected pods", &pods);
    }
}

/// The policies that isolate a pod in a direction.
fn policies(
    running: &Running,
    snapshot: &Snapshot,
    pod: &Pod,
    direction: Direction,
) -> Vec<String> {
    let address = pod.addresses.first().map(|address| Address::from(*address));
    let identity = address.and_then(|address| snapshot.policies.addresses.find(address));
    let Some(identity) = identity else { return Vec::new() };
    let isolating = snapshot.policies.isolating(identity, direction).iter();
    isolating.filter_map(|id| Some(running.names.policies().get(*id)?.to_string())).collect()
}

fn machine(running: &Running, snapshot: &Snapshot, address: Address) -> Option<String> {
    let port = snapshot.topology.owner(address)?;
    running.names.port(port).map(ToString::to_string)
}

const fn policy_name(policy: kswitch_tables::Policy) -> &'static str {
    use kswitch_tables::Policy;
    match policy {
        Policy::Internal { .. } => "within the cluster",
        Policy::External => "to the outside, by any node",
        Policy::ExternalLocal => "to the outside, by each node's own pods",
        Policy::HostPort => "at the node",
    }
}

/// A field's name as a heading.
fn title(key: &str) -> String {
    let mut letters = key.chars();
    match letters.next() {
        // labels and annotations are written as they are
        Some(first) if key.chars().all(char::is_alphanumeric) => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => key.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
