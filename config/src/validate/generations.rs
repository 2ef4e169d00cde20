//! How often what an object wants has changed, as an API server counts it.
//!
//! Source: Kubernetes API conventions, `metadata.generation`; Gateway API: conditions say which
//! generation they are about.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Cluster;
use crate::routing::{GatewayObjects, IngressObjects};

/// Counts on from what there was before; what says its generation itself keeps it.
pub(super) fn settle(
    gateway: &mut GatewayObjects,
    ingress: &mut IngressObjects,
    previous: Option<&Cluster>,
) {
    macro_rules! count {
        ($now:expr, $before:expr) => {
            for object in $now.iter_mut().filter(|object| object.metadata.generation.is_none()) {
                let before = $before.and_then(|all| find(all, &object.metadata));
                let generation = before.map_or(1, |before| {
                    let generation = before.metadata.generation.unwrap_or(0);
                    generation + i64::from(before.spec != object.spec)
                });
                Arc::make_mut(object).metadata.generation = Some(generation);
            }
        };
    }
    let before = previous.map(|cluster| &cluster.gateway_api);
    count!(gateway.classes, before.map(|all| &all.classes[..]));
    count!(gateway.gateways, before.map(|all| &all.gateways[..]));
    count!(gateway.listener_sets, before.map(|all| &all.listener_sets[..]));
    count!(gateway.http_routes, before.map(|all| &all.http_routes[..]));
    count!(gateway.grpc_routes, before.map(|all| &all.grpc_routes[..]));
    count!(gateway.tls_routes, before.map(|all| &all.tls_routes[..]));
    count!(gateway.tcp_routes, before.map(|all| &all.tcp_routes[..]));
    count!(gateway.udp_routes, before.map(|all| &all.udp_routes[..]));
    let before = previous.map(|cluster| &cluster.ingress.policies);
    count!(ingress.policies.backend_tls, before.map(|all| &all.backend_tls[..]));
}

fn find<'o, T: Metadata<Ty = ObjectMeta>>(all: &'o [Arc<T>], like: &ObjectMeta) -> Option<&'o T> {
    let is_it =
        |metadata: &ObjectMeta| metadata.name == like.name && metadata.namespace == like.namespace;
    all.iter().find(|object| is_it(object.metadata())).map(|object| &**object)
}
