//! The readiness gate of load balancers: a pod that has it is ready once it has passed their check.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod as PodObject, PodCondition};
use kswitch_config::{Cluster, Pod};

/// Namespace and name of a pod.
type Key = (String, String);

/// Sets right which pods are ready; answers those for which only the load balancer's word is missing.
pub(super) fn judge(
    cluster: &Cluster,
    opened: &BTreeSet<Key>,
    ready: &mut BTreeMap<Key, bool>,
) -> BTreeSet<Key> {
    let mut waiting = BTreeSet::new();
    for pod in cluster.pods.iter().filter(|pod| pod.has_balancer_gate()) {
        let key = (pod.namespace.clone(), pod.name.clone());
        let written = || pod.condition("ContainersReady") && pod.other_gates_are_open();
        let is_up = ready.get(&key).copied().unwrap_or_else(written);
        let is_open = opened.contains(&key);
        if is_up && !is_open && !pod.is_terminating() {
            waiting.insert(key.clone());
        }
        ready.insert(key, is_up && is_open);
    }
    waiting
}

/// A pod with its gate as it is.
///
/// Source: ingress-gce `pkg/neg/readiness`, `LoadBalancerNegReady` and `LoadBalancerNegNotReady`.
pub(super) fn told(mut object: PodObject, is_open: bool) -> PodObject {
    let status = object.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let (reason, message) = if is_open {
        ("LoadBalancerNegReady", "Pod has become Healthy in a NEG")
    } else {
        (
            "LoadBalancerNegNotReady",
            "Waiting for pod to become healthy in at least one of the NEG(s)",
        )
    };
    conditions.push(PodCondition {
        type_: Pod::BALANCER_GATE.to_owned(),
        status: if is_open { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..PodCondition::default()
    });
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LAB: &str = r#"
[lab]
name = "gates"
[[node]]
name = "node-a"
[[pod]]
metadata = { name = "gated" }
[pod.spec]
readinessGates = [{ conditionType = "cloud.google.com/load-balancer-neg-ready" }]
[[pod]]
metadata = { name = "plain" }
"#;

    #[test]
    fn a_gated_pod_waits_for_the_load_balancer_and_others_do_not() {
        let cluster = kswitch_config::load_text("lab.toml", LAB, Path::new(".")).unwrap();
        let key = ("default".to_owned(), "gated".to_owned());
        let mut ready = BTreeMap::new();
        let waiting = judge(&cluster, &BTreeSet::new(), &mut ready);
        assert_eq!((ready.len(), ready[&key]), (1, false));
        assert!(waiting.contains(&key) && waiting.len() == 1);
        let waiting = judge(&cluster, &[key.clone()].into(), &mut BTreeMap::new());
        assert!(waiting.is_empty());
        // one whose containers are not up has nothing to wait for yet
        let mut ready: BTreeMap<_, _> = [(key.clone(), false)].into();
        assert!(judge(&cluster, &BTreeSet::new(), &mut ready).is_empty());
        let pod = cluster.pod("default", "gated").unwrap();
        let shown = told((*pod.object).clone(), true);
        let conditions = shown.status.unwrap().conditions.unwrap();
        let gate = conditions.iter().find(|it| it.type_ == Pod::BALANCER_GATE).unwrap();
        assert_eq!(gate.status, "True");
    }
}
