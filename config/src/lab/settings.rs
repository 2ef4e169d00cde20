//! `[lab]`, `[cluster]` and `[switch]`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

use super::fields::Fields;
use crate::error::{Findings, Origin};
use crate::path::Field;
use crate::settings::{
    ClusterSettings, FrameIo, LabSettings, Limits, Masquerade, Mode, NodePorts, PodLink,
    RangeSizes, Silence, StaticRoute, SwitchSettings, Timeouts,
};
use crate::syntax::{self, Refused};
use crate::tree::{Tree, Value};

/// Pinned threads that may be asked for.
const WORKERS: i64 = 128;
/// Flows that conntrack may be asked to hold: more would not fit a machine's memory.
const FLOWS: i64 = 1 << 26;
/// Octets of the longest IP packet behind an Ethernet header that a buffer takes.
const MTU: i64 = 65_521;

/// `[lab]`.
pub(super) fn lab(
    tree: &Tree<'_>,
    origin: &Origin,
    directory: &Path,
    findings: &mut Findings,
) -> LabSettings {
    let mut fields = Fields::new(tree, origin, findings);
    let name = fields.parsed("name", |name| syntax::dns_label(name).map(|()| name.to_owned()));
    if !fields.has("name") {
        let help = "write name = \"…\"; the namespaces of the lab are called by it";
        fields.error(Field::of("name"), "the lab has no name", help);
    }
    let manifests = fields.texts("manifests").unwrap_or_default();
    let run_commands = fields.bool("run-commands").unwrap_or(true);
    fields.finish();
    LabSettings {
        name: name.unwrap_or_else(|| "lab".into()),
        manifests: manifests.into_iter().map(|(_, text)| text.to_owned()).collect(),
        directory: directory.to_owned(),
        run_commands,
    }
}

/// `[cluster]`.
pub(super) fn cluster(
    tree: &Tree<'_>,
    origin: &Origin,
    findings: &mut Findings,
) -> ClusterSettings {
    let default = ClusterSettings::default();
    let mut fields = Fields::new(tree, origin, findings);
    let modes = [("vpc-native", Mode::VpcNative), ("routes-based", Mode::RoutesBased)];
    let mode = fields.choice("mode", &modes);
    let links = [("bridged", PodLink::Bridged), ("routed", PodLink::Routed)];
    let pod_link = fields.choice("pod-link", &links);
    let ranges = Ranges::read(&mut fields);
    let node_range_sizes = RangeSizes {
        v4: fields.number("node-range-size", 8..=30).unwrap_or(default.node_range_sizes.v4),
        v6: fields.number("node-range-size-ipv6", 16..=126).unwrap_or(default.node_range_sizes.v6),
    };
    let domain = fields.parsed("domain", |domain| {
        let domain = domain.trim_end_matches('.');
        syntax::dns_subdomain(domain).map(|()| domain.to_owned())
    });
    let dns_addresses = fields.addresses("dns-addresses");
    let mtu = fields.number("mtu", if ranges.has_v6() { 1280..=MTU } else { 576..=MTU });
    let masquerade = Masquerade {
        egress: fields.bool("masquerade-egress").unwrap_or(default.masquerade.egress),
        exempt: fields.cidrs("non-masquerade-cidrs").unwrap_or(default.masquerade.exempt),
        all: fields.bool("masquerade-all").unwrap_or(default.masquerade.all),
    };
    let load_balancer_pools = fields.cidrs("load-balancer-pools").unwrap_or_default();
    let node_ports = NodePorts {
        range: fields
            .parsed("node-port-range", syntax::port_range)
            .unwrap_or(default.node_ports.range),
        addresses: fields.cidrs("node-port-addresses").unwrap_or_default(),
        localhost: fields.bool("localhost-node-ports").unwrap_or(default.node_ports.localhost),
    };
    let routes = routes(&mut fields);
    let silence = Silence {
        grace: fields.duration("node-monitor-grace-period").unwrap_or(default.silence.grace),
        toleration: fields
            .duration("default-unreachable-toleration")
            .unwrap_or(default.silence.toleration),
    };
    fields.finish();
    ClusterSettings {
        mode: mode.unwrap_or_default(),
        pod_link: pod_link.unwrap_or_default(),
        addressing: default.addressing,
        dns_addresses: dns_addresses.unwrap_or_else(|| ranges.dns_addresses()),
        pod_cidrs: ranges.pod,
        service_cidrs: ranges.service,
        node_cidrs: ranges.node,
        node_range_sizes,
        domain: domain.unwrap_or(default.domain),
        mtu: mtu.unwrap_or(default.mtu),
        masquerade,
        load_balancer_pools,
        node_ports,
        routes,
        silence,
    }
}

/// The ranges of a cluster; those not written have the families of those that are.
struct Ranges {
    pod: Vec<IpNet>,
    service: Vec<IpNet>,
    node: Vec<IpNet>,
}

impl Ranges {
    fn read(fields: &mut Fields<'_, '_>) -> Self {
        let pod = fields.cidrs("pod-cidrs");
        let service = fields.cidrs("service-cidrs");
        let node = fields.cidrs("node-cidrs");
        let written = pod.iter().chain(&service).chain(&node).flatten();
        let has_v6 = written.clone().any(|range| range.addr().is_ipv6());
        let has_v4 = written.clone().any(|range| range.addr().is_ipv4()) || !has_v6;
        let families = |default: [IpNet; 2]| {
            let [v4, v6] = default;
            [(has_v4, v4), (has_v6, v6)]
                .into_iter()
                .filter_map(|(is_used, range)| is_used.then_some(range))
                .collect::<Vec<_>>()
        };
        Self {
            pod: pod.unwrap_or_else(|| families(ClusterSettings::POD_CIDRS)),
            service: service.unwrap_or_else(|| families(ClusterSettings::SERVICE_CIDRS)),
            node: node.unwrap_or_else(|| families(ClusterSettings::NODE_CIDRS)),
        }
    }

    /// The tenth address of the first Service range of each family.
    fn dns_addresses(&self) -> Vec<IpAddr> {
        let of = |is_v4| self.service.iter().find(move |range| range.addr().is_ipv4() == is_v4);
        let mut ranges: Vec<_> = [of(true), of(false)].into_iter().flatten().copied().collect();
        let prefers_v4 = self.service.first().is_none_or(|range| range.addr().is_ipv4());
        ranges.sort_by_key(|range| range.addr().is_ipv4() != prefers_v4);
        syntax::first_addresses(&ranges, 10)
    }

    fn has_v6(&self) -> bool {
        self.pod.iter().chain(&self.service).chain(&self.node).any(|range| range.addr().is_ipv6())
    }
}

/// `routes = "automatic"`, or a list of `{ to, node }`.
fn routes(fields: &mut Fields<'_, '_>) -> Option<Vec<StaticRoute>> {
    let (tree, origin) = fields.table("routes")?;
    let Value::List(items) = &tree.value else {
        fields.choice("routes", &[("automatic", ())]);
        return None;
    };
    let mut routes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let origin = origin.part(origin.base.clone().index(index));
        let mut fields = fields.below(item, &origin);
        let to = fields.parsed("to", syntax::cidr);
        let node = fields.text("node").map(str::to_owned);
        if !(fields.has("to") && fields.has("node")) {
            let help = "write { to = \"10.4.1.0/24\", node = \"node-a\" }";
            fields.error(Field::default(), "a route needs `to` and `node`", help);
        }
        fields.finish();
        routes.extend(to.zip(node).map(|(to, node)| StaticRoute { to, node }));
    }
    Some(routes)
}

/// `[switch]`.
pub(super) fn switch(
    tree: &Tree<'_>,
    origin: &Origin,
    directory: &Path,
    findings: &mut Findings,
) -> SwitchSettings {
    let default = SwitchSettings::default();
    let mut fields = Fields::new(tree, origin, findings);
    let workers = fields.number::<usize>("workers", 1..=WORKERS);
    let metrics = fields.parsed("metrics", |text| match text {
        "off" => Ok(None),
        text => text.parse::<SocketAddr>().map(Some).map_err(|_| Refused {
            message: format!("{text:?} is not an address with a port"),
            help: "write it as in \"127.0.0.1:9464\", or \"off\"".into(),
        }),
    });
    let metrics_token = fields.text("metrics-token-file").map(|file| directory.join(file));
    if metrics_token.is_none()
        && let Some(Some(address)) = metrics
        && !address.ip().is_loopback()
    {
        let message = format!("whoever reaches {address} can read what the lab does");
        let help = "name a file with a secret as `metrics-token-file`, or serve on 127.0.0.1";
        fields.error(Field::of("metrics"), message, help);
    }
    let timeouts = match fields.table("timeouts") {
        Some((tree, origin)) => timeouts(fields.below(tree, &origin)),
        None => default.timeouts,
    };
    let limits = match fields.table("limits") {
        Some((tree, origin)) => limits(fields.below(tree, &origin)),
        None => default.limits,
    };
    let settings = SwitchSettings {
        workers: workers.and_then(std::num::NonZeroUsize::new),
        conntrack_flows: fields
            .number("conntrack-flows", 1024..=FLOWS)
            .unwrap_or(default.conntrack_flows),
        spin: fields.duration("spin").unwrap_or(default.spin),
        io: fields
            .choice(
                "io",
                &[
                    ("auto", FrameIo::Auto),
                    ("io-uring", FrameIo::IoUring),
                    ("read-write", FrameIo::ReadWrite),
                ],
            )
            .unwrap_or(default.io),
        offloads: fields.bool("offloads").unwrap_or(default.offloads),
        coalesce: fields.bool("coalesce").unwrap_or(default.coalesce),
        metrics: metrics.unwrap_or(default.metrics),
        metrics_token,
        timeouts,
        limits,
        seed: fields.number("seed", 0..=i64::MAX),
        anti_spoof: fields.bool("anti-spoof").unwrap_or(default.anti_spoof),
    };
    fields.finish();
    settings
}

fn limits(mut fields: Fields<'_, '_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        half_open_flows: fields.number("half-open-flows", 1..=FLOWS).or(default.half_open_flows),
        neighbours: fields.number("neighbours", 1..=FLOWS).unwrap_or(default.neighbours),
        learned_addresses: fields
            .number("learned-addresses", 1..=FLOWS)
            .unwrap_or(default.learned_addresses),
    };
    fields.finish();
    limits
}

fn timeouts(mut fields: Fields<'_, '_>) -> Timeouts {
    let default = Timeouts::default();
    let mut time = |key, default| fields.duration(key).unwrap_or(default);
    let timeouts = Timeouts {
        tcp_syn_sent: time("tcp-syn-sent", default.tcp_syn_sent),
        tcp_syn_received: time("tcp-syn-received", default.tcp_syn_received),
        tcp_established: time("tcp-established", default.tcp_established),
        tcp_unacknowledged: time("tcp-unacknowledged", default.tcp_unacknowledged),
        tcp_fin_wait: time("tcp-fin-wait", default.tcp_fin_wait),
        tcp_close_wait: time("tcp-close-wait", default.tcp_close_wait),
        tcp_last_ack: time("tcp-last-ack", default.tcp_last_ack),
        tcp_time_wait: time("tcp-time-wait", default.tcp_time_wait),
        tcp_close: time("tcp-close", default.tcp_close),
        udp: time("udp", default.udp),
        udp_stream: time("udp-stream", default.udp_stream),
        icmp: time("icmp", default.icmp),
        sctp: time("sctp", default.sctp),
        generic: time("generic", default.generic),
    };
    fields.finish();
    timeouts
}
