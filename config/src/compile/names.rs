//! What people call the numbers of a snapshot.

use std::fmt;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use kswitch_tables::{PortId, Protocol, RouterId};

use super::Map;
use super::plan::PortKind;
use super::policy::PolicyNames;
use super::service::Part;
use crate::{Cluster, Pod};

/// Names of ports, routers and frontends of one generation.
#[derive(Clone, Debug)]
pub struct Names {
    pub(super) ports: Arc<Map<PortId, PortKind>>,
    pub(super) routers: Arc<Vec<Option<String>>>,
    pub(super) cluster: Arc<Cluster>,
    /// The parts of the cluster's Services, in their order.
    pub(super) parts: Arc<[Arc<Part>]>,
    pub(super) host_ports: Arc<Map<u32, FrontendName>>,
    pub(super) policies: Arc<PolicyNames>,
    /// Services and their ports by label, once somebody asks.
    pub(super) by_label: OnceLock<Map<u32, (usize, usize)>>,
}

impl Names {
    /// What is attached to a port.
    pub fn port(&self, id: PortId) -> Option<&PortKind> {
        self.ports.get(&id)
    }

    /// A router: `edge`, or the name of its node.
    pub fn router(&self, id: RouterId) -> Option<&str> {
        self.routers.get(usize::from(id.0))?.as_deref()
    }

    /// The router of a node.
    pub fn router_of(&self, node: &str) -> Option<RouterId> {
        // the edge comes first, whatever a node is called
        let at = self.routers.iter().skip(1).position(|name| name.as_deref() == Some(node))?;
        u16::try_from(at + 1).ok().map(RouterId)
    }

    /// The policies of this generation.
    pub fn policies(&self) -> &Arc<PolicyNames> {
        &self.policies
    }

    /// The frontend with this [`label`](kswitch_tables::Frontend::label).
    pub fn frontend(&self, label: u32) -> Option<FrontendName> {
        let index = || {
            let parts = self.parts.iter().enumerate();
            let ports = parts.flat_map(|(service, part)| {
                let ports = part.ports.iter().enumerate();
                ports.map(move |(port, of_port)| (of_port.label, (service, port)))
            });
            ports.collect()
        };
        if let Some(name) = self.host_ports.get(&label) {
            return Some(name.clone());
        }
        let (service, port) = *self.by_label.get_or_init(index).get(&label)?;
        let service = Arc::clone(self.cluster.services.get(service)?);
        Some(FrontendName::Service { service, port })
    }
}

/// What a frontend serves.
#[derive(Clone, Debug)]
pub enum FrontendName {
    /// A port of a Service.
    Service {
        /// The Service.
        service: Arc<Service>,
        /// Index in `ServiceSpec.ports`.
        port: usize,
    },
    /// A host port.
    HostPort {
        /// Whose it is.
        pod: Arc<Pod>,
        /// The port on the node, host order.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
}

impl FrontendName {
    /// The port of the Service, if it is one's.
    pub fn service_port(&self) -> Option<&ServicePort> {
        match self {
            Self::Service { service, port } => service.spec.as_ref()?.ports.as_ref()?.get(*port),
            Self::HostPort { .. } => None,
        }
    }
}

/// `service shop/front:http`, `host port 4444 of shop/front-0`.
impl fmt::Display for FrontendName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service, .. } => {
                let (namespace, name) = crate::endpoints::key(service);
                write!(formatter, "service {namespace}/{name}")?;
                let Some(port) = self.service_port() else { return Ok(()) };
                match port.name.as_deref().filter(|name| !name.is_empty()) {
                    Some(name) => write!(formatter, ":{name}"),
                    None => write!(formatter, ":{}", port.port),
                }
            }
            Self::HostPort { pod, port, protocol } => {
                write!(formatter, "host port {port}/{protocol} of {}/{}", pod.namespace, pod.name)
            }
        }
    }
}
