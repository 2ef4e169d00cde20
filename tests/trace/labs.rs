//! Random labs, and random packets in them.

#[path = "../../config/tests/support/numbers.rs"]
mod numbers;

use std::fmt::Write;
use std::net::IpAddr;

use kswitch_config::{Cluster, PlannedPort};
use kswitch_tables::{Address, Endpoint, Flow, Protocol};

pub(crate) use numbers::Random;

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self::salted(seed, 0x1234_5678_9abc_def1)
    }
}

const APPS: [&str; 3] = ["web", "db", "client"];
const NAMESPACES: [&str; 2] = ["default", "shop"];

/// A lab of a few nodes, pods, Services and policies.
pub(crate) fn lab(random: &mut Random) -> String {
    let mut text = String::from(
        "[lab]\nname = \"random\"\n[cluster]\npod-cidrs = [\"10.4.0.0/14\", \"fd00:4::/48\"]\n\
         service-cidrs = [\"10.8.0.0/20\", \"fd00:8::/112\"]\n[[external]]\nname = \"internet\"\n\
         addresses = [\"198.51.100.7/24\", \"2001:db8:99::7/64\"]\n[[external]]\nname = \"office\"\n\
         addresses = [\"203.0.113.9/24\"]\n[[namespace]]\nmetadata = { name = \"shop\" }\n",
    );
    let nodes = 2 + random.below(2);
    for node in 0..nodes {
        writeln!(text, "[[node]]\nname = \"node-{node}\"").unwrap();
    }
    for pod in 0..5 + random.below(6) {
        let (app, namespace) = (random.one(&APPS), random.one(&NAMESPACES));
        let node = random.below(nodes);
        let host = if random.percent(10) { "hostNetwork = true, " } else { "" };
        writeln!(
            text,
            "[[pod]]\nmetadata = {{ name = \"pod-{pod}\", namespace = \"{namespace}\", \
             labels = {{ app = \"{app}\" }} }}\nspec = {{ nodeName = \"node-{node}\", {host}\
             containers = [{{ name = \"c\", ports = [{{ containerPort = {} }}] }}] }}",
            8000 + pod
        )
        .unwrap();
    }
    for service in 0..8 {
        self::service(random, service, &mut text);
    }
    for policy in 0..random.below(4) {
        self::policy(random, policy, &mut text);
    }
    text
}

fn service(random: &mut Random, number: usize, text: &mut String) {
    let app = if number == 0 { "nobody" } else { random.one(&APPS) };
    let namespace = random.one(&NAMESPACES);
    let mut spec = format!("selector = {{ app = \"{app}\" }}\n");
    let port = "port = 80, targetPort = 8080";
    let kind = random.below(4);
    match kind {
        0 => writeln!(spec, "ports = [{{ {port} }}]"),
        1 => writeln!(
            spec,
            "type = \"NodePort\"\nports = [{{ {port}, nodePort = {} }}]",
            30080 + number
        ),
        2 => writeln!(
            spec,
            "type = \"LoadBalancer\"\nloadBalancerSourceRanges = [\"198.51.100.0/24\"]\n\
             ports = [{{ {port}, nodePort = {} }}]",
            30080 + number
        ),
        _ => writeln!(spec, "externalIPs = [\"192.0.2.{}\"]\nports = [{{ {port} }}]", 10 + number),
    }
    .unwrap();
    if random.percent(30) {
        writeln!(spec, "internalTrafficPolicy = \"Local\"").unwrap();
    }
    if matches!(kind, 1 | 2) && random.percent(40) {
        writeln!(spec, "externalTrafficPolicy = \"Local\"").unwrap();
    }
    if random.percent(25) {
        writeln!(spec, "sessionAffinity = \"ClientIP\"").unwrap();
    }
    writeln!(
        text,
        "[[service]]\nmetadata = {{ name = \"service-{number}\", namespace = \"{namespace}\" }}\n\
         [service.spec]\nclusterIPs = [\"10.8.0.{0}\", \"fd00:8::{0}\"]\n\
         ipFamilyPolicy = \"PreferDualStack\"\n{spec}",
        20 + number
    )
    .unwrap();
    if kind == 2 {
        writeln!(
            text,
            "[service.status]\nloadBalancer = {{ ingress = [{{ ip = \"203.0.113.{}\" }}] }}",
            100 + number
        )
        .unwrap();
    }
}

pub(crate) fn policy(random: &mut Random, number: usize, text: &mut String) {
    let (own, peer) = (*random.one(&APPS), *random.one(&APPS));
    let namespace = random.one(&NAMESPACES);
    let way = *random.one(&["ingress", "egress"]);
    let peers = if way == "ingress" { "from" } else { "to" };
    let kind = if way == "ingress" { "Ingress" } else { "Egress" };
    let ports = if random.percent(50) { ", ports = [{ port = 8080 }]" } else { "" };
    writeln!(
        text,
        "[[network-policy]]\nmetadata = {{ name = \"policy-{number}\", namespace = \"{namespace}\" }}\n\
         spec.podSelector = {{ matchLabels = {{ app = \"{own}\" }} }}\n\
         spec.policyTypes = [\"{kind}\"]\n\
         spec.{way} = [{{ {peers} = [{{ podSelector = {{ matchLabels = {{ app = \"{peer}\" }} }} }}]{ports} }}]"
    )
    .unwrap();
}

/// A packet of a machine to something there is, or is not.
pub(crate) fn flow(
    random: &mut Random,
    cluster: &Cluster,
    from: &PlannedPort,
    source_port: u16,
) -> Option<Flow> {
    let source = random.one(&from.addresses).addr();
    let strings = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let targets: Vec<IpAddr> = match random.below(10) {
        0 | 1 => cluster.pods.iter().flat_map(|pod| pod.addresses.clone()).collect(),
        2 => cluster.nodes.iter().flat_map(|node| node.addresses.clone()).collect(),
        3 => cluster
            .externals
            .iter()
            .flat_map(|e| e.addresses.iter().map(ipnet::IpNet::addr))
            .collect(),
        4 => strings(&[
            "10.8.0.99",
            "10.4.0.1",
            "10.4.1.200",
            "192.0.2.200",
            "fd00:8::99",
            "10.128.0.1",
        ]),
        5 => (10..18)
            .map(|n| IpAddr::from([192, 0, 2, n]))
            .chain((100..108).map(|n| IpAddr::from([203, 0, 113, n])))
            .collect(),
        _ => {
            let specs = cluster.services.iter().filter_map(|service| service.spec.as_ref());
            let ips = specs.flat_map(|spec| spec.cluster_ips.iter().flatten());
            ips.map(|ip| ip.parse().unwrap()).collect()
        }
    };
    let fitting: Vec<_> = targets
        .into_iter()
        .filter(|target| target.is_ipv4() == source.is_ipv4())
        // what a machine says to itself comes to no switch
        .filter(|target| from.addresses.iter().all(|own| own.addr() != *target))
        .filter(|target| !from.loopback.contains(target))
        .collect();
    if fitting.is_empty() {
        return None;
    }
    let target = *random.one(&fitting);
    let echo = if source.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
    let protocol = *random.one(&[
        Protocol::TCP,
        Protocol::TCP,
        Protocol::TCP,
        Protocol::UDP,
        Protocol::SCTP,
        echo,
    ]);
    let port = *random.one(&[80, 80, 80, 8080, 30081, 30082, 30083, 30084, 443]);
    let port = if protocol.has_ports() { port } else { source_port };
    let end = |address: IpAddr, port| Endpoint::new(Address::from(address), port);
    Some(Flow { protocol, source: end(source, source_port), target: end(target, port) })
}
