//! From the names that people write to machines, addresses and ports.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kswitch_config::{PlannedPort, Pod, PortKind, ingress_of, is_vip};
use kswitch_tables::{Address, Flow, PortRole, Protocol, Snapshot};

use super::Tables;
use super::report::Query;
use crate::control::request::HostName;
use crate::dataplane::translate::frontend_at;

/// Where the built-in echo server listens when its pod names no ports.
const ECHO_PORT: u16 = 8080;

/// The port of anybody else.
const ANY_PORT: u16 = 80;

/// The packet that is asked about.
#[derive(Debug)]
pub(super) struct Asked<'t> {
    /// Who sends it.
    pub(super) from: &'t PlannedPort,
    /// Whom it is for.
    pub(super) to: Whither,
    /// Its ends.
    pub(super) flow: Flow,
}

/// Whom a packet is for.
#[derive(Clone, Debug)]
pub(super) struct Whither {
    /// As people call it.
    pub(super) name: String,
    /// Under which address.
    pub(super) address: Address,
    /// At which port, host order.
    pub(super) port: u16,
}

/// Somebody who can be sent to.
struct Target<'t> {
    name: String,
    /// Preferred first.
    addresses: Vec<IpAddr>,
    kind: TargetKind<'t>,
}

enum TargetKind<'t> {
    Service(&'t Service),
    Pod(&'t Pod),
    External,
    Other,
}

/// The packet of a query.
///
/// # Errors
/// What of it does not exist.
pub(super) fn resolve<'t>(tables: &Tables<'t>, query: &Query) -> Result<Asked<'t>, String> {
    let (from, sources) = sender(tables, &query.from)?;
    let (name, port) = split(&query.to);
    let target = target(tables, name, matches!(from.kind, PortKind::External { .. }))?;
    let (protocol, port) = port_of(&target, port, query.protocol.as_deref())?;
    let fits = |to: &IpAddr| sources.iter().find(|from| from.is_ipv4() == to.is_ipv4());
    let ends = target.addresses.iter().find_map(|to| Some((*fits(to)?, *to)));
    let (source, address) = ends
        .ok_or_else(|| format!("{} and {} have no IP family in common", query.from, target.name))?;
    let protocol = match protocol {
        Protocol::ICMP if address.is_ipv6() => Protocol::ICMPV6,
        other => other,
    };
    let to = Whither { name: target.name, address: address.into(), port };
    let flow = super::flow(protocol, source.into(), query.source_port, &to);
    Ok(Asked { from, to, flow })
}

/// Whether a machine reaches this target in its own network stack.
pub(super) fn stays_home(snapshot: &Snapshot, from: &PlannedPort, flow: &Flow) -> bool {
    let target = flow.target.address.to_ip();
    let own = from.addresses.iter().map(ipnet::IpNet::addr).chain(from.loopback.iter().copied());
    let mut own = own.filter(|address| *address == target);
    let served = || {
        let port = snapshot.topology.port(from.id)?;
        let PortRole::Host(id) = port.role else { return None };
        frontend_at(snapshot, id, snapshot.topology.router(id)?, flow)
    };
    own.next().is_some() && served().is_none()
}

/// A name and the port after it.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.parse::<IpAddr>().is_ok() {
        return (text, None);
    }
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    }
}

/// The machine that sends, and its addresses, preferred first.
fn sender<'t>(tables: &Tables<'t>, text: &str) -> Result<(&'t PlannedPort, Vec<IpAddr>), String> {
    let address = text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_| text.parse());
    if let Ok(address) = address {
        let has = |port: &&PlannedPort| {
            let own = port.addresses.iter().map(ipnet::IpNet::addr);
            own.chain(port.loopback.iter().copied()).any(|own| own == address)
        };
        let port = tables.ports.iter().find(has);
        return port
            .map(|port| (port, vec![address]))
            .ok_or_else(|| format!("no machine has the address {address}"));
    }
    let host: HostName = text.parse()?;
    let kind = match &host {
        HostName::Node { name } => PortKind::Node { name: name.clone() },
        HostName::External { name } => PortKind::External { name: name.clone() },
        HostName::Pod { namespace, name } => {
            let namespace = namespace.as_deref().unwrap_or("default");
            match tables.cluster.pod(namespace, name) {
                Some(pod) => kind_of_pod(tables, pod),
                None if tables.cluster.service(namespace, name).is_some() => {
                    return Err(format!("{text} is a service: name one of its pods"));
                }
                None => return Err(format!("no pod {name} in namespace {namespace}")),
            }
        }
    };
    let port = tables.ports.iter().find(|port| port.kind == kind);
    let port = port.ok_or_else(|| format!("no {host}"))?;
    Ok((port, port.addresses.iter().map(ipnet::IpNet::addr).collect()))
}

/// The machine in whose network a pod lives.
fn kind_of_pod(tables: &Tables<'_>, pod: &Pod) -> PortKind {
    match tables.cluster.nodes.get(pod.node) {
        Some(node) if pod.host_network => PortKind::Node { name: node.name.clone() },
        _ => PortKind::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() },
    }
}

/// Whom a name means.
fn target<'t>(tables: &Tables<'t>, text: &str, outside: bool) -> Result<Target<'t>, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let service = tables.cluster.services.iter();
        let mut service = service.filter(|service| {
            cluster_addresses(service).chain(outer_addresses(service)).any(|own| own == address)
        });
        let machine = tables.machine(address.into());
        let kind = match (service.next(), &machine) {
            (Some(service), _) => TargetKind::Service(service),
            (None, Some(machine)) => kind_of_machine(tables, machine),
            (None, None) => TargetKind::Other,
        };
        let name = machine.unwrap_or_else(|| text.to_owned());
        return Ok(Target { name, addresses: vec![address], kind });
    }
    let host: HostName = text.parse()?;
    let cluster = tables.cluster;
    match &host {
        HostName::Node { name } => {
            let node = cluster.node(name).ok_or_else(|| format!("no {host}"))?;
            Ok(Target {
                name: text.to_owned(),
                addresses: node.addresses.clone(),
                kind: TargetKind::Other,
            })
        }
        HostName::External { name } => {
            let external = cluster.externals.iter().find(|external| external.name == *name);
            let external = external.ok_or_else(|| format!("no {host}"))?;
            let addresses = external.addresses.iter().map(ipnet::IpNet::addr).collect();
            Ok(Target { name: text.to_owned(), addresses, kind: TargetKind::External })
        }
        HostName::Pod { namespace, name } => {
            let namespace = namespace.as_deref().unwrap_or("default");
            let full = format!("{namespace}/{name}");
            if let Some(pod) = cluster.pod(namespace, name) {
                let addresses = pod.addresses.clone();
                return Ok(Target { name: full, addresses, kind: TargetKind::Pod(pod) });
            }
            let service = cluster.service(namespace, name);
            let service = service
                .ok_or_else(|| format!("no pod and no service {name} in namespace {namespace}"))?;
            let outer: Vec<_> = outer_addresses(service).filter(|_| outside).collect();
            let addresses =
                if outer.is_empty() { cluster_addresses(service).collect() } else { outer };
            if addresses.is_empty() {
                return Err(format!("service {full} has no address: name one of its pods"));
            }
            Ok(Target { name: full, addresses, kind: TargetKind::Service(service) })
        }
    }
}

fn kind_of_machine<'t>(tables: &Tables<'t>, machine: &str) -> TargetKind<'t> {
    match machine.parse() {
        Ok(HostName::Pod { namespace, name }) => {
            let namespace = namespace.as_deref().unwrap_or("default");
            tables.cluster.pod(namespace, &name).map_or(TargetKind::Other, |p| TargetKind::Pod(p))
        }
        Ok(HostName::External { .. }) => TargetKind::External,
        _ => TargetKind::Other,
    }
}

/// The cluster IPs of a Service.
pub(super) fn cluster_addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let spec = service.spec.iter();
    let all = spec.flat_map(|spec| spec.cluster_ips.iter().flatten());
    all.filter_map(|address| address.parse().ok())
}

/// The addresses at which a Service is served to the outside.
pub(super) fn outer_addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let ingress = ingress_of(service).filter_map(|ingress| ingress.ip.as_deref());
    let external = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    ingress.chain(external.map(String::as_str)).filter_map(|address| address.parse().ok())
}

/// Those of them that nodes do not take over.
pub(super) fn proxied_addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let proxied = ingress_of(service).filter(|at| !is_vip(at.ip_mode.as_deref()));
    proxied.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
}

/// Protocol and port that are meant.
fn port_of(
    target: &Target<'_>,
    port: Option<&str>,
    protocol: Option<&str>,
) -> Result<(Protocol, u16), String> {
    let wanted = protocol.map(parse_protocol).transpose()?;
    let number = port.and_then(|port| port.parse::<u16>().ok());
    if let (Some(port), None) = (port, number)
        && !matches!(target.kind, TargetKind::Service(_) | TargetKind::Pod(_))
    {
        return Err(format!("{port:?} is no port"));
    }
    let unknown = |port: &str| format!("{} has no port {port}", target.name);
    match &target.kind {
        TargetKind::Service(service) => {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let of_protocol = |at: &&ServicePort| wanted.is_none_or(|is| protocol_of(at) == is);
            let mut ports = ports.filter(of_protocol);
            let found = match (port, number) {
                (_, Some(number)) => ports.find(|at| at.port == i32::from(number)),
                (Some(name), None) => {
                    let found = ports.find(|at| at.name.as_deref() == Some(name));
                    Some(found.ok_or_else(|| unknown(name))?)
                }
                (None, None) => ports.next(),
            };
            let default = wanted.unwrap_or(Protocol::TCP);
            Ok(match found {
                Some(at) => (protocol_of(at), u16::try_from(at.port).unwrap_or(ANY_PORT)),
                None => (default, number.unwrap_or(ANY_PORT)),
            })
        }
        TargetKind::Pod(pod) => {
            let mut ports = pod.container_ports();
            let named = |at: &&k8s_openapi::api::core::v1::ContainerPort| {
                let protocol = at.protocol.as_deref().unwrap_or("TCP");
                wanted.is_none_or(|is| parse_protocol(protocol) == Ok(is))
                    && port.is_none_or(|name| at.name.as_deref() == Some(name))
            };
            let found = if number.is_none() { ports.find(named) } else { None };
            match (found, port, number) {
                (Some(at), ..) => {
                    let protocol = parse_protocol(at.protocol.as_deref().unwrap_or("TCP"))?;
                    Ok((protocol, u16::try_from(at.container_port).unwrap_or(ECHO_PORT)))
                }
                (None, Some(name), None) => Err(unknown(name)),
                (None, _, number) => {
                    Ok((wanted.unwrap_or(Protocol::TCP), number.unwrap_or(ECHO_PORT)))
                }
            }
        }
        TargetKind::External => Ok((wanted.unwrap_or(Protocol::TCP), number.unwrap_or(ECHO_PORT))),
        TargetKind::Other => Ok((wanted.unwrap_or(Protocol::TCP), number.unwrap_or(ANY_PORT))),
    }
}

/// The protocol of a port of a Service.
pub(super) fn protocol_of(port: &ServicePort) -> Protocol {
    parse_protocol(port.protocol.as_deref().unwrap_or("TCP")).unwrap_or(Protocol::TCP)
}

/// The target port of a Service's port, as it is written.
pub(super) fn target_port(port: &ServicePort) -> Option<String> {
    match port.target_port.as_ref()? {
        IntOrString::Int(number) => Some(number.to_string()),
        IntOrString::String(name) => Some(name.clone()),
    }
}

/// A protocol by its name.
///
/// # Errors
/// It is none.
pub(super) fn parse_protocol(name: &str) -> Result<Protocol, String> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::TCP),
        "udp" => Ok(Protocol::UDP),
        "sctp" => Ok(Protocol::SCTP),
        "icmp" | "icmpv6" | "icmp6" | "ping" => Ok(Protocol::ICMP),
        _ => Err(format!("{name:?} is no protocol: tcp, udp, sctp or icmp")),
    }
}
