//! What load balancers outside the nodes do with requests: one model for Ingress and Gateway API.
//!
//! [`route`] reads the objects of a [`Cluster`] and makes of them sockets, each with listeners, each
//! with rules in the order in which they are tried (`model`), beside what is to be told of every
//! object in its status. Whoever carries requests asks [`RouteTable::find`] for the rule of one, and
//! does as it says. Nothing here runs.

mod attach;
mod backend_tls;
mod backends;
mod caching;
mod certificate;
mod condition;
mod features;
mod filters;
mod front;
mod gateway;
mod gateway_status;
mod gateway_tls;
mod host;
mod ingress;
mod language;
mod layer4;
mod listener;
mod listener_set;
mod matching;
mod model;
mod objects;
mod path;
mod policies;
mod redirect;
mod rules;
mod security;
mod service;
mod table;
mod template;
mod time;
mod tls;

use crate::{Cluster, Observed};

pub use caching::{CacheMode, Caching, QueryKey};
pub use certificate::certificate;
pub use certificate::{Issued, Refused as CertificateRefused};
pub(crate) use front::FRONTEND as FRONTEND_CONFIG;
pub(crate) use gateway::is_served as is_gateway_served;
pub use host::{HostPattern, host_of};
pub(crate) use ingress::{
    addresses as ingress_addresses, is_served as is_ingress_served, managed_names,
};
pub(crate) use language::Condition as SecurityCondition;
pub use language::Visit;
pub(crate) use listener::addresses as gateway_addresses;
pub(crate) use matching::expression;
pub use matching::{Call, Headers, Match, PathMatch, Request, ValueMatch};
pub use model::{
    ALL_NOTED, Backend, BackendKey, BackendPart, BackendPolicy, BackendProtocol, Cors, Filters,
    HeaderEdit, HealthCheckSpec, Listener, Mirror, Origin, Persistence, PersistenceKind, Place,
    Routing, Rule, Serve, Socket, SocketKind, Target, TargetBackend, Timeouts,
};
pub(crate) use objects::read as read_objects;
pub use objects::{GatewayObjects, IngressObjects, PolicyObjects};
pub use path::PathChange;
pub(crate) use policies::CONFIGS as BACKEND_CONFIGS;
pub use redirect::{Redirect, Seen};
pub use security::{
    Ban, Clients, Judgement, LimitKey, RateLimit, SecurityAction, SecurityPolicy, SecurityRule,
    Threshold,
};
pub use table::{Found, RouteTable};
pub use template::HeaderTemplate;
pub(crate) use time::timeout;
pub use tls::{BackendTls, TlsTerms};

/// What the load balancers of a cluster do.
pub fn route(cluster: &Cluster, observed: &Observed) -> Routing {
    let mut backends = backends::Backends::new(cluster, observed);
    let mut routing = gateway::route(cluster, &mut backends);
    ingress::route(cluster, &mut backends, &mut routing);
    service::route(cluster, &mut backends, &mut routing);
    routing.backends = backends.all();
    backend_tls::status(&cluster.ingress.policies, &mut routing);
    routing
}

#[cfg(test)]
mod tests;
