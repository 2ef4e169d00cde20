//! Nodes that do not answer: when that is noticed, and when their pods end.
//!
//! A node that is switched off says nothing any more, which nobody knows until the grace of the node
//! monitor is over: it is *lost* then, its pods are not ready, and new ones stay away. Pods that do
//! not tolerate that for longer end; but as nobody on the node can say that they have ended, they
//! stay, about to end, until it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;

use crate::cluster::{Cluster, Pod};
use crate::settings::Silence;

/// The taint of a node that has been silent for too long.
///
/// Source: well-known taint `node.kubernetes.io/unreachable`.
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What is known of nodes that are switched off. Time is told to it, from any moment on.
#[derive(Clone, Debug, Default)]
pub struct NodeController {
    down: BTreeMap<String, Down>,
}

/// A node that is switched off.
#[derive(Clone, Copy, Debug)]
struct Down {
    since: Duration,
    silence: Silence,
}

impl NodeController {
    /// A node is switched off; `false` if it was already.
    pub fn stop(&mut self, node: &str, now: Duration, silence: Silence) -> bool {
        if self.down.contains_key(node) {
            return false;
        }
        self.down.insert(node.to_owned(), Down { since: now, silence });
        true
    }

    /// A node is switched on, or gone; `false` if it was not off.
    pub fn start(&mut self, node: &str) -> bool {
        self.down.remove(node).is_some()
    }

    /// The nodes that are switched off, by name.
    pub fn down(&self) -> BTreeSet<String> {
        self.down.keys().cloned().collect()
    }

    /// Whether a node is switched off.
    pub fn is_down(&self, node: &str) -> bool {
        self.down.contains_key(node)
    }

    /// The nodes of which it is known, by name.
    pub fn lost(&self, now: Duration) -> BTreeSet<String> {
        let lost = self.down.iter().filter(|(_, down)| now >= down.lost_at());
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// The pods that have to end by now and do not yet, by namespace and name.
    ///
    /// If all nodes are lost, it is the network's fault rather than theirs, and none ends.
    /// Source: kube-controller-manager, node lifecycle controller, `stateFullDisruption`.
    pub fn evicted(&self, cluster: &Cluster, now: Duration) -> Vec<(String, String)> {
        let lost = self.lost(now);
        if lost.is_empty() || cluster.nodes.iter().all(|node| lost.contains(&node.name)) {
            return Vec::new();
        }
        let has_to_end = |pod: &&std::sync::Arc<Pod>| {
            let node = cluster.nodes.get(pod.node);
            let down = node.and_then(|node| self.down.get(&node.name));
            let end = down.and_then(|down| down.end_of(pod));
            !pod.is_terminating() && end.is_some_and(|end| now >= end)
        };
        let pods = cluster.pods.iter().filter(has_to_end);
        pods.map(|pod| (pod.namespace.clone(), pod.name.clone())).collect()
    }
}

impl Down {
    /// When it counts as lost.
    fn lost_at(&self) -> Duration {
        self.since.saturating_add(self.silence.grace)
    }

    /// When a pod of the node has to end; `None`: never.
    fn end_of(&self, pod: &Pod) -> Option<Duration> {
        let tolerations = pod.object.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        let stay = stay(tolerations, self.silence.toleration)?;
        Some(self.lost_at().saturating_add(stay))
    }
}

/// How long a pod stays on a node that is lost; `None`: for good.
///
/// Source: kube-controller-manager, `getMinTolerationTime`; kube-apiserver, admission plug-in
/// DefaultTolerationSeconds.
fn stay<'t>(
    tolerations: impl Iterator<Item = &'t Toleration>,
    default: Duration,
) -> Option<Duration> {
    let own: Vec<&Toleration> = tolerations.filter(|it| tolerates_silence(it)).collect();
    if own.is_empty() {
        return Some(default);
    }
    let seconds = own.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether a toleration is of the taint of lost nodes.
fn tolerates_silence(toleration: &Toleration) -> bool {
    let Toleration { effect, key, operator, value, toleration_seconds: _ } = toleration;
    let is_any = |text: Option<&str>, own: &str| text.is_none_or(|it| it.is_empty() || it == own);
    let is_value = operator.as_deref() == Some("Exists") || is_any(value.as_deref(), "");
    is_any(key.as_deref(), UNREACHABLE) && is_any(effect.as_deref(), "NoExecute") && is_value
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Draft, Kind};

    const NOW: &str = "2026-01-02T03:04:05Z";

    const LAB: &str = r#"
[lab]
name = "t"
[[node]]
name = "a"
[[node]]
name = "b"
[[deployment]]
metadata = { name = "web" }
[deployment.spec]
replicas = 2
selector.matchLabels = { app = "web" }
template.metadata.labels = { app = "web" }
template.spec.containers = [{ name = "c" }]
[[daemon-set]]
metadata = { name = "agent" }
[daemon-set.spec]
selector.matchLabels = { app = "agent" }
template.metadata.labels = { app = "agent" }
template.spec.containers = [{ name = "c" }]
[[pod]]
metadata = { name = "patient" }
[pod.spec]
nodeName = "a"
tolerations = [{ key = "node.kubernetes.io/unreachable", operator = "Exists", tolerationSeconds = 600 }]
[[pod]]
metadata = { name = "hasty" }
[pod.spec]
nodeName = "a"
tolerations = [{ operator = "Exists", effect = "NoExecute", tolerationSeconds = 0 }]
[[pod]]
metadata = { name = "loyal" }
[pod.spec]
nodeName = "a"
tolerations = [{ operator = "Exists" }]
"#;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_noticed_and_pods_end_each_in_its_time() {
        let draft = Draft::read_text("lab.toml", LAB, Path::new(""));
        let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
        let mut nodes = NodeController::default();
        assert!(nodes.stop("a", seconds(100), Silence::default()));
        assert!(!nodes.stop("a", seconds(101), Silence::default()));
        let names = |now| -> BTreeSet<String> {
            nodes.evicted(&cluster, seconds(now)).into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!((nodes.lost(seconds(149)), names(149)), (BTreeSet::new(), BTreeSet::new()));
        assert_eq!(nodes.lost(seconds(150)), ["a".to_owned()].into());
        assert_eq!(names(449), ["hasty".to_owned()].into());
        let web = cluster.pods.iter().find(|pod| pod.node == 0 && pod.name.starts_with("web"));
        let web = web.unwrap().name.clone();
        assert_eq!(names(450), ["hasty".to_owned(), web.clone()].into());
        assert_eq!(names(750), ["hasty".to_owned(), "patient".to_owned(), web].into());
        // nothing ends where nothing is left
        let mut all = nodes.clone();
        all.stop("b", seconds(100), Silence::default());
        assert!(all.evicted(&cluster, seconds(9_000)).is_empty());
        assert!(nodes.start("a") && !nodes.start("a") && nodes.down().is_empty());
    }

    #[test]
    fn a_lost_node_keeps_its_daemons_and_gets_nothing_new() {
        let mut draft = Draft::read_text("lab.toml", LAB, Path::new(""));
        let before = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
        draft.lose(["a".to_owned()].into());
        let lost = draft.validate(Some(&before)).unwrap();
        assert!(!lost.nodes[0].ready && lost.nodes[0].taints.len() == 2);
        assert_eq!(lost.pods.len(), before.pods.len());
        let web = lost.pods.iter().find(|pod| pod.node == 0 && pod.name.starts_with("web"));
        let web = web.unwrap().clone();
        draft.end_pod(&lost, &web.namespace, &web.name, None, NOW).unwrap();
        let after = draft.validate(Some(&lost)).unwrap();
        let others = after.pods.iter().filter(|pod| pod.name.starts_with("web"));
        let others: Vec<_> = others.filter(|pod| !pod.is_terminating()).collect();
        assert!(others.len() == 2 && others.iter().all(|pod| pod.node == 1), "{others:?}");
        let daemons = |cluster: &Cluster| {
            cluster.pods.iter().filter(|pod| pod.name.starts_with("agent")).count()
        };
        assert_eq!(daemons(&after), 2);
        draft.lose(BTreeSet::new());
        draft.delete(Kind::Pod, &web.namespace, &web.name);
        let back = draft.validate(Some(&after)).unwrap();
        assert!(back.nodes[0].ready && back.nodes[0].taints.is_empty());
    }
}
