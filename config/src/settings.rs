//! What lab.toml says beside its objects, completed with defaults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::dns_settings::DnsSettings;
use crate::gateway_settings::GatewaySettings;
use crate::policy_settings::PolicySettings;
use crate::syntax;

/// Every setting of a lab.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[lab]`.
    pub lab: LabSettings,
    /// `[cluster]`.
    pub cluster: ClusterSettings,
    /// `[switch]`.
    pub switch: SwitchSettings,
    /// `[policy]`.
    pub policy: PolicySettings,
    /// `[load-balancers]`.
    pub gateway: GatewaySettings,
    /// `[dns]`.
    pub dns: DnsSettings,
}

/// `[lab]`: what it is called, and where its objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabSettings {
    /// First part of the name of every namespace of the lab.
    pub name: String,
    /// File names or globs of Kubernetes manifests, relative to [`LabSettings::directory`].
    pub manifests: Vec<String>,
    /// Where the lab file is.
    pub directory: PathBuf,
    /// Whether containers run their commands, as far as these are programs of this machine; else the
    /// echo server stands in for all of them.
    pub run_commands: bool,
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            name: "lab".into(),
            manifests: Vec::new(),
            directory: PathBuf::new(),
            run_commands: true,
        }
    }
}

/// How the fabric reaches pods on other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Pod ranges are known to the fabric; nobody writes routes.
    #[default]
    VpcNative,
    /// A static route per node; without a route there is no traffic.
    RoutesBased,
}

/// How strictly addresses are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// Ranges do not overlap, and addresses lie in the ranges that they belong to.
    #[default]
    Checked,
    /// Addresses come from elsewhere, with reasons of their own, and are taken as they are; only the
    /// same address twice is refused.
    AsGiven,
}

/// How pods hang on their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodLink {
    /// On a bridge shared by the pods of the node.
    #[default]
    Bridged,
    /// Each alone on a link to its node, which is a hop between them.
    Routed,
}

/// `[cluster]`: addresses, and how they are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// How the fabric reaches pods.
    pub mode: Mode,
    /// How pods hang on their node.
    pub pod_link: PodLink,
    /// How strictly addresses are judged; not a key of lab.toml.
    pub addressing: Addressing,
    /// Ranges that node pod ranges are carved from; at most one per family is carved.
    pub pod_cidrs: Vec<IpNet>,
    /// Ranges of cluster IPs, at most one per family; the first is the default family.
    pub service_cidrs: Vec<IpNet>,
    /// Ranges of node addresses, at most one per family; the first address is the edge router's.
    pub node_cidrs: Vec<IpNet>,
    /// Prefix lengths of the pod ranges of nodes.
    pub node_range_sizes: RangeSizes,
    /// DNS domain of the cluster, without a final dot.
    pub domain: String,
    /// Addresses of the cluster's DNS, one per family: the tenth of each service range.
    pub dns_addresses: Vec<IpAddr>,
    /// Largest IP packet on links to pods, nodes and externals, octets.
    pub mtu: u16,
    /// Who leaves under another address.
    pub masquerade: Masquerade,
    /// Ranges that load balancer addresses are taken from.
    pub load_balancer_pools: Vec<IpNet>,
    /// Node ports.
    pub node_ports: NodePorts,
    /// Static routes of [`Mode::RoutesBased`]; `None`: one for every pod range of every node.
    pub routes: Option<Vec<StaticRoute>>,
    /// What becomes of nodes that fall silent, and of their pods.
    pub silence: Silence,
}

/// How long a node may be silent, and how long its pods are kept after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Until it counts as not ready.
    ///
    /// Source: kube-controller-manager `--node-monitor-grace-period`.
    pub grace: Duration,
    /// From then until pods end that say nothing else.
    ///
    /// Source: kube-apiserver `--default-unreachable-toleration-seconds`.
    pub toleration: Duration,
}

impl Default for Silence {
    fn default() -> Self {
        Self { grace: Duration::from_secs(50), toleration: Duration::from_mins(5) }
    }
}

const fn v4(a: u8, b: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), length))
}

const fn v6(a: u16, b: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length))
}

impl Default for ClusterSettings {
    fn default() -> Self {
        let [pod_cidr, _] = Self::POD_CIDRS;
        let [service_cidr, _] = Self::SERVICE_CIDRS;
        let [node_cidr, _] = Self::NODE_CIDRS;
        Self {
            mode: Mode::VpcNative,
            pod_link: PodLink::Bridged,
            addressing: Addressing::Checked,
            pod_cidrs: vec![pod_cidr],
            service_cidrs: vec![service_cidr],
            node_cidrs: vec![node_cidr],
            node_range_sizes: RangeSizes::default(),
            domain: "cluster.local".into(),
            dns_addresses: syntax::first_addresses(&[service_cidr], 10),
            mtu: 1500,
            masquerade: Masquerade::default(),
            load_balancer_pools: Vec::new(),
            node_ports: NodePorts::default(),
            routes: None,
            silence: Silence::default(),
        }
    }
}

impl ClusterSettings {
    /// [`ClusterSettings::pod_cidrs`] of each family, where they are not written.
    pub const POD_CIDRS: [IpNet; 2] = [v4(10, 4, 14), v6(0xfd00, 4, 48)];
    /// [`ClusterSettings::service_cidrs`] of each family, where they are not written.
    pub const SERVICE_CIDRS: [IpNet; 2] = [v4(10, 8, 20), v6(0xfd00, 8, 112)];
    /// [`ClusterSettings::node_cidrs`] of each family, where they are not written.
    pub const NODE_CIDRS: [IpNet; 2] = [v4(10, 128, 20), v6(0xfd00, 0x128, 64)];

    /// Addresses of the edge router among the nodes: the first of each node range.
    pub fn edge_addresses(&self) -> Vec<IpAddr> {
        syntax::first_addresses(&self.node_cidrs, 1)
    }

    /// Whether cluster IPs of both families can be had.
    pub fn is_dual_stack(&self) -> bool {
        self.service_cidrs.iter().any(|range| range.addr().is_ipv4())
            && self.service_cidrs.iter().any(|range| range.addr().is_ipv6())
    }
}

/// Prefix lengths of the pod ranges of nodes, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSizes {
    /// IPv4.
    pub v4: u8,
    /// IPv6; where a pod CIDR is too small for it, a /112.
    pub v6: u8,
}

impl Default for RangeSizes {
    fn default() -> Self {
        Self { v4: 24, v6: 64 }
    }
}

/// Which packets of pods leave with an address of their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Packets from pods to outside [`Masquerade::exempt`].
    pub egress: bool,
    /// Targets to which pods keep their own address.
    pub exempt: Vec<IpNet>,
    /// Traffic to cluster IPs too, whoever sends it.
    pub all: bool,
}

impl Default for Masquerade {
    /// The ranges of GKE's ip-masq-agent, and their counterparts in IPv6.
    fn default() -> Self {
        Self {
            egress: true,
            exempt: vec![
                v4(10, 0, 8),
                v4(172, 16, 12),
                v4(192, 168, 16),
                v4(169, 254, 16),
                v6(0xfc00, 0, 7),
                v6(0xfe80, 0, 10),
            ],
            all: false,
        }
    }
}

/// Where node ports are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePorts {
    /// Ports that may be allocated or asked for, host order.
    pub range: RangeInclusive<u16>,
    /// Node addresses they listen on; empty: the primary address of each family.
    pub addresses: Vec<IpNet>,
    /// Whether 127.0.0.1 of a node offers them too.
    pub localhost: bool,
}

impl Default for NodePorts {
    fn default() -> Self {
        Self { range: 30_000..=32_767, addresses: Vec::new(), localhost: false }
    }
}

/// A route of the fabric to a pod range by way of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticRoute {
    /// Where to.
    pub to: IpNet,
    /// Name of the node that is the next hop.
    pub node: String,
}

/// `[switch]`: how the switch itself runs.
#[derive(Clone, Debug, PartialEq)]
pub struct SwitchSettings {
    /// Pinned threads; `None`: as many as the machine allows.
    pub workers: Option<NonZeroUsize>,
    /// Flows that conntrack holds at the same time.
    pub conntrack_flows: usize,
    /// How long a worker polls on after its last frame before it sleeps.
    pub spin: Duration,
    /// How workers read and write frames.
    pub io: FrameIo,
    /// Whether pods hand over large segments and unfinished checksums.
    pub offloads: bool,
    /// Whether datagrams of a flow that come together and leave together are handed over as one frame.
    pub coalesce: bool,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The file with the token that whoever reads them must know; `None`: anybody may.
    pub metrics_token: Option<PathBuf>,
    /// How long flows may stay silent.
    pub timeouts: Timeouts,
    /// What one machine may take of the tables that all share.
    pub limits: Limits,
    /// Seed of every random choice; `None`: another one at each start.
    pub seed: Option<u64>,
    /// Whether pods are held to their own addresses.
    pub anti_spoof: bool,
}

impl SwitchSettings {
    /// Where metrics are served unless told otherwise.
    pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

    /// Flows that one machine may have begun and nobody has answered.
    pub fn half_open_flows(&self) -> u32 {
        let quarter = || u32::try_from(self.conntrack_flows / 4).unwrap_or(u32::MAX);
        self.limits.half_open_flows.unwrap_or_else(quarter)
    }
}

impl Default for SwitchSettings {
    fn default() -> Self {
        Self {
            workers: None,
            conntrack_flows: 262_144,
            spin: Duration::from_micros(100),
            io: FrameIo::Auto,
            offloads: true,
            coalesce: true,
            metrics: Some(Self::METRICS),
            metrics_token: None,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            seed: None,
            anti_spoof: true,
        }
    }
}

/// How workers read and write frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameIo {
    /// The better of the others that the machine permits.
    #[default]
    Auto,
    /// Many at a time, by io_uring; the lab does not start where that is forbidden.
    IoUring,
    /// One at a time.
    ReadWrite,
}

/// What one machine (a pod, a node's own stack, a host outside) may take of the tables that all
/// share, so that one that is not well leaves the others theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows that it began and nobody has answered; `None`: a quarter of
    /// [`SwitchSettings::conntrack_flows`].
    pub half_open_flows: Option<u32>,
    /// Neighbours that are asked for on its behalf and have not answered.
    pub neighbours: u32,
    /// Ethernet addresses learned from it, beside its own.
    pub learned_addresses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { half_open_flows: None, neighbours: 256, learned_addresses: 1024 }
    }
}

/// How long a flow may stay silent in each state before it is forgotten.
///
/// Source: linux `Documentation/networking/nf_conntrack-sysctl.rst`; kube-proxy's
/// `--conntrack-tcp-timeout-established` and `--conntrack-tcp-timeout-close-wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A SYN was seen.
    pub tcp_syn_sent: Duration,
    /// A SYN and its answer were seen.
    pub tcp_syn_received: Duration,
    /// Data may flow both ways.
    pub tcp_established: Duration,
    /// A connection was met in the middle, and only one side was heard.
    pub tcp_unacknowledged: Duration,
    /// One side has closed.
    pub tcp_fin_wait: Duration,
    /// The other side has answered that.
    pub tcp_close_wait: Duration,
    /// Both sides have closed, the last answer is outstanding.
    pub tcp_last_ack: Duration,
    /// Everything was answered.
    pub tcp_time_wait: Duration,
    /// A reset was seen.
    pub tcp_close: Duration,
    /// Only one side has sent.
    pub udp: Duration,
    /// Both sides have sent.
    pub udp_stream: Duration,
    /// Echo requests and their answers.
    pub icmp: Duration,
    /// SCTP associations.
    pub sctp: Duration,
    /// All other protocols.
    pub generic: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tcp_syn_sent: seconds(120),
            tcp_syn_received: seconds(60),
            tcp_established: seconds(86_400),
            tcp_unacknowledged: seconds(300),
            tcp_fin_wait: seconds(120),
            tcp_close_wait: seconds(3_600),
            tcp_last_ack: seconds(30),
            tcp_time_wait: seconds(120),
            tcp_close: seconds(10),
            // Linux has 30 s here; RFC 4787 REQ-5 asks for two minutes of any mapping
            udp: seconds(120),
            udp_stream: seconds(120),
            // and a minute of an echo's, where it has 30 s too: RFC 5508 REQ-2
            icmp: seconds(60),
            sctp: seconds(432_000),
            generic: seconds(600),
        }
    }
}
