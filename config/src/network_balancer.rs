//! Network load balancers: what stands between an address for the outside and the nodes, and passes
//! packets on as they are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use kswitch_tables::Stickiness;

use crate::cluster::Node;
use crate::gateway_settings::GatewaySettings;
use crate::settings::Settings;

/// The port at which a node answers for its service proxy, host order.
///
/// Source: kube-proxy `--healthz-bind-address`.
pub const PROXY_HEALTH_PORT: u16 = 10_256;

/// Annotations by which a Service asks for a load balancer that its own network alone reaches.
///
/// Source: GKE, "Internal LoadBalancer Services"; the second is the older spelling.
const TYPES: [&str; 2] =
    ["networking.gke.io/load-balancer-type", "cloud.google.com/load-balancer-type"];
/// Source: GKE, "LoadBalancer Service parameters": clients of other regions.
const GLOBAL_ACCESS: &str = "networking.gke.io/internal-load-balancer-allow-global-access";
/// Source: GKE, "Backend service-based external passthrough Network Load Balancer".
const BACKEND_SERVICE: &str = "cloud.google.com/l4-rbs";
/// Source: GKE, "Weighted load balancing".
const WEIGHTED: &str = "networking.gke.io/weighted-load-balancing";
/// Names of reserved addresses, with commas between them.
///
/// Source: GKE, "LoadBalancer Service parameters".
pub(crate) const ADDRESSES: &str = "networking.gke.io/load-balancer-ip-addresses";
/// Says whether nodes may take over what is sent to the load balancer's addresses: `VIP` or `Proxy`.
///
/// Source: KEP-1860; `LoadBalancerIngress.ipMode`, which a cloud's controller sets.
pub(crate) const IP_MODE: &str = "kswitch.dev/load-balancer-ip-mode";
/// What both may be.
pub(crate) const IP_MODES: [&str; 2] = ["VIP", PROXY];
const PROXY: &str = "Proxy";
/// Classes that are served as if none were written.
///
/// Source: GKE, "LoadBalancer Service concepts", `spec.loadBalancerClass`.
const CLASSES: [&str; 3] = [
    "networking.gke.io/l4-regional-external",
    "networking.gke.io/l4-regional-external-legacy",
    INTERNAL_CLASS,
];
const INTERNAL_CLASS: &str = "networking.gke.io/l4-regional-internal";
/// Nodes with this label are in no load balancer's group.
///
/// Source: Kubernetes, well-known labels.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// Who reaches it, and by which means it reaches nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Everyone; nodes are in a target pool.
    #[default]
    TargetPool,
    /// Everyone; nodes are behind a backend service.
    External,
    /// Those of the nodes' own network.
    Internal {
        /// Whether those of other regions are among them.
        is_global: bool,
    },
}

/// How nodes are checked, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCheck {
    /// The port, host order.
    pub port: u16,
    /// The path that must answer 200.
    pub path: &'static str,
    /// From one check to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Good answers in a row after which a node is healthy.
    pub healthy: u32,
    /// Bad ones after which it is not.
    pub unhealthy: u32,
}

/// A node of a load balancer's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancedNode {
    /// Its name.
    pub name: String,
    /// Its addresses, preferred first.
    pub addresses: Vec<IpAddr>,
    /// Its share of new flows against those beside it.
    pub weight: u32,
    /// Whether it is healthy.
    pub is_healthy: bool,
}

/// The load balancer of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkBalancer {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Where it is reached.
    pub addresses: Vec<IpAddr>,
    /// Protocols and ports that it passes on, host order.
    pub ports: Vec<(String, u16)>,
    /// Who reaches it.
    pub scheme: Scheme,
    /// Whether nodes keep what they are handed to themselves.
    pub is_local: bool,
    /// What of a flow chooses its node.
    pub stickiness: Stickiness,
    /// Sources that nodes admit; none: all.
    pub source_ranges: Vec<String>,
    /// How nodes are checked.
    pub check: NodeCheck,
    /// The group.
    pub nodes: Vec<BalancedNode>,
}

impl NetworkBalancer {
    /// Whether new flows go to all nodes, since none is healthy.
    pub fn is_desperate(&self) -> bool {
        self.nodes.iter().all(|node| !node.is_healthy)
    }
}

fn annotation<'s>(service: &'s Service, key: &str) -> Option<&'s str> {
    Some(service.metadata.annotations.as_ref()?.get(key)?.as_str())
}

fn class(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.load_balancer_class.as_deref()
}

/// Whether the load balancer of a Service is ours to make: by its class.
pub(crate) fn is_class_served(service: &Service) -> bool {
    class(service).is_none_or(|class| CLASSES.contains(&class))
}

impl Scheme {
    /// That of a Service's load balancer.
    pub(crate) fn of(service: &Service) -> Self {
        let is_internal = match class(service) {
            Some(class) => class == INTERNAL_CLASS,
            None => {
                let word = TYPES.iter().find_map(|key| annotation(service, key));
                word.is_some_and(|word| word.eq_ignore_ascii_case("internal"))
            }
        };
        let is_on = |key| annotation(service, key);
        if is_internal {
            let is_global = is_on(GLOBAL_ACCESS).is_some_and(|word| word == "true");
            Self::Internal { is_global }
        } else if is_on(BACKEND_SERVICE).is_some_and(|word| word == "enabled")
            || class(service) == CLASSES.first().copied()
        {
            Self::External
        } else {
            Self::TargetPool
        }
    }

    /// Whether only the nodes' own network reaches it.
    pub const fn is_internal(self) -> bool {
        matches!(self, Self::Internal { .. })
    }

    /// How many nodes a group has at most; `None`: all.
    ///
    /// Source: GKE, "Node grouping" of LoadBalancer Services: `GCE_VM_IP` NEGs have 25 nodes for
    /// internal load balancers with `externalTrafficPolicy: Cluster`, 250 otherwise.
    pub(crate) const fn group_size(self, is_local: bool, is_subsetting: bool) -> Option<usize> {
        match self {
            Self::TargetPool => None,
            Self::Internal { .. } if !is_subsetting => None,
            Self::Internal { .. } if !is_local => Some(25),
            Self::Internal { .. } | Self::External => Some(250),
        }
    }

    /// What the group of nodes is, as the cloud has it.
    pub const fn group(self, is_subsetting: bool) -> &'static str {
        match self {
            Self::TargetPool => "TARGET_POOL",
            Self::Internal { .. } if !is_subsetting => "INSTANCE_GROUP",
            Self::Internal { .. } | Self::External => "GCE_VM_IP_NEG",
        }
    }
}

/// What the status of a Service says of the addresses of its load balancer.
pub fn ingress_of(service: &Service) -> impl Iterator<Item = &LoadBalancerIngress> {
    let status = service.status.iter().flat_map(|status| &status.load_balancer);
    status.flat_map(|balancer| balancer.ingress.iter().flatten())
}

/// Whether nodes may take over what is sent to an address: packets for any other have to go out to
/// the load balancer first.
///
/// Source: `LoadBalancerIngress.ipMode`.
pub fn is_vip(mode: Option<&str>) -> bool {
    matches!(mode, None | Some("VIP"))
}

/// The mode of addresses that a Service is given.
pub(crate) fn ip_mode(service: &Service) -> &str {
    annotation(service, IP_MODE).filter(|mode| IP_MODES.contains(mode)).unwrap_or("VIP")
}

/// The addresses of a Service at which a proxy of ours ends connections: of those with this mode, the
/// ones that it was given, and those of the lab's own ranges. Others are somebody else's.
pub(crate) fn proxied(service: &Service, settings: &Settings) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let is_balanced = spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    if !is_balanced || !is_class_served(service) {
        return Vec::new();
    }
    let is_asked = ip_mode(service) == PROXY;
    let pools = &settings.cluster.load_balancer_pools;
    let named = &settings.gateway.addresses;
    let is_ours = |address: &IpAddr| {
        is_asked
            || pools.iter().any(|range| range.contains(address))
            || named.values().any(|at| at == address)
    };
    let proxies = ingress_of(service).filter(|at| at.ip_mode.as_deref() == Some(PROXY));
    proxies.filter_map(|at| at.ip.as_deref()?.parse().ok()).filter(is_ours).collect()
}

/// Names of addresses that a Service asks for.
pub(crate) fn wanted_addresses(service: &Service) -> impl Iterator<Item = &str> {
    let names = annotation(service, ADDRESSES).into_iter().flat_map(|names| names.split(','));
    names.map(str::trim).filter(|name| !name.is_empty())
}

/// Whether nodes get flows by the number of their endpoints.
pub(crate) fn is_weighted(service: &Service) -> bool {
    annotation(service, WEIGHTED) == Some("pods-per-node")
}

/// What of a flow chooses its node: `ServiceSpec.sessionAffinity` counts for it too.
///
/// Source: GKE, "LoadBalancer Service parameters": `CLIENT_IP`.
pub(crate) fn stickiness(service: &Service) -> Stickiness {
    let affinity = service.spec.as_ref().and_then(|spec| spec.session_affinity.as_deref());
    match affinity {
        Some("ClientIP") => match annotation(service, SESSION_AFFINITY) {
            Some("CLIENT_IP_PROTO") => Stickiness::ClientAndProtocol,
            _ => Stickiness::Client,
        },
        _ => Stickiness::Flow,
    }
}

/// Narrows the affinity of a load balancer to a protocol: `CLIENT_IP_PROTO`.
const SESSION_AFFINITY: &str = "kswitch.dev/load-balancer-affinity";

/// What the cloud calls it.
pub const fn stickiness_name(stickiness: Stickiness) -> &'static str {
    match stickiness {
        Stickiness::Flow => "NONE",
        Stickiness::ClientAndProtocol => "CLIENT_IP_PROTO",
        Stickiness::Client => "CLIENT_IP",
    }
}

/// Whether a node may be in a group at all.
pub(crate) fn may_be_balanced(node: &Node) -> bool {
    node.labels().get(EXCLUDED).is_none()
}

/// How the nodes of a Service are checked: at its own port under a Local policy, else at that of
/// the service proxy, which all Services share.
///
/// Source: ingress-gce `pkg/healthchecksl4`: 8 s, 1 s, 1 and 3 where shared; 3 s and 2 where not.
pub(crate) fn check(own: Option<u16>, settings: &GatewaySettings) -> NodeCheck {
    let default = match own {
        Some(port) => NodeCheck {
            port,
            path: "/",
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            healthy: 1,
            unhealthy: 2,
        },
        None => NodeCheck {
            port: PROXY_HEALTH_PORT,
            path: "/healthz",
            interval: Duration::from_secs(8),
            timeout: Duration::from_secs(1),
            healthy: 1,
            unhealthy: 3,
        },
    };
    let written = &settings.node_check;
    NodeCheck {
        interval: written.interval.unwrap_or(default.interval),
        timeout: written.timeout.unwrap_or(default.timeout),
        healthy: written.healthy.unwrap_or(default.healthy),
        unhealthy: written.unhealthy.unwrap_or(default.unhealthy),
        ..default
    }
}

/// Health of nodes as checks have shown it: by port that was asked and name of the node.
pub type NodeHealth = BTreeMap<(u16, String), bool>;
