//! Cluster DNS: questions and what is answered.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Change, HostRef, Word};

/// Configuration of the name server for one case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsSettings {
    /// The cluster's domain.
    pub cluster_domain: Option<String>,
    /// Where the name server is.
    #[serde(rename = "dnsServiceIP")]
    pub dns_service_ip: Option<IpAddr>,
    /// The addresses whose names it answers for.
    #[serde(default)]
    pub reverse_zones: Vec<IpNet>,
    /// What is known of names made of a pod's address.
    #[serde(default)]
    pub pod_records: PodRecords,
    /// What a Service without ready endpoints is; if nothing is said, it exists.
    pub empty_services: Option<EmptyServices>,
    /// What the forwarder knows.
    #[serde(default)]
    pub upstream: Vec<Record>,
    /// Whether endpoints of all Services have names by their address.
    #[serde(rename = "endpointPTRForClusterIPServices", default)]
    pub endpoint_ptr: bool,
}

/// What is known of names made of a pod's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodRecords {
    /// Nothing.
    #[default]
    Disabled,
    /// Any address.
    Insecure,
    /// Addresses of pods.
    Verified,
}

/// What a Service without ready endpoints is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmptyServices {
    /// A name that does not exist.
    Nxdomain,
}

/// A step of a case about DNS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Questions.
    #[serde(default)]
    pub queries: Vec<Query>,
    /// Questions of a resolver with a search list.
    #[serde(default)]
    pub resolve: Vec<Resolve>,
}

/// One question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The name.
    pub name: String,
    /// The type of record.
    #[serde(rename = "type")]
    pub kind: String,
    /// How it is asked; if nothing is said, in every way.
    #[serde(default = "Transport::all")]
    pub transports: Vec<Transport>,
    /// Octets of the largest answer that is taken; 0: nothing is said of it.
    pub edns_size: Option<u16>,
    /// What must be answered.
    pub expect: Expect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

impl Transport {
    fn all() -> Vec<Self> {
        vec![Self::Udp, Self::Tcp]
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// What must be answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The codes that are right; empty: any.
    #[serde(default)]
    pub rcode: OneOrMore,
    /// All that must be answered.
    #[serde(default)]
    pub answers: Vec<Record>,
    /// The zone that says that there is nothing.
    pub soa: Option<String>,
    /// Addresses that may be told beside the answer; no others.
    pub additional: Option<Vec<Record>>,
    /// Whether the answer is cut.
    #[serde(default)]
    pub truncated: bool,
}

/// A word, or a list of words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "WordOrWords")]
pub struct OneOrMore(pub Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum WordOrWords {
    One(String),
    More(Vec<String>),
}

impl From<WordOrWords> for OneOrMore {
    fn from(words: WordOrWords) -> Self {
        match words {
            WordOrWords::One(word) => Self(vec![word]),
            WordOrWords::More(words) => Self(words),
        }
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RecordFields")]
pub struct Record {
    /// Whose it is; `None`: of the name that is asked for.
    pub owner: Option<String>,
    /// Its type.
    pub kind: String,
    /// What it says: an address, a name, a text; of SRV the target.
    pub data: String,
    /// The port, of SRV.
    pub port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFields {
    #[serde(alias = "name")]
    owner: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    data: Option<Word>,
    port: Option<u16>,
    target: Option<String>,
}

impl TryFrom<RecordFields> for Record {
    type Error = String;

    fn try_from(fields: RecordFields) -> Result<Self, String> {
        let RecordFields { owner, kind, data, port, target } = fields;
        let (data, port) = match (kind.as_str(), data, port, target) {
            ("SRV", None, Some(port), Some(target)) => (target, Some(port)),
            ("SRV", ..) => return Err("SRV has `port` and `target`".to_owned()),
            (_, Some(Word(data)), None, None) => (data, None),
            _ => return Err(format!("{kind} has `data`")),
        };
        Ok(Self { owner, kind, data, port })
    }
}

/// A question of a resolver with a search list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Who asks.
    pub from: HostRef,
    /// The name.
    pub name: String,
    /// The type of record.
    #[serde(rename = "type")]
    pub kind: String,
    /// Domains in which it is looked for.
    #[serde(default)]
    pub search: Vec<String>,
    /// Dots from which on a name is first looked for as it is.
    #[serde(default = "one")]
    pub ndots: usize,
    /// What must be found.
    pub expect: Resolved,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

const fn one() -> usize {
    1
}

/// What must be found.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// The whole name that has it.
    pub found_as: String,
    /// All that it has.
    #[serde(default)]
    pub answers: Vec<Record>,
}
