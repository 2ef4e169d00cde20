//! What is asked of a trace, and what it says, in JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::control::request::Record;

/// Which packet is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Who sends it: `[namespace/]pod`, `node/NAME`, `ext/NAME` or an address.
    pub from: String,
    /// Whom it is for: the same, or `[namespace/]service`; then `:PORT`.
    pub to: String,
    /// `tcp`, `udp`, `sctp` or `icmp`; where none is said, that of the port of the Service.
    pub protocol: Option<String>,
    /// The port it is sent from, host order.
    pub source_port: Option<u16>,
    /// The backend, `address:port`, to take wherever it may be taken.
    pub backend: Option<SocketAddr>,
    /// Decides what is left to chance.
    pub seed: u64,
}

/// What would become of the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The machine that would send it.
    pub from: String,
    /// Whom it would be for.
    pub to: String,
    /// `TCP`, `UDP`, `SCTP`, `ICMP` or `ICMPv6`.
    pub protocol: String,
    /// Its source as sent.
    pub source: String,
    /// Its target as sent.
    pub target: String,
    /// `forward`, `drop`, or `reject` where the sender would be told.
    pub verdict: String,
    /// Why it goes no further, as the metrics call it.
    pub reason: Option<String>,
    /// What that means, in one line.
    pub meaning: Option<String>,
    /// The policies that refuse it, and the rule that nearly allows it.
    pub explanation: Option<String>,
    /// Where it would end, `address:port`.
    pub endpoint: Option<String>,
    /// The machine there.
    pub endpoint_name: Option<String>,
    /// Its source as it would arrive.
    pub rewritten_source: Option<String>,
    /// Its target as it would arrive.
    pub rewritten_target: Option<String>,
    /// How much is taken off its TTL on the way.
    pub ttl_spent: Option<u8>,
    /// The backends among which one is chosen.
    #[serde(rename = "endpoints")]
    pub candidates: Vec<Candidate>,
    /// The way there.
    pub hops: Vec<Hop>,
    /// The answer, had somebody answered.
    pub reply: Option<Reply>,
}

/// A backend that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// `address:port`.
    pub endpoint: String,
    /// The machine there.
    pub name: Option<String>,
    /// What becomes of the packet with it: `forward`, `drop` or `reject`.
    pub verdict: String,
    /// Why it would go no further.
    pub reason: Option<String>,
    /// The policies that refuse it.
    pub explanation: Option<String>,
}

/// One decision on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// The machine or router where it is made.
    pub at: String,
    /// The table that makes it: `port`, `frontends`, `source-ranges`, `backends`, `bridge`,
    /// `routes`, `egress-policy`, `ingress-policy`, `masquerade`, `conntrack` or `link`.
    pub table: String,
    /// The object it follows from, as `Service shop/web`.
    pub object: Option<String>,
    /// What of the object decides.
    pub rule: Option<String>,
    /// The file in which that is written.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is decided.
    pub decision: String,
    /// What changes of the packet.
    pub rewrite: Option<String>,
}

/// What would become of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// Its source as sent.
    pub source: String,
    /// Its target as sent.
    pub target: String,
    /// `forward`, `drop` or `reject`.
    pub verdict: String,
    /// Why it goes no further.
    pub reason: Option<String>,
    /// Its source as it would arrive.
    pub rewritten_source: Option<String>,
    /// Its target as it would arrive.
    pub rewritten_target: Option<String>,
    /// The way back.
    pub hops: Vec<Hop>,
}

impl Record for Report {
    const KIND: &'static str = "Trace";
}
