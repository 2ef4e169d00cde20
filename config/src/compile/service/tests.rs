use kswitch_tables::{Affinity, LoadId, Method, Policy, Protocol};
use serde_json::{Value, json};

use super::super::Compiled;
use super::super::fixture::{
    address, at, cluster, cluster_members, compiled, endpoint, members, pod, service, service_of,
    slice,
};
use crate::Cluster;

const A: &str = "10.4.0.5:8080";
const B: &str = "10.4.1.5:8080";

/// A cluster with a web pod on each node, and one Service of this spec in front of them.
fn web(spec: &Value) -> Cluster {
    let mut cluster = cluster();
    cluster.pods = vec![pod("a", 0, &["10.4.0.5"], "web"), pod("b", 1, &["10.4.1.5"], "web")];
    let mut whole = json!({
        "clusterIP": "10.8.0.1",
        "selector": { "app": "web" },
        "ports": [{ "port": 80, "targetPort": "web", "nodePort": 30080 }],
    });
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let status = json!({ "loadBalancer": { "ingress": [
        { "ip": "203.0.113.10" },
        { "ip": "203.0.113.11", "ipMode": "VIP" },
        { "ip": "203.0.113.12", "ipMode": "Proxy" },
        { "hostname": "lb.example" },
    ] } });
    let metadata = json!({ "name": "web", "namespace": "default" });
    cluster.services =
        vec![service_of(&json!({ "metadata": metadata, "spec": whole, "status": status }))];
    cluster
}

fn exists(compiled: &Compiled, to: &str) -> bool {
    let to = endpoint(to);
    compiled.snapshot.served.frontends.at_address(to.address, Protocol::TCP, to.port).is_some()
}

fn node_port(compiled: &Compiled, is_v4: bool, port: u16) -> Option<&kswitch_tables::Frontend> {
    let frontends = &compiled.snapshot.served.frontends;
    frontends.get(frontends.at_local_port(is_v4, Protocol::TCP, port)?)
}

#[test]
fn a_cluster_ip_leads_to_the_ready_pods_of_its_selector() {
    let mut cluster = cluster();
    cluster.pods = vec![
        pod("a", 0, &["10.4.0.5", "fd00:4::5"], "web"),
        pod("b", 1, &["10.4.1.5", "fd00:4:0:1::5"], "web"),
        pod("c", 1, &["10.4.1.6", "fd00:4:0:1::6"], "other"),
    ];
    cluster.services = vec![service(
        "web",
        &json!({
            "clusterIPs": ["10.8.0.1", "fd00:8::1"],
            "selector": { "app": "web" },
            "ports": [{ "port": 80, "targetPort": "web" }],
        }),
    )];
    let compiled = compiled(&cluster);
    let frontend = at(&compiled, "10.8.0.1:80");
    assert_eq!(frontend.policy, Policy::Internal { masquerade_all: false });
    assert!(frontend.has_backends && frontend.affinity.is_none());
    for node in [0, 1] {
        assert_eq!(members(&compiled, frontend, node), [A, B]);
    }
    let frontend = at(&compiled, "[fd00:8::1]:80");
    assert_eq!(members(&compiled, frontend, 0), ["[fd00:4::5]:8080", "[fd00:4:0:1::5]:8080"]);
    assert!(compiled.snapshot.served.frontends.owns(address("10.8.0.1")));
}

#[test]
fn every_kind_of_address_is_served() {
    let spec = json!({ "type": "LoadBalancer", "externalIPs": ["192.0.2.1", "2001:db8::1"] });
    let compiled = compiled(&web(&spec));
    for to in ["192.0.2.1:80", "203.0.113.10:80", "203.0.113.11:80"] {
        let frontend = at(&compiled, to);
        assert_eq!(frontend.policy, Policy::External, "{to}");
        assert_eq!(members(&compiled, frontend, 0), [A, B], "{to}");
        assert!(!compiled.snapshot.served.frontends.owns(endpoint(to).address), "{to}");
    }
    // a load balancer that is a proxy wants to see the packets; the other family is not the Service's
    assert!(!exists(&compiled, "203.0.113.12:80") && !exists(&compiled, "[2001:db8::1]:80"));
    assert_eq!(node_port(&compiled, true, 30_080).unwrap().policy, Policy::External);
    assert!(node_port(&compiled, false, 30_080).is_none());
}

#[test]
fn a_cluster_ip_service_has_no_other_addresses() {
    let compiled = compiled(&web(&json!({ "type": "ClusterIP" })));
    assert!(exists(&compiled, "10.8.0.1:80") && !exists(&compiled, "203.0.113.10:80"));
    assert!(node_port(&compiled, true, 30_080).is_none());
}

#[test]
fn an_external_policy_of_local_keeps_both_sets() {
    let spec = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    let compiled = compiled(&web(&spec));
    let frontend = at(&compiled, "203.0.113.10:80");
    assert_eq!(frontend.policy, Policy::ExternalLocal);
    assert_eq!([0, 1].map(|node| members(&compiled, frontend, node)), [[A], [B]]);
    assert_eq!(cluster_members(&compiled, frontend, 0), [A, B]);
    let internal = at(&compiled, "10.8.0.1:80");
    assert_eq!(members(&compiled, internal, 0), [A, B]);
}

#[test]
fn an_internal_policy_of_local_narrows_the_cluster_ip_only() {
    let mut cluster = web(&json!({ "type": "NodePort", "internalTrafficPolicy": "Local" }));
    cluster.pods.pop();
    let compiled = compiled(&cluster);
    let frontend = at(&compiled, "10.8.0.1:80");
    assert_eq!(members(&compiled, frontend, 0), [A]);
    // nothing here, but something elsewhere: that is a drop and no rejection
    assert!(frontend.sets.at(super::super::fixture::router(1)).is_none());
    assert!(frontend.has_backends);
    assert_eq!(members(&compiled, node_port(&compiled, true, 30_080).unwrap(), 1), [A]);
}

#[test]
fn nothing_usable_anywhere_is_told() {
    let mut cluster = web(&json!({ "type": "NodePort" }));
    cluster.pods.clear();
    let compiled = compiled(&cluster);
    let frontend = at(&compiled, "10.8.0.1:80");
    assert!(!frontend.has_backends && frontend.sets.at(super::super::fixture::router(0)).is_none());
    assert!(!node_port(&compiled, true, 30_080).unwrap().has_backends);
}

#[test]
fn source_ranges_guard_the_load_balancers_addresses_alone() {
    let ranges = json!([" 192.0.2.0/24", "10.128.0.0/20 ", "2001:db8::/32"]);
    let compiled = compiled(&web(&json!({
        "type": "LoadBalancer",
        "externalIPs": ["192.0.2.1"],
        "loadBalancerSourceRanges": ranges,
    })));
    let frontend = at(&compiled, "203.0.113.10:80");
    let ranges = compiled.snapshot.served.source_ranges(frontend.source_ranges.unwrap()).unwrap();
    let admits = |source| ranges.admits(address(source));
    assert!(admits("192.0.2.9") && admits("10.128.0.3") && !admits("198.51.100.7"));
    // a node is in the ranges, so that the addresses themselves may be sources
    assert!(admits("203.0.113.10") && admits("203.0.113.11") && !admits("203.0.113.12"));
    assert!(!admits("2001:db8::9"));
    for to in ["10.8.0.1:80", "192.0.2.1:80"] {
        assert_eq!(at(&compiled, to).source_ranges, None, "{to}");
    }
    assert_eq!(node_port(&compiled, true, 30_080).unwrap().source_ranges, None);
}

#[test]
fn ranges_of_the_other_family_guard_nothing() {
    let spec = json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ["2001:db8::/32"] });
    let compiled = compiled(&web(&spec));
    assert_eq!(at(&compiled, "203.0.113.10:80").source_ranges, None);
}

#[test]
fn clients_stick_where_asked_and_frontends_of_a_port_share_them() {
    let spec = json!({
        "type": "NodePort",
        "sessionAffinity": "ClientIP",
        "ports": [{ "name": "a", "port": 80, "nodePort": 30080 }, { "name": "b", "port": 81 }],
    });
    let compiled = compiled(&web(&spec));
    let Affinity { group, timeout_seconds } = at(&compiled, "10.8.0.1:80").affinity.unwrap();
    assert_eq!(timeout_seconds, 10_800);
    assert_eq!(node_port(&compiled, true, 30_080).unwrap().affinity.unwrap().group, group);
    assert_ne!(at(&compiled, "10.8.0.1:81").affinity.unwrap().group, group);

    let config = json!({ "clientIP": { "timeoutSeconds": 5 } });
    let spec = json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": config });
    let compiled = super::super::fixture::compiled(&web(&spec));
    assert_eq!(at(&compiled, "10.8.0.1:80").affinity.unwrap().timeout_seconds, 5);
}

#[test]
fn some_services_are_nobodys_to_answer_for() {
    for spec in [json!({ "clusterIP": "None" }), json!({ "type": "ExternalName" })] {
        let compiled = compiled(&web(&spec));
        assert!(compiled.snapshot.served.frontends.is_empty(), "{spec}");
        assert!(!compiled.snapshot.served.frontends.owns(address("10.8.0.1")), "{spec}");
    }
    let mut cluster = web(&json!({}));
    let mut service = (*cluster.services[0]).clone();
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
    service.metadata.labels = Some([label].into());
    cluster.services = vec![service.into()];
    assert!(compiled(&cluster).snapshot.served.frontends.is_empty());
}

#[test]
fn flows_may_stay_with_what_still_serves() {
    let mut cluster = web(&json!({ "selector": null }));
    let state = |address: &str, ready: bool, serving: bool, terminating: bool| {
        let conditions = json!({ "ready": ready, "serving": serving, "terminating": terminating });
        json!({ "addresses": [address], "nodeName": "node-a", "conditions": conditions })
    };
    let endpoints = json!([
        state("10.4.0.5", true, true, false),
        state("10.4.0.6", false, true, true),
        state("10.4.0.7", false, false, true),
    ]);
    let ports = json!([{ "name": "", "port": 8080, "protocol": "TCP" }]);
    cluster.endpoint_slices = vec![slice("web", "IPv4", &endpoints, &ports)];
    let compiled = compiled(&cluster);
    let frontend = at(&compiled, "10.8.0.1:80");
    assert_eq!(members(&compiled, frontend, 0), ["10.4.0.5:8080"]);
    let stays = |to| frontend.is_serving(endpoint(to));
    assert!(stays("10.4.0.5:8080") && stays("10.4.0.6:8080") && !stays("10.4.0.7:8080"));
    assert!(!stays("10.4.0.5:80"));
}

#[test]
fn a_health_check_counts_addresses_of_ready_endpoints() {
    let mut cluster = web(&json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30_376,
        "ports": [{ "name": "a", "port": 80 }, { "name": "b", "port": 81 }],
    }));
    cluster.pods.push(pod("c", 1, &["10.4.1.6"], "web"));
    let [check] = &compiled(&cluster).health_checks[..] else { panic!("one check") };
    assert_eq!((check.service.as_str(), check.port), ("web", 30_376));
    assert_eq!(check.ready, [("node-a".into(), 1), ("node-b".into(), 2)]);
    let spec = json!({ "type": "LoadBalancer", "healthCheckNodePort": 30_376 });
    assert!(compiled(&web(&spec)).health_checks.is_empty());
}

#[test]
fn annotations_choose_how_flows_are_spread() {
    let method = |annotation: &str| {
        let mut cluster = web(&json!({}));
        let mut service = (*cluster.services[0]).clone();
        let annotation = (crate::balancing::BALANCING.to_owned(), annotation.to_owned());
        service.metadata.annotations = Some([annotation].into());
        cluster.services = vec![service.into()];
        let compiled = compiled(&cluster);
        let set = at(&compiled, "10.8.0.1:80").sets.at(super::super::fixture::router(0)).unwrap();
        let set = compiled.snapshot.served.backends.get(set).unwrap();
        (set.method().clone(), set.members().iter().map(|m| m.load).collect::<Vec<_>>())
    };
    assert_eq!(method("random"), (Method::Random, vec![LoadId::NONE; 2]));
    let least = (Method::LeastConnections, vec![LoadId(0), LoadId(1)]);
    assert_eq!(method("least-connections"), least);
    assert!(matches!(method("maglev").0, Method::Maglev { .. }));
}

#[test]
fn masquerading_all_is_for_cluster_ips() {
    let mut cluster = web(&json!({ "type": "NodePort" }));
    cluster.settings.cluster.masquerade.all = true;
    let compiled = compiled(&cluster);
    let policy = at(&compiled, "10.8.0.1:80").policy;
    assert_eq!(policy, Policy::Internal { masquerade_all: true });
    assert_eq!(node_port(&compiled, true, 30_080).unwrap().policy, Policy::External);
}
