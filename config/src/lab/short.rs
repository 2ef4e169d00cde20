//! Short forms of lab.toml: nodes, namespaces and hosts outside without the ceremony of Kubernetes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{
    Namespace, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::fields::Fields;
use crate::check;
use crate::cluster::{HostNetwork, Node as ClusterNode, ZONE_LABEL};
use crate::draft::{Entry, Host};
use crate::error::{Findings, Origin};
use crate::interface::{self, Interface};
use crate::kind::Kind;
use crate::object::{Object, called};
use crate::path::{Field, Step};
use crate::suggest;
use crate::syntax::{self, Refused};
use crate::tree::{Tree, Value};

/// Whether an object is written in short form: its name stands outside `metadata`.
pub(super) fn is_short(kind: Kind, tree: &Tree<'_>) -> bool {
    matches!(kind, Kind::Node | Kind::Namespace)
        && tree.get("metadata").is_none()
        && tree.get("kind").is_none()
}

/// An object in short form.
pub(super) fn object(
    kind: Kind,
    tree: &Tree<'_>,
    origin: &Origin,
    findings: &mut Findings,
) -> Option<Entry> {
    let mut own = Findings::default();
    let mut fields = Fields::new(tree, origin, &mut own);
    let Some(name) = name(&mut fields) else {
        findings.0.extend(own.0);
        return None;
    };
    let object = match kind {
        Kind::Namespace => {
            let metadata = ObjectMeta { labels: labels(&mut fields), ..ObjectMeta::default() };
            Object::Namespace(Arc::new(Namespace {
                metadata: ObjectMeta { name: Some(name.clone()), ..metadata },
                ..Namespace::default()
            }))
        }
        _ => Object::Node(Arc::new(node(&mut fields, name.clone()))),
    };
    fields.finish();
    check::object(&object, &mut own);
    own.about(&called(kind, "", &name), origin);
    Some(Entry { object, origin: origin.clone(), findings: own })
}

fn name(fields: &mut Fields<'_, '_>) -> Option<String> {
    if !fields.has("name") {
        fields.error(Field::default(), "the name is missing", "write name = \"…\"");
    }
    fields.text("name").map(str::to_owned)
}

fn labels(fields: &mut Fields<'_, '_>) -> Option<BTreeMap<String, String>> {
    let (tree, origin) = fields.table("labels")?;
    let Value::Table(members) = &tree.value else {
        fields.error(Field::of("labels"), "expected a table", "write { key = \"value\" }");
        return None;
    };
    let mut labels = BTreeMap::new();
    for member in members {
        let mut fields = fields.below(tree, &origin);
        let value = fields.text_at(&member.key, &member.tree);
        labels.extend(value.map(|value| (member.key.to_string(), value.to_owned())));
    }
    Some(labels)
}

fn node(fields: &mut Fields<'_, '_>, name: String) -> Node {
    let mut labels = labels(fields).unwrap_or_default();
    if let Some(zone) = fields.text("zone") {
        labels.insert(ZONE_LABEL.to_owned(), zone.to_owned());
    }
    let addresses = fields.addresses("addresses").unwrap_or_default();
    let pod_ranges = fields.cidrs("pod-ranges").unwrap_or_default();
    let pod_ranges: Vec<_> = pod_ranges.iter().map(ToString::to_string).collect();
    let taints = fields.all_parsed("taints", taint);
    let taints = taints.map(|taints| taints.into_iter().map(|(_, taint)| taint).collect());
    let address = |address: IpAddr| NodeAddress {
        address: address.to_string(),
        type_: "InternalIP".to_owned(),
    };
    let ready = fields.bool("ready").map(|ready| {
        let status = if ready { "True" } else { "False" }.to_owned();
        vec![NodeCondition { type_: "Ready".to_owned(), status, ..NodeCondition::default() }]
    });
    let lag = fields.text("endpoint-lag").map(|lag| {
        BTreeMap::from([(ClusterNode::ENDPOINT_LAG_ANNOTATION.to_owned(), lag.to_owned())])
    });
    let metadata = ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
    Node {
        metadata: ObjectMeta { annotations: lag, ..metadata },
        spec: Some(NodeSpec {
            pod_cidr: pod_ranges.first().cloned(),
            pod_cidrs: Some(pod_ranges).filter(|ranges| !ranges.is_empty()),
            taints,
            unschedulable: fields.bool("unschedulable"),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            addresses: Some(addresses.into_iter().map(address).collect()),
            conditions: ready,
            ..NodeStatus::default()
        }),
    }
}

/// Source: `Node.spec.taints[].effect`.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `key=value:NoSchedule`, as `kubectl taint` writes it.
fn taint(text: &str) -> Result<Taint, Refused> {
    let refused = || Refused {
        message: format!("{text:?} is not a taint"),
        help: "write it as in \"key=value:NoSchedule\" or \"key:NoExecute\"".into(),
    };
    let (word, effect) = text.rsplit_once(':').ok_or_else(refused)?;
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (word, None),
    };
    if key.is_empty() {
        return Err(refused());
    }
    if !EFFECTS.contains(&effect) {
        return Err(Refused {
            message: format!("{effect:?} is not known here"),
            help: format!("write {}", suggest::listed(EFFECTS, "or")),
        });
    }
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// A `[[external]]`.
pub(super) fn host(tree: &Tree<'_>, origin: &Origin, findings: &mut Findings) -> Option<Host> {
    let mut own = Findings::default();
    let mut fields = Fields::new(tree, origin, &mut own);
    let Some(name) = name(&mut fields) else {
        findings.0.extend(own.0);
        return None;
    };
    let mut addresses = fields.all_parsed("address", link_address).unwrap_or_default();
    addresses.extend(fields.all_parsed("addresses", link_address).unwrap_or_default());
    if !(fields.has("address") || fields.has("addresses")) {
        let help = "write address = \"198.51.100.7/24\"";
        fields.error(Field::default(), "a host outside needs an address", help);
    }
    let mut gateways = fields.all_parsed("gateway", syntax::address).unwrap_or_default();
    gateways.extend(fields.all_parsed("gateways", syntax::address).unwrap_or_default());
    let routes = fields.all_parsed("routes", syntax::cidr).unwrap_or_default();
    let mtu = fields.number("mtu", 576..=65_521);
    let interface = port(&mut fields);
    let network = network(&mut fields);
    if network.is_vpc() {
        // machines of the network are alone on their links
        for (_, at) in &mut addresses {
            *at = IpNet::from(at.addr());
        }
    }
    fields.finish();
    own.about(&format!("external {name}"), origin);
    findings.0.extend(own.0);
    let origin = Some(origin.clone());
    Some(Host { name, addresses, gateways, routes, mtu, interface, network, origin })
}

/// `network = "vpc"`, and `region = "europe-west1"` with it.
fn network(fields: &mut Fields<'_, '_>) -> HostNetwork {
    let is_vpc = fields.choice("network", &[("internet", false), ("vpc", true)]) == Some(true);
    let region = fields.text("region").map(str::to_owned);
    if is_vpc {
        return HostNetwork::Vpc { region };
    }
    if region.is_some() {
        let help = "write network = \"vpc\", or leave the region out";
        fields.error(Field::of("region"), "only hosts of the nodes' network have a region", help);
    }
    HostNetwork::Internet
}

/// `port = { kind = "packet", interface = "eth1" }`.
fn port(fields: &mut Fields<'_, '_>) -> Option<Interface> {
    let (tree, origin) = fields.table("port")?;
    let mut fields = fields.below(tree, &origin);
    let kind = fields.choice("kind", &interface::KINDS);
    let name = fields.parsed("interface", interface::interface_name);
    let mac = fields.parsed("mac", interface::mac);
    if !(fields.has("kind") && fields.has("interface")) {
        let help = "write { kind = \"packet\", interface = \"eth1\" }";
        fields.error(Field::default(), "a port needs `kind` and `interface`", help);
    }
    fields.finish();
    Some(Interface { kind: kind?, name: name?, mac })
}

/// An address with the prefix of its link: `198.51.100.7/24`.
fn link_address(text: &str) -> Result<IpNet, Refused> {
    match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(interface), _) => Ok(interface),
        (_, Ok(address)) => {
            let length = if address.is_ipv4() { 24 } else { 64 };
            Err(Refused {
                message: format!("{text:?} lacks the prefix of its link"),
                help: format!("write {address}/{length}, or {address}/{} for a host alone", {
                    if address.is_ipv4() { 32 } else { 128 }
                }),
            })
        }
        _ => Err(Refused {
            message: format!("{text:?} is not an address with a prefix"),
            help: "write it as in \"198.51.100.7/24\"".into(),
        }),
    }
}

/// How a field of a Kubernetes object is written in its short form.
pub(crate) fn short_field(field: &Field) -> Field {
    let key = |step: Option<&Step>| match step {
        Some(Step::Key(key)) => key.clone(),
        _ => String::new(),
    };
    let mut steps = field.0.iter();
    let (first, second) = (key(steps.next()), key(steps.next()));
    let mut rest: Vec<Step> = steps.cloned().collect();
    let name = match (first.as_str(), second.as_str()) {
        ("metadata", "labels") if rest == [Step::Key(ZONE_LABEL.to_owned())] => {
            return Field::of("zone");
        }
        ("metadata", "name") => "name",
        ("metadata", "annotations") => return Field::of("endpoint-lag"),
        ("metadata", "labels") => "labels",
        ("spec", "podCIDR") => return Field::of("pod-ranges").index(0),
        ("spec", "podCIDRs") => "pod-ranges",
        ("spec", "taints") => "taints",
        ("spec", "unschedulable") => "unschedulable",
        ("status", "addresses") => {
            rest.truncate(1);
            "addresses"
        }
        _ => return field.clone(),
    };
    if name == "taints" {
        rest.truncate(1);
    }
    Field([Step::Key(name.to_owned())].into_iter().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_by_the_names_they_were_written_by() {
        let short = |field: Field| short_field(&field).to_string();
        let of = |first: &str, second: &str| Field::of(first).key(second);
        assert_eq!(short(of("metadata", "name")), "name");
        assert_eq!(short(of("metadata", "labels").key(ZONE_LABEL)), "zone");
        assert_eq!(short(of("metadata", "labels").key("a")), "labels.a");
        assert_eq!(short(of("status", "addresses").index(1).key("address")), "addresses[1]");
        assert_eq!(short(of("spec", "podCIDRs").index(1)), "pod-ranges[1]");
        assert_eq!(short(of("spec", "taints").index(0).key("effect")), "taints[0]");
        assert_eq!(short(Field::of("other")), "other");
    }

    #[test]
    fn taints_are_written_as_kubectl_writes_them() {
        let taint = |text| taint(text).map(|at| (at.key, at.value.unwrap_or_default(), at.effect));
        let parts =
            |key: &str, value: &str, effect: &str| (key.into(), value.into(), effect.into());
        assert_eq!(taint("a=b:NoSchedule"), Ok(parts("a", "b", "NoSchedule")));
        assert_eq!(taint("a:NoExecute"), Ok(parts("a", "", "NoExecute")));
        assert!(taint("a").is_err() && taint(":x").is_err());
    }
}
