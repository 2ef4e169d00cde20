//! Services get what an API server allocates for them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_config::{Cluster, load_text};

const DUAL: &str = "service-cidrs = [\"10.8.0.0/20\", \"fd00:8::/112\"]\n";

fn load(cluster: &str, services: &str) -> Cluster {
    let text =
        format!("[lab]\nname = \"t\"\n[cluster]\n{cluster}\n[[node]]\nname = \"a\"\n{services}");
    load_text("lab.toml", &text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "[[service]]\nmetadata.name = \"{name}\"\nspec = {{ ports = [{{ port = 80 }}], {spec} }}\n"
    )
}

fn get<'c>(cluster: &'c Cluster, name: &str) -> &'c Service {
    cluster.service("default", name).unwrap()
}

fn ips(cluster: &Cluster, name: &str) -> Vec<String> {
    get(cluster, name).spec.as_ref().unwrap().cluster_ips.clone().unwrap_or_default()
}

fn families(cluster: &Cluster, name: &str) -> Vec<String> {
    get(cluster, name).spec.as_ref().unwrap().ip_families.clone().unwrap_or_default()
}

#[test]
fn cluster_ips_come_from_the_upper_band_and_never_are_the_dns_address() {
    let services: String = (0..3).map(|at| service(&format!("s{at}"), "")).collect();
    let cluster = load("", &services);
    assert_eq!(ips(&cluster, "s0"), ["10.8.1.0"]);
    assert_eq!(ips(&cluster, "s2"), ["10.8.1.2"]);
    // a range so small that both bands are needed: 14 addresses, one of which is the DNS's
    let services: String = (0..13).map(|at| service(&format!("s{at}"), "")).collect();
    let cluster = load("service-cidrs = [\"10.8.0.0/28\"]", &services);
    let mut all: Vec<_> = cluster
        .services
        .iter()
        .flat_map(|at| ips(&cluster, at.metadata.name.as_ref().unwrap()))
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 13);
    assert!(!all.contains(&"10.8.0.10".to_owned()));
}

#[test]
fn the_dns_address_can_be_asked_for() {
    let cluster = load("", &service("kube-dns", "clusterIP = \"10.8.0.10\""));
    assert_eq!(ips(&cluster, "kube-dns"), ["10.8.0.10"]);
}

#[test]
fn families_follow_policy_and_cluster() {
    let services = [
        ("single", ""),
        ("prefer", "ipFamilyPolicy = \"PreferDualStack\""),
        ("require", "ipFamilyPolicy = \"RequireDualStack\""),
        ("six", "ipFamilies = [\"IPv6\"]"),
        ("six-first", "ipFamilies = [\"IPv6\"], ipFamilyPolicy = \"PreferDualStack\""),
        ("by-address", "clusterIP = \"fd00:8::7\""),
        (
            "both",
            "clusterIPs = [\"fd00:8::8\", \"10.8.0.8\"], ipFamilyPolicy = \"RequireDualStack\"",
        ),
        ("half", "clusterIP = \"10.8.0.9\", ipFamilyPolicy = \"PreferDualStack\""),
        ("headless", "clusterIP = \"None\", selector = { app = \"x\" }"),
        ("free", "clusterIP = \"None\""),
    ];
    let text: String = services.iter().map(|(name, spec)| service(name, spec)).collect();
    let cluster = load(DUAL, &text);
    for (name, expected) in [
        ("single", vec!["IPv4"]),
        ("prefer", vec!["IPv4", "IPv6"]),
        ("require", vec!["IPv4", "IPv6"]),
        ("six", vec!["IPv6"]),
        ("six-first", vec!["IPv6", "IPv4"]),
        ("by-address", vec!["IPv6"]),
        ("both", vec!["IPv6", "IPv4"]),
        ("half", vec!["IPv4", "IPv6"]),
        ("headless", vec!["IPv4"]),
        ("free", vec!["IPv4", "IPv6"]),
    ] {
        assert_eq!(families(&cluster, name), expected, "{name}");
        let addresses = ips(&cluster, name);
        if matches!(name, "headless" | "free") {
            assert_eq!(addresses, ["None"], "{name}");
            continue;
        }
        let of: Vec<_> =
            addresses.iter().map(|at| if at.contains(':') { "IPv6" } else { "IPv4" }).collect();
        assert_eq!(of, expected, "{name}");
        let single = get(&cluster, name).spec.as_ref().unwrap().cluster_ip.as_ref();
        assert_eq!(single, addresses.first(), "{name}");
    }
    assert_eq!(ips(&cluster, "half")[0], "10.8.0.9");
}

#[test]
fn prefer_dual_stack_makes_do_with_one_family() {
    let cluster = load("", &service("prefer", "ipFamilyPolicy = \"PreferDualStack\""));
    assert_eq!(families(&cluster, "prefer"), ["IPv4"]);
    assert_eq!(ips(&cluster, "prefer").len(), 1);
}

#[test]
fn defaults_are_filled_in() {
    let cluster = load(
        "",
        "[[service]]\nmetadata.name = \"s\"\n[service.spec]\nsessionAffinity = \"ClientIP\"\n\
         ports = [{ name = \"a\", port = 80 }, { name = \"b\", port = 81, protocol = \"UDP\", targetPort = \"dns\" }]\n",
    );
    let spec = get(&cluster, "s").spec.as_ref().unwrap();
    let ports = spec.ports.as_ref().unwrap();
    assert_eq!(ports[0].protocol.as_deref(), Some("TCP"));
    assert_eq!(ports[0].target_port, Some(IntOrString::Int(80)));
    assert_eq!(ports[1].target_port, Some(IntOrString::String("dns".into())));
    assert_eq!(ports[0].node_port, None);
    assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
    assert_eq!(spec.internal_traffic_policy.as_deref(), Some("Cluster"));
    assert_eq!(spec.external_traffic_policy, None);
    let affinity = spec.session_affinity_config.as_ref().unwrap().client_ip.as_ref().unwrap();
    assert_eq!(affinity.timeout_seconds, Some(10_800));
}

#[test]
fn node_ports_come_from_the_upper_band_and_protocols_share_them() {
    let cluster = load(
        "",
        r#"
[[service]]
metadata.name = "np"
[service.spec]
type = "NodePort"
ports = [
  { name = "tcp", port = 53 },
  { name = "udp", port = 53, protocol = "UDP" },
  { name = "web", port = 80, nodePort = 30086 },
  { name = "more", port = 81 },
]
[[service]]
metadata.name = "lb"
[service.spec]
type = "LoadBalancer"
externalTrafficPolicy = "Local"
ports = [{ port = 80 }]
[[service]]
metadata.name = "without"
[service.spec]
type = "LoadBalancer"
allocateLoadBalancerNodePorts = false
ports = [{ port = 80 }]
"#,
    );
    let ports = |name: &str| -> Vec<_> {
        let spec = get(&cluster, name).spec.as_ref().unwrap();
        spec.ports.iter().flatten().map(|port| port.node_port).collect()
    };
    // 30000 to 30085 are left to those who ask
    assert_eq!(ports("np"), [Some(30_087), Some(30_087), Some(30_086), Some(30_088)]);
    assert_eq!(ports("lb"), [Some(30_089)]);
    assert_eq!(get(&cluster, "lb").spec.as_ref().unwrap().health_check_node_port, Some(30_090));
    assert_eq!(ports("without"), [None]);
    assert_eq!(get(&cluster, "without").spec.as_ref().unwrap().health_check_node_port, None);
}

#[test]
fn load_balancers_get_addresses_of_the_pools() {
    let text: String = [
        ("one", "type = \"LoadBalancer\""),
        ("dual", "type = \"LoadBalancer\", ipFamilyPolicy = \"PreferDualStack\""),
        ("asked", "type = \"LoadBalancer\", loadBalancerIP = \"203.0.113.1\""),
        ("other", "type = \"LoadBalancer\", loadBalancerClass = \"example.com/x\""),
    ]
    .iter()
    .map(|(name, spec)| service(name, spec))
    .collect();
    let pools = "load-balancer-pools = [\"203.0.113.0/29\", \"2001:db8:1::/120\"]\n";
    let cluster = load(&format!("{DUAL}{pools}"), &text);
    let addresses = |name: &str| -> Vec<_> {
        let status = get(&cluster, name).status.as_ref();
        let balancer = status.and_then(|status| status.load_balancer.as_ref());
        balancer
            .iter()
            .flat_map(|at| at.ingress.iter().flatten())
            .filter_map(|at| at.ip.clone())
            .collect()
    };
    assert_eq!(addresses("asked"), ["203.0.113.1"]);
    assert_eq!(addresses("one"), ["203.0.113.2"]);
    assert_eq!(addresses("dual"), ["203.0.113.3", "2001:db8:1::1"]);
    assert_eq!(addresses("other"), Vec::<String>::new());
    assert!(cluster.warnings.iter().any(|at| at.message.contains("example.com/x")));
}

#[test]
fn an_external_name_has_no_address() {
    let cluster = load(
        "",
        "[[service]]\nmetadata.name = \"e\"\nspec = { type = \"ExternalName\", externalName = \"example.com\" }\n",
    );
    assert_eq!(ips(&cluster, "e"), Vec::<String>::new());
    assert_eq!(families(&cluster, "e"), Vec::<String>::new());
}

#[test]
fn a_wish_that_nothing_follows_from_is_named() {
    let annotated = "[[service]]\nmetadata = { name = \"near\", annotations = { \
                     \"service.kubernetes.io/topology-mode\" = \"Auto\" } }\n\
                     spec.ports = [{ port = 80 }]\n";
    let cluster = load("", annotated);
    let warnings: Vec<_> = cluster.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|at| at.contains("trafficDistribution")), "{warnings:?}");
    let quiet = load("", &annotated.replace("Auto", "Disabled"));
    assert!(quiet.warnings.is_empty());
}
