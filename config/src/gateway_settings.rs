//! `[load-balancers]` of lab.toml.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// `[load-balancers]`: whose Ingresses and Gateways are served, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// `gateway-classes`: names of GatewayClasses that are served without an object of that name.
    pub gateway_classes: Vec<String>,
    /// `ingress-classes`: names of IngressClasses that are served without an object of that name.
    pub ingress_classes: Vec<String>,
    /// `ingress-address`: an address that all Ingresses share; `None`: each has its own.
    pub ingress_address: Option<IpAddr>,
    /// `addresses`: names of addresses, by which annotations and Gateways ask for them.
    pub addresses: BTreeMap<String, IpAddr>,
    /// `proxy-only-subnet`: from where internal HTTP load balancers reach backends.
    ///
    /// Source: Google Cloud, "Proxy-only subnets for Envoy-based load balancers".
    pub proxy_subnet: IpNet,
    /// `health-checks`: whether nodes are asked how they are; if not, they count as what they would
    /// answer.
    pub health_checks: bool,
    /// `node-check`: how they are asked.
    pub node_check: NodeCheckSettings,
    /// `connection-draining`: how long connections go on through a node that has left the group of
    /// a network load balancer.
    ///
    /// Source: Google Cloud, "Connection draining"; GKE sets 30 s.
    pub draining: Duration,
    /// `subsetting`: whether internal network load balancers have some of the nodes only.
    ///
    /// Source: GKE, `--enable-l4-ilb-subsetting`.
    pub subsetting: bool,
}

/// `node-check` of `[load-balancers]`: how network load balancers check nodes, where not as GKE's
/// do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCheckSettings {
    /// `interval`: from one check to the next.
    pub interval: Option<Duration>,
    /// `timeout`: how long an answer may take.
    pub timeout: Option<Duration>,
    /// `healthy`: good answers in a row after which a node is healthy.
    pub healthy: Option<u32>,
    /// `unhealthy`: bad ones after which it is not.
    pub unhealthy: Option<u32>,
}

impl GatewaySettings {
    /// Who answers for classes: the `controllerName` of a GatewayClass.
    pub const GATEWAY_CONTROLLER: &str = "kswitch.dev/gateway-controller";
    /// Who answers for classes: the `controller` of an IngressClass.
    pub const INGRESS_CONTROLLER: &str = "kswitch.dev/ingress-controller";
}

impl Default for GatewaySettings {
    /// Its own name, and those of GKE.
    ///
    /// Source: GKE, "GatewayClass capabilities" and "About Ingress", `kubernetes.io/ingress.class`.
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            gateway_classes: owned(&[
                "kswitch",
                "gke-l7-global-external-managed",
                "gke-l7-regional-external-managed",
                "gke-l7-gxlb",
                "gke-l7-rilb",
            ]),
            ingress_classes: owned(&["kswitch", "gce", "gce-internal"]),
            ingress_address: None,
            addresses: BTreeMap::new(),
            proxy_subnet: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 129, 0, 0), 23)),
            health_checks: true,
            node_check: NodeCheckSettings::default(),
            draining: Duration::from_secs(30),
            subsetting: false,
        }
    }
}
