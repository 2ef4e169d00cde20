//! Links that the lab file says something of.

use std::sync::Arc;

use crate::cluster::{Cluster, External, Node, Pod};
use crate::compile::PortKind;
use crate::draft::{Draft, WrittenLink};
use crate::error::Findings;
use crate::link::FaultyLink;
use crate::path::Field;
use crate::suggest;

/// Whose links there are.
#[derive(Clone, Copy)]
pub(super) struct Machines<'m> {
    pub(super) nodes: &'m [Arc<Node>],
    pub(super) pods: &'m [Arc<Pod>],
    pub(super) externals: &'m [External],
}

impl Machines<'_> {
    /// Every machine with a link of its own.
    fn kinds(self) -> impl Iterator<Item = PortKind> {
        let nodes = self.nodes.iter().map(|node| PortKind::Node { name: node.name.clone() });
        let externals = self.externals.iter();
        let externals = externals.map(|it| PortKind::External { name: it.name.clone() });
        let pods = self
            .pods
            .iter()
            .filter(|pod| !pod.host_network)
            .map(|pod| PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() });
        nodes.chain(externals).chain(pods)
    }

    /// The one of this name, `[namespace/]pod`, `node/NAME` or `ext/NAME`.
    fn find(self, name: &str) -> Option<PortKind> {
        let full = full(name);
        self.kinds().find(|kind| kind.to_string() == full)
    }
}

/// A name with its namespace.
fn full(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("default/{name}") }
}

impl Cluster {
    /// Whose link a name means: `[namespace/]pod`, `node/NAME` or `ext/NAME`.
    /// **Cost**: linear in the machines.
    pub fn link_of(&self, name: &str) -> Option<PortKind> {
        let Self { nodes, pods, externals, .. } = self;
        Machines { nodes, pods, externals }.find(name)
    }
}

pub(super) fn links(
    draft: &Draft,
    machines: Machines<'_>,
    previous: Option<&Cluster>,
    findings: &mut Findings,
) -> Vec<FaultyLink> {
    let mut links: Vec<FaultyLink> = Vec::new();
    for WrittenLink { of, directions, faults, origin } in &draft.links {
        let Some(kind) = machines.find(of) else {
            let names: Vec<_> = machines.kinds().map(|kind| kind.to_string()).collect();
            let meant = suggest::closest(&full(of), names.iter().map(String::as_str));
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write [namespace/]pod, node/NAME or ext/NAME".to_owned(),
            };
            let message = format!("there is no link of `{of}`");
            // a machine that was there may go all the same
            let was_there = previous.is_some_and(|previous| {
                previous.links.iter().any(|link| link.of.to_string() == full(of))
            });
            let finding = if was_there {
                findings.warning(Field::of("of"), message, "remove the [[link]]")
            } else {
                findings.error(Field::of("of"), message, help)
            };
            finding.within(origin);
            continue;
        };
        for direction in directions {
            if links.iter().any(|link| link.of == kind && link.direction == *direction) {
                let help = "say all of one direction at once";
                let message = format!("the link of `{of}` is spoken of twice");
                findings.error(Field::of("of"), message, help).within(origin);
                break;
            }
            links.push(FaultyLink { of: kind.clone(), direction: *direction, faults: *faults });
        }
    }
    links
}
