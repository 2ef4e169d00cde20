//! The meaning of a lab: from lab.toml and Kubernetes objects to a [`Cluster`].
//!
//! Text becomes a tree in which every value knows where it was written, the tree becomes typed
//! Kubernetes objects in a [`Draft`], and a draft is validated whole into a [`Cluster`]: either every
//! rule holds, or all that is wrong is reported at once and nothing changes.
#![forbid(unsafe_code)]

mod addons;
mod allocate;
mod check;
mod cluster;
mod cluster_policy;
mod compile;
mod dns;
mod dns_settings;
mod draft;
mod endpoints;
mod error;
mod explain;
pub mod gateway_api;
mod gateway_settings;
pub mod gke;
mod identity;
mod ingress;
mod interface;
mod kept;
mod kind;
mod lab;
mod labels;
pub mod link;
mod manifest;
mod network_balancer;
mod node_controller;
mod object;
mod observed;
mod path;
mod policy_settings;
mod program;
mod resource;
pub mod routing;
mod security_context;
mod settings;
mod source;
mod suggest;
mod syntax;
mod tree;
mod truth_table;
mod validate;

pub use cluster::{
    Cluster, External, HostNetwork, Labels, Node, Pod, Prober, Proxy, REGION_LABEL, Taint,
    Workload, ZONE_LABEL,
};
pub use cluster_policy::ClusterNetworkPolicy;
pub use dns::{
    Answer, Data, Existence, Labels as NameLabels, Name, NameServer, Question, Record, TTL, Type,
    Zones, name_servers,
};
pub use dns_settings::{DnsSettings, EmptyServices, PodRecords, ReverseEndpoints};
pub use draft::{Applied, Availability, Change, Draft, Ending, ObjectName, Outcome, Progress};
pub use endpoints::endpoint_slices;
pub use error::{Errors, Look, Place, Problem, Severity, render};
pub use explain::{Explanation, Miss, NearMiss, RuleName, explain, rule_name};
pub use gateway_settings::{GatewaySettings, NodeCheckSettings};
pub use interface::{Interface, InterfaceKind};
pub use kept::Kept;
pub use kind::Kind;
pub use labels::matches;
pub use network_balancer::{
    BalancedNode, NetworkBalancer, NodeCheck, NodeHealth, PROXY_HEALTH_PORT, Scheme, ingress_of,
    is_vip, stickiness_name,
};
pub use node_controller::NodeController;
pub use observed::{EntryPolicy, Neighbour, Neighbours, Observed};
pub use policy_settings::PolicySettings;
pub use program::{Action, Hook, PodProgram, Probe, Program, Restart, Role};
pub use security_context::{CAPABILITIES, SecurityContext};
pub use settings::{
    Addressing, ClusterSettings, FrameIo, LabSettings, Masquerade, Mode, NodePorts, PodLink,
    RangeSizes, Settings, Silence, StaticRoute, SwitchSettings, Timeouts,
};
pub use source::{Source, Span};
pub use truth_table::{Cell, Difference, ExpectedTable, TruthTable};

pub use compile::{
    Balancing, Compiled, Compiler, FrontendName, HealthCheck, Names, Plan, PlannedGateway,
    PlannedPort, PolicyNames, PolicyObject, PortKind, balancing, compile,
};

use std::path::Path;

/// Reads and validates a lab file and its manifests.
///
/// # Errors
/// Everything that is wrong, with its place.
pub fn load(path: &Path) -> Result<Cluster, Errors> {
    Draft::read(path).validate(None)
}

/// Reads and validates the text of a lab file whose manifests are looked for in `directory`.
///
/// # Errors
/// Everything that is wrong, with its place.
pub fn load_text(name: &str, text: &str, directory: &Path) -> Result<Cluster, Errors> {
    Draft::read_text(name, text, directory).validate(None)
}
