//! A running lab changes object by object, and what was assigned stays.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;
use std::sync::Arc;

use kswitch_config::{Cluster, Draft, External, Kind, Outcome, Settings};
use serde_json::{Value, json};

const LAB: &str = r#"
[lab]
name = "t"
[cluster]
load-balancer-pools = ["203.0.113.0/29"]
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata.name = "one"
[[pod]]
metadata.name = "two"
[[deployment]]
metadata.name = "web"
[deployment.spec]
replicas = 2
selector.matchLabels = { app = "web" }
template.metadata.labels = { app = "web" }
[[service]]
metadata.name = "first"
spec = { type = "LoadBalancer", ports = [{ port = 80 }] }
[[service]]
metadata.name = "second"
spec = { type = "NodePort", ports = [{ port = 80 }] }
"#;

fn lab() -> (Draft, Cluster) {
    let draft = Draft::read_text("lab.toml", LAB, Path::new(""));
    let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
    (draft, cluster)
}

fn next(draft: &Draft, cluster: &Cluster) -> Cluster {
    draft.validate(Some(cluster)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn apply(draft: &mut Draft, object: &Value) -> Vec<Outcome> {
    let applied = draft.apply(object, "test").unwrap_or_else(|errors| panic!("{errors}"));
    applied.changes.into_iter().map(|change| change.outcome).collect()
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": []}})
}

fn addresses(cluster: &Cluster, name: &str) -> Vec<String> {
    cluster.pod("default", name).unwrap().addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn what_does_not_change_is_the_same_object() {
    let (draft, cluster) = lab();
    let again = next(&draft, &cluster);
    assert!(cluster.pods.iter().zip(&again.pods).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert!(cluster.services.iter().zip(&again.services).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert_eq!((again.pods.len(), again.services.len()), (4, 2));
}

#[test]
fn a_changed_service_keeps_what_was_allocated_for_it() {
    let (mut draft, cluster) = lab();
    let outcome = apply(
        &mut draft,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "first"},
                "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                         "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}}),
    );
    assert_eq!(outcome, [Outcome::Configured]);
    let after = next(&draft, &cluster);
    let parts = |cluster: &Cluster| {
        let service = cluster.service("default", "first").unwrap();
        let spec = service.spec.clone().unwrap();
        (spec.cluster_ips, spec.ports.unwrap()[0].node_port, service.status.clone())
    };
    assert_eq!(parts(&cluster), parts(&after));
    let spec = after.service("default", "first").unwrap().spec.clone().unwrap();
    // the second Service has 30087 since the start
    assert_eq!(spec.ports.unwrap()[1].node_port, Some(30_088));
    assert_eq!(spec.health_check_node_port, Some(30_089));
    let second = |cluster: &Cluster| cluster.service("default", "second").unwrap().clone();
    assert!(Arc::ptr_eq(&second(&cluster), &second(&after)));
}

#[test]
fn pods_keep_node_and_address_when_others_come_and_go() {
    let (mut draft, cluster) = lab();
    assert_eq!(draft.delete(Kind::Pod, "default", "one"), Outcome::Deleted);
    assert_eq!(draft.delete(Kind::Pod, "default", "one"), Outcome::NotFound);
    let without = next(&draft, &cluster);
    assert!(without.pod("default", "one").is_none());
    assert_eq!(addresses(&without, "two"), addresses(&cluster, "two"));
    apply(&mut draft, &pod("three"));
    let after = next(&draft, &without);
    for before in &without.pods {
        let same = after.pod("default", &before.name).unwrap();
        assert!(Arc::ptr_eq(before, same), "{}", before.name);
    }
    // labels of a pod change without moving it
    let mut other = pod("two");
    other["metadata"]["labels"] = json!({"a": "b"});
    apply(&mut draft, &other);
    let last = next(&draft, &after);
    assert_eq!(addresses(&last, "two"), addresses(&cluster, "two"));
    assert_eq!(last.pod("default", "two").unwrap().labels().get("a"), Some("b"));
}

#[test]
fn nodes_keep_their_ranges_when_others_come_and_go() {
    let (mut draft, cluster) = lab();
    for entry in ["one", "two"] {
        draft.delete(Kind::Pod, "default", entry);
    }
    draft.delete(Kind::Deployment, "default", "web");
    assert_eq!(draft.delete(Kind::Node, "", "a"), Outcome::Deleted);
    let without = next(&draft, &cluster);
    let b = |cluster: &Cluster| {
        let node = cluster.node("b").unwrap();
        (node.addresses.clone(), node.pod_ranges.clone())
    };
    assert_eq!(b(&without), b(&cluster));
    apply(&mut draft, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "c"}}));
    let after = next(&draft, &without);
    assert_eq!(b(&after), b(&cluster));
    assert_eq!(after.node("c").unwrap().pod_ranges, cluster.node("a").unwrap().pod_ranges);
}

#[test]
fn more_replicas_are_more_pods_and_a_new_template_is_new_pods() {
    let (mut draft, cluster) = lab();
    let deployment = |replicas: i32, port: i32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"containers": [{"name": "c", "ports": [{"containerPort": port}]}]}}}})
    };
    let names = |cluster: &Cluster| -> Vec<String> {
        let web = cluster.pods.iter().filter(|pod| pod.labels().get("app") == Some("web"));
        web.map(|pod| pod.name.clone()).collect()
    };
    apply(&mut draft, &deployment(2, 80));
    let two = next(&draft, &cluster);
    apply(&mut draft, &deployment(4, 80));
    let four = next(&draft, &two);
    assert_eq!(names(&four)[..2], names(&two));
    assert_eq!(names(&four).len(), 4);
    assert_eq!(addresses(&four, &names(&two)[1]), addresses(&two, &names(&two)[1]));
    apply(&mut draft, &deployment(4, 81));
    let other = next(&draft, &four);
    assert!(names(&other).iter().all(|name| !names(&four).contains(name)));
}

#[test]
fn a_bad_object_changes_nothing() {
    let (mut draft, cluster) = lab();
    let bad = json!({"apiVersion": "v1", "kind": "List", "items": [
        pod("good"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, "spec": {"ports": [{"port": 0}]}},
    ]});
    let errors = draft.apply(&bad, "request").unwrap_err();
    assert_eq!(errors.problems.len(), 1);
    let problem = &errors.problems[0];
    assert_eq!(problem.object.as_deref(), Some("Service default/bad"));
    assert_eq!(problem.field.as_deref(), Some("spec.ports[0].port"));
    assert_eq!(problem.file(), Some("request"));
    assert!(next(&draft, &cluster).pod("default", "good").is_none());
    // and what is wrong with the whole leaves the old state as it was
    let mut changed = draft.clone();
    let mut lost = pod("lost");
    lost["spec"]["nodeName"] = json!("nowhere");
    apply(&mut changed, &lost);
    let errors = changed.validate(Some(&cluster)).unwrap_err();
    assert!(errors.problems[0].message.contains("no node `nowhere`"));
    assert!(draft.validate(Some(&cluster)).is_ok());
}

#[test]
fn a_namespace_goes_with_all_in_it() {
    let (mut draft, cluster) = lab();
    let mut inside = pod("inside");
    inside["metadata"]["namespace"] = json!("shop");
    apply(&mut draft, &inside);
    apply(
        &mut draft,
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
    );
    let with = next(&draft, &cluster);
    assert!(with.pod("shop", "inside").is_some());
    assert_eq!(draft.delete(Kind::Namespace, "", "shop"), Outcome::Deleted);
    let without = next(&draft, &with);
    assert!(without.pod("shop", "inside").is_none() && !without.namespaces.contains_key("shop"));
}

#[test]
fn manifests_are_applied_and_deleted_as_text() {
    let (mut draft, cluster) = lab();
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {nodename: a}\n---\n\
                apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: c}\n";
    let applied = draft.apply_text("x.yaml", text).unwrap();
    assert_eq!(applied.changes.len(), 1);
    assert_eq!(
        (applied.changes[0].object.kind, applied.changes[0].outcome),
        (Kind::Pod, Outcome::Created)
    );
    let warnings: Vec<_> = applied.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().any(|at| at.contains("x.yaml:4:8") && at.contains("`nodeName`")),
        "{warnings:?}"
    );
    assert!(warnings.iter().any(|at| at.contains("1 × ServiceAccount")), "{warnings:?}");
    assert!(next(&draft, &cluster).pod("default", "x").is_some());
    let changes = draft.delete_text("x.yaml", text).unwrap();
    assert_eq!(changes[0].outcome, Outcome::Deleted);
    assert!(next(&draft, &cluster).pod("default", "x").is_none());
}

#[test]
fn a_lab_can_be_made_without_files() {
    let mut draft = Draft::new(Settings::default());
    draft.add_external(External {
        name: "client".into(),
        addresses: vec!["203.0.113.2/24".parse().unwrap()],
        gateways: vec![],
        routes: Vec::new(),
        mtu: None,
        interface: None,
        network: kswitch_config::HostNetwork::Internet,
    });
    apply(
        &mut draft,
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.128.0.77"}]}}),
    );
    apply(&mut draft, &pod("p"));
    let cluster = draft.validate(None).unwrap();
    assert_eq!(cluster.nodes[0].addresses[0].to_string(), "10.128.0.77");
    assert_eq!(cluster.pods.len(), 1);
    assert_eq!(cluster.externals[0].gateways[0].to_string(), "203.0.113.1");
    assert_eq!(draft.remove_external("client"), Outcome::Deleted);
    assert!(draft.validate(Some(&cluster)).unwrap().externals.is_empty());
}

#[test]
fn the_same_again_changes_nothing() {
    let (mut draft, _) = lab();
    assert_eq!(apply(&mut draft, &pod("three")), [Outcome::Created]);
    assert_eq!(apply(&mut draft, &pod("three")), [Outcome::Unchanged]);
    let mut other = pod("three");
    other["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(apply(&mut draft, &other), [Outcome::Configured]);
}
