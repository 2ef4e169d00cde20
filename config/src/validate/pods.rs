//! Pods with their nodes and addresses.

mod addresses;
mod before;
mod complete;

use std::sync::Arc;

use super::owners::Owners;
use super::routes::unknown_node;
use super::schedule::Scheduler;
use super::workloads::Planned;
use crate::cluster::{Cluster, Node, Pod};
use crate::draft::Draft;
use crate::error::Findings;
use crate::path::Field;
use before::Before;

/// Octets that the name of a namespace of the lab may have, which is the name of a file.
const NAME: usize = 255;

/// The pods that have a place, and those that wait for one.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) pods: Vec<Arc<Pod>>,
    /// As they were wanted, in the same order.
    pub(super) wanted: Vec<Planned>,
    pub(super) pending: Vec<Planned>,
}

/// A pod with a node.
struct Seated {
    pod: Planned,
    node: usize,
}

pub(super) fn pods(
    draft: &Draft,
    planned: Vec<Planned>,
    nodes: &[Arc<Node>],
    previous: Option<&Cluster>,
    owners: &mut Owners,
    findings: &mut Findings,
) -> Placed {
    let before = Before::of(previous);
    let (seated, pending) = place(planned, nodes, &before, findings);
    let settings = &draft.settings.cluster;
    let addresses = addresses::assign(settings, &seated, nodes, &before, owners, findings);
    let mut placed = Placed { pending, ..Placed::default() };
    for (index, (Seated { pod, node }, addresses)) in seated.into_iter().zip(addresses).enumerate()
    {
        check_name(draft, &pod, nodes, findings);
        let Some(place) = nodes.get(node) else { continue };
        let done = before.same(index, &pod, node, place, &addresses);
        let done = done.unwrap_or_else(|| Arc::new(complete::pod(&pod, node, place, addresses)));
        placed.pods.push(done);
        placed.wanted.push(pod);
    }
    placed
}

/// Finds a node for each pod: the one it asks for, the one it was on, or the one that suits best.
fn place(
    planned: Vec<Planned>,
    nodes: &[Arc<Node>],
    before: &Before<'_>,
    findings: &mut Findings,
) -> (Vec<Seated>, Vec<Planned>) {
    let mut scheduler = Scheduler::new(nodes);
    let mut places = vec![None; planned.len()];
    for (index, (pod, place)) in planned.iter().zip(&mut places).enumerate() {
        let mut note = |field: Field, message: String, help: String| {
            let field = pod.base().then(&field);
            findings.error(field, message, help).of(pod.entry.called(), &pod.entry.origin);
        };
        *place = match pod.node_name() {
            Some(name) => {
                let node = before.index_of(nodes, name);
                if node.is_none() {
                    let (message, help) = unknown_node(name, nodes);
                    note(Field::of("spec").key("nodeName"), message, help);
                }
                node
            }
            None => before.node_of(index, pod, nodes),
        };
        let Some(node) = *place else { continue };
        if let Err(port) = scheduler.put(pod, node) {
            let message = format!("hostPort {port} is another pod's already on the node");
            let help = "the pod that comes last gets the traffic";
            let field = pod.base().key("spec");
            findings.warning(field, message, help).of(pod.entry.called(), &pod.entry.origin);
        }
    }
    let mut seated = Vec::with_capacity(planned.len());
    let mut pending = Vec::new();
    for (pod, place) in planned.into_iter().zip(places) {
        if let Some(node) = place {
            seated.push(Seated { pod, node });
        } else if pod.node_name().is_none() {
            match scheduler.choose(&pod) {
                Ok(node) => {
                    // that its ports are free was a condition
                    let _ = scheduler.put(&pod, node);
                    seated.push(Seated { pod, node });
                }
                Err(reason) => {
                    let message = format!("no node takes the pod, it stays pending: {reason}");
                    let warning = findings.warning(pod.base().key("spec"), message, "");
                    warning.of(pod.entry.called(), &pod.entry.origin);
                    pending.push(pod);
                }
            }
        }
    }
    (seated, pending)
}

/// Its namespace of the lab, `<lab>.<namespace>.<pod>`, is the name of a file of its own.
fn check_name(draft: &Draft, pod: &Planned, nodes: &[Arc<Node>], findings: &mut Findings) {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("").to_owned();
    let (namespace, name) = (text(&pod.object.metadata.namespace), text(&pod.object.metadata.name));
    let lab = &draft.settings.lab.name;
    let taken = match namespace.as_str() {
        "node" => nodes.iter().any(|node| node.name == name),
        "ext" => draft.hosts.iter().any(|host| host.name == name),
        _ => false,
    };
    let long = format!("{lab}.{namespace}.{name}");
    let field = Field::of("metadata").key("name");
    if taken {
        let message = format!("`{long}` would be a pod and a machine beside it");
        let help = "choose another name, or a namespace other than `node` and `ext`";
        findings.error(field, message, help).of(pod.entry.called(), &pod.entry.origin);
    } else if long.len() > NAME {
        let message = format!("`{long}` is too long to name the pod's network");
        let help = format!("shorten one of the three: {NAME} characters are the limit");
        findings.error(field, message, help).of(pod.entry.called(), &pod.entry.origin);
    }
}
