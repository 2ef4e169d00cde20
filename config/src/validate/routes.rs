//! Static routes of a routes-based cluster.

use std::sync::Arc;

use crate::cluster::Node;
use crate::draft::Draft;
use crate::error::Findings;
use crate::path::Field;
use crate::settings::Mode;
use crate::suggest;

pub(super) fn check(draft: &Draft, nodes: &[Arc<Node>], findings: &mut Findings) {
    let Some(routes) = &draft.settings.cluster.routes else { return };
    let field = Field::of("cluster").key("routes");
    if draft.settings.cluster.mode != Mode::RoutesBased {
        let message = "a VPC-native cluster has no static routes".to_owned();
        let help = "write mode = \"routes-based\", or remove `routes`".to_owned();
        draft.setting_error(findings, field.clone(), message, help);
    }
    for (index, route) in routes.iter().enumerate() {
        let field = field.clone().index(index);
        if !nodes.iter().any(|node| node.name == route.node) {
            let (message, help) = unknown_node(&route.node, nodes);
            draft.setting_error(findings, field.key("node"), message, help);
        }
    }
}

/// What is wrong with the name of a node that is not there, and what is.
pub(super) fn unknown_node(name: &str, nodes: &[Arc<Node>]) -> (String, String) {
    let names = || nodes.iter().map(|node| node.name.as_str());
    let help = match suggest::closest(name, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if nodes.is_empty() => "add [[node]] with that name".to_owned(),
        None => format!("the nodes are {}", suggest::listed(names(), "and")),
    };
    (format!("there is no node `{name}`"), help)
}
