//! From a draft to a cluster in which every rule holds.
//!
//! What was written comes first, then what the state before had assigned, then what is assigned now:
//! so nothing that is new takes away what somebody asked for or already has.

mod balancers;
mod generations;
mod hosts;
mod links;
mod nodes;
mod owners;
mod pod_ranges;
mod pods;
mod prober;
mod proxied;
mod ranges;
mod references;
mod routes;
mod schedule;
mod services;
mod workloads;

pub(crate) use workloads::{MadePods, hash_of_template, index_of_pod, set_of};

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as PodObject;

use crate::cluster::{Cluster, Memory, Workload};
use crate::draft::{Draft, Entry};
use crate::error::{Findings, resolve};
use crate::kind::Kind;
use crate::object::Object;
use crate::path::{Field, Path};

/// Label that every namespace has, with its name.
///
/// Source: Kubernetes well-known label `kubernetes.io/metadata.name`.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Most machines of a lab: nodes, pods with a network of their own, and hosts outside.
///
/// Half of the ports there can be, so that all machines may be replaced at once.
const MACHINES_MAX: usize = 32_767;
/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Judges a draft; what `previous` had assigned is kept where the rules allow it.
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn validate(draft: &Draft, previous: Option<&Cluster>) -> Result<Cluster, Findings> {
    let mut findings = Findings(draft.findings.0.clone());
    for entry in draft.entries() {
        findings.0.extend(entry.findings.0.iter().cloned());
    }
    if draft.is_broken {
        // what seems to be missing may stand in what could not be read
        return Err(findings);
    }
    ranges::check(draft, &mut findings);
    references::check(draft, &mut findings);
    let namespaces = namespaces(draft, &mut findings);
    let mut owners = owners::Owners::default();
    let (mut planned, made_pods) = workloads::pods(draft, previous);
    let nodes = nodes::nodes(draft, &planned, previous, &mut owners, &mut findings);
    let mut externals = hosts::externals(draft, &mut owners, &mut findings);
    planned.extend(workloads::daemons(draft, &nodes));
    routes::check(draft, &nodes, &mut findings);
    let placed = pods::pods(draft, planned, &nodes, previous, &mut owners, &mut findings);
    let balancers = balancers::balancers(draft, previous, &mut owners, &mut findings);
    externals.extend(balancers.hosts);
    let services = services::services(draft, previous, &owners, &mut findings);
    let (mut proxies, hosts) = proxied::proxied(draft, &services.services, &mut owners);
    proxies.extend(balancers.proxies);
    externals.extend(hosts);
    let (prober, host) = prober::prober(draft, &services.services, &mut owners).unzip();
    externals.extend(host);
    without_effect(draft, &mut findings);
    let attached = placed.pods.iter().filter(|pod| !pod.host_network).count();
    enough_ports(nodes.len() + attached + externals.len(), draft, &mut findings);
    let machines = links::Machines { nodes: &nodes, pods: &placed.pods, externals: &externals };
    let links = links::links(draft, machines, previous, &mut findings);
    if findings.has_errors() {
        return Err(findings);
    }
    Ok(Cluster {
        settings: draft.settings.clone(),
        namespaces,
        nodes,
        pods: placed.pods,
        services: services.services,
        endpoint_slices: objects(draft, Kind::EndpointSlice, |object| match object {
            Object::EndpointSlice(object) => Some(object.clone()),
            _ => None,
        }),
        endpoints: objects(draft, Kind::Endpoints, |object| match object {
            Object::Endpoints(object) => Some(object.clone()),
            _ => None,
        }),
        network_policies: objects(draft, Kind::NetworkPolicy, |object| match object {
            Object::NetworkPolicy(object) => Some(object.clone()),
            _ => None,
        }),
        cluster_network_policies: objects(
            draft,
            Kind::ClusterNetworkPolicy,
            |object| match object {
                Object::ClusterNetworkPolicy(object) => Some(object.clone()),
                _ => None,
            },
        ),
        workloads: workloads(draft),
        ingress: balancers.ingress,
        gateway_api: balancers.gateway_api,
        proxies,
        prober,
        externals,
        links,
        pending: placed.pending.iter().map(|pod| pending(&pod.object)).collect(),
        warnings: resolve(findings.0),
        memory: Memory {
            pods: placed.wanted.into_iter().map(|pod| pod.object).collect(),
            services: services.wanted,
            made_pods,
        },
    })
}

/// The namespaces that are declared, those that every cluster has, and those that objects are in.
fn namespaces(
    draft: &Draft,
    findings: &mut Findings,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let named = |name: &str| BTreeMap::from([(NAMESPACE_NAME.to_owned(), name.to_owned())]);
    let mut namespaces: BTreeMap<String, BTreeMap<String, String>> =
        NAMESPACES.iter().map(|name| ((*name).to_owned(), named(name))).collect();
    for entry in draft.of(Kind::Namespace).values() {
        let name = entry.object.name();
        let mut labels = named(name);
        labels.extend(entry.object.metadata().labels.clone().unwrap_or_default());
        // it always is what it says
        labels.insert(NAMESPACE_NAME.to_owned(), name.to_owned());
        namespaces.insert(name.to_owned(), labels);
    }
    for entry in Kind::ALL
        .into_iter()
        .filter(|kind| kind.is_namespaced())
        .flat_map(|kind| draft.of(kind).values())
    {
        let namespace = entry.object.namespace();
        if !namespaces.contains_key(namespace) {
            let message = format!("the namespace `{namespace}` is not declared, it has no labels");
            let help = format!("add [[namespace]] with name = \"{namespace}\" to the lab file");
            let field: Field = Path::Root.key("metadata").key("namespace").into();
            findings.warning(field, message, help).of(entry.called(), &entry.origin);
            namespaces.insert(namespace.to_owned(), named(namespace));
        }
    }
    namespaces
}

/// Refuses a lab of more machines than can have ports.
fn enough_ports(machines: usize, draft: &Draft, findings: &mut Findings) {
    if machines > MACHINES_MAX {
        let message = format!("{machines} nodes, pods and external hosts are too many");
        let help = format!("a lab has {MACHINES_MAX} of them at most");
        findings.error(Field::of("lab"), message, help).origin.clone_from(&draft.lab);
    }
}

/// One line each for what is carried but not acted upon, and for what is not carried.
fn without_effect(draft: &Draft, findings: &mut Findings) {
    let policies = draft.of(Kind::NetworkPolicy).len() + draft.of(Kind::ClusterNetworkPolicy).len();
    if policies > 0 && !draft.settings.policy.enabled {
        let message = format!("{policies} policies are kept but not enforced");
        let finding = findings.warning(Field::of("policy").key("enabled"), message, "write true");
        finding.origin.clone_from(&draft.lab);
    }
    if !draft.not_carried.is_empty() {
        let kinds: Vec<_> =
            draft.not_carried.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let message = format!("these have no effect here: {}", kinds.join(", "));
        findings.warning(Field::default(), message, "");
    }
}

fn objects<T>(draft: &Draft, kind: Kind, of: impl Fn(&Object) -> Option<T>) -> Vec<T> {
    draft.of(kind).values().filter_map(|entry| of(&entry.object)).collect()
}

fn workloads(draft: &Draft) -> Vec<Workload> {
    let workload = |entry: &Arc<Entry>| match &entry.object {
        Object::Deployment(object) => Some(Workload::Deployment(object.clone())),
        Object::ReplicaSet(object) => Some(Workload::ReplicaSet(object.clone())),
        Object::StatefulSet(object) => Some(Workload::StatefulSet(object.clone())),
        Object::DaemonSet(object) => Some(Workload::DaemonSet(object.clone())),
        _ => None,
    };
    let kinds = [Kind::Deployment, Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet];
    kinds.into_iter().flat_map(|kind| draft.of(kind).values()).filter_map(workload).collect()
}

/// A pod that waits for a node.
fn pending(wanted: &Arc<PodObject>) -> Arc<PodObject> {
    let mut object = PodObject::clone(wanted);
    object.status.get_or_insert_default().phase = Some("Pending".to_owned());
    Arc::new(object)
}
