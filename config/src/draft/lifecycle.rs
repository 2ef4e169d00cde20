//! What befalls pods, nodes and what makes pods, by command: they end in peace, are more or fewer,
//! are made anew.
//!
//! A pod that ends is kept as it was, with its place and addresses and with a time of deletion, so
//! that it serves those who have it while whatever made it makes another, under another name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as PodObject;
use serde_json::Value;

use super::{Draft, Entry, Key, KeyRef};
use crate::cluster::{Cluster, Node, Pod};
use crate::error::{Findings, Origin};
use crate::kind::Kind;
use crate::object::Object;
use crate::source::Source;
use crate::tree::{Document, Format};
use crate::validate::index_of_pod;

/// When a workload was told to make its pods anew.
///
/// Source: kubectl, `rollout restart`.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// How long a pod may take to end if it does not say, seconds.
///
/// Source: `PodSpec.terminationGracePeriodSeconds`.
const GRACE_SECONDS: i64 = 30;

/// Pods that are made no more, by the kind, namespace and name of what made them, and by number.
pub(crate) type Replaced = BTreeMap<(&'static str, Box<str>, Box<str>), BTreeSet<usize>>;

/// A pod that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How long it may take, seconds.
    pub grace_seconds: u64,
}

impl Draft {
    /// Sets how many pods a Deployment, ReplicaSet or StatefulSet makes; `false` if there is none.
    pub fn scale(&mut self, kind: Kind, namespace: &str, name: &str, replicas: i32) -> bool {
        self.edit(kind, namespace, name, |object| match object {
            Object::Deployment(object) => {
                Arc::make_mut(object).spec.get_or_insert_default().replicas = Some(replicas);
            }
            Object::ReplicaSet(object) => {
                Arc::make_mut(object).spec.get_or_insert_default().replicas = Some(replicas);
            }
            Object::StatefulSet(object) => {
                Arc::make_mut(object).spec.get_or_insert_default().replicas = Some(replicas);
            }
            _ => {}
        })
    }

    /// Has a Deployment, StatefulSet or DaemonSet make its pods anew; `false` if there is none. `now`
    /// is the time, as in RFC 3339.
    pub fn restart(&mut self, kind: Kind, namespace: &str, name: &str, now: &str) -> bool {
        self.edit(kind, namespace, name, |object| {
            let template = match object {
                Object::Deployment(it) => {
                    Arc::make_mut(it).spec.as_mut().map(|spec| &mut spec.template)
                }
                Object::StatefulSet(it) => {
                    Arc::make_mut(it).spec.as_mut().map(|spec| &mut spec.template)
                }
                Object::DaemonSet(it) => {
                    Arc::make_mut(it).spec.as_mut().map(|spec| &mut spec.template)
                }
                _ => None,
            };
            if let Some(template) = template {
                let metadata = template.metadata.get_or_insert_default();
                let annotations = metadata.annotations.get_or_insert_default();
                annotations.insert(RESTARTED_AT.to_owned(), now.to_owned());
            }
        })
    }

    /// Keeps new pods away from a node, or no longer; `false` if there is none.
    pub fn cordon(&mut self, node: &str, is_closed: bool) -> bool {
        self.edit(Kind::Node, "", node, |object| {
            if let Object::Node(node) = object {
                let spec = Arc::make_mut(node).spec.get_or_insert_default();
                spec.unschedulable = is_closed.then_some(true);
            }
        })
    }

    /// Has a node hear of changes of Services and endpoints so much later, as in `500ms`, or with
    /// `None` at once; `false` if there is none.
    pub fn lag(&mut self, node: &str, lag: Option<&str>) -> bool {
        self.edit(Kind::Node, "", node, |object| {
            let Object::Node(node) = object else { return };
            let annotations = Arc::make_mut(node).metadata.annotations.get_or_insert_default();
            match lag {
                Some(lag) => annotations.insert(Node::ENDPOINT_LAG_ANNOTATION.into(), lag.into()),
                None => annotations.remove(Node::ENDPOINT_LAG_ANNOTATION),
            };
        })
    }

    /// Lets a pod of a cluster end; `None` if there is none, or if it ends already and `grace` says
    /// nothing else. Without `grace`, in seconds, it takes as long as it says.
    pub fn end_pod(
        &mut self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        grace: Option<u64>,
        now: &str,
    ) -> Option<Ending> {
        let pod = cluster.pod(namespace, name)?;
        if pod.is_terminating() {
            // it ends already: all that can change is how long it may take
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            return grace.map(|grace_seconds| Ending { namespace, name, grace_seconds });
        }
        let spec = pod.object.spec.as_ref();
        let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
        let own = u64::try_from(own.unwrap_or(GRACE_SECONDS)).unwrap_or_default();
        let grace_seconds = grace.unwrap_or(own);
        let object = ending(pod, grace_seconds, now)?;
        let maker = self.maker_of(namespace, name);
        if let Some((kind, maker, index)) = maker {
            let key = (kind.name(), namespace.into(), maker.into());
            Arc::make_mut(&mut self.replaced).entry(key).or_default().insert(index);
        } else {
            self.forget_member(pod);
        }
        let before = self.of(Kind::Pod).get(&KeyRef { namespace, name });
        let origin = before.map_or_else(nowhere, |entry| entry.origin.clone());
        let key = Key { namespace: namespace.into(), name: name.into() };
        let object = Object::Pod(Arc::new(object));
        let entry = Entry { object, origin, findings: Findings::default() };
        self.of_mut(Kind::Pod).insert(key, Arc::new(entry));
        Some(Ending { namespace: namespace.to_owned(), name: name.to_owned(), grace_seconds })
    }

    /// Lets the pods of workloads end that are in `before` and not in `after`, which is what this
    /// draft comes to; those of DaemonSets and StatefulSets come again under their name.
    pub fn end_missing(&mut self, before: &Cluster, after: &Cluster, now: &str) -> Vec<Ending> {
        let stays: BTreeSet<(&str, &str)> =
            after.pods.iter().map(|pod| (&*pod.namespace, &*pod.name)).collect();
        let is_made = |pod: &&Arc<Pod>| {
            pod.object
                .metadata
                .owner_references
                .iter()
                .flatten()
                .any(|it| it.controller == Some(true))
        };
        let missing = before.pods.iter().filter(is_made);
        let missing = missing.filter(|pod| !stays.contains(&(&*pod.namespace, &*pod.name)));
        let missing: Vec<_> = missing.filter(|pod| after_has_node(before, after, pod)).collect();
        let end = |pod: &Arc<Pod>| self.end_pod(before, &pod.namespace, &pod.name, None, now);
        missing.into_iter().filter_map(end).collect()
    }

    /// Takes over which pods are made no more and which nodes are silent, from the draft that this one replaces.
    pub fn inherit(&mut self, before: &Self) {
        self.replaced = Arc::clone(&before.replaced);
        self.rollouts = Arc::clone(&before.rollouts);
        self.lost = Arc::clone(&before.lost);
    }

    /// Has these nodes, and no others, count as silent for too long: they are not ready, and keep pods
    /// away. Answers whether that is news.
    pub fn lose(&mut self, nodes: BTreeSet<String>) -> bool {
        let is_news = *self.lost != nodes;
        if is_news {
            self.lost = Arc::new(nodes);
        }
        is_news
    }

    /// Whether any node counts as silent for too long.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Changes an object where it stands.
    fn edit(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Object),
    ) -> bool {
        let Some(before) = self.of(kind).get(&KeyRef { namespace, name }) else { return false };
        let mut entry = Entry::clone(before);
        change(&mut entry.object);
        let key = Key { namespace: namespace.into(), name: name.into() };
        self.of_mut(kind).insert(key, Arc::new(entry));
        true
    }

    /// What makes a pod by number, its name, and the number.
    fn maker_of(&self, namespace: &str, pod: &str) -> Option<(Kind, String, usize)> {
        [Kind::Deployment, Kind::ReplicaSet].into_iter().find_map(|kind| {
            let mut entries = self.of(kind).values();
            entries.find_map(|entry| {
                let is_here = entry.object.namespace() == namespace;
                let index = index_of_pod(entry, pod).filter(|_| is_here)?;
                Some((kind, entry.object.name().to_owned(), index))
            })
        })
    }

    /// The numbers of pods that a workload makes no more.
    pub(crate) fn replaced(&self, entry: &Entry) -> BTreeSet<usize> {
        if self.replaced.is_empty() {
            return BTreeSet::new();
        }
        let KeyRef { namespace, name } = entry.key();
        let key = (entry.object.kind().name(), namespace.into(), name.into());
        self.replaced.get(&key).cloned().unwrap_or_default()
    }

    /// Whether a pod of this name is about to end.
    pub(crate) fn is_ending(&self, namespace: &str, name: &str) -> bool {
        let entry = self.of(Kind::Pod).get(&KeyRef { namespace, name });
        entry.is_some_and(|entry| entry.object.metadata().deletion_timestamp.is_some())
    }
}

/// A pod as it is, about to end, and nobody's.
fn ending(pod: &Pod, grace_seconds: u64, now: &str) -> Option<PodObject> {
    let mut value = serde_json::to_value(&*pod.object).ok()?;
    let metadata = value.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("deletionTimestamp".to_owned(), Value::from(now));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), Value::from(grace_seconds));
    metadata.remove("ownerReferences");
    serde_json::from_value(value).ok()
}

fn after_has_node(before: &Cluster, after: &Cluster, pod: &Pod) -> bool {
    before.nodes.get(pod.node).is_some_and(|node| after.node_index(&node.name).is_some())
}

pub(super) fn nowhere() -> Origin {
    Origin::whole(Document::whole(Source::new("pods that end", ""), Format::Toml))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
replicas = 3
selector.matchLabels = { app = "web" }
template.metadata.labels = { app = "web" }
template.spec.containers = [{ name = "c" }]
[[stateful-set]]
metadata = { name = "db" }
[stateful-set.spec]
replicas = 1
serviceName = "db"
selector.matchLabels = { app = "db" }
template.metadata.labels = { app = "db" }
template.spec.containers = [{ name = "c" }]
"#;

    fn start() -> (Draft, Cluster) {
        let draft = Draft::read_text("lab.toml", LAB, Path::new(""));
        let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
        (draft, cluster)
    }

    fn names(cluster: &Cluster, is_ending: bool) -> BTreeSet<String> {
        let pods = cluster.pods.iter().filter(|pod| pod.is_terminating() == is_ending);
        pods.map(|pod| pod.name.clone()).collect()
    }

    fn web(cluster: &Cluster) -> BTreeSet<String> {
        names(cluster, false).into_iter().filter(|name| name.starts_with("web")).collect()
    }

    #[test]
    fn a_pod_that_ends_is_replaced_under_another_name_and_address() {
        let (mut draft, before) = start();
        let old = before.pods.iter().find(|pod| pod.name.starts_with("web")).unwrap().clone();
        let ending = draft.end_pod(&before, "default", &old.name, None, NOW).unwrap();
        assert_eq!(ending.grace_seconds, 30);
        let during = draft.validate(Some(&before)).unwrap();
        assert_eq!(names(&during, true), [old.name.clone()].into());
        assert_eq!(web(&during).len(), 3);
        let same = during.pod("default", &old.name).unwrap();
        assert_eq!((&same.addresses, same.node), (&old.addresses, old.node));
        let new = during.pods.iter().find(|pod| before.pod("default", &pod.name).is_none());
        assert!(!old.addresses.contains(&new.unwrap().addresses[0]));
        assert!(draft.end_pod(&during, "default", &old.name, None, NOW).is_none());
        draft.delete(Kind::Pod, "default", &old.name);
        let after = draft.validate(Some(&during)).unwrap();
        assert_eq!((web(&after), names(&after, true)), (web(&during), BTreeSet::new()));
    }

    #[test]
    fn a_member_comes_again_once_it_is_gone() {
        let (mut draft, before) = start();
        draft.end_pod(&before, "default", "db-0", Some(1), NOW).unwrap();
        let during = draft.validate(Some(&before)).unwrap();
        assert!(during.pod("default", "db-0").unwrap().is_terminating());
        assert_eq!(during.pods.len(), before.pods.len());
        draft.delete(Kind::Pod, "default", "db-0");
        let after = draft.validate(Some(&during)).unwrap();
        assert!(!after.pod("default", "db-0").unwrap().is_terminating());
    }

    #[test]
    fn fewer_replicas_and_new_templates_let_the_others_end() {
        let (mut draft, before) = start();
        assert!(draft.scale(Kind::Deployment, "default", "web", 1));
        assert!(!draft.scale(Kind::Deployment, "default", "nothing", 1));
        let after = draft.validate(Some(&before)).unwrap();
        assert_eq!(draft.end_missing(&before, &after, NOW).len(), 2);
        let during = draft.validate(Some(&before)).unwrap();
        assert_eq!((web(&during).len(), names(&during, true).len()), (1, 2));
        // those that come later are others
        assert!(draft.scale(Kind::Deployment, "default", "web", 3));
        let again = draft.validate(Some(&during)).unwrap();
        assert_eq!((web(&again).len(), names(&again, true).len()), (3, 2));

        let (mut draft, before) = start();
        assert!(draft.restart(Kind::Deployment, "default", "web", NOW));
        let after = draft.validate(Some(&before)).unwrap();
        assert_eq!(draft.end_missing(&before, &after, NOW).len(), 3);
        let during = draft.validate(Some(&before)).unwrap();
        assert_eq!((web(&during).len(), names(&during, true)), (3, web(&before)));
    }

    #[test]
    fn pods_that_leave_a_closed_node_come_elsewhere() {
        let (mut draft, before) = start();
        assert!(draft.cordon("a", true));
        let here: Vec<_> = before.pods.iter().filter(|pod| pod.node == 0).cloned().collect();
        assert!(!here.is_empty());
        for pod in &here {
            draft.end_pod(&before, &pod.namespace, &pod.name, None, NOW).unwrap();
        }
        let during = draft.validate(Some(&before)).unwrap();
        for pod in &here {
            draft.delete(Kind::Pod, &pod.namespace, &pod.name);
        }
        let after = draft.validate(Some(&during)).unwrap();
        assert_eq!(after.pods.len(), before.pods.len());
        assert!(after.pods.iter().all(|pod| pod.node == 1), "{after:?}");
    }
}
