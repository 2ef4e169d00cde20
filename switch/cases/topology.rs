//! The lab of a case: what the switch is told to be, and who is who in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use kswitch_config::{
    Addressing, Cluster, ClusterSettings, Data, DnsSettings, Draft, EmptyServices, External,
    GatewaySettings, HostNetwork, Kind, LabSettings, Masquerade, Name, NodePorts, Outcome,
    PodRecords, PortKind, ReverseEndpoints, Settings, SwitchSettings,
};
use serde_json::{Value, json};

use super::format::{self, Change, File, Host, HostRef, Pod, PodName, Topology};
use super::place;
use crate::agents::proxy::authority;

/// Why a case cannot be carried out as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// What the lab of a case depends on beside its header.
pub trait Step {
    /// What is changed first.
    fn changes(&self) -> &[Change];

    /// The machines that are referred to.
    fn hosts(&self) -> Vec<&HostRef>;

    /// The objects that are created or replaced.
    fn objects(&self) -> Vec<&Value> {
        let applied = self.changes().iter().filter_map(|change| match change {
            Change::Apply(object) => Some(object),
            _ => None,
        });
        applied.collect()
    }
}

/// A machine and one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where it is attached.
    pub kind: PortKind,
    /// The address it sends from, or is reached at.
    pub address: IpAddr,
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.kind, self.address)
    }
}

/// The lab of a case, as it is to be at the moment.
#[derive(Debug)]
pub struct Lab {
    draft: Draft,
    pods: BTreeMap<PodName, Pod>,
    /// Services whose slices the case writes, by namespace and name.
    sliced: BTreeSet<(String, String)>,
    /// Hosts outside by address that are not in the topology.
    outside: BTreeMap<IpAddr, String>,
    cluster: Arc<Cluster>,
}

/// Where the edge router and nodes without an address would have theirs: in the range of RFC 6598,
/// which no case uses.
const NODE_CIDRS: [&str; 2] = ["100.127.255.0/24", "fd00:ffff:ffff:ffff::/64"];

impl Lab {
    /// The lab that a case describes; `name` is that of its namespaces.
    ///
    /// # Errors
    /// What in the case is wrong.
    pub fn new<S: Step>(name: &str, case: &File<S>) -> Result<Self, Broken> {
        let topology = &case.topology;
        let draft = Draft::new(settings(name, case));
        let outside = outside(topology, case.steps.iter().flat_map(Step::hosts));
        let sliced = sliced(case);
        let cluster = Arc::default();
        let mut lab = Self { draft, pods: BTreeMap::new(), sliced, outside, cluster };
        let mtu = case.settings.mtu.external;
        for host in &topology.externals {
            lab.add_external(&host.name, &host.ips, mtu);
        }
        for (ip, name) in lab.outside.clone() {
            lab.add_external(&name, &[ip], mtu);
        }
        let changes = case.steps.iter().flat_map(Step::changes);
        let others: Vec<IpAddr> = lab.outside.keys().copied().collect();
        let ranges = place::pod_ranges(topology, changes, &others);
        for (node, ranges) in topology.nodes.iter().zip(ranges) {
            lab.apply(&node_object(node, &ranges), &format!("node {}", node.name))?;
        }
        for namespace in &topology.namespaces {
            lab.add_namespace(namespace)?;
        }
        for pod in &topology.pods {
            lab.add_pod(pod)?;
        }
        for secret in &case.secrets {
            lab.apply(&secret_object(secret)?, &format!("secret {}", secret.name))?;
        }
        for (at, object) in case.objects.iter().enumerate() {
            lab.apply(object, &format!("objects[{at}]"))?;
        }
        lab.validate()?;
        Ok(lab)
    }

    /// Adds name servers, where cases are carried out on real machines.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn add_name_servers(&mut self) -> Result<(), Broken> {
        self.draft = self.draft.clone().with_name_servers();
        self.validate()
    }

    /// What the switch is told to be.
    pub const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// What the switch was told, as it was written.
    pub const fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Begins a step: makes its changes, if there are any, and has `follow` make what the case is
    /// tried on the same.
    ///
    /// # Errors
    /// As [`Lab::change`], and those of `follow`.
    pub fn step(
        &mut self,
        changes: &[Change],
        follow: impl FnOnce(&Self) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if changes.is_empty() {
            return Ok(());
        }
        self.change(changes)?;
        follow(self)
    }

    /// Makes changes, in order, and validates the whole after them.
    ///
    /// # Errors
    /// What in them is wrong.
    pub fn change(&mut self, changes: &[Change]) -> Result<(), Broken> {
        for change in changes {
            match change {
                Change::Apply(object) => self.apply(object, "changes")?,
                Change::Delete { kind, namespace, name } => self.delete(kind, namespace, name)?,
                Change::SetNamespaceLabels(namespace) | Change::AddNamespace(namespace) => {
                    self.add_namespace(namespace)?;
                }
                Change::SetPodLabels { pod: name, labels } => {
                    let mut pod = self.pod(name)?.clone();
                    pod.labels.clone_from(labels);
                    self.add_pod(&pod)?;
                }
                Change::AddPod(pod) => self.add_pod(pod)?,
                Change::DeletePod(pod) => self.delete("Pod", &pod.namespace, &pod.name)?,
                Change::DeleteNamespace(name) => self.delete("Namespace", "", name)?,
            }
        }
        self.validate()
    }

    /// Creates or replaces objects.
    ///
    /// # Errors
    /// What in them is wrong.
    pub fn apply_all(&mut self, objects: &[Value]) -> Result<(), Broken> {
        for object in objects {
            self.apply(object, "objects")?;
        }
        self.validate()
    }

    /// What is wrong with an object as it would be loaded now; nothing is changed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn try_load(&self, object: &Value) -> Result<(), Broken> {
        let mut draft = self.draft.clone();
        draft.apply(object, "object").map_err(|errors| Broken(first_error(&errors)))?;
        let validated = draft.validate(Some(&self.cluster));
        validated.map(|_| ()).map_err(|errors| Broken(first_error(&errors)))
    }

    /// The machine that is meant, with its address of the family that is needed.
    ///
    /// # Errors
    /// There is none of that name, or it has no such address.
    pub fn machine(&self, host: &HostRef, is_v4: bool) -> Result<Machine, Broken> {
        let node = |name: &str| PortKind::Node { name: name.to_owned() };
        let (kind, addresses) = match &host.host {
            Host::Pod(name) => {
                let pod = self.pod(name)?;
                let PodName { namespace, name } = name.clone();
                let own = PortKind::Pod { namespace, name };
                let kind = if pod.host_network { node(&pod.node) } else { own };
                (kind, pod.ips.clone())
            }
            Host::Node(name) | Host::Localhost(name) => {
                let found = self.cluster.node(name);
                let found = found.ok_or_else(|| Broken(format!("there is no node {name}")))?;
                (node(name), found.addresses.clone())
            }
            Host::External(name) => {
                let found = self.cluster.externals.iter().find(|host| host.name == *name);
                let found = found.ok_or_else(|| Broken(format!("there is no external {name}")))?;
                let kind = PortKind::External { name: name.clone() };
                (kind, found.addresses.iter().map(IpNet::addr).collect())
            }
            Host::Outside(ip) => {
                let has = |host: &&External| host.addresses.iter().any(|net| net.addr() == *ip);
                let found = self.cluster.externals.iter().find(has);
                let found = found.ok_or_else(|| Broken(format!("nobody outside is {ip}")))?;
                (PortKind::External { name: found.name.clone() }, vec![*ip])
            }
            Host::SavedPod(name) => return Err(Broken(format!("nothing was saved as {name}"))),
        };
        let is_loopback = matches!(host.host, Host::Localhost(_));
        let address = match host.ip {
            Some(ip) if is_loopback || addresses.contains(&ip) => Some(ip),
            Some(ip) => return Err(Broken(format!("{host} has no address {ip}"))),
            None if is_loopback && is_v4 => Some(std::net::Ipv4Addr::LOCALHOST.into()),
            None if is_loopback => Some(std::net::Ipv6Addr::LOCALHOST.into()),
            None => addresses.into_iter().find(|ip| ip.is_ipv4() == is_v4),
        };
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        let address = address.ok_or_else(|| Broken(format!("{host} has no {family} address")))?;
        Ok(Machine { kind, address })
    }

    /// The node of a machine; `None` for hosts outside.
    pub fn node_of(&self, kind: &PortKind) -> Option<String> {
        match kind {
            PortKind::Node { name } => Some(name.clone()),
            PortKind::External { .. } => None,
            PortKind::Pod { namespace, name } => {
                let name = PodName { namespace: namespace.clone(), name: name.clone() };
                self.pods.get(&name).map(|pod| pod.node.clone())
            }
        }
    }

    /// A pod that is there.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn pod(&self, name: &PodName) -> Result<&Pod, Broken> {
        self.pods.get(name).ok_or_else(|| Broken(format!("there is no pod {name}")))
    }

    /// The pods that are there.
    pub fn pods(&self) -> impl Iterator<Item = (&PodName, &Pod)> {
        self.pods.iter()
    }

    fn apply(&mut self, object: &Value, origin: &str) -> Result<(), Broken> {
        let object = &self.as_served(object);
        let applied = self.draft.apply(object, origin);
        applied.map(|_| ()).map_err(|errors| Broken(first_error(&errors)))
    }

    /// An object as it is loaded: the slices that a case writes for a Service are all it has, so that
    /// no more are made of its selector.
    fn as_served(&self, object: &Value) -> Value {
        let mut object = object.clone();
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("default");
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let is_sliced = self.sliced.contains(&(namespace.to_owned(), name.to_owned()));
        if is_sliced
            && text("/kind") == "Service"
            && let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut)
        {
            spec.remove("selector");
        }
        object
    }

    fn add_namespace(&mut self, namespace: &format::Namespace) -> Result<(), Broken> {
        let format::Namespace { name, labels } = namespace;
        let metadata = json!({ "name": name, "labels": labels });
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
        self.apply(&object, &format!("namespace {name}"))
    }

    fn add_pod(&mut self, pod: &Pod) -> Result<(), Broken> {
        let name = PodName { namespace: pod.namespace.clone(), name: pod.name.clone() };
        self.apply(&pod_object(pod), &format!("pod {name}"))?;
        self.pods.insert(name, pod.clone());
        Ok(())
    }

    fn add_external(&mut self, name: &str, ips: &[IpAddr], mtu: Option<u16>) {
        // each alone on its link, lest addresses of Services seem to be on it
        let addresses = ips.iter().map(|ip| IpNet::from(*ip)).collect();
        let (name, gateways) = (name.to_owned(), Vec::new());
        self.draft.add_external(External {
            name,
            addresses,
            gateways,
            routes: Vec::new(),
            mtu,
            interface: None,
            network: HostNetwork::Internet,
        });
    }

    fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> Result<(), Broken> {
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let known = known.ok_or_else(|| Broken(format!("there is no kind {kind}")))?;
        if self.draft.delete(known, namespace, name) != Outcome::Deleted {
            return Err(Broken(format!("there is no {kind} {namespace}/{name} to delete")));
        }
        match kind {
            "Pod" => self.pods.retain(|pod, _| pod.namespace != namespace || pod.name != name),
            "Namespace" => self.pods.retain(|pod, _| pod.namespace != name),
            _ => {}
        }
        Ok(())
    }

    fn validate(&mut self) -> Result<(), Broken> {
        let cluster = self.draft.validate(Some(&self.cluster));
        self.cluster = Arc::new(cluster.map_err(|errors| Broken(first_error(&errors)))?);
        Ok(())
    }
}

/// The Services for which a case about load balancers writes slices.
fn sliced<S: Step>(case: &File<S>) -> BTreeSet<(String, String)> {
    if case.area != format::Area::L7 {
        return BTreeSet::new();
    }
    let service = |object: &Value| {
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let name = text("/metadata/labels/kubernetes.io~1service-name")?;
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        (text("/kind")? == "EndpointSlice").then_some((namespace, name))
    };
    case.objects.iter().filter_map(service).collect()
}

/// The first error and how many more there are, in one line.
fn first_error(errors: &kswitch_config::Errors) -> String {
    let mut all = errors.errors();
    let first = all.next().map(ToString::to_string).unwrap_or_default();
    match all.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}

fn settings<S: Step>(name: &str, case: &File<S>) -> Settings {
    let Topology { cluster, .. } = &case.topology;
    let default = ClusterSettings::default();
    let or = |given: &Vec<IpNet>, default: Vec<IpNet>| {
        if given.is_empty() { default } else { given.clone() }
    };
    let format::Settings {
        node_port_addresses,
        localhost_node_ports,
        masquerade_all,
        egress_masquerade,
        mtu,
        dns,
        gateway_class,
        ingress_class,
        ingress_address,
    } = &case.settings;
    let every: Vec<IpNet> =
        ["0.0.0.0/0", "::/0"].into_iter().filter_map(|n| n.parse().ok()).collect();
    let node_ports = NodePorts {
        range: node_port_range(case, &default.node_ports),
        addresses: or(node_port_addresses, every),
        localhost: localhost_node_ports.unwrap_or(true),
    };
    let cluster = ClusterSettings {
        addressing: Addressing::AsGiven,
        pod_cidrs: or(&cluster.pod_cidrs, default.pod_cidrs.clone()),
        service_cidrs: or(&cluster.service_cidrs, default.service_cidrs.clone()),
        node_cidrs: NODE_CIDRS.into_iter().filter_map(|net| net.parse().ok()).collect(),
        domain: dns.cluster_domain.clone().unwrap_or(default.domain),
        dns_addresses: dns.dns_service_ip.into_iter().collect(),
        mtu: mtu.pods.unwrap_or(default.mtu),
        masquerade: Masquerade {
            egress: *egress_masquerade,
            exempt: Vec::new(),
            all: *masquerade_all,
        },
        node_ports,
        ..default
    };
    Settings {
        lab: LabSettings { name: name.to_owned(), ..LabSettings::default() },
        cluster,
        switch: SwitchSettings { metrics: None, ..SwitchSettings::default() },
        dns: dns_settings(dns),
        gateway: GatewaySettings {
            gateway_classes: gateway_class.iter().cloned().collect(),
            ingress_classes: ingress_class.iter().cloned().collect(),
            ingress_address: *ingress_address,
            // what passes is not waited for: nodes count as what they would answer
            health_checks: false,
            ..GatewaySettings::default()
        },
        ..Settings::default()
    }
}

/// Names as a case says; the name server is no pod of the lab.
fn dns_settings(dns: &format::dns::DnsSettings) -> DnsSettings {
    use format::dns::{DnsSettings as Written, EmptyServices as Empty, PodRecords as Mode};
    let Written { pod_records, empty_services, reverse_zones, upstream, endpoint_ptr, .. } = dns;
    let known = upstream.iter().filter_map(|record| {
        let name = Name::parse(record.owner.as_deref()?)?;
        let data = match record.kind.as_str() {
            "A" | "AAAA" => Data::address(record.data.parse().ok()?),
            "CNAME" => Data::Cname(Name::parse(&record.data)?),
            "TXT" => Data::Txt(record.data.as_str().into()),
            "PTR" => Data::Ptr(Name::parse(&record.data)?),
            "NS" => Data::Ns(Name::parse(&record.data)?),
            "SRV" => {
                let (port, target) = (record.port?, Name::parse(&record.data)?);
                Data::Srv { weight: 1, port, target }
            }
            _ => return None,
        };
        Some((name, data))
    });
    DnsSettings {
        enabled: false,
        pod_records: match pod_records {
            Mode::Disabled => PodRecords::Disabled,
            Mode::Insecure => PodRecords::Insecure,
            Mode::Verified => PodRecords::Verified,
        },
        empty_services: match empty_services {
            Some(Empty::Nxdomain) => EmptyServices::DoNotExist,
            None => EmptyServices::Exist,
        },
        reverse_endpoints: if *endpoint_ptr {
            ReverseEndpoints::All
        } else {
            ReverseEndpoints::Headless
        },
        reverse_zones: Some(reverse_zones.clone()),
        outside: known.collect(),
        ..DnsSettings::default()
    }
}

/// The usual range, widened by what the objects ask for: cases ask for ports of any size.
fn node_port_range<S: Step>(case: &File<S>, usual: &NodePorts) -> RangeInclusive<u16> {
    let later = case.steps.iter().flat_map(Step::objects);
    let asked = case.objects.iter().chain(later).flat_map(|object| {
        let spec = &object["spec"];
        let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
        let ports = ports.iter().map(|port| &port["nodePort"]);
        ports.chain([&spec["healthCheckNodePort"]]).collect::<Vec<_>>()
    });
    let asked = asked.filter_map(Value::as_u64).filter_map(|port| u16::try_from(port).ok());
    asked.filter(|port| *port > 0).fold(usual.range.clone(), |range, port| {
        (*range.start()).min(port)..=(*range.end()).max(port)
    })
}

/// Names for the addresses outside that are referred to and belong to nobody in the topology.
fn outside<'c>(
    topology: &Topology,
    hosts: impl Iterator<Item = &'c HostRef>,
) -> BTreeMap<IpAddr, String> {
    let addresses = hosts.filter_map(|host| match host.host {
        Host::Outside(ip) => Some(ip),
        _ => None,
    });
    let is_known = |ip: &IpAddr| topology.externals.iter().any(|host| host.ips.contains(ip));
    let name = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => format!("outside-{:08x}", ip.to_bits()),
        IpAddr::V6(ip) => format!("outside-{:032x}", ip.to_bits()),
    };
    addresses.filter(|ip| !is_known(ip)).map(|ip| (ip, name(ip))).collect()
}

fn node_object(node: &format::Node, ranges: &[IpNet]) -> Value {
    let address = |ip: &IpAddr| json!({ "type": "InternalIP", "address": ip });
    let addresses: Vec<_> = node.ips.iter().map(address).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name, "labels": node.labels },
        "spec": { "podCIDRs": ranges },
        "status": { "addresses": addresses },
    })
}

/// A Secret with a certificate of its own.
fn secret_object(secret: &format::l7::Secret) -> Result<Value, Broken> {
    let format::l7::Secret { namespace, name, hosts } = secret;
    let issued = authority::self_signed(hosts)
        .map_err(|error| Broken(format!("no certificate for {name}: {error}")))?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": { "namespace": namespace, "name": name },
        "stringData": { "tls.crt": issued.certificate, "tls.key": issued.key },
    }))
}

fn pod_object(pod: &Pod) -> Value {
    let port = |port: &format::Port| {
        let mut object = json!({ "containerPort": port.port, "protocol": port.protocol.name() });
        for (key, value) in [
            ("name", port.name.as_ref().map(|name| json!(name))),
            ("hostPort", port.host_port.map(|port| json!(port))),
            ("hostIP", port.host_ip.map(|ip| json!(ip))),
        ] {
            if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
                members.insert(key.to_owned(), value);
            }
        }
        object
    };
    let ports: Vec<_> = pod.ports.iter().map(port).collect();
    let ips: Vec<_> = pod.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": pod.namespace, "name": pod.name, "labels": pod.labels },
        "spec": {
            "nodeName": pod.node,
            "hostNetwork": pod.host_network,
            "containers": [{ "name": "main", "image": "echo", "ports": ports }],
        },
        "status": {
            "phase": "Running",
            "podIPs": ips,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}
