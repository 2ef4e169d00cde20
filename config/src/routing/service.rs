//! Load balancers of Services that are proxies: connections end there, and others begin towards nodes.
//!
//! Source: KEP-1860, `ipMode: Proxy`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::backends::Backends;
use super::host::HostPattern;
use super::model::{
    BackendPart, Listener, Routing, Rule, Serve, Socket, SocketKind, Target, TargetBackend,
};
use super::tls::TlsTerms;
use crate::Cluster;
use crate::network_balancer::proxied;

/// Adds what the load balancers of Services do.
pub(super) fn route(cluster: &Cluster, backends: &mut Backends<'_>, routing: &mut Routing) {
    for service in &cluster.services {
        let addresses = proxied(service, &cluster.settings);
        if addresses.is_empty() {
            continue;
        }
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for (index, port) in ports.enumerate() {
            let Some((kind, listener)) = listener(backends, service, index, port, routing) else {
                continue;
            };
            for address in &addresses {
                let port = u16::try_from(port.port).unwrap_or_default();
                let listeners = vec![Arc::clone(&listener)];
                routing.sockets.push(Socket { address: *address, port, kind, listeners });
            }
        }
    }
}

/// What is done at a port; what cannot be is told.
fn listener(
    backends: &mut Backends<'_>,
    service: &Service,
    index: usize,
    port: &ServicePort,
    routing: &mut Routing,
) -> Option<(SocketKind, Arc<Listener>)> {
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let called = format!("Service {namespace}/{name}, port {}/{protocol}", port.port);
    let (kind, part) = match protocol {
        "TCP" => (SocketKind::Tcp, BackendPart::OwnConnections),
        "UDP" => (SocketKind::Udp, BackendPart::OwnDatagrams),
        other => {
            routing.remarks.push(format!("{called}: {other} is not carried by a proxy"));
            return None;
        }
    };
    let backend = backends.of_service(service, index, port, part);
    let target = Target {
        weight: 1,
        backend: TargetBackend::Service(backend),
        filters: super::Filters::default(),
    };
    let rule = Rule { name: called.clone(), targets: vec![target], ..Rule::default() };
    let ranges = service.spec.iter().flat_map(|spec| spec.load_balancer_source_ranges.iter());
    let listener = Listener {
        name: called,
        owner: ("Service".to_owned(), namespace, name),
        hostname: HostPattern::Any,
        certificates: Vec::new(),
        terms: TlsTerms::default(),
        clients: None,
        identity: None,
        admitted: ranges.flatten().filter_map(|text| text.trim().parse().ok()).collect(),
        serve: Serve::Stream(vec![(HostPattern::Any, Arc::new(rule))]),
    };
    Some((kind, Arc::new(listener)))
}
