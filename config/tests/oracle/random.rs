//! Random clusters, and random changes to them.

#[path = "../support/numbers.rs"]
mod numbers;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kswitch_config::{Cluster, Node, Observed, Pod};
use serde_json::{Value, json};

pub(crate) use numbers::Random;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self::salted(seed, 0x5851_f42d_4c95_7f2d)
    }
}

pub(crate) fn cluster(random: &mut Random) -> Cluster {
    let mut cluster = Cluster::default();
    let settings = &mut cluster.settings.cluster;
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    settings.pod_cidrs = nets(&["10.4.0.0/14", "fd00:4::/48"]);
    settings.service_cidrs = nets(&["10.8.0.0/20", "fd00:8::/112"]);
    settings.masquerade.all = random.percent(15);
    if random.percent(50) {
        let some: [&[&str]; 3] =
            [&["0.0.0.0/0", "::/0"], &["10.129.0.0/16"], &["10.128.0.0/15", "fd00:128::/64"]];
        settings.node_ports.addresses = nets(some[random.below(3)]);
    }
    for index in 0..=random.below(4) {
        cluster.nodes.push(node(random, index));
    }
    for index in 0..random.below(10) {
        let pod = pod(random, index, &cluster.nodes);
        cluster.pods.push(pod);
    }
    for index in 0..=random.below(4) {
        put_service(random, &mut cluster, index);
    }
    cluster
}

/// The cluster after one change.
pub(crate) fn step(random: &mut Random, before: &Cluster, observed: &mut Observed) -> Cluster {
    let mut cluster = before.clone();
    let at = random.below(cluster.pods.len());
    match random.below(10) {
        0 if !cluster.pods.is_empty() => {
            cluster.pods.remove(at);
        }
        1 => {
            let index = 20 + random.below(20);
            let name = format!("pod-{index}");
            if cluster.pods.iter().all(|pod| pod.name != name) {
                cluster.pods.insert(at, pod(random, index, &cluster.nodes));
            }
        }
        2..=4 if !cluster.pods.is_empty() => {
            let index = cluster.pods[at].name["pod-".len()..].parse().unwrap();
            cluster.pods[at] = pod(random, index, &cluster.nodes);
        }
        5 if !cluster.pods.is_empty() => {
            let pod = &cluster.pods[at];
            let key = (pod.namespace.clone(), pod.name.clone());
            observed.ready_pods.insert(key, random.percent(50));
        }
        6 if !cluster.services.is_empty() => {
            let service = cluster.services.remove(random.below(cluster.services.len()));
            let name = service.metadata.name.as_deref().unwrap();
            cluster.endpoint_slices.retain(|slice| service_of(slice) != name);
        }
        7 => {
            let node = random.below(cluster.nodes.len());
            cluster.nodes[node] = self::node(random, node);
        }
        _ => {
            let index = random.below(6);
            put_service(random, &mut cluster, index);
        }
    }
    cluster
}

fn node(random: &mut Random, index: usize) -> Arc<Node> {
    let mut addresses = vec![format!("10.128.0.{}", index + 2), format!("fd00:128::{}", index + 2)];
    if random.percent(40) {
        addresses.insert(1, format!("10.129.0.{}", index + 2));
    }
    Arc::new(Node {
        // names do not follow the order
        name: format!("node-{}", ["c", "a", "d", "b"][index]),
        zone: random
            .one(&[Some("zone-1"), Some("zone-1"), Some("zone-2"), None])
            .map(str::to_owned),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        pod_ranges: [format!("10.4.{index}.0/24"), format!("fd00:4:0:{index}::/64")]
            .map(|net| net.parse().unwrap())
            .into(),
        taints: Vec::new(),
        ready: random.percent(80),
        unschedulable: false,
        object: Arc::default(),
    })
}

fn pod(random: &mut Random, index: usize, nodes: &[Arc<Node>]) -> Arc<Pod> {
    let node = random.below(nodes.len());
    let host_network = random.percent(15);
    let mut addresses: Vec<IpAddr> = if host_network {
        nodes[node].addresses.clone()
    } else {
        let third = if random.percent(15) { 200 } else { node };
        [format!("10.4.{third}.{}", index + 5), format!("fd00:4:0:{third}::{}", index + 5)]
            .map(|ip| ip.parse().unwrap())
            .into()
    };
    match random.below(4) {
        0 => addresses.retain(IpAddr::is_ipv4),
        1 => addresses.reverse(),
        _ => {}
    }
    let web = json!({ "name": "web", "containerPort": 8000 + random.below(3) });
    let host_port = json!({
        "containerPort": 7000,
        "hostPort": 4000 + random.below(2),
        "hostIP": random.one(&["", "", "0.0.0.0", "10.128.0.2", "10.129.0.2"]),
    });
    let mut ports = vec![json!({ "name": "other", "containerPort": 9 })];
    if random.percent(80) {
        ports.push(web);
    }
    if random.percent(25) {
        ports.push(host_port);
    }
    let mut object = json!({
        "metadata": { "labels": { "app": random.one(&["a", "b"]), "tier": random.one(&["x", "y"]) } },
        "spec": { "containers": [{ "name": "main", "ports": ports }] },
        "status": {
            "phase": random.one(&["Running", "Running", "Running", "Running", "Succeeded"]),
            "conditions": [{ "type": "Ready", "status": random.one(&["True", "True", "False"]) }],
        },
    });
    if random.percent(30) {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(Pod {
        namespace: "default".into(),
        name: format!("pod-{index}"),
        node,
        addresses,
        host_network,
        object: Arc::new(serde_json::from_value(object).unwrap()),
    })
}

/// Puts a Service in place of the one of the same number, with slices if it has no selector.
fn put_service(random: &mut Random, cluster: &mut Cluster, index: usize) {
    let name = format!("service-{index}");
    let service = service(random, index);
    let has_selector = service.spec.as_ref().unwrap().selector.is_some();
    let place =
        cluster.services.iter().position(|have| have.metadata.name == service.metadata.name);
    match place {
        Some(at) => cluster.services[at] = service.into(),
        None => cluster.services.push(service.into()),
    }
    cluster.endpoint_slices.retain(|slice| service_of(slice) != name);
    if !has_selector || random.percent(10) {
        for number in 0..random.below(4) {
            cluster.endpoint_slices.push(Arc::new(slice(random, &name, number)));
        }
    }
}

fn service_of(slice: &EndpointSlice) -> &str {
    &slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"]
}

fn service(random: &mut Random, index: usize) -> Service {
    let (v4, v6) = (format!("10.8.0.{}", index + 1), format!("fd00:8::{}", index + 1));
    let ips = random.one(&[vec![v4.clone()], vec![v4.clone(), v6.clone()], vec![v6, v4]]).clone();
    let families: Vec<&str> =
        ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
    let policy = |random: &mut Random| *random.one(&["Cluster", "Local"]);
    let port = |random: &mut Random, name: &str, number: u16, protocol: &str, offset: usize| {
        let mut port = json!({ "name": name, "port": number, "protocol": protocol });
        match random.below(3) {
            0 => port["targetPort"] = json!(8001),
            1 => port["targetPort"] = json!("web"),
            _ => {}
        }
        // Services sometimes ask for what another one has
        let owner = if random.percent(5) { 0 } else { index };
        port["nodePort"] = json!(30_000 + owner * 2 + offset);
        port
    };
    let mut ports = vec![port(random, "", 80, "TCP", 0)];
    if random.percent(40) {
        ports = vec![port(random, "dns", 53, "UDP", 0), port(random, "dns-tcp", 53, "TCP", 1)];
    }
    let mut spec = json!({
        "type": random.one(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
        "clusterIPs": ips,
        "ipFamilies": families,
        "ports": ports,
        "internalTrafficPolicy": policy(random),
        "externalTrafficPolicy": policy(random),
        "publishNotReadyAddresses": random.percent(15),
        "trafficDistribution": random.one(&[
            None, None, Some("PreferClose"), Some("PreferSameZone"), Some("PreferSameNode"),
        ]),
    });
    if random.percent(70) {
        spec["selector"] =
            random.one(&[json!({ "app": "a" }), json!({ "app": "b", "tier": "x" })]).clone();
    }
    if random.percent(20) {
        spec["sessionAffinity"] = json!("ClientIP");
        if random.percent(50) {
            spec["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": 77 } });
        }
    }
    if random.percent(40) {
        let shared = if random.percent(20) { 0 } else { index };
        spec["externalIPs"] = json!([format!("192.0.2.{shared}"), format!("2001:db8::{shared}")]);
    }
    let ranges =
        ["10.4.0.0/16", " 198.51.100.0/25", "10.128.0.0/20 ", "fd00:4::/32", "2001:db8:7::/48"];
    if random.percent(40) {
        let ranges: Vec<_> = (0..=random.below(2)).map(|_| *random.one(&ranges)).collect();
        spec["loadBalancerSourceRanges"] = json!(ranges);
    }
    let mode = random.one(&[None, Some("VIP"), Some("Proxy")]);
    let ingress = [format!("203.0.113.{index}"), format!("2001:db8:1::{index}")];
    let ingress = ingress.map(|ip| json!({ "ip": ip, "ipMode": mode }));
    let mut labels = json!({});
    if random.percent(4) {
        labels["service.kubernetes.io/service-proxy-name"] = json!("another");
    }
    match random.below(20) {
        0 => spec["type"] = json!("ExternalName"),
        1 => spec["clusterIPs"] = json!(["None"]),
        _ => {}
    }
    let balancing = random.one(&["random", "least-connections", "maglev"]);
    let annotations = json!({
        "kswitch.dev/balancing": balancing,
        "kswitch.dev/maglev-table-size": "251",
    });
    let object = json!({
        "metadata": {
            "name": format!("service-{index}"),
            "namespace": "default",
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
        "status": { "loadBalancer": { "ingress": ingress } },
    });
    serde_json::from_value(object).unwrap()
}

fn slice(random: &mut Random, service: &str, number: usize) -> EndpointSlice {
    let is_v4 = random.percent(70);
    let node = |random: &mut Random| *random.one(&["node-a", "node-b", "node-c", "nowhere"]);
    let all_hinted = random.percent(40);
    let endpoints: Vec<Value> = (0..random.below(5))
        .map(|_| {
            let last = random.below(6) + 5;
            let address = if is_v4 { format!("10.4.0.{last}") } else { format!("fd00:4::{last}") };
            let mut endpoint = json!({ "addresses": [address] });
            if random.percent(80) {
                endpoint["nodeName"] = json!(node(random));
            }
            let known = [Some(true), Some(true), Some(false), None];
            endpoint["conditions"] = json!({
                "ready": random.one(&known),
                "serving": random.one(&known),
                "terminating": random.one(&[Some(true), Some(false), None]),
            });
            if all_hinted || random.percent(20) {
                let zones: Vec<Value> = (0..=random.below(2))
                    .map(|_| json!({ "name": random.one(&["zone-1", "zone-2", "zone-9"]) }))
                    .collect();
                endpoint["hints"] = json!({ "forZones": zones });
                if random.percent(60) {
                    endpoint["hints"]["forNodes"] = json!([{ "name": node(random) }]);
                }
            }
            endpoint
        })
        .collect();
    let mut ports = vec![
        json!({ "name": "", "port": 8000 }),
        json!({ "name": "dns", "port": 5353, "protocol": "UDP" }),
        json!({ "name": "dns-tcp", "port": 5353, "protocol": "TCP" }),
    ];
    ports.remove(random.below(6).min(2));
    let object = json!({
        "metadata": {
            "name": format!("{service}-{number}"),
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": if is_v4 { "IPv4" } else { "IPv6" },
        "endpoints": endpoints,
        "ports": ports,
    });
    serde_json::from_value(object).unwrap()
}
