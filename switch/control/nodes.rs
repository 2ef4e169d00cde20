//! Nodes that are switched off and on, come and go, and what becomes of their pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kswitch_config::{Cluster, Draft, Ending, Kind, Observed, Outcome, Pod, Silence};

use super::answer::{Desk, Office, closing};
use super::lifecycle;
use super::request::{Failure, Power, Response};
use super::running::with_causes;

/// The time since somebody asked first.
fn clock() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The cluster without the pods of nodes that are switched off: what can run.
pub(super) fn awake(cluster: &Arc<Cluster>, observed: &Observed) -> Arc<Cluster> {
    if observed.nodes_down.is_empty() {
        return Arc::clone(cluster);
    }
    let mut awake = Cluster::clone(cluster);
    awake.pods.retain(|pod| !is_down(cluster, observed, pod));
    Arc::new(awake)
}

/// Whether the node of a pod is switched off.
fn is_down(cluster: &Cluster, observed: &Observed, pod: &Pod) -> bool {
    let node = cluster.nodes.get(pod.node);
    node.is_some_and(|node| observed.nodes_down.contains(&node.name))
}

/// Sets right what is seen of pods on nodes that are switched off: until that is noticed they are
/// as they were last seen, and not ready from then on.
pub(super) fn overrule(
    ready: &mut BTreeMap<(String, String), bool>,
    cluster: &Cluster,
    observed: &Observed,
) {
    if observed.nodes_down.is_empty() {
        return;
    }
    for pod in cluster.pods.iter().filter(|pod| is_down(cluster, observed, pod)) {
        let key = (pod.namespace.clone(), pod.name.clone());
        let is_lost = cluster.nodes.get(pod.node).is_some_and(|node| !node.ready);
        match observed.ready_pods.get(&key) {
            _ if is_lost => ready.insert(key, false),
            Some(last) => ready.insert(key, *last),
            None => ready.remove(&key),
        };
    }
}

impl Desk {
    /// Whether a pod is on a node that is switched off.
    pub(super) fn is_out_of_reach(&self, namespace: &str, name: &str) -> bool {
        let Some(running) = &self.running else { return false };
        let pod = running.cluster.pod(namespace, name);
        pod.is_some_and(|pod| is_down(&running.cluster, &running.observed, pod))
    }
}

impl Office {
    /// Switches a node off or on, or takes it away.
    pub(super) fn power(&self, node: &str, power: &Power) -> Response {
        let _turn = self.turn();
        {
            let desk = self.desk();
            let Some(running) = &desk.running else { return closing() };
            if running.cluster.node(node).is_none() {
                return Response::failed(Failure::NotFound, format!("no node {node}"));
            }
        }
        match power {
            Power::Down { grace_millis, toleration_millis } => {
                self.switch_off(node, *grace_millis, *toleration_millis)
            }
            Power::Up => self.switch_on(node),
            Power::Gone => self.take_node_away(node),
        }
    }

    fn switch_off(&self, node: &str, grace: Option<u64>, toleration: Option<u64>) -> Response {
        let mut guard = self.desk();
        let desk = &mut *guard;
        let Some(running) = &mut desk.running else { return closing() };
        let own = running.cluster.settings.cluster.silence;
        let silence = Silence {
            grace: grace.map_or(own.grace, Duration::from_millis),
            toleration: toleration.map_or(own.toleration, Duration::from_millis),
        };
        if !desk.nodes.stop(node, clock(), silence) {
            return Response::Done { lines: vec![format!("node/{node} was down already")] };
        }
        let observed = Observed { nodes_down: desk.nodes.down(), ..running.observed.clone() };
        if let Err(error) = running.observe(observed) {
            return Response::failed(Failure::Internal, with_causes(&error));
        }
        Response::Done { lines: vec![format!("node/{node} down")] }
    }

    fn switch_on(&self, node: &str) -> Response {
        let (mut draft, ending) = {
            let mut guard = self.desk();
            let desk = &mut *guard;
            let Some(running) = &mut desk.running else { return closing() };
            if !desk.nodes.start(node) {
                return Response::Done { lines: vec![format!("node/{node} was up already")] };
            }
            running.observed.nodes_down = desk.nodes.down();
            let index = running.cluster.node_index(node);
            let here = running.cluster.pods.iter().filter(|pod| Some(pod.node) == index);
            // those that were to end have done so long since
            let ending = here.filter(|pod| pod.is_terminating()).map(|pod| Ending {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                grace_seconds: 0,
            });
            (desk.draft.clone(), ending.collect())
        };
        draft.lose(self.desk().nodes.lost(clock()));
        self.become_and_end(draft, vec![format!("node/{node} up")], ending)
    }

    fn take_node_away(&self, node: &str) -> Response {
        let (mut draft, before) = {
            let mut guard = self.desk();
            let desk = &mut *guard;
            let Some(running) = &mut desk.running else { return closing() };
            desk.nodes.start(node);
            running.observed.nodes_down = desk.nodes.down();
            (desk.draft.clone(), Arc::clone(&running.cluster))
        };
        let now = lifecycle::now();
        let index = before.node_index(node);
        for pod in before.pods.iter().filter(|pod| Some(pod.node) == index) {
            // what made it makes another, and nobody is left who could end in peace
            let _ = draft.end_pod(&before, &pod.namespace, &pod.name, Some(0), &now);
            let _: Outcome = draft.delete(Kind::Pod, &pod.namespace, &pod.name);
        }
        let _: Outcome = draft.delete(Kind::Node, "", node);
        self.become_and_end(draft, vec![format!("node/{node} removed")], Vec::new())
    }

    /// Notices which nodes have been silent for too long, and lets pods end that have to.
    pub(super) fn look_after_nodes(&self) {
        let _turn = self.turn();
        let now = clock();
        let (mut draft, before, evicted) = {
            let desk = self.desk();
            if desk.nodes.down().is_empty() && !desk.draft.has_lost() {
                return;
            }
            let Some(running) = &desk.running else { return };
            let evicted = desk.nodes.evicted(&running.cluster, now);
            let mut draft = desk.draft.clone();
            let is_news = draft.lose(desk.nodes.lost(now));
            if evicted.is_empty() && !is_news {
                return;
            }
            (draft, Arc::clone(&running.cluster), evicted)
        };
        let time = lifecycle::now();
        let end = |(namespace, name): &(String, String)| {
            draft.end_pod(&before, namespace, name, None, &time)
        };
        let ending = evicted.iter().filter_map(end).collect();
        if let Response::Failed { message, .. } = self.become_and_end(draft, Vec::new(), ending) {
            tracing::error!("silent nodes are left as they are: {message}");
        }
    }

    /// Makes the lab like a draft, and takes pods away when their time is over.
    fn become_and_end(&self, draft: Draft, told: Vec<String>, ending: Vec<Ending>) -> Response {
        match self.become_draft(draft) {
            Response::Done { lines } => {
                self.end_later(ending);
                Response::Done { lines: told.into_iter().chain(lines).collect() }
            }
            failed => failed,
        }
    }
}
