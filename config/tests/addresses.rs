//! Ranges and addresses are handed out as documented, and what is written is honoured.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;

use kswitch_config::{Cluster, load_text};

fn load(text: &str) -> Cluster {
    let text = format!("[lab]\nname = \"t\"\n{text}");
    load_text("lab.toml", &text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn without_ranges_a_lab_has_the_defaults_of_one_family() {
    let cluster = load("[[node]]\nname = \"a\"\n[[pod]]\nmetadata.name = \"p\"\n");
    let settings = &cluster.settings.cluster;
    assert_eq!(texts(&settings.pod_cidrs), ["10.4.0.0/14"]);
    assert_eq!(texts(&settings.service_cidrs), ["10.8.0.0/20"]);
    assert_eq!(texts(&settings.node_cidrs), ["10.128.0.0/20"]);
    assert_eq!(texts(&settings.dns_addresses), ["10.8.0.10"]);
    assert_eq!(texts(&settings.edge_addresses()), ["10.128.0.1"]);
    assert_eq!(texts(&cluster.nodes[0].addresses), ["10.128.0.2"]);
    assert_eq!(texts(&cluster.nodes[0].pod_ranges), ["10.4.0.0/24"]);
    assert_eq!(texts(&cluster.pods[0].addresses), ["10.4.0.2"]);
}

#[test]
fn one_range_of_the_other_family_makes_the_lab_dual_stack() {
    let cluster = load(
        "[cluster]\npod-cidrs = [\"fd00:4::/48\", \"10.4.0.0/14\"]\n\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n[[pod]]\nmetadata.name = \"p\"\nspec.nodeName = \"b\"\n",
    );
    assert!(cluster.settings.cluster.is_dual_stack());
    // the family that is written first is the preferred one
    assert_eq!(texts(&cluster.nodes[1].addresses), ["fd00:128::3", "10.128.0.3"]);
    assert_eq!(texts(&cluster.nodes[1].pod_ranges), ["fd00:4:0:1::/64", "10.4.1.0/24"]);
    assert_eq!(texts(&cluster.pods[0].addresses), ["fd00:4:0:1::2", "10.4.1.2"]);
}

#[test]
fn what_is_written_is_honoured_and_gone_around() {
    let cluster = load(
        r#"
[[node]]
name = "a"
addresses = ["10.128.0.3"]
pod-ranges = ["10.4.0.0/23"]
[[node]]
name = "b"
[[node]]
name = "c"

[[pod]]
metadata.name = "fixed"
spec.nodeName = "a"
status.podIP = "10.4.0.2"
[[pod]]
metadata.name = "next"
spec.nodeName = "a"
# an address that only the range of node c can hold
[[pod]]
metadata.name = "far"
spec.nodeName = "c"
status.podIPs = [{ ip = "10.4.77.9" }]
# an address of no range at all
[[pod]]
metadata.name = "outside"
spec.nodeName = "b"
status.podIP = "172.16.0.9"
"#,
    );
    let node = |name: &str| cluster.node(name).unwrap();
    assert_eq!(texts(&node("b").addresses), ["10.128.0.2"]);
    assert_eq!(texts(&node("c").addresses), ["10.128.0.4"]);
    assert_eq!(texts(&node("b").pod_ranges), ["10.4.2.0/24"]);
    assert_eq!(texts(&node("c").pod_ranges), ["10.4.77.0/24"]);
    let pod = |name: &str| texts(&cluster.pod("default", name).unwrap().addresses);
    assert_eq!(pod("next"), ["10.4.0.3"]);
    assert_eq!(pod("far"), ["10.4.77.9"]);
    assert_eq!(pod("outside"), ["172.16.0.9"]);
}

#[test]
fn range_sizes_can_be_chosen() {
    let cluster = load(
        "[cluster]\nnode-range-size = 26\nnode-range-size-ipv6 = 80\npod-cidrs = [\"10.4.0.0/24\", \"fd00:4::/64\"]\n\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n",
    );
    assert_eq!(texts(&cluster.nodes[1].pod_ranges), ["10.4.0.64/26", "fd00:4:0:0:1::/80"]);
}

#[test]
fn hosts_outside_share_the_gateway_of_their_link() {
    let cluster = load(
        r#"
[[external]]
name = "first"
address = "198.51.100.1/24"
[[external]]
name = "second"
addresses = ["198.51.100.2/24", "2001:db8::1/64"]
[[external]]
name = "named"
address = "203.0.113.9/24"
gateway = "203.0.113.254"
[[external]]
name = "alone"
addresses = ["192.0.2.7/32", "2001:db8:1::7/128"]
"#,
    );
    let gateways: Vec<_> = cluster.externals.iter().map(|at| texts(&at.gateways)).collect();
    assert_eq!(
        gateways,
        [
            vec!["198.51.100.3"],
            vec!["198.51.100.3", "2001:db8::2"],
            vec!["203.0.113.254"],
            vec!["169.254.1.1", "fe80::1"],
        ]
    );
}

#[test]
fn what_is_behind_a_host_outside_is_outside_and_behind_nobody_else() {
    let host = |name: &str, last: u8, routes: &str| {
        format!(
            "[[external]]\nname = {name:?}\naddress = \"198.51.100.{last}/24\"\nroutes = [{routes}]\n"
        )
    };
    let routed = |cluster: &Cluster| texts(&cluster.externals[0].routes);
    let cluster = load(&host("router", 7, "\"192.0.2.0/24\", \"0.0.0.0/0\""));
    assert_eq!(routed(&cluster), ["192.0.2.0/24", "0.0.0.0/0"]);
    let refused = |text: &str| {
        let text = format!("[lab]\nname = \"t\"\n{text}");
        load_text("lab.toml", &text, Path::new("")).unwrap_err().to_string()
    };
    let twice = host("router", 7, "\"192.0.2.0/24\"") + &host("other", 8, "\"192.0.2.0/24\"");
    for (text, expected) in [
        (twice, "is behind `router` already"),
        (host("router", 7, "\"10.5.0.0/16\""), "lies in 10.4.0.0/14 of `pod-cidrs`"),
        (host("router", 7, "\"2001:db8::/64\""), "no address of the family"),
        (host("router", 7, "\"192.0.2.9/24\""), "write 192.0.2.0/24"),
        (host("router", 7, "\"somewhere\""), "somewhere"),
    ] {
        let said = refused(&text);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn node_objects_are_complete() {
    let cluster = load("[[node]]\nname = \"a\"\nzone = \"z\"\nlabels = { disk = \"ssd\" }\n");
    let node = &cluster.nodes[0];
    assert_eq!(node.zone.as_deref(), Some("z"));
    let object = serde_json::to_value(&*node.object).unwrap();
    assert_eq!(object["kind"], "Node");
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(object["spec"]["podCIDRs"][0], "10.4.0.0/24");
    assert_eq!(object["status"]["addresses"][0]["address"], "10.128.0.2");
    assert_eq!(object["status"]["conditions"][0]["type"], "Ready");
    for (label, value) in [
        ("disk", "ssd"),
        ("topology.kubernetes.io/zone", "z"),
        ("kubernetes.io/hostname", "a"),
        ("kubernetes.io/os", "linux"),
    ] {
        assert_eq!(object["metadata"]["labels"][label], value);
    }
}

#[test]
fn every_namespace_has_its_name_as_a_label() {
    let cluster = load(
        "[[namespace]]\nname = \"shop\"\nlabels = { team = \"x\", \"kubernetes.io/metadata.name\" = \"y\" }\n\
         [[node]]\nname = \"a\"\n[[pod]]\nmetadata = { name = \"p\", namespace = \"new\" }\n",
    );
    let label = |namespace: &str, key: &str| cluster.namespaces[namespace].get(key).cloned();
    assert_eq!(label("shop", "kubernetes.io/metadata.name").as_deref(), Some("shop"));
    assert_eq!(label("shop", "team").as_deref(), Some("x"));
    assert_eq!(label("new", "kubernetes.io/metadata.name").as_deref(), Some("new"));
    assert!(cluster.namespaces.contains_key("kube-system"));
    assert!(cluster.warnings.iter().any(|at| at.message.contains("`new` is not declared")));
}
