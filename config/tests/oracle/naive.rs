//! What the objects say, read anew for every packet.
//!
//! Sources: the Service, EndpointSlice and Pod API; kube-proxy's documents on its nftables mode;
//! KEP-1669 (terminating endpoints), KEP-2086 (internal policy), KEP-2433 and KEP-3015 (hints).

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_config::{Cluster, Node, Observed, Pod};
use kswitch_tables::Protocol;

use super::{Origin, Outcome, Packet};

/// A place that may serve, by the names that objects use.
#[derive(Clone, Debug)]
struct Place {
    socket: SocketAddr,
    node: Option<String>,
    ready: bool,
    serving: bool,
    terminating: bool,
    zones: Vec<String>,
    nodes: Vec<String>,
}

impl Place {
    fn is_draining(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }

    fn is_on(&self, node: &Node) -> bool {
        self.node.as_deref() == Some(node.name.as_str())
    }
}

/// By which of its addresses a Service was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

type Kinds = Vec<&'static str>;

pub(crate) fn judge(packet: &Packet, cluster: &Cluster, observed: &Observed) -> (Outcome, Kinds) {
    let node = &cluster.nodes[packet.node];
    let mut kinds = Kinds::new();
    if let Some(outcome) = host_port(packet, cluster, node, &mut kinds) {
        return (outcome, kinds);
    }
    let proxied = || cluster.services.iter().filter(|service| is_proxied(service));
    let at_address = proxied().find_map(|service| {
        let spec = service.spec.as_ref().unwrap();
        let port = ports(spec).find(|port| is_port(port, packet.protocol, packet.target.port()))?;
        Some((service, port, via(service, packet.target.ip())?))
    });
    let at_node_port = || {
        let is_offered = offers_node_ports(cluster, node, packet.target.ip());
        proxied().filter(|_| is_offered).find_map(|service| {
            let spec = service.spec.as_ref().unwrap();
            let has_type = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
            let has_family = cluster_ip(spec, packet.target.ip()).is_some();
            let port = ports(spec).find(|port| {
                protocol(port) == packet.protocol
                    && port.node_port == Some(i32::from(packet.target.port()))
            });
            port.filter(|_| has_type && has_family).map(|port| (&**service, port, Via::NodePort))
        })
    };
    let at_address = at_address.map(|(service, port, via)| (&**service, port, via));
    let Some((service, port, via)) = at_address.or_else(at_node_port) else {
        let is_owned = proxied().any(|service| {
            let spec = service.spec.as_ref().unwrap();
            cluster_ip(spec, packet.target.ip()) == Some(packet.target.ip())
        });
        if is_owned {
            return (Outcome::NoSuchPort, vec!["no such port"]);
        }
        return (Outcome::Untouched, vec!["untouched"]);
    };
    let places = places(service, port, packet.target.is_ipv4(), cluster, observed);
    let outcome = serve(packet, cluster, service, via, &places, &mut kinds);
    (outcome, kinds)
}

/// The last pod on the node that asks for the port has it; one that names the address comes before
/// all others.
fn host_port(
    packet: &Packet,
    cluster: &Cluster,
    node: &Node,
    kinds: &mut Kinds,
) -> Option<Outcome> {
    let target = packet.target;
    if !node.addresses.contains(&target.ip()) {
        return None;
    }
    let mut found: Option<(bool, SocketAddr)> = None;
    for pod in &cluster.pods {
        let phase = pod.object.status.as_ref().unwrap().phase.as_deref();
        if pod.node != packet.node || pod.host_network || phase == Some("Succeeded") {
            continue;
        }
        let Some(address) = pod.addresses.iter().find(|ip| ip.is_ipv4() == target.is_ipv4()) else {
            continue;
        };
        let containers = &pod.object.spec.as_ref().unwrap().containers;
        for port in containers.iter().flat_map(|container| container.ports.iter().flatten()) {
            let is_named = match port.host_ip.as_deref().unwrap_or_default() {
                "" => false,
                "0.0.0.0" if target.is_ipv4() => false,
                ip if is_address(ip, target.ip()) => true,
                _ => continue,
            };
            let is_asked = port.host_port == Some(i32::from(target.port()));
            if is_asked
                && packet.protocol == Protocol::TCP
                && found.is_none_or(|(was_named, _)| is_named || !was_named)
            {
                let backend = u16::try_from(port.container_port).unwrap();
                found = Some((is_named, SocketAddr::new(*address, backend)));
            }
        }
    }
    let (is_named, backend) = found?;
    kinds.push(if is_named { "host port at one address" } else { "host port" });
    let masquerade = packet.origin == Origin::Node;
    Some(Outcome::Served { backends: vec![backend], masquerade, sticky_seconds: None })
}

fn serve(
    packet: &Packet,
    cluster: &Cluster,
    service: &Service,
    via: Via,
    places: &[Place],
    kinds: &mut Kinds,
) -> Outcome {
    let (spec, node) = (service.spec.as_ref().unwrap(), &*cluster.nodes[packet.node]);
    if via == Via::LoadBalancer && !is_admitted(packet, cluster, service, kinds) {
        kinds.push("refused by source ranges");
        return Outcome::Dropped;
    }
    let policy = if via == Via::ClusterIp {
        &spec.internal_traffic_policy
    } else {
        &spec.external_traffic_policy
    };
    let is_local = policy.as_deref() == Some("Local");
    let is_inside = packet.origin != Origin::Outside;
    let (only_here, masquerade) = match (via, is_local) {
        (Via::ClusterIp, _) => {
            (is_local, cluster.settings.cluster.masquerade.all || packet.origin != Origin::Pod)
        }
        (_, false) => (false, true),
        (_, true) => (!is_inside, packet.origin == Origin::Node),
    };
    let usable = |place: &&Place| place.ready || place.is_draining();
    if places.iter().find(usable).is_none() {
        kinds.push("none at all");
        return Outcome::Rejected;
    }
    let chosen = if only_here { here(places, node, kinds) } else { anywhere(places, node, kinds) };
    if chosen.is_empty() {
        kinds.push("none local");
        return Outcome::Dropped;
    }
    kinds.push(match (via, is_local, packet.origin) {
        (Via::ClusterIp, true, _) => "cluster ip, local",
        (Via::ClusterIp, false, Origin::Pod) => "cluster ip",
        (Via::ClusterIp, false, _) => "cluster ip, masqueraded",
        (_, true, Origin::Outside) => "external, local, from outside",
        (_, true, Origin::Pod) => "external, local, from a pod",
        (_, true, Origin::Node) => "external, local, from the node",
        (Via::ExternalIp, false, _) => "external ip",
        (Via::LoadBalancer, false, _) => "load balancer",
        (Via::NodePort, false, _) => "node port",
    });
    if chosen.iter().any(|place| place.ready && !place.serving) {
        kinds.push("not ready, but published");
    }
    let mut backends: Vec<SocketAddr> = chosen.iter().map(|place| place.socket).collect();
    // tables hold them by address; both families sort as their numbers do
    backends.sort();
    let sticky_seconds = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        kinds.push("sticky");
        config.and_then(|ip| ip.timeout_seconds).map_or(10_800, |n| u32::try_from(n).unwrap())
    });
    Outcome::Served { backends, masquerade, sticky_seconds }
}

/// Under a policy of the whole cluster.
fn anywhere<'p>(places: &'p [Place], node: &Node, kinds: &mut Kinds) -> Vec<&'p Place> {
    let ready: Vec<&Place> = places.iter().filter(|place| place.ready).collect();
    if ready.is_empty() {
        kinds.push("terminating, of the cluster");
        return places.iter().filter(|place| place.is_draining()).collect();
    }
    let is_for_node = |place: &&&Place| place.nodes.contains(&node.name);
    if ready.iter().all(|place| !place.nodes.is_empty()) && ready.iter().any(|p| is_for_node(&p)) {
        kinds.push("node hints");
        return ready.iter().filter(is_for_node).copied().collect();
    }
    let is_for_zone =
        |place: &&&Place| node.zone.as_ref().is_some_and(|zone| place.zones.contains(zone));
    if ready.iter().all(|place| !place.zones.is_empty()) {
        if ready.iter().any(|place| is_for_zone(&place)) {
            kinds.push("zone hints");
            return ready.iter().filter(is_for_zone).copied().collect();
        }
    } else if ready.iter().any(|place| !place.zones.is_empty()) {
        kinds.push("hints of which one is missing");
    }
    ready
}

/// Under a policy of the node alone.
fn here<'p>(places: &'p [Place], node: &Node, kinds: &mut Kinds) -> Vec<&'p Place> {
    let here = || places.iter().filter(|place| place.is_on(node));
    let ready: Vec<&Place> = here().filter(|place| place.ready).collect();
    if !ready.is_empty() {
        return ready;
    }
    let draining: Vec<&Place> = here().filter(|place| place.is_draining()).collect();
    if !draining.is_empty() {
        kinds.push("terminating, of the node");
    }
    draining
}

fn is_admitted(packet: &Packet, cluster: &Cluster, service: &Service, kinds: &mut Kinds) -> bool {
    let spec = service.spec.as_ref().unwrap();
    let written = spec.load_balancer_source_ranges.iter().flatten();
    let ranges: Vec<ipnet::IpNet> = written.map(|text| text.trim().parse().unwrap()).collect();
    let is_of_family = |range: &&ipnet::IpNet| range.addr().is_ipv4() == packet.target.is_ipv4();
    let ranges: Vec<_> = ranges.iter().filter(is_of_family).collect();
    if ranges.is_empty() {
        return true;
    }
    let holds = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
    let holds_node = cluster.nodes.iter().flat_map(|node| &node.addresses).any(|ip| holds(*ip));
    let is_vip = via(service, packet.source) == Some(Via::LoadBalancer);
    let is_admitted = holds(packet.source) || (holds_node && is_vip);
    if is_admitted {
        kinds.push("load balancer, in the source ranges");
    }
    is_admitted
}

fn places(
    service: &Service,
    port: &ServicePort,
    is_v4: bool,
    cluster: &Cluster,
    observed: &Observed,
) -> Vec<Place> {
    let spec = service.spec.as_ref().unwrap();
    let mut places = Vec::new();
    if let Some(selector) = &spec.selector {
        for pod in &cluster.pods {
            let labels = pod.object.metadata.labels.as_ref().unwrap();
            let phase = pod.object.status.as_ref().unwrap().phase.as_deref();
            if selector.iter().all(|(key, value)| labels.get(key) == Some(value))
                && phase != Some("Succeeded")
            {
                places.extend(place_of_pod(spec, port, pod, is_v4, cluster, observed));
            }
        }
    }
    for slice in &cluster.endpoint_slices {
        let owner = &slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"];
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        if Some(owner) != service.metadata.name.as_ref() || slice.address_type != family {
            continue;
        }
        for slice_port in slice.ports.iter().flatten() {
            let slice_protocol = slice_port.protocol.as_deref().unwrap_or("TCP");
            if slice_port.name != port.name
                || slice_protocol != port.protocol.as_deref().unwrap_or("TCP")
            {
                continue;
            }
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                let ready = conditions.ready != Some(false);
                let hints = endpoint.hints.clone().unwrap_or_default();
                let zones = hints.for_zones.into_iter().flatten().map(|zone| zone.name);
                let nodes = hints.for_nodes.into_iter().flatten().map(|node| node.name);
                let number = u16::try_from(slice_port.port.unwrap()).unwrap();
                places.push(Place {
                    socket: SocketAddr::new(endpoint.addresses[0].parse().unwrap(), number),
                    node: endpoint.node_name.clone(),
                    ready,
                    serving: conditions.serving.unwrap_or(ready),
                    terminating: conditions.terminating == Some(true),
                    zones: zones.collect(),
                    nodes: nodes.collect(),
                });
            }
        }
    }
    // of places that are told twice the best news counts, and of those the first
    let mut single: Vec<Place> = Vec::new();
    for place in places {
        let rank = |place: &Place| (place.ready, place.serving, !place.terminating);
        match single.iter_mut().find(|have| have.socket == place.socket) {
            None => single.push(place),
            Some(have) if rank(&place) > rank(have) => *have = place,
            Some(_) => {}
        }
    }
    single
}

fn place_of_pod(
    spec: &ServiceSpec,
    port: &ServicePort,
    pod: &Pod,
    is_v4: bool,
    cluster: &Cluster,
    observed: &Observed,
) -> Option<Place> {
    let address = pod.addresses.iter().find(|ip| ip.is_ipv4() == is_v4)?;
    let number = match port.target_port.as_ref() {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = &pod.object.spec.as_ref().unwrap().containers;
            let mut ports =
                containers.iter().flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|have| {
                have.name.as_ref() == Some(name)
                    && have.protocol.as_deref().unwrap_or("TCP")
                        == port.protocol.as_deref().unwrap_or("TCP")
            })?;
            named.container_port
        }
    };
    let key = (pod.namespace.clone(), pod.name.clone());
    let conditions = pod.object.status.as_ref().unwrap().conditions.iter().flatten();
    let written = conditions.clone().any(|have| have.type_ == "Ready" && have.status == "True");
    let is_ready = observed.ready_pods.get(&key).copied().unwrap_or(written);
    let terminating = pod.object.metadata.deletion_timestamp.is_some();
    let ready = spec.publish_not_ready_addresses == Some(true) || (is_ready && !terminating);
    let node = &cluster.nodes[pod.node];
    let wish = spec.traffic_distribution.as_deref().unwrap_or_default();
    let near = ready && matches!(wish, "PreferClose" | "PreferSameZone" | "PreferSameNode");
    Some(Place {
        socket: SocketAddr::new(*address, u16::try_from(number).unwrap()),
        node: Some(node.name.clone()),
        ready,
        serving: is_ready,
        terminating,
        zones: node.zone.iter().filter(|_| near).cloned().collect(),
        nodes: if ready && wish == "PreferSameNode" { vec![node.name.clone()] } else { Vec::new() },
    })
}

fn is_proxied(service: &Service) -> bool {
    let spec = service.spec.as_ref().unwrap();
    let labels = service.metadata.labels.as_ref();
    let other = labels
        .is_some_and(|labels| labels.contains_key("service.kubernetes.io/service-proxy-name"));
    !other && spec.type_.as_deref() != Some("ExternalName")
}

fn ports(spec: &ServiceSpec) -> impl Iterator<Item = &ServicePort> {
    spec.ports.iter().flatten()
}

fn protocol(port: &ServicePort) -> Protocol {
    if port.protocol.as_deref() == Some("UDP") { Protocol::UDP } else { Protocol::TCP }
}

fn is_port(port: &ServicePort, wanted: Protocol, number: u16) -> bool {
    protocol(port) == wanted && port.port == i32::from(number)
}

/// The cluster IP of the family of `like`: without one a Service has nothing in that family.
fn cluster_ip(spec: &ServiceSpec, like: IpAddr) -> Option<IpAddr> {
    let ips = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse::<IpAddr>().ok());
    ips.into_iter().find(|ip| ip.is_ipv4() == like.is_ipv4())
}

/// By which address a Service is found there; an address of the load balancer is always guarded.
fn via(service: &Service, target: IpAddr) -> Option<Via> {
    let spec = service.spec.as_ref().unwrap();
    let cluster_ip = cluster_ip(spec, target)?;
    if cluster_ip == target {
        return Some(Via::ClusterIp);
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
    let is_vip = ingress
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .any(|ingress| ingress.ip.as_ref().is_some_and(|ip| is_address(ip, target)));
    if is_vip && spec.type_.as_deref() == Some("LoadBalancer") {
        return Some(Via::LoadBalancer);
    }
    let external = spec.external_ips.iter().flatten();
    external.into_iter().any(|ip| is_address(ip, target)).then_some(Via::ExternalIp)
}

fn is_address(text: &str, address: IpAddr) -> bool {
    text.parse() == Ok(address)
}

fn offers_node_ports(cluster: &Cluster, node: &Node, target: IpAddr) -> bool {
    let ranges = &cluster.settings.cluster.node_ports.addresses;
    if ranges.is_empty() {
        let primary = node.addresses.iter().find(|ip| ip.is_ipv4() == target.is_ipv4());
        return primary == Some(&target);
    }
    node.addresses.contains(&target) && ranges.iter().any(|range| range.contains(&target))
}

/// Whether a flow without a connection may stay with its backend: it has to serve still, whether or
/// not it takes new ones.
pub(crate) fn may_stay(
    target: SocketAddr,
    backend: SocketAddr,
    wanted: Protocol,
    cluster: &Cluster,
    observed: &Observed,
) -> bool {
    cluster.services.iter().filter(|service| is_proxied(service)).any(|service| {
        let spec = service.spec.as_ref().unwrap();
        ports(spec).any(|port| {
            cluster_ip(spec, target.ip()) == Some(target.ip())
                && is_port(port, wanted, target.port())
                && places(service, port, target.is_ipv4(), cluster, observed)
                    .iter()
                    .any(|place| place.socket == backend && (place.ready || place.serving))
        })
    })
}

/// Where packets from outside enter for addresses that are known there; pods and cluster IPs are
/// not.
pub(crate) fn entries(cluster: &Cluster, observed: &Observed) -> Vec<(IpAddr, Vec<String>)> {
    let mut entries = Vec::new();
    for node in &cluster.nodes {
        entries.extend(node.addresses.iter().map(|ip| (*ip, vec![node.name.clone()])));
    }
    for pod in cluster.pods.iter().filter(|pod| !pod.host_network) {
        entries.extend(pod.addresses.iter().map(|ip| (*ip, Vec::new())));
    }
    for service in cluster.services.iter().filter(|service| is_proxied(service)) {
        let spec = service.spec.as_ref().unwrap();
        let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
        for ip in ingress.filter_map(|ingress| ingress.ip.as_ref()?.parse::<IpAddr>().ok()) {
            if via(service, ip) == Some(Via::LoadBalancer) {
                entries.push((ip, balanced(service, cluster, observed)));
            }
        }
        for ip in spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse::<IpAddr>().ok()) {
            entries.push((ip, Vec::new()));
        }
    }
    entries
}

/// The healthy nodes, or all if none is: a node is healthy if it is ready, and under a local policy
/// if an endpoint of the first family is ready there.
fn balanced(service: &Service, cluster: &Cluster, observed: &Observed) -> Vec<String> {
    let spec = service.spec.as_ref().unwrap();
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let first = spec.cluster_ips.iter().flatten().next().unwrap();
    let is_v4 = !first.contains(':');
    let has_endpoint = |node: &Node| {
        ports(spec).any(|port| {
            let places = places(service, port, is_v4, cluster, observed);
            places.iter().any(|place| place.ready && place.is_on(node))
        })
    };
    let is_healthy = |node: &&Node| node.ready && (!is_local || has_endpoint(node));
    let names = |nodes: Vec<&Node>| {
        let mut names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        names.sort();
        names
    };
    let all: Vec<&Node> = cluster.nodes.iter().map(|node| &**node).collect();
    let healthy: Vec<&Node> = all.iter().copied().filter(is_healthy).collect();
    if healthy.is_empty() { names(all) } else { names(healthy) }
}
