//! Which columns a kind has, and what stands in them.

mod balanced;
mod links;

use serde_json::Value;

use crate::control::request::Kind;

/// What kubectl writes for what is not there.
const NONE: &str = "<none>";

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) cell: fn(&Value) -> String,
}

const fn column(heading: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { heading, cell }
}

pub(super) const NAMESPACE: Column = column("NAMESPACE", namespace);

const NAME: Column = column("NAME", |object| member(object, "/metadata/name"));

/// Which pods a workload has.
const SELECTOR: Column =
    column("SELECTOR", |workload| pairs(workload, "/spec/selector/matchLabels"));

/// The columns that are always there.
pub(super) fn usual(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::Nodes => vec![
            NAME,
            column("STATUS", node_status),
            column("ADDRESSES", |node| all(node, "/status/addresses", "/address")),
            column("POD-CIDRS", |node| all(node, "/spec/podCIDRs", "")),
            column("ZONE", |node| member(node, "/metadata/labels/topology.kubernetes.io~1zone")),
        ],
        Kind::Pods => vec![
            NAME,
            column("READY", pod_ready),
            column("STATUS", pod_status),
            column("IP", |pod| all(pod, "/status/podIPs", "/ip")),
            column("NODE", |pod| member(pod, "/spec/nodeName")),
        ],
        Kind::Services => vec![
            NAME,
            column("TYPE", |service| member(service, "/spec/type")),
            column("CLUSTER-IP", |service| all(service, "/spec/clusterIPs", "")),
            column("EXTERNAL-IP", external_addresses),
            column("PORT(S)", service_ports),
        ],
        Kind::EndpointSlices => vec![
            NAME,
            column("ADDRESSTYPE", |slice| member(slice, "/addressType")),
            column("PORTS", |slice| all(slice, "/ports", "/port")),
            column("ENDPOINTS", |slice| all(slice, "/endpoints", "/addresses")),
        ],
        Kind::Namespaces => {
            vec![NAME, column("STATUS", |namespace| member(namespace, "/status/phase"))]
        }
        Kind::NetworkPolicies => vec![
            NAME,
            column("POD-SELECTOR", |policy| pairs(policy, "/spec/podSelector/matchLabels")),
            column("TYPES", |policy| all(policy, "/spec/policyTypes", "")),
        ],
        Kind::ClusterNetworkPolicies => vec![
            NAME,
            column("TIER", |policy| member(policy, "/spec/tier")),
            column("PRIORITY", |policy| member(policy, "/spec/priority")),
        ],
        Kind::Deployments | Kind::ReplicaSets | Kind::StatefulSets => vec![
            NAME,
            column("REPLICAS", |workload| match workload.pointer("/spec/replicas") {
                None | Some(Value::Null) => "1".to_owned(),
                Some(replicas) => plain(replicas),
            }),
            SELECTOR,
        ],
        Kind::DaemonSets => vec![NAME, SELECTOR],
        Kind::Ingresses
        | Kind::GatewayClasses
        | Kind::Gateways
        | Kind::ListenerSets
        | Kind::HttpRoutes
        | Kind::GrpcRoutes
        | Kind::TlsRoutes
        | Kind::TcpRoutes
        | Kind::UdpRoutes
        | Kind::BackendTlsPolicies
        | Kind::ManagedCertificates
        | Kind::Authorities
        | Kind::BackendServices
        | Kind::ForwardingRules
        | Kind::HealthChecks
        | Kind::FirewallRules => balanced::columns(kind),
        Kind::Ports => vec![
            column("NAME", |port| member(port, "/name")),
            column("ROLE", |port| member(port, "/role")),
            column("NODE", |port| member(port, "/node")),
            column("MAC", |port| member(port, "/mac")),
            column("RECEIVED", |port| member(port, "/received/frames")),
            column("SENT", |port| member(port, "/sent/frames")),
            column("BUSY", |port| member(port, "/sendBusy")),
        ],
        Kind::Links => links::usual(),
        Kind::Workers => vec![
            column("NAME", |worker| member(worker, "/name")),
            column("CORE", |worker| member(worker, "/core")),
            column("IO", |worker| member(worker, "/io")),
            column("FRAMES", |worker| member(worker, "/frames")),
            column("RECEIVE-NS", |worker| member(worker, "/receiveNanos")),
            column("JUDGE-NS", |worker| member(worker, "/judgeNanos")),
            column("SEND-NS", |worker| member(worker, "/sendNanos")),
        ],
        Kind::Routes => vec![
            column("ROUTER", |route| member(route, "/router")),
            column("PREFIX", |route| member(route, "/prefix")),
            column("ACTION", |route| member(route, "/action")),
            column("VIA", |route| member(route, "/via")),
        ],
        Kind::Fdb => vec![
            column("BRIDGE", |entry| member(entry, "/segment")),
            column("MAC", |entry| member(entry, "/mac")),
            column("PORT", |entry| member(entry, "/port")),
            column("AGE", age),
        ],
        Kind::Neighbours => neighbour_columns(),
    }
}

fn neighbour_columns() -> Vec<Column> {
    vec![
        column("ADDRESS", |entry| member(entry, "/address")),
        column("MAC", |entry| member(entry, "/mac")),
        column("PORT", |entry| member(entry, "/port")),
        column("LINK", |entry| member(entry, "/segment")),
        column("STATE", |entry| member(entry, "/state")),
        column("AGE", age),
    ]
}

/// All the columns there are.
pub(super) fn wide(kind: Kind) -> Vec<Column> {
    let mut columns = usual(kind);
    match kind {
        Kind::Links => columns.extend(links::more()),
        Kind::Nodes => columns.extend([
            column("ENDPOINT-LAG", |node| {
                member(node, "/metadata/annotations/kswitch~1endpoint-lag")
            }),
            column("LABELS", |node| pairs(node, "/metadata/labels")),
        ]),
        Kind::Pods => columns.push(column("LABELS", |pod| pairs(pod, "/metadata/labels"))),
        Kind::Services => {
            columns.push(column("SELECTOR", |service| pairs(service, "/spec/selector")));
        }
        Kind::EndpointSlices => columns.push(column("SERVICE", |slice| {
            member(slice, "/metadata/labels/kubernetes.io~1service-name")
        })),
        Kind::Ports => columns.extend([
            column("RECEIVED-OCTETS", |port| member(port, "/received/octets")),
            column("SENT-OCTETS", |port| member(port, "/sent/octets")),
            column("MTU", |port| member(port, "/mtu")),
            column("ADDRESSES", |port| all(port, "/addresses", "")),
        ]),
        Kind::Namespaces => {
            columns.push(column("LABELS", |namespace| pairs(namespace, "/metadata/labels")));
        }
        Kind::NetworkPolicies => columns.extend([
            column("INGRESS-RULES", |policy| count(policy, "/spec/ingress")),
            column("EGRESS-RULES", |policy| count(policy, "/spec/egress")),
        ]),
        _ => {}
    }
    columns
}

/// The namespace of an object.
pub(super) fn namespace(object: &Value) -> String {
    member(object, "/metadata/namespace")
}

/// A value as it is read; lists with commas.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

pub(super) fn member(object: &Value, pointer: &str) -> String {
    plain(object.pointer(pointer).unwrap_or(&Value::Null))
}

fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(list).and_then(Value::as_array).into_iter().flatten()
}

/// How many items a list has.
fn count(object: &Value, list: &str) -> String {
    items(object, list).count().to_string()
}

/// A member of each item of a list.
fn all(object: &Value, list: &str, pointer: &str) -> String {
    joined(items(object, list).filter_map(|item| item.pointer(pointer)).map(plain))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

fn pairs(object: &Value, map: &str) -> String {
    let map = object.pointer(map).and_then(Value::as_object).into_iter().flatten();
    joined(map.map(|(key, value)| format!("{key}={}", plain(value))))
}

fn has_condition(object: &Value, name: &str) -> bool {
    items(object, "/status/conditions")
        .any(|condition| condition["type"] == name && condition["status"] == "True")
}

fn node_status(node: &Value) -> String {
    let ready = if has_condition(node, "Ready") { "Ready" } else { "NotReady" };
    let unschedulable = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    format!("{ready}{}", if unschedulable { ",SchedulingDisabled" } else { "" })
}

fn pod_ready(pod: &Value) -> String {
    let containers = items(pod, "/spec/containers").count();
    let told = items(pod, "/status/containerStatuses").count();
    let ready = if told > 0 {
        items(pod, "/status/containerStatuses").filter(|status| status["ready"] == true).count()
    } else if has_condition(pod, "Ready") {
        containers
    } else {
        0
    };
    format!("{ready}/{containers}")
}

fn pod_status(pod: &Value) -> String {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".to_owned();
    }
    let doing = items(pod, "/status/containerStatuses")
        .find_map(|status| status.pointer("/state/waiting/reason").and_then(Value::as_str));
    let phase = member(pod, "/status/phase");
    match doing {
        Some(reason) if phase == "Running" => reason.to_owned(),
        _ => phase,
    }
}

fn external_addresses(service: &Value) -> String {
    if service.pointer("/spec/type").is_some_and(|kind| kind == "ExternalName") {
        return member(service, "/spec/externalName");
    }
    let ingress = items(service, "/status/loadBalancer/ingress")
        .filter_map(|ingress| ingress.get("ip").or_else(|| ingress.get("hostname")));
    let addresses: Vec<_> = ingress.chain(items(service, "/spec/externalIPs")).map(plain).collect();
    let is_balanced = service.pointer("/spec/type").is_some_and(|kind| kind == "LoadBalancer");
    match addresses.as_slice() {
        [] if is_balanced => "<pending>".to_owned(),
        [] => NONE.to_owned(),
        some => some.join(","),
    }
}

fn service_ports(service: &Value) -> String {
    joined(items(service, "/spec/ports").map(|port| {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        let node_port = port.get("nodePort").map(|port| format!(":{}", plain(port)));
        format!("{}{}/{protocol}", member(port, "/port"), node_port.unwrap_or_default())
    }))
}

fn age(entry: &Value) -> String {
    match entry.get("ageSeconds").and_then(Value::as_f64) {
        Some(seconds) => format!("{seconds:.0}s"),
        None => "static".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(kind: Kind, object: &Value) -> Vec<String> {
        usual(kind).iter().map(|column| (column.cell)(object)).collect()
    }

    #[test]
    fn a_pod_in_full() {
        let pod = json!({
            "metadata": { "name": "client", "namespace": "shop" },
            "spec": { "nodeName": "node-a", "containers": [{ "name": "echo" }] },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True" }],
                "podIPs": [{ "ip": "10.4.0.2" }, { "ip": "fd00:4::2" }],
            },
        });
        assert_eq!(
            row(Kind::Pods, &pod),
            ["client", "1/1", "Running", "10.4.0.2,fd00:4::2", "node-a"]
        );
        assert_eq!(namespace(&pod), "shop");
    }

    #[test]
    fn services_of_each_type() {
        let service = |spec: Value, status: Value| {
            json!({
                "metadata": { "name": "web" }, "spec": spec, "status": status,
            })
        };
        let ports = json!([
            { "port": 80, "protocol": "TCP", "nodePort": 30_080 },
            { "port": 53, "protocol": "UDP" },
        ]);
        let balanced = service(
            json!({ "type": "LoadBalancer", "clusterIPs": ["10.8.0.5"], "ports": ports }),
            json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } }),
        );
        assert_eq!(
            row(Kind::Services, &balanced),
            ["web", "LoadBalancer", "10.8.0.5", "203.0.113.1", "80:30080/TCP,53/UDP"]
        );
        let waiting = service(json!({ "type": "LoadBalancer" }), Value::Null);
        assert_eq!(row(Kind::Services, &waiting)[2..], [NONE, "<pending>", NONE]);
        let external =
            service(json!({ "type": "ExternalName", "externalName": "a.b" }), Value::Null);
        assert_eq!(row(Kind::Services, &external)[3], "a.b");
    }

    #[test]
    fn what_an_object_does_not_have_breaks_no_table() {
        for kind in [
            Kind::Nodes,
            Kind::Pods,
            Kind::Services,
            Kind::EndpointSlices,
            Kind::Namespaces,
            Kind::NetworkPolicies,
            Kind::ClusterNetworkPolicies,
            Kind::Deployments,
            Kind::ReplicaSets,
            Kind::StatefulSets,
            Kind::DaemonSets,
            Kind::Ports,
            Kind::Workers,
            Kind::Routes,
            Kind::Links,
            Kind::Fdb,
            Kind::Neighbours,
        ] {
            for object in [json!({}), json!(null), json!([1]), json!({ "spec": 3, "status": "x" })]
            {
                for column in wide(kind) {
                    assert!(!(column.cell)(&object).is_empty(), "{kind:?} {}", column.heading);
                }
            }
        }
    }

    #[test]
    fn records_of_the_switch_have_their_columns() {
        use crate::control::request::{PortRecord, Record, Traffic};
        let port = PortRecord {
            name: "default/client".into(),
            role: "pod".into(),
            node: Some("node-a".into()),
            mac: "02:00:00:00:00:01".into(),
            addresses: vec![],
            mtu: 1_500,
            received: Traffic { frames: 3, octets: 180 },
            sent: Traffic { frames: 2, octets: 120 },
            send_busy: 0,
        };
        let expected = ["default/client", "pod", "node-a", "02:00:00:00:00:01", "3", "2", "0"];
        assert_eq!(row(Kind::Ports, &port.to_object()), expected);
    }
}
