//! `[load-balancers]` of lab.toml.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
        }
    }
}
