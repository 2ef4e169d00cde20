//! Every record there should be, written down one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use kswitch_config::{
    Cluster, Data, EmptyServices, Name, Observed, PodRecords, ReverseEndpoints, Type,
    endpoint_slices,
};

const DOMAIN: &str = "cluster.local.";

/// Name, protocol and number.
type Port = (String, String, u16);

/// Records by owner, in text with a final dot. Names without a record stand there empty.
pub(crate) type List = BTreeMap<String, BTreeSet<Data>>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) exists: bool,
    pub(crate) records: BTreeSet<(String, Data)>,
    /// The zone that says that there is nothing.
    pub(crate) zone: Option<String>,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn add(list: &mut List, owner: &str, data: Data) {
    list.entry(owner.to_owned()).or_default().insert(data);
}

pub(crate) fn list(cluster: &Cluster, observed: &Observed) -> List {
    let mut list = List::new();
    let zone = |list: &mut List, zone: &str| {
        add(list, zone, Data::Ns(name("ns.dns.cluster.local")));
        let (server, mailbox) = (name("ns.dns.cluster.local"), name("hostmaster.cluster.local"));
        add(list, zone, Data::Soa { server, mailbox, serial: 0 });
    };
    zone(&mut list, DOMAIN);
    // the pod ranges of all clusters here end with whole labels
    zone(&mut list, "4.10.in-addr.arpa.");
    zone(&mut list, "8.10.in-addr.arpa.");
    zone(&mut list, "4.0.0.0.0.0.d.f.ip6.arpa.");
    zone(&mut list, "8.0.0.0.0.0.d.f.ip6.arpa.");
    add(&mut list, "dns-version.cluster.local.", Data::Txt("1.1.0".into()));
    for address in &cluster.settings.cluster.dns_addresses {
        add(&mut list, "ns.dns.cluster.local.", Data::address(*address));
    }
    list.insert("svc.cluster.local.".into(), BTreeSet::new());
    for namespace in cluster.namespaces.keys() {
        list.insert(format!("{namespace}.svc.cluster.local."), BTreeSet::new());
        if cluster.settings.dns.pod_records != PodRecords::Disabled {
            list.insert(format!("{namespace}.pod.cluster.local."), BTreeSet::new());
        }
    }
    if cluster.settings.dns.pod_records == PodRecords::Verified {
        for pod in &cluster.pods {
            for address in &pod.addresses {
                let owner = format!("{}.{}.pod.cluster.local.", dashed(*address), pod.namespace);
                add(&mut list, &owner, Data::address(*address));
            }
        }
    }
    for service in &cluster.services {
        of_service(&mut list, service, cluster, observed);
    }
    for (owner, data) in &cluster.settings.dns.outside {
        add(&mut list, &owner.to_string(), data.clone());
    }
    add(&mut list, "7.100.51.198.in-addr.arpa.", Data::Ptr(name("www.example.com")));
    list
}

fn of_service(list: &mut List, service: &Service, cluster: &Cluster, observed: &Observed) {
    let (own, namespace) =
        (service.metadata.name.as_deref().unwrap(), service.metadata.namespace.as_deref().unwrap());
    let fqdn = format!("{own}.{namespace}.svc.cluster.local.");
    let spec = service.spec.as_ref().unwrap();
    if spec.type_.as_deref() == Some("ExternalName") {
        add(list, &fqdn, Data::Cname(name(spec.external_name.as_deref().unwrap())));
        return;
    }
    // the ready endpoints, by address: their hostnames and ports
    let mut endpoints: BTreeMap<IpAddr, (BTreeSet<String>, BTreeSet<Port>)> = BTreeMap::new();
    for slice in endpoint_slices(cluster, observed) {
        let labels = slice.metadata.labels.as_ref().unwrap();
        let is_own = labels.get("kubernetes.io/service-name").map(String::as_str) == Some(own);
        if !is_own || slice.metadata.namespace.as_deref() != Some(namespace) {
            continue;
        }
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
                continue;
            }
            let address: IpAddr = endpoint.addresses[0].parse().unwrap();
            let (hostnames, ports) = endpoints.entry(address).or_default();
            hostnames.extend(endpoint.hostname.as_ref().map(|own| own.to_lowercase()));
            for port in slice.ports.iter().flatten() {
                let name = port.name.clone().unwrap_or_default();
                let protocol = port.protocol.clone().unwrap().to_lowercase();
                ports.insert((name, protocol, u16::try_from(port.port.unwrap()).unwrap()));
            }
        }
    }
    let dns = &cluster.settings.dns;
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    if !is_headless {
        if endpoints.is_empty() && dns.empty_services == EmptyServices::DoNotExist {
            return list_addresses(list, spec.cluster_ips.iter().flatten(), &fqdn);
        }
        for address in spec.cluster_ips.iter().flatten() {
            add(list, &fqdn, Data::address(address.parse().unwrap()));
        }
        for port in spec.ports.iter().flatten() {
            let number = u16::try_from(port.port).unwrap();
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let record = Data::Srv { weight: 0, port: number, target: name(&fqdn) };
            add(list, &fqdn, record.clone());
            if let Some(port) = &port.name {
                add(list, &format!("_{port}._{protocol}.{fqdn}"), record);
            }
        }
        list_addresses(list, spec.cluster_ips.iter().flatten(), &fqdn);
    }
    let have_names = is_headless || dns.reverse_endpoints == ReverseEndpoints::All;
    for (address, (hostnames, ports)) in endpoints {
        let labels = if hostnames.is_empty() { [dashed(address)].into() } else { hostnames };
        if is_headless {
            add(list, &fqdn, Data::address(address));
        }
        for label in labels {
            let target = format!("{label}.{fqdn}");
            if have_names {
                add(list, &target, Data::address(address));
                add(list, &reverse(address), Data::Ptr(name(&target)));
            }
            for (port, protocol, number) in &ports {
                let record = Data::Srv { weight: 0, port: *number, target: name(&target) };
                if is_headless {
                    add(list, &fqdn, record.clone());
                }
                if is_headless && !port.is_empty() {
                    add(list, &format!("_{port}._{protocol}.{fqdn}"), record);
                }
            }
        }
    }
}

fn list_addresses<'a>(list: &mut List, ips: impl Iterator<Item = &'a String>, fqdn: &str) {
    for ip in ips {
        add(list, &reverse(ip.parse().unwrap()), Data::Ptr(name(fqdn)));
    }
}

fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(ip) => {
            let digits: String = ip.segments().map(|segment| format!("{segment:04x}")).concat();
            let digits: Vec<String> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa.", digits.join("."))
        }
    }
}

pub(crate) fn answer(list: &List, cluster: &Cluster, text: &str, wanted: Type) -> Expected {
    let mut owner = text.to_lowercase();
    let mut records = BTreeSet::new();
    for step in 0.. {
        let zone = zone(&owner);
        let mut here = list.get(&owner).cloned().unwrap_or_default();
        if cluster.settings.dns.pod_records == PodRecords::Insecure {
            here.extend(insecure(cluster, &owner));
        }
        if let Some(Data::Cname(alias)) = here.iter().find(|data| matches!(data, Data::Cname(_))) {
            records.insert((owner, Data::Cname(alias.clone())));
            if wanted == Type::Cname || step == 8 {
                return Expected { exists: true, records, zone: None };
            }
            owner = alias.to_string();
            continue;
        }
        let exists = !here.is_empty()
            || owner == "."
            || list.keys().any(|have| *have == owner || have.ends_with(&format!(".{owner}")));
        if !exists && zone == "." && step > 0 {
            return Expected { exists: true, records, zone: None };
        }
        let before = records.len();
        // who lists the ports asks for ports
        let is_wanted = |data: &Data| data.is_a(wanted);
        records.extend(here.into_iter().filter(is_wanted).map(|data| (owner.clone(), data)));
        let zone = (records.len() == before).then_some(zone);
        return Expected { exists, records, zone };
    }
    unreachable!()
}

fn insecure(cluster: &Cluster, owner: &str) -> Option<Data> {
    let rest = owner.strip_suffix(".pod.cluster.local.")?;
    let (label, namespace) = rest.split_once('.')?;
    cluster.namespaces.get(namespace)?;
    let v4 = label.replace('-', ".").parse::<IpAddr>();
    v4.or_else(|_| label.replace('-', ":").parse()).ok().map(Data::address)
}

fn zone(owner: &str) -> String {
    let zones = [
        DOMAIN,
        "4.10.in-addr.arpa.",
        "8.10.in-addr.arpa.",
        "4.0.0.0.0.0.d.f.ip6.arpa.",
        "8.0.0.0.0.0.d.f.ip6.arpa.",
    ];
    let is_in = |zone: &&&str| owner == **zone || owner.ends_with(&format!(".{zone}"));
    zones.iter().find(is_in).map_or_else(|| ".".to_owned(), |zone| (*zone).to_owned())
}

/// The ranges whose names the clusters here answer for.
pub(crate) fn ranges() -> [Vec<IpNet>; 2] {
    let nets = |nets: [&str; 2]| nets.map(|net| net.parse().unwrap()).into();
    [nets(["10.4.0.0/16", "fd00:4::/32"]), nets(["10.8.0.0/16", "fd00:8::/32"])]
}
