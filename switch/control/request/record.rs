//! The switch's own records, for which Kubernetes has no object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Record;
use crate::dataplane::link::Toll;

/// A port of the switch and what it carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRecord {
    /// What it is called: `default/client`, `node/node-a`, `ext/internet`.
    pub name: String,
    /// What is behind it: `pod`, `node` or `external`.
    pub role: String,
    /// The node whose router its frames meet first; `None` outside the cluster.
    pub node: Option<String>,
    /// Ethernet address of the machine behind it.
    pub mac: String,
    /// Addresses of the machine behind it.
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet the link carries, octets.
    pub mtu: u16,
    /// What came from the machine.
    pub received: Traffic,
    /// What went to the machine.
    pub sent: Traffic,
    /// Frames that were not sent because the machine's queue was full.
    pub send_busy: u64,
}

/// A link, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// Whose: `default/client`, `ext/internet`; `node/node-a` for that of a node to the fabric.
    pub name: String,
    /// From the machine; `None` where nothing is wrong.
    pub from: Option<LaneRecord>,
    /// To the machine.
    pub to: Option<LaneRecord>,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRecord {
    /// What is wrong, in words.
    pub faults: String,
    /// `lab file`, or `asked for`.
    pub origin: String,
    /// What befell frames since.
    pub toll: TollRecord,
}

/// What befell frames on one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TollRecord {
    /// Came to the link.
    pub frames: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because nothing passes.
    pub cut: u64,
    /// Lost because too many waited.
    pub full: u64,
    /// Came twice.
    pub duplicated: u64,
    /// Were changed.
    pub corrupted: u64,
    /// Overtook others.
    pub reordered: u64,
    /// Were held back.
    pub delayed: u64,
}

impl From<Toll> for TollRecord {
    fn from(toll: Toll) -> Self {
        let Toll { frames, lost, cut, full, duplicated, corrupted, reordered, delayed } = toll;
        Self { frames, lost, cut, full, duplicated, corrupted, reordered, delayed }
    }
}

/// Frames and their octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Octets of those frames.
    pub octets: u64,
}

/// A worker, and what a frame takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRecord {
    /// What it is called: `worker-0`.
    pub name: String,
    /// The processor it is pinned to.
    pub core: usize,
    /// How it reads and writes frames: `io-uring`, `read-write`, or `auto` where neither could be
    /// tried and io_uring is used if the kernel permits it.
    pub io: String,
    /// Frames of known flows and first frames of new ones that it carried.
    pub frames: u64,
    /// Nanoseconds in which a frame was received, on average of a sample since the start; `None`
    /// before the first.
    pub receive_nanos: Option<u64>,
    /// Nanoseconds in which it was parsed, looked up, judged and rewritten.
    pub judge_nanos: Option<u64>,
    /// Nanoseconds in which it was sent, the work of the receiver's protocol stack included.
    pub send_nanos: Option<u64>,
}

/// A route of one router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRecord {
    /// The router: a node's name, or `edge`.
    pub router: String,
    /// The addresses it is for, as a CIDR.
    pub prefix: String,
    /// Where they go: `router`, `host`, `connected`, `discard` or `blackhole`.
    pub action: String,
    /// The next router, or the address of the host, where they go to one.
    pub via: Option<String>,
}

/// A machine outside that was asked for or heard of, or one that claims another's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighbourRecord {
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, if it answered.
    pub mac: Option<String>,
    /// The port that it is behind, if it answered.
    pub port: Option<String>,
    /// The bridge: a node's name, or `uplink`.
    pub segment: String,
    /// `reachable`, `stale`, `incomplete`, `failed`, or `duplicate` for a claim to the address of
    /// another machine.
    pub state: String,
    /// Seconds since it was last heard, became stale, or was asked.
    pub age_seconds: f64,
}

/// What a bridge knows of an Ethernet address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FdbRecord {
    /// The bridge: its node's name, or `uplink`.
    pub segment: String,
    /// The Ethernet address.
    pub mac: String,
    /// The port it is behind.
    pub port: String,
    /// Seconds since it was last seen; `None` if it is known without having been.
    pub age_seconds: Option<f64>,
}

/// A live flow in one direction and the rewrite it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRecord {
    /// `TCP`, `UDP`, `SCTP`, `ICMP` or `ICMPv6`.
    pub protocol: String,
    /// State of the conversation, as `established`.
    pub state: String,
    /// Where its first packet came from, `address:port`.
    pub source: String,
    /// Where its first packet was sent to.
    pub target: String,
    /// Where its replies come from: the endpoint, if the target is a Service.
    pub reply_source: String,
    /// Where its replies go to: the node, if the source is masqueraded.
    pub reply_target: String,
    /// Seconds until it is forgotten, unless it speaks again.
    pub expires_seconds: f64,
}

/// How full conntrack is, and what happened to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConntrackStats {
    /// Flows in it, each direction once.
    pub entries: u64,
    /// Flows it has room for.
    pub capacity: u64,
    /// Events since the start, by name, as `inserted` or `expired`.
    pub events: BTreeMap<String, u64>,
}

impl Record for PortRecord {
    const KIND: &'static str = "Port";
}

impl Record for LinkRecord {
    const KIND: &'static str = "Link";
}

impl Record for WorkerRecord {
    const KIND: &'static str = "Worker";
}

impl Record for RouteRecord {
    const KIND: &'static str = "Route";
}

impl Record for NeighbourRecord {
    const KIND: &'static str = "Neighbour";
}

impl Record for FdbRecord {
    const KIND: &'static str = "FdbEntry";
}

impl Record for FlowRecord {
    const KIND: &'static str = "Flow";
}

impl Record for ConntrackStats {
    const KIND: &'static str = "ConntrackStats";
}
