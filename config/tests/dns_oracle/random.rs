//! Random clusters, changes to them, and names to ask for.

#[path = "../support/numbers.rs"]
mod numbers;

use std::collections::BTreeMap;
use std::sync::Arc;

use kswitch_config::{Cluster, Node, Observed, Pod};
use serde_json::{Value, json};

use crate::naive::{self, List};

pub(crate) use numbers::Random;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self::salted(seed, 0x1405_7b7e_f767_814f)
    }
}

const ODD: [&str; 12] =
    ["*", "_tcp", "_udp", "_http", "svc", "pod", "web", "default", "pet-0", "10-4-0-3", "x", "7"];
const NAMESPACES: [&str; 3] = ["default", "shop", "empty"];
const SERVICES: [&str; 6] = ["web", "db", "api", "alias", "outside", "lost"];
const HOSTNAMES: [Option<&str>; 4] = [None, Some("pet-0"), Some("pet-1"), Some("Twin")];

pub(crate) fn cluster(random: &mut Random) -> Cluster {
    let mut cluster = Cluster::default();
    let [pods, services] = naive::ranges();
    cluster.settings.cluster.pod_cidrs = pods;
    cluster.settings.cluster.service_cidrs = services;
    let namespaces = NAMESPACES.map(|name| (name.to_owned(), BTreeMap::new()));
    cluster.namespaces = namespaces.into();
    cluster.nodes.push(Arc::new(Node {
        name: "node-a".into(),
        zone: None,
        addresses: vec!["10.128.0.2".parse().unwrap()],
        pod_ranges: Vec::new(),
        taints: Vec::new(),
        ready: true,
        unschedulable: false,
        object: Arc::default(),
    }));
    for _ in 0..8 {
        put_pod(random, &mut cluster);
    }
    for _ in 0..6 {
        put_service(random, &mut cluster);
    }
    cluster
}

/// One change.
pub(crate) fn step(random: &mut Random, cluster: &mut Cluster, observed: &mut Observed) {
    match random.below(6) {
        0 if !cluster.pods.is_empty() => {
            cluster.pods.remove(random.below(cluster.pods.len()));
        }
        1 if !cluster.pods.is_empty() => {
            let pod = &cluster.pods[random.below(cluster.pods.len())];
            let key = (pod.namespace.clone(), pod.name.clone());
            observed.ready_pods.insert(key, random.percent(50));
        }
        2 if !cluster.services.is_empty() => {
            cluster.services.remove(random.below(cluster.services.len()));
        }
        3 => put_pod(random, cluster),
        _ => put_service(random, cluster),
    }
}

fn put_pod(random: &mut Random, cluster: &mut Cluster) {
    let index = random.below(12) + 2;
    let (name, namespace) = (format!("pod-{index}"), *random.one(&NAMESPACES[..2]));
    let mut addresses = vec![
        format!("10.4.0.{index}").parse().unwrap(),
        format!("fd00:4::{index:x}").parse().unwrap(),
    ];
    if random.percent(30) {
        addresses.truncate(1);
    }
    let object = json!({
        "metadata": { "labels": { "app": random.one(&SERVICES[..3]) } },
        "spec": {
            "hostname": *random.one(&HOSTNAMES),
            "subdomain": random.percent(60).then(|| *random.one(&SERVICES[..3])),
            "containers": [{ "name": "c", "ports": [{ "name": "web", "containerPort": 8080 }] }],
        },
        "status": {
            "conditions": [{ "type": "Ready", "status": if random.percent(75) { "True" } else { "False" } }],
        },
    });
    let pod = Pod {
        namespace: namespace.into(),
        name: name.clone(),
        node: 0,
        addresses,
        host_network: false,
        object: Arc::new(serde_json::from_value(object).unwrap()),
    };
    cluster.pods.retain(|pod| pod.name != name);
    cluster.pods.push(Arc::new(pod));
}

fn put_service(random: &mut Random, cluster: &mut Cluster) {
    let (name, namespace) = (*random.one(&SERVICES), *random.one(&NAMESPACES[..2]));
    let is_named = |of: &k8s_openapi::api::core::v1::Service| {
        of.metadata.name.as_deref() == Some(name)
            && of.metadata.namespace.as_deref() == Some(namespace)
    };
    let at = cluster.services.iter().position(|service| is_named(service));
    let index = 1
        + SERVICES.iter().position(|own| *own == name).unwrap()
        + 10 * NAMESPACES.iter().position(|own| *own == namespace).unwrap();
    let (v4, v6) = (format!("10.8.0.{index}"), format!("fd00:8::{index:x}"));
    let mut ports =
        vec![json!({ "name": "http", "port": 80, "protocol": "TCP", "targetPort": "web" })];
    if random.percent(40) {
        ports.push(json!({ "name": "dns", "port": 53, "protocol": "UDP" }));
    }
    if random.percent(20) {
        ports = vec![json!({ "port": 80, "protocol": "TCP", "targetPort": 8080 })];
    }
    let families = match random.below(3) {
        0 => json!(["IPv4"]),
        1 => json!(["IPv6"]),
        _ => json!(["IPv4", "IPv6"]),
    };
    let ips: Vec<Value> = families
        .as_array()
        .unwrap()
        .iter()
        .map(|family| if family == "IPv4" { json!(v4) } else { json!(v6) })
        .collect();
    let selector = json!({ "app": name });
    let spec = match name {
        "alias" => json!({ "type": "ExternalName", "externalName": *random.one(&[
            "www.example.com", "alias.example.com", "nowhere.example.org",
            "web.default.svc.cluster.local", "alias.shop.svc.cluster.local", "missing.cluster.local",
        ]) }),
        _ if random.percent(50) => json!({
            "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": families,
            "selector": selector, "ports": ports,
            "publishNotReadyAddresses": random.percent(20),
        }),
        _ => json!({
            "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families,
            "selector": selector, "ports": ports,
        }),
    };
    let object = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": spec });
    let service = Arc::new(serde_json::from_value(object).unwrap());
    match at {
        Some(at) => cluster.services[at] = service,
        None => cluster.services.push(service),
    }
}

/// A name that is there, one that nearly is, or one that cannot be.
pub(crate) fn name(random: &mut Random, list: &List) -> String {
    let names: Vec<&String> = list.keys().collect();
    let mut labels: Vec<String> =
        random.one(&names).trim_end_matches('.').split('.').map(str::to_owned).collect();
    match random.below(8) {
        0 => {
            labels.remove(0);
        }
        1 => labels.insert(0, (*random.one(&ODD)).to_owned()),
        2 => {
            let at = random.below(labels.len());
            (*random.one(&ODD)).clone_into(&mut labels[at]);
        }
        3 => labels[0] = labels[0].to_uppercase(),
        4 => {
            labels = [*random.one(&ODD), *random.one(&NAMESPACES), "pod", "cluster", "local"]
                .map(str::to_owned)
                .into();
        }
        _ => {}
    }
    format!("{}.", labels.join("."))
}
