use std::sync::Arc;

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::super::{Gathering, Places, gather};
use super::*;
use crate::compile::fixture::{cluster, pod, pod_of, service};

fn slices(cluster: &Cluster) -> Vec<Arc<EndpointSlice>> {
    endpoint_slices(cluster, &Observed::default())
}

fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "clusterIPs": ["10.8.0.1", "fd00:8::1"],
        "selector": { "app": "web" },
        "ports": [{ "name": "http", "port": 80, "targetPort": "web" }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// A pod with label `app: web`, with what is given on top.
fn web(name: &str, node: usize, address: &str, more: &Value) -> Arc<Pod> {
    let mut object = json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [] },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    for (key, value) in more.as_object().unwrap() {
        for (field, value) in value.as_object().unwrap() {
            object[key][field] = value.clone();
        }
    }
    pod_of(name, node, &[address], &object)
}

fn conditions(slice: &EndpointSlice) -> Vec<(String, bool, bool, bool)> {
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .map(|endpoint| {
            let have = endpoint.conditions.as_ref().unwrap();
            let is = |condition: Option<bool>| condition.unwrap();
            let address = endpoint.addresses[0].clone();
            (address, is(have.ready), is(have.serving), is(have.terminating))
        })
        .collect()
}

#[test]
fn a_slice_holds_a_hundred_at_most_and_one_family() {
    let mut cluster = cluster();
    let addresses =
        |n: u32| [format!("10.4.{}.{}", n / 200, n % 200 + 2), format!("fd00:4::{n:x}")];
    cluster.pods = (0..250)
        .map(|n| {
            let [v4, v6] = addresses(n);
            pod(&format!("web-{n}"), 0, &[&v4, &v6], "web")
        })
        .collect();
    cluster.services = vec![service("web", &spec(&json!({})))];
    let slices = slices(&cluster);
    let sizes = slices.iter().map(|slice| {
        let endpoints = slice.endpoints.as_ref().unwrap();
        let is_v4 = |endpoint: &Endpoint| endpoint.addresses[0].contains('.');
        assert!(endpoints.iter().all(|endpoint| is_v4(endpoint) == (slice.address_type == "IPv4")));
        (slice.address_type.as_str(), endpoints.len())
    });
    let expected = ["IPv4", "IPv6"].map(|family| [100, 100, 50].map(|size| (family, size)));
    assert_eq!(sizes.collect::<Vec<_>>(), expected.concat());
    let mut names: Vec<_> = slices.iter().map(|slice| slice.metadata.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6);
}

#[test]
fn an_endpoint_tells_whose_it_is_and_where() {
    let mut cluster = cluster();
    let spec_of_pod = json!({ "spec": { "hostname": "first", "subdomain": "web" } });
    cluster.pods = vec![web("web-0", 1, "10.4.1.5", &spec_of_pod)];
    let ports = json!({ "clusterIPs": ["None"], "clusterIP": "None", "ports": [{ "port": 80 }] });
    let mut service = (*service("web", &spec(&ports))).clone();
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into()]);
    cluster.services = vec![service.into()];
    let slices = slices(&cluster);
    let [slice] = &slices[..] else { panic!("one slice") };
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels[SERVICE_NAME], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], CONTROLLER);
    assert_eq!(labels["service.kubernetes.io/headless"], "");
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.port, port.name.as_deref(), port.protocol.as_deref()),
        (Some(80), Some(""), Some("TCP"))
    );
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!(endpoint.node_name.as_deref(), Some("node-b"));
    assert_eq!(endpoint.zone.as_deref(), Some("zone-2"));
    assert_eq!(endpoint.hostname.as_deref(), Some("first"));
    assert_eq!(endpoint.target_ref.as_ref().unwrap().name.as_deref(), Some("web-0"));
}

#[test]
fn conditions_follow_from_the_pod() {
    let mut cluster = cluster();
    let not_ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
    let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let done = json!({ "status": { "phase": "Failed" } });
    cluster.pods = vec![
        web("a", 0, "10.4.0.5", &json!({})),
        web("b", 0, "10.4.0.6", &not_ready),
        web("c", 0, "10.4.0.7", &leaving),
        web("d", 0, "10.4.0.8", &done),
    ];
    let of = |more: Value| {
        let mut cluster = cluster.clone();
        let ports = json!({ "clusterIPs": ["10.8.0.1"], "ports": [{ "port": 80 }] });
        let mut spec = spec(&ports);
        spec["publishNotReadyAddresses"] = more;
        cluster.services = vec![service("web", &spec)];
        conditions(&slices(&cluster)[0])
    };
    let a = ("10.4.0.5".to_owned(), true, true, false);
    let b = |ready| ("10.4.0.6".to_owned(), ready, false, false);
    let c = |ready| ("10.4.0.7".to_owned(), ready, true, true);
    assert_eq!(of(json!(false)), [a.clone(), b(false), c(false)]);
    assert_eq!(of(json!(true)), [a, b(true), c(true)]);
}

#[test]
fn pods_whose_named_ports_differ_are_in_slices_of_their_own() {
    let mut cluster = cluster();
    let named = |port: u16| {
        let port = json!({ "name": "web", "containerPort": port });
        json!({ "spec": { "containers": [{ "name": "main", "ports": [port] }] } })
    };
    cluster.pods = vec![
        web("a", 0, "10.4.0.5", &named(8080)),
        web("b", 0, "10.4.0.6", &named(9090)),
        web("c", 0, "10.4.0.7", &named(8080)),
        web("d", 0, "10.4.0.8", &json!({})),
    ];
    cluster.services = vec![service("web", &spec(&json!({ "clusterIPs": ["10.8.0.1"] })))];
    let slices = slices(&cluster);
    let found: Vec<_> = slices
        .iter()
        .map(|slice| {
            let ports = slice.ports.iter().flatten().map(|port| port.port.unwrap());
            (ports.collect::<Vec<_>>(), slice.endpoints.as_ref().unwrap().len())
        })
        .collect();
    assert_eq!(found, [(vec![8080], 2), (vec![9090], 1), (vec![], 1)]);
}

#[test]
fn hints_are_for_the_ready_and_follow_the_distribution() {
    let mut cluster = cluster();
    let not_ready = json!({ "status": { "conditions": [] } });
    cluster.pods = vec![web("a", 0, "10.4.0.5", &json!({})), web("b", 1, "10.4.1.5", &not_ready)];
    let hints = |distribution: Option<&str>| {
        let mut cluster = cluster.clone();
        let more = json!({ "clusterIPs": ["10.8.0.1"], "trafficDistribution": distribution });
        cluster.services = vec![service("web", &spec(&more))];
        let slices = slices(&cluster);
        let endpoints = slices[0].endpoints.as_ref().unwrap();
        assert_eq!(endpoints[1].hints, None);
        endpoints[0].hints.clone().map(|hints| {
            let nodes = hints.for_nodes.iter().flatten().map(|node| node.name.clone());
            let zones = hints.for_zones.iter().flatten().map(|zone| zone.name.clone());
            nodes.chain(zones).collect::<Vec<_>>()
        })
    };
    assert_eq!(hints(None), None);
    for distribution in ["PreferClose", "PreferSameZone"] {
        assert_eq!(hints(Some(distribution)).unwrap(), ["zone-1"]);
    }
    assert_eq!(hints(Some("PreferSameNode")).unwrap(), ["node-a", "zone-1"]);
}

#[test]
fn a_service_without_pods_has_an_empty_slice_for_each_family() {
    let mut cluster = cluster();
    cluster.services = vec![service("web", &spec(&json!({})))];
    let slices = slices(&cluster);
    assert_eq!(slices.len(), 2);
    assert!(slices.iter().all(|slice| slice.endpoints.as_ref().unwrap().is_empty()));
}

fn endpoints(name: &str, metadata: &Value) -> Arc<Endpoints> {
    let mut object = json!({
        "metadata": { "name": name, "namespace": "default" },
        "subsets": [{
            "addresses": [{ "ip": "192.0.2.1", "nodeName": "node-a" }, { "ip": "2001:db8::1" }],
            "notReadyAddresses": [{ "ip": "192.0.2.2" }],
            "ports": [{ "name": "http", "port": 8080 }],
        }],
    });
    for (key, value) in metadata.as_object().unwrap() {
        object["metadata"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(object).unwrap())
}

#[test]
fn endpoints_are_mirrored_for_services_without_a_selector() {
    let mut cluster = cluster();
    cluster.services = vec![service("web", &spec(&json!({ "selector": null })))];
    cluster.endpoints = vec![endpoints("web", &json!({})), endpoints("other", &json!({}))];
    let slices = slices(&cluster);
    let found = slices.iter().map(|slice| {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints
            .map(|e| (e.addresses[0].clone(), e.conditions.as_ref().unwrap().ready.unwrap()))
            .collect::<Vec<_>>()
    });
    let v4 = vec![("192.0.2.1".to_owned(), true), ("192.0.2.2".to_owned(), false)];
    assert_eq!(found.collect::<Vec<_>>(), [v4, vec![("2001:db8::1".to_owned(), true)]]);
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], MIRROR);

    let skipped = json!({ "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } });
    let lock = json!({ "annotations": { "control-plane.alpha.kubernetes.io/leader": "{}" } });
    for metadata in [skipped, lock] {
        cluster.endpoints = vec![endpoints("web", &metadata)];
        assert_eq!(super::endpoint_slices(&cluster, &Observed::default()).len(), 0);
    }
    cluster.services = vec![service("web", &spec(&json!({ "clusterIPs": ["10.8.0.1"] })))];
    cluster.endpoints = vec![endpoints("web", &json!({}))];
    let slices = super::endpoint_slices(&cluster, &Observed::default());
    assert!(slices.iter().all(|slice| slice.endpoints.as_ref().unwrap().is_empty()));
}

/// What is compiled and what is shown must not differ: slices that are shown, taken as if somebody
/// had written them, lead to the same candidates.
#[test]
fn shown_slices_say_what_is_compiled() {
    let mut cluster = cluster();
    let named = json!({ "spec": { "containers": [{ "name": "main", "ports": [
        { "name": "web", "containerPort": 9090 },
        { "name": "web", "containerPort": 9091, "protocol": "UDP" },
    ] }] } });
    let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    cluster.pods = vec![
        web("a", 0, "10.4.0.5", &named),
        web("b", 1, "10.4.1.5", &leaving),
        pod("c", 1, &["10.4.1.6", "fd00:4:0:1::6"], "web"),
    ];
    cluster.endpoints = vec![endpoints("mirrored", &json!({}))];
    let ports = json!([
        { "name": "http", "port": 80, "targetPort": "web" },
        { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": "web" },
        { "name": "plain", "port": 81 },
    ]);
    let same_node = json!({ "ports": ports, "trafficDistribution": "PreferSameNode" });
    cluster.services = vec![
        service("web", &spec(&same_node)),
        service("mirrored", &spec(&json!({ "selector": null, "ports": ports }))),
    ];
    let observed = Observed::default();
    let (places, shown) = (Places::new(&cluster), slices(&cluster));
    let mut count = 0;
    for service in &cluster.services {
        let sources = Sources::new(&cluster, std::iter::once(&**service));
        let pods = sources.pods(service);
        let nothing = Gathering { service, pods: &[], slices: &[], endpoints: None };
        let computed = Gathering { pods: &pods, endpoints: sources.endpoints(service), ..nothing };
        let of_service: Vec<&Arc<EndpointSlice>> = shown
            .iter()
            .filter(|slice| super::super::service_of(slice) == Some(key(service)))
            .collect();
        let written = Gathering { slices: &of_service, ..nothing };
        let computed = gather(computed, &places, &observed);
        assert_eq!(gather(written, &places, &observed), computed);
        count += computed.iter().map(|of_port| of_port.candidates.len()).sum::<usize>();
    }
    assert_eq!(count, 11);
}
