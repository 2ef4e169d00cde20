//! Workloads become the pods that Kubernetes' controllers would make, on the nodes that suit.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::path::Path;

use kswitch_config::{Cluster, Pod, load_text};

fn load(text: &str) -> Cluster {
    let text = format!("[lab]\nname = \"t\"\n{text}");
    load_text("lab.toml", &text, Path::new("")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn on_nodes(cluster: &Cluster, of: impl Fn(&Pod) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in cluster.pods.iter().filter(|pod| of(pod)) {
        *counts.entry(cluster.nodes[pod.node].name.clone()).or_default() += 1;
    }
    counts
}

fn counts(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

const NODES: &str = r#"
[[node]]
name = "a"
[[node]]
name = "b"
[[node]]
name = "c"
"#;

const WEB: &str = r#"
[[deployment]]
metadata = { name = "web" }
[deployment.spec]
replicas = 6
selector.matchLabels = { app = "web" }
[deployment.spec.template]
metadata.labels = { app = "web" }
spec.containers = [{ name = "c", ports = [{ name = "http", containerPort = 8080 }] }]
"#;

#[test]
fn a_deployment_makes_pods_as_kubernetes_names_them() {
    let cluster = load(&format!("{NODES}{WEB}"));
    assert_eq!(cluster.pods.len(), 6);
    for pod in &cluster.pods {
        let mut parts = pod.name.split('-');
        assert_eq!(parts.next(), Some("web"));
        let hash = parts.next().unwrap();
        assert_eq!(pod.labels().get("pod-template-hash"), Some(hash));
        assert_eq!(pod.labels().get("app"), Some("web"));
        assert_eq!((parts.next().unwrap().len(), parts.next()), (5, None));
        let owner = &pod.object.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.name.as_str()),
            ("ReplicaSet", &*format!("web-{hash}"))
        );
        assert_eq!(pod.named_port("http", "TCP"), Some(8080));
        assert_eq!(pod.named_port("http", "UDP"), None);
        assert!(pod.is_ready() && !pod.is_terminating());
    }
    assert_eq!(on_nodes(&cluster, |_| true), counts(&[("a", 2), ("b", 2), ("c", 2)]));
}

#[test]
fn a_stateful_set_counts_its_pods() {
    let cluster = load(&format!(
        "{NODES}{}",
        r#"
[[stateful-set]]
metadata = { name = "db" }
[stateful-set.spec]
replicas = 2
serviceName = "db-peers"
selector.matchLabels = { app = "db" }
template.metadata.labels = { app = "db" }
"#
    ));
    let names: Vec<_> = cluster.pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["db-0", "db-1"]);
    let pod = &cluster.pods[1];
    assert_eq!(pod.labels().get("statefulset.kubernetes.io/pod-name"), Some("db-1"));
    assert_eq!(pod.labels().get("apps.kubernetes.io/pod-index"), Some("1"));
    let spec = pod.object.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("db-1"));
    assert_eq!(spec.subdomain.as_deref(), Some("db-peers"));
}

#[test]
fn a_daemon_set_is_on_every_node_that_takes_it() {
    let cluster = load(
        r#"
[[node]]
name = "a"
unschedulable = true
[[node]]
name = "b"
taints = ["dedicated=db:NoSchedule"]
[[node]]
name = "c"
labels = { disk = "ssd" }
[[node]]
name = "d"
ready = false
labels = { disk = "ssd" }

[[daemon-set]]
metadata = { name = "all" }
[daemon-set.spec]
selector.matchLabels = { app = "all" }
template.metadata.labels = { app = "all" }
template.spec.tolerations = [{ key = "dedicated", value = "db" }]

[[daemon-set]]
metadata = { name = "ssd" }
[daemon-set.spec]
selector.matchLabels = { app = "ssd" }
template.metadata.labels = { app = "ssd" }
template.spec.nodeSelector = { disk = "ssd" }

[[daemon-set]]
metadata = { name = "plain" }
[daemon-set.spec]
selector.matchLabels = { app = "plain" }
template.metadata.labels = { app = "plain" }
"#,
    );
    let of = |app: &'static str| on_nodes(&cluster, |pod| pod.labels().get("app") == Some(app));
    assert_eq!(of("all"), counts(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]));
    assert_eq!(of("ssd"), counts(&[("c", 1), ("d", 1)]));
    assert_eq!(of("plain"), counts(&[("a", 1), ("c", 1), ("d", 1)]));
}

#[test]
fn pods_go_where_they_may_and_wait_where_they_may_not() {
    let cluster = load(
        r#"
[[node]]
name = "tainted"
taints = ["dedicated=db:NoSchedule"]
[[node]]
name = "avoided"
taints = ["old:PreferNoSchedule"]
[[node]]
name = "plain"
[[node]]
name = "cordoned"
unschedulable = true
[[node]]
name = "broken"
ready = false

[[pod]]
metadata = { name = "one" }
[[pod]]
metadata = { name = "two" }
[[pod]]
metadata = { name = "tolerant" }
spec.tolerations = [{ operator = "Exists" }]
[[pod]]
metadata = { name = "impossible" }
spec.nodeSelector = { disk = "ssd" }
[[pod]]
metadata = { name = "asked" }
spec.nodeName = "cordoned"
"#,
    );
    let node = |name: &str| {
        let pod = cluster.pod("default", name).unwrap();
        cluster.nodes[pod.node].name.clone()
    };
    assert_eq!((node("one"), node("two")), ("plain".into(), "plain".into()));
    assert_eq!(node("tolerant"), "tainted");
    assert_eq!(node("asked"), "cordoned");
    let pending: Vec<_> =
        cluster.pending.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    assert_eq!(pending, ["impossible"]);
    let warning = cluster.warnings.iter().find(|at| at.message.contains("pending")).unwrap();
    assert!(warning.message.contains("plain lacks the label disk=ssd"), "{warning}");
    assert!(warning.message.contains("broken is not ready"), "{warning}");
}

#[test]
fn host_ports_keep_pods_apart() {
    let cluster = load(&format!(
        "{NODES}{}",
        r#"
[[deployment]]
metadata = { name = "edge" }
[deployment.spec]
replicas = 4
selector.matchLabels = { app = "edge" }
[deployment.spec.template]
metadata.labels = { app = "edge" }
spec.containers = [{ name = "c", ports = [{ containerPort = 80, hostPort = 80 }] }]
"#
    ));
    assert_eq!(on_nodes(&cluster, |_| true), counts(&[("a", 1), ("b", 1), ("c", 1)]));
    assert_eq!(cluster.pending.len(), 1);
}

#[test]
fn pods_that_are_written_beside_their_workload_are_its_pods() {
    let cluster = load(&format!(
        "{NODES}{WEB}{}",
        r#"
[[replica-set]]
metadata = { name = "web-1", ownerReferences = [{ apiVersion = "apps/v1", kind = "Deployment", name = "web", uid = "1", controller = true }] }
[replica-set.spec]
replicas = 6
selector.matchLabels = { app = "web" }
template.metadata.labels = { app = "web" }

[[pod]]
metadata = { name = "web-1-abcde", labels = { app = "web" }, ownerReferences = [{ apiVersion = "apps/v1", kind = "ReplicaSet", name = "web-1", uid = "2", controller = true }] }
"#
    ));
    assert_eq!(cluster.pods.len(), 6);
    assert!(cluster.pod("default", "web-1-abcde").is_some());
}

#[test]
fn conditions_follow_from_phase_and_readiness_gates() {
    let cluster = load(&format!(
        "{NODES}{}",
        r#"
[[pod]]
metadata = { name = "plain" }
[[pod]]
metadata = { name = "gated" }
spec.readinessGates = [{ conditionType = "example.com/lb" }]
[[pod]]
metadata = { name = "open" }
spec.readinessGates = [{ conditionType = "example.com/lb" }]
status.conditions = [{ type = "example.com/lb", status = "True" }]
[[pod]]
metadata = { name = "said" }
status.conditions = [{ type = "Ready", status = "False" }]
[[pod]]
metadata = { name = "starting" }
status.phase = "Pending"
[[pod]]
metadata = { name = "done" }
status.phase = "Succeeded"
[[pod]]
metadata = { name = "leaving", deletionTimestamp = "2026-01-01T00:00:00Z" }
[[pod]]
metadata = { name = "host" }
spec = { hostNetwork = true, nodeName = "b" }
"#
    ));
    let pod = |name: &str| cluster.pod("default", name).unwrap();
    let ready: Vec<_> = ["plain", "gated", "open", "said", "starting", "done", "leaving"]
        .map(|name| pod(name).is_ready())
        .into();
    assert_eq!(ready, [true, false, true, false, false, false, true]);
    assert!(pod("leaving").is_terminating() && pod("done").is_finished());
    assert_eq!(pod("host").addresses, cluster.nodes[1].addresses);
    assert!(pod("host").host_network);
    let status = pod("plain").object.status.as_ref().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some(&*pod("plain").addresses[0].to_string()));
    assert_eq!(
        status.host_ip.as_deref(),
        Some(&*cluster.nodes[pod("plain").node].addresses[0].to_string())
    );
}
