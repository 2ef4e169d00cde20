//! Many policies over many pods: how long it takes to compile them, and to change one.
//!
//! Times are held to their bounds in a release build only; `--nocapture` shows them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kswitch_config::{Cluster, Compiler, Node, Observed, Pod};
use kswitch_tables::Generation;
use serde_json::json;

const NAMESPACES: usize = 500;
const PODS: usize = 5_000;
const POLICIES: usize = 10_000;
const NODES: usize = 50;

fn node(index: usize) -> Arc<Node> {
    let index = u8::try_from(index).unwrap();
    Arc::new(Node {
        name: format!("node-{index}"),
        zone: None,
        addresses: vec![Ipv4Addr::new(10, 128, 0, index + 2).into()],
        pod_ranges: vec![format!("10.4.{index}.0/24").parse().unwrap()],
        taints: Vec::new(),
        ready: true,
        unschedulable: false,
        object: Arc::default(),
    })
}

fn pod(index: usize) -> Arc<Pod> {
    let (node, host) = (index % NODES, u8::try_from(index / NODES + 2).unwrap());
    let address = Ipv4Addr::new(10, 4, u8::try_from(node).unwrap(), host);
    let labels = json!({ "app": format!("app-{}", index / NAMESPACES), "id": index.to_string() });
    let ports = json!([{ "name": "web", "containerPort": 8080 }]);
    let object = json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "main", "ports": ports }] },
    });
    Arc::new(Pod {
        namespace: format!("ns-{}", index % NAMESPACES),
        name: format!("pod-{index}"),
        node,
        addresses: vec![address.into()],
        host_network: false,
        object: Arc::new(serde_json::from_value(object).unwrap()),
    })
}

/// Twenty to a namespace, each about one app; peers in the namespace, in others, and blocks.
fn policy(index: usize, port: u16) -> Arc<NetworkPolicy> {
    let app = |number: usize| json!({ "matchLabels": { "app": format!("app-{}", number % 10) } });
    let team = json!({ "matchLabels": { "team": format!("team-{}", index % 20) } });
    let object = json!({
        "metadata": { "name": format!("np-{index}"), "namespace": format!("ns-{}", index % NAMESPACES) },
        "spec": {
            "podSelector": app(index / NAMESPACES),
            "ingress": [
                { "from": [{ "podSelector": app(index + 1) }], "ports": [{ "port": "web" }] },
                { "from": [{ "namespaceSelector": team, "podSelector": app(index + 2) }], "ports": [{ "port": port }] },
                { "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.4.1.0/24"] } }] },
            ],
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

#[test]
fn ten_thousand_policies_over_five_thousand_pods() {
    let mut cluster = Cluster::default();
    for index in 0..NAMESPACES {
        let labels = [("team".to_owned(), format!("team-{}", index % 20))];
        cluster.namespaces.insert(format!("ns-{index}"), labels.into());
    }
    cluster.nodes.extend((0..NODES).map(node));
    cluster.pods.extend((0..PODS).map(pod));
    let mut compiler = Compiler::new(1);
    let mut compile = |cluster: &Cluster, generation| {
        let shared = Arc::new(cluster.clone());
        let start = Instant::now();
        let compiled = compiler.compile(&shared, &Observed::default(), Generation(generation));
        (compiled.snapshot.policies, start.elapsed())
    };
    let (_, without) = compile(&cluster, 1);
    cluster.network_policies.extend((0..POLICIES).map(|index| policy(index, 80)));
    let (policies, all) = compile(&cluster, 2);
    cluster.network_policies[POLICIES / 2] = policy(POLICIES / 2, 81);
    let (changed, one) = compile(&cluster, 3);
    let sets: usize = policies.selections.iter().map(|set| set.octets()).sum();
    println!("without policies {without:?}; all policies {all:?}; one changed {one:?}");
    println!("{} selections of {sets} octets together", policies.selections.len());
    let differ =
        policies.identities.iter().zip(&*changed.identities).filter(|(a, b)| !Arc::ptr_eq(a, b));
    assert_eq!(differ.count(), 1, "only the identities that the policy selects are made anew");
    if !cfg!(debug_assertions) {
        assert!(all.as_secs() < 2 && one.as_millis() < 50, "{all:?} {one:?}");
    }
}
