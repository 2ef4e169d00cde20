use super::super::fixture::{address, cluster, endpoint, node, pod, service_of};
use super::*;
use crate::compile::{Compiled, Compiler};
use crate::{EntryPolicy, External};
use kswitch_tables::{Endpoint, Flow, Forwarding as Found, Generation, Protocol};
use serde_json::json;

const VIP: &str = "203.0.113.10";

fn balanced(policy: &str, annotations: &serde_json::Value) -> Cluster {
    let mut cluster = cluster();
    cluster.pods = vec![pod("a", 1, &["10.4.1.5"], "web")];
    cluster.services = vec![service_of(&json!({
        "metadata": { "name": "web", "namespace": "default", "annotations": annotations },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.8.0.1",
            "externalTrafficPolicy": policy,
            "selector": { "app": "web" },
            "ports": [
                { "name": "web", "port": 80, "targetPort": 8080 },
                { "name": "dns", "port": 53, "targetPort": 8053, "protocol": "UDP" },
            ],
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": VIP }] } },
    }))];
    cluster
}

fn compiled(cluster: &Cluster, observed: &Observed) -> Compiled {
    Compiler::new(7).compile(&Arc::new(cluster.clone()), observed, Generation(1))
}

fn flow(protocol: Protocol, port: u16) -> Flow {
    let target = Endpoint::new(address(VIP), port);
    Flow { protocol, source: endpoint("198.51.100.7:4000"), target }
}

fn rule(compiled: &Compiled) -> &ForwardingRule {
    match compiled.snapshot.forwarding.find(&flow(Protocol::TCP, 80)) {
        Some(Found::Rule(rule)) => rule,
        other => panic!("{other:?}"),
    }
}

fn names(compiled: &Compiled, routers: &[RouterId]) -> Vec<String> {
    let mut names: Vec<String> =
        routers.iter().filter_map(|at| compiled.names.router(*at)).map(str::to_owned).collect();
    names.sort();
    names
}

fn nodes(compiled: &Compiled) -> Vec<String> {
    names(compiled, rule(compiled).nodes.routers())
}

fn seen(port: u16, health: &[(&str, bool)]) -> Observed {
    let node_health = health.iter().map(|(name, is)| ((port, (*name).to_owned()), *is)).collect();
    Observed { node_health, ..Observed::default() }
}

#[test]
fn flows_go_to_all_nodes_or_to_those_with_endpoints() {
    let observed = Observed::default();
    let none = json!({});
    assert_eq!(nodes(&compiled(&balanced("Cluster", &none), &observed)), ["node-a", "node-b"]);
    let local = compiled(&balanced("Local", &none), &observed);
    assert_eq!(nodes(&local), ["node-b"]);
    let forwarding = &local.snapshot.forwarding;
    assert!(matches!(forwarding.find(&flow(Protocol::UDP, 53)), Some(Found::Rule(_))));
    assert!(matches!(forwarding.find(&flow(Protocol::TCP, 53)), Some(Found::NoPort)));
    assert!(forwarding.find(&flow(Protocol::TCP, 80).reversed()).is_none());
}

#[test]
fn what_checks_have_shown_counts_more_than_what_is_written() {
    let cluster = balanced("Cluster", &json!({}));
    let shown = compiled(&cluster, &seen(10_256, &[("node-a", false)]));
    assert_eq!(nodes(&shown), ["node-b"]);
    assert_eq!(names(&shown, &rule(&shown).keepers), ["node-a", "node-b"], "connections stay");
    // another port is another check
    let other = compiled(&cluster, &seen(30_000, &[("node-a", false)]));
    assert_eq!(nodes(&other), ["node-a", "node-b"]);
    let not_ready = [("node-a".to_owned(), false)].into();
    let observed = Observed { ready_nodes: not_ready, ..seen(10_256, &[("node-a", true)]) };
    assert_eq!(nodes(&compiled(&cluster, &observed)), ["node-a", "node-b"]);
}

#[test]
fn where_no_node_is_healthy_all_are_tried() {
    let health = [("node-a", false), ("node-b", false)];
    let shown = compiled(&balanced("Cluster", &json!({})), &seen(10_256, &health));
    assert_eq!(nodes(&shown), ["node-a", "node-b"]);
    assert!(shown.balancers[0].is_desperate());
}

#[test]
fn health_compiles_no_service_again_and_keeps_groups() {
    let mut compiler = Compiler::new(7);
    let cluster = Arc::new(balanced("Cluster", &json!({})));
    let before = compiler.compile(&cluster, &Observed::default(), Generation(1));
    let ill = compiler.compile(&cluster, &seen(10_256, &[("node-a", false)]), Generation(2));
    assert!(Arc::ptr_eq(&before.names.parts[0], &ill.names.parts[0]));
    assert!(Arc::ptr_eq(&before.snapshot.topology, &ill.snapshot.topology));
    let again = compiler.compile(&cluster, &seen(10_256, &[("node-a", false)]), Generation(3));
    assert!(Arc::ptr_eq(&rule(&ill).nodes, &rule(&again).nodes));
}

#[test]
fn nodes_that_are_leaving_or_excluded_get_nothing_new() {
    let mut cluster = balanced("Cluster", &json!({}));
    let mut leaving = Node::clone(&cluster.nodes[0]);
    leaving.taints = vec![crate::Taint {
        key: Node::TO_BE_DELETED.into(),
        value: String::new(),
        effect: "NoSchedule".into(),
    }];
    cluster.nodes[0] = leaving.into();
    assert_eq!(nodes(&compiled(&cluster, &Observed::default())), ["node-b"]);
    let mut excluded = Node::clone(&node("node-a", "", &["10.128.0.2"], &["10.4.0.0/24"]));
    let labels = [("node.kubernetes.io/exclude-from-external-load-balancers", "")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Arc::make_mut(&mut excluded.object).metadata.labels = Some(labels.into());
    cluster.nodes[0] = excluded.into();
    let compiled_now = compiled(&cluster, &Observed::default());
    assert_eq!(names(&compiled_now, &rule(&compiled_now).keepers), ["node-b"]);
    let draining = [("default".to_owned(), "web".to_owned(), "node-a".to_owned())].into();
    let observed = Observed { draining, ..Observed::default() };
    let draining = compiled(&cluster, &observed);
    assert_eq!(names(&draining, &rule(&draining).keepers), ["node-a", "node-b"]);
    assert_eq!(nodes(&draining), ["node-b"]);
}

#[test]
fn annotations_and_classes_say_whom_it_is_for() {
    let scheme = |annotations: &serde_json::Value| {
        compiled(&balanced("Cluster", annotations), &Observed::default()).balancers[0].scheme
    };
    assert_eq!(scheme(&json!({})), Scheme::TargetPool);
    assert_eq!(scheme(&json!({ "cloud.google.com/l4-rbs": "enabled" })), Scheme::External);
    let internal = json!({ "networking.gke.io/load-balancer-type": "Internal" });
    assert_eq!(scheme(&internal), Scheme::Internal { is_global: false });
    assert_eq!(
        scheme(&json!({
            "cloud.google.com/load-balancer-type": "internal",
            "networking.gke.io/internal-load-balancer-allow-global-access": "true",
        })),
        Scheme::Internal { is_global: true }
    );
}

#[test]
fn hosts_in_regions_without_nodes_are_elsewhere() {
    let mut cluster = balanced("Cluster", &json!({}));
    let host = |name: &str, address: &str, region: Option<&str>| External {
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        gateways: vec!["169.254.1.1".parse().unwrap()],
        routes: Vec::new(),
        mtu: None,
        interface: None,
        network: HostNetwork::Vpc { region: region.map(str::to_owned) },
    };
    cluster.externals = vec![
        host("near", "10.128.0.77/32", None),
        host("far", "10.150.0.2/32", Some("asia-east1")),
    ];
    let mut compiled = compiled(&cluster, &Observed::default());
    let regional = ForwardingRule { scope: Scope::Region, ..rule(&compiled).clone() };
    let forwarding = &mut compiled.snapshot.forwarding;
    assert!(forwarding.admits(&regional, address("10.128.0.77"), true));
    assert!(!forwarding.admits(&regional, address("10.150.0.2"), true));
}

#[test]
fn what_was_told_has_no_rule() {
    let observed = Observed { entry: EntryPolicy::everything_at("node-b"), ..Observed::default() };
    let compiled = compiled(&balanced("Cluster", &json!({})), &observed);
    assert!(compiled.snapshot.forwarding.find(&flow(Protocol::TCP, 80)).is_none());
    assert_eq!(compiled.balancers.len(), 1);
}

#[test]
fn a_subset_is_of_all_zones_and_mostly_the_same_when_nodes_come() {
    let annotations = json!({ "networking.gke.io/load-balancer-type": "Internal" });
    let many = |count: u8| {
        let mut cluster = balanced("Cluster", &annotations);
        cluster.settings.gateway.subsetting = true;
        cluster.nodes = (0..count)
            .map(|n| {
                let zone = if n < 2 { "zone-0".to_owned() } else { format!("zone-{}", 1 + n % 2) };
                let (address, range) = (format!("10.128.0.{}", n + 2), format!("10.4.{n}.0/24"));
                node(&format!("node-{n}"), &zone, &[&address], &[&range])
            })
            .collect();
        nodes(&compiled(&cluster, &Observed::default()))
    };
    let (before, after) = (many(40), many(41));
    assert_eq!((before.len(), after.len(), many(20).len()), (25, 25, 20));
    assert!(before.contains(&"node-0".to_owned()) && before.contains(&"node-1".to_owned()));
    let kept = before.iter().filter(|name| after.contains(name)).count();
    assert!(kept >= 24, "{kept}");
}

#[test]
fn endpoints_are_weights_where_asked() {
    let annotations = json!({ "networking.gke.io/weighted-load-balancing": "pods-per-node" });
    let mut cluster = balanced("Local", &annotations);
    cluster.pods.push(pod("b", 1, &["10.4.1.6"], "web"));
    cluster.pods.push(pod("c", 0, &["10.4.0.6"], "web"));
    let compiled = compiled(&cluster, &Observed::default());
    let weights: Vec<u32> = compiled.balancers[0].nodes.iter().map(|node| node.weight).collect();
    assert_eq!(weights, [1, 2]);
}
