//! Random clusters and probes: few names, labels and ports, so that they meet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use kswitch_config::{Cluster, Node, Pod, PolicySettings};
use kswitch_tables::Protocol;
use kswitch_tables::policy::{Echo, Established, Fallback};
use serde_json::{Value, json};

use crate::naive::{Machine, Probe};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const KEYS: [&str; 3] = ["app", "tier", "team"];
const VALUES: [&str; 3] = ["a", "b", "c"];
const PORT_NAMES: [&str; 3] = ["web", "dns", "admin"];
const PORTS: [u16; 6] = [0, 53, 80, 81, 90, 65_535];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// `xorshift64*`: the same seed makes the same cluster everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap() % bound
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }
}

pub(crate) fn cluster(random: &mut Random) -> Cluster {
    let mut cluster = Cluster::default();
    for name in NAMESPACES {
        cluster.namespaces.insert(name.into(), namespace_labels(random, name));
    }
    for index in 0..2 {
        cluster.nodes.push(node(random, index));
    }
    for index in 0..3 + random.below(6) {
        let pod = pod(random, &cluster, index);
        cluster.pods.push(pod);
    }
    for index in 0..random.below(6) {
        cluster.network_policies.push(object(network_policy(random, index)));
    }
    for index in 0..random.below(4) {
        cluster.cluster_network_policies.push(object(cluster_policy(random, index)));
    }
    cluster.settings.policy = settings(random);
    cluster
}

/// The cluster a moment later: one thing or a few are otherwise.
pub(crate) fn change(random: &mut Random, cluster: &mut Cluster) {
    for _ in 0..=random.below(3) {
        match random.below(9) {
            0 => {
                let name = random.pick(&NAMESPACES);
                cluster.namespaces.insert(name.into(), namespace_labels(random, name));
            }
            1 => {
                let at = random.below(cluster.pods.len());
                let index =
                    usize::try_from(cluster.pods[at].name[4..].parse::<u32>().unwrap()).unwrap();
                cluster.pods[at] = pod(random, cluster, index);
            }
            2 if cluster.pods.len() > 1 => {
                let at = random.below(cluster.pods.len());
                cluster.pods.remove(at);
            }
            3 => {
                let index =
                    cluster.pods.iter().map(|pod| pod.name[4..].parse::<usize>().unwrap()).max();
                let pod = pod(random, cluster, index.unwrap() + 1);
                cluster.pods.push(pod);
            }
            4 => {
                let index = random.below(8);
                let name = format!("np-{index}");
                cluster
                    .network_policies
                    .retain(|policy| policy.metadata.name.as_ref() != Some(&name));
                cluster.network_policies.push(object(network_policy(random, index)));
            }
            5 if !cluster.network_policies.is_empty() => {
                let at = random.below(cluster.network_policies.len());
                cluster.network_policies.remove(at);
            }
            6 => {
                let index = random.below(4);
                let name = format!("cnp-{index}");
                let policies = &mut cluster.cluster_network_policies;
                policies.retain(|policy| policy.metadata.name.as_ref() != Some(&name));
                policies.push(object(cluster_policy(random, index)));
            }
            7 => cluster.nodes[0] = node(random, 0),
            _ => cluster.settings.policy = settings(random),
        }
    }
}

fn settings(random: &mut Random) -> PolicySettings {
    PolicySettings {
        enabled: !random.once_in(25),
        default: if random.once_in(6) { Fallback::Deny } else { Fallback::Allow },
        audit: random.once_in(25),
        established: Established::Recheck,
        icmp_echo: if random.once_in(4) { Echo::Allowed } else { Echo::Judged },
    }
}

fn object<T: for<'de> serde::Deserialize<'de>>(object: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(object).unwrap())
}

fn labels(random: &mut Random) -> BTreeMap<String, String> {
    let pair = |random: &mut Random| (random.pick(&KEYS).into(), random.pick(&VALUES).into());
    random.some(2, pair).into_iter().collect()
}

fn namespace_labels(random: &mut Random, name: &str) -> BTreeMap<String, String> {
    let mut labels = labels(random);
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    labels
}

fn node(random: &mut Random, index: u8) -> Arc<Node> {
    let v4 = Ipv4Addr::new(10, 128, 0, 2 + index);
    Arc::new(Node {
        name: format!("node-{index}"),
        zone: None,
        addresses: vec![v4.into(), v6(0x128, index.into())],
        pod_ranges: vec![format!("10.4.{index}.0/24").parse().unwrap()],
        taints: Vec::new(),
        ready: true,
        unschedulable: false,
        object: object(json!({ "metadata": { "labels": labels(random) } })),
    })
}

fn v6(part: u16, host: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, part, 0, 0, 0, 0, 0, host).into()
}

/// A pod whose addresses follow from its index, so that some come back in other pods.
fn pod(random: &mut Random, cluster: &Cluster, index: usize) -> Arc<Pod> {
    let node = random.below(2);
    let host_network = random.once_in(10);
    let number = u8::try_from(index).unwrap();
    let addresses = if host_network {
        cluster.nodes[node].addresses.clone()
    } else {
        let v4 = Ipv4Addr::new(10, 4, u8::try_from(node).unwrap(), 2 + number);
        vec![v4.into(), v6(4, u16::from(number) + 2)]
    };
    let port = |random: &mut Random| {
        json!({
            "name": random.pick(&PORT_NAMES),
            "containerPort": random.pick(&PORTS[1..]),
            "protocol": random.pick(&PROTOCOLS),
        })
    };
    let phase = if random.once_in(20) { "Succeeded" } else { "Running" };
    let object = json!({
        "metadata": { "labels": labels(random) },
        "spec": { "containers": [{ "name": "main", "ports": random.some(3, port) }] },
        "status": { "phase": phase },
    });
    Arc::new(Pod {
        namespace: random.pick(&NAMESPACES).into(),
        name: format!("pod-{index}"),
        node,
        addresses,
        host_network,
        object: self::object(object),
    })
}

fn selector(random: &mut Random) -> Value {
    if random.once_in(4) {
        return json!({});
    }
    let expression = |random: &mut Random| {
        let key = random.pick(&KEYS);
        match random.below(4) {
            0 => json!({ "key": key, "operator": "Exists" }),
            1 => json!({ "key": key, "operator": "DoesNotExist" }),
            2 => json!({ "key": key, "operator": "In", "values": [random.pick(&VALUES), "b"] }),
            _ => json!({ "key": key, "operator": "NotIn", "values": [random.pick(&VALUES)] }),
        }
    };
    if random.once_in(2) {
        return json!({ "matchLabels": { random.pick(&KEYS): random.pick(&VALUES) } });
    }
    let expressions = random.some(2, expression);
    if random.once_in(3) {
        let labels = json!({ random.pick(&KEYS): random.pick(&VALUES) });
        return json!({ "matchLabels": labels, "matchExpressions": expressions });
    }
    json!({ "matchExpressions": expressions })
}

fn network_policy(random: &mut Random, index: usize) -> Value {
    // the namespace follows from the index, so that names are unique
    let mut spec = json!({ "podSelector": selector(random) });
    match random.below(5) {
        0 => spec["policyTypes"] = json!(["Ingress"]),
        1 => spec["policyTypes"] = json!(["Egress"]),
        2 => spec["policyTypes"] = json!(["Ingress", "Egress"]),
        3 => spec["policyTypes"] = json!([]),
        _ => {}
    }
    if !random.once_in(4) {
        spec["ingress"] = random.some(2, |random| network_rule(random, "from")).into();
    }
    if !random.once_in(3) {
        spec["egress"] = random.some(2, |random| network_rule(random, "to")).into();
    }
    let metadata = json!({
        "name": format!("np-{index}"),
        "namespace": NAMESPACES[index % 3],
        "annotations": { "kswitch.dev/audit": random.pick(&["true", "false", "false", "no", "false"]) },
    });
    json!({ "metadata": metadata, "spec": spec })
}

fn network_rule(random: &mut Random, peers: &str) -> Value {
    let mut rule = json!({});
    if !random.once_in(5) {
        rule[peers] = random.some(3, network_peer).into();
    }
    if !random.once_in(3) {
        rule["ports"] = random.some(3, network_port).into();
    }
    rule
}

fn network_peer(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!({ "podSelector": selector(random) }),
        1 => json!({ "namespaceSelector": selector(random) }),
        2 => json!({ "namespaceSelector": selector(random), "podSelector": selector(random) }),
        _ => {
            let (cidr, except) = random.pick(&[
                ("0.0.0.0/0", &["10.4.0.0/24", "10.128.0.2/32"][..]),
                ("10.4.0.0/16", &["10.4.0.4/31"]),
                ("10.4.0.0/16", &["10.4.1.0/24", "10.4.0.0/30"]),
                ("10.4.0.2/32", &[]),
                ("198.51.100.0/24", &["198.51.100.7/32"]),
                ("198.51.0.0/16", &[]),
                ("10.128.0.0/20", &[]),
                ("fd00:4::/64", &["fd00:4::2/128"]),
                ("::/0", &["fd00:128::/64"]),
            ]);
            json!({ "ipBlock": { "cidr": cidr, "except": except } })
        }
    }
}

fn network_port(random: &mut Random) -> Value {
    let mut port = json!({});
    if !random.once_in(4) {
        port["protocol"] = random.pick(&PROTOCOLS).into();
    }
    match random.below(5) {
        0 => {}
        1 => port["port"] = random.pick(&PORT_NAMES).into(),
        2 => {
            port["port"] = json!(80);
            port["endPort"] = json!(random.pick(&[80, 81, 90, 65_535]));
        }
        _ => port["port"] = json!(random.pick(&PORTS[1..])),
    }
    port
}

fn cluster_policy(random: &mut Random, index: usize) -> Value {
    let subject = pods(random);
    let mut spec = json!({
        "tier": random.pick(&["Admin", "Baseline"]),
        "priority": random.pick(&[0, 10, 10, 1000]),
        "subject": subject,
    });
    if !random.once_in(3) {
        spec["ingress"] = random.some(3, |random| cluster_rule(random, "from")).into();
    }
    if !random.once_in(3) {
        spec["egress"] = random.some(3, |random| cluster_rule(random, "to")).into();
    }
    let audit = random.pick(&["true", "false", "false", "false"]);
    let metadata = json!({
        "name": format!("cnp-{index}"),
        "annotations": { "kswitch.dev/audit": audit },
    });
    json!({ "metadata": metadata, "spec": spec })
}

fn pods(random: &mut Random) -> Value {
    if random.once_in(2) {
        return json!({ "namespaces": selector(random) });
    }
    json!({ "pods": { "namespaceSelector": selector(random), "podSelector": selector(random) } })
}

fn cluster_rule(random: &mut Random, peers: &str) -> Value {
    let peer = |random: &mut Random| match random.below(4) {
        0 if peers == "to" => json!({ "nodes": selector(random) }),
        1 if peers == "to" => {
            let networks = ["0.0.0.0/0", "::/0", "10.4.1.0/24", "198.51.100.7/32", "10.128.0.0/20"];
            json!({ "networks": [random.pick(&networks), "192.0.2.0/24"] })
        }
        2 if peers == "to" && random.once_in(4) => json!({ "domainNames": ["a.example"] }),
        _ => pods(random),
    };
    let mut rule = json!({
        "action": random.pick(&["Accept", "Deny", "Pass"]),
        peers: (0..=random.below(2)).map(|_| peer(random)).collect::<Vec<_>>(),
    });
    if !random.once_in(3) {
        let protocol = |random: &mut Random| {
            if random.once_in(4) {
                return json!({ "destinationNamedPort": random.pick(&PORT_NAMES) });
            }
            let port = match random.below(2) {
                0 => json!({ "number": random.pick(&PORTS[1..]) }),
                _ => json!({ "range": { "start": 80, "end": random.pick(&[81, 90, 65_535]) } }),
            };
            json!({ random.pick(&["tcp", "udp", "sctp"]): { "destinationPort": port } })
        };
        rule["protocols"] =
            (0..=random.below(2)).map(|_| protocol(random)).collect::<Vec<_>>().into();
    }
    rule
}

/// Somebody to somebody, of one family.
pub(crate) fn probe<'c>(random: &mut Random, cluster: &'c Cluster) -> Probe<'c> {
    let is_v4 = !random.once_in(4);
    let mut end = || {
        let machine = match random.below(8) {
            0 => Machine::Node(random.below(cluster.nodes.len())),
            1 => Machine::Outside,
            _ => {
                let pod = &cluster.pods[random.below(cluster.pods.len())];
                if pod.host_network || pod.is_finished() {
                    Machine::Node(pod.node)
                } else {
                    Machine::Pod(pod)
                }
            }
        };
        let outside =
            if is_v4 { IpAddr::from([198, 51, 100, random.pick(&[7, 8])]) } else { v6(0x0db8, 7) };
        let own = match machine {
            Machine::Pod(pod) => pod.addresses.iter(),
            Machine::Node(node) => cluster.nodes[node].addresses.iter(),
            Machine::Outside => [].iter(),
        };
        let own = own.copied().find(|ip| ip.is_ipv4() == is_v4);
        (machine, own.unwrap_or(outside))
    };
    let (source, target) = (end(), end());
    let protocols =
        [Protocol::TCP, Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol(47)];
    Probe {
        source,
        target,
        protocol: random.pick(&protocols),
        port: random.pick(&PORTS),
        is_translated: random.once_in(2),
    }
}
