//! Services: connections and who serves them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

use super::{Change, HostRef, Transport};

/// A step of a case about Services.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// New connections.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// Many connections, one after another.
    #[serde(default)]
    pub sequences: Vec<Sequence>,
    /// Questions to health check node ports.
    #[serde(default)]
    pub http: Vec<Http>,
    /// Connections that outlive a step.
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
}

/// One new connection, or request and reply.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Its name.
    pub name: String,
    /// Who sends.
    pub from: HostRef,
    /// The node at which a packet from outside arrives.
    pub at: Option<String>,
    /// Where to.
    pub to: SocketAddr,
    /// By which protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// What must come of it.
    pub expect: Expect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// What must come of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ExpectFields")]
pub enum Expect {
    /// Served.
    Served {
        /// All that may serve it; each must be met.
        backends: Vec<SocketAddr>,
        /// Whether the backend sees an address of the node; `None`: not judged.
        masquerade: Option<bool>,
    },
    /// Refused at once.
    Reject,
    /// Left without an answer.
    Drop,
    /// Not touched: whoever owns the address answers.
    NotAService,
    /// Any of those, as long as no backend is reached.
    NotServed,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Dnat,
    Reject,
    Drop,
    NotAService,
    NotServed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectFields {
    action: Option<Action>,
    backends: Option<Vec<SocketAddr>>,
    masquerade: Option<bool>,
}

impl TryFrom<ExpectFields> for Expect {
    type Error = String;

    fn try_from(fields: ExpectFields) -> Result<Self, String> {
        let ExpectFields { action, backends, masquerade } = fields;
        let expect = match action {
            Some(Action::Dnat) | None => {
                let backends = backends.filter(|all| !all.is_empty());
                let backends = backends.ok_or("`backends` is missing: who may serve it")?;
                return Ok(Self::Served { backends, masquerade });
            }
            Some(Action::Reject) => Self::Reject,
            Some(Action::Drop) => Self::Drop,
            Some(Action::NotAService) => Self::NotAService,
            Some(Action::NotServed) => Self::NotServed,
        };
        // an empty list says the same as none
        if masquerade.is_some() || backends.is_some_and(|all| !all.is_empty()) {
            return Err("`backends` and `masquerade` go with action dnat".to_owned());
        }
        Ok(expect)
    }
}

/// Many connections, one after another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its name.
    pub name: String,
    /// Who sends.
    pub from: HostRef,
    /// The node at which packets from outside arrive.
    pub at: Option<String>,
    /// Where to.
    pub to: SocketAddr,
    /// By which protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// How many.
    pub connections: u32,
    /// Seconds between two of them.
    #[serde(default)]
    pub pause_seconds: u32,
    /// What must come of them.
    pub expect: Among,
}

/// Who must serve a sequence.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Among {
    /// All that may serve it.
    pub among: Vec<SocketAddr>,
    /// How many different ones at least.
    #[serde(default)]
    pub distinct_min: Option<usize>,
    /// How many different ones at most.
    #[serde(default)]
    pub distinct_max: Option<usize>,
}

/// A question to a health check node port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Its name.
    pub name: String,
    /// Who asks.
    pub from: HostRef,
    /// The node at which it arrives.
    pub at: Option<String>,
    /// What is asked for.
    pub url: String,
    /// What must be answered.
    pub expect: HttpExpect,
}

/// What must be answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpExpect {
    /// `refused`, or nothing.
    pub action: Option<HttpAction>,
    /// The status.
    pub status: Option<u16>,
    /// Members that the JSON must have.
    pub json: Option<Value>,
    /// Fields of the head.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// What comes of a connection to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpAction {
    /// It is refused.
    Refused,
}

/// Something on a connection that outlives its step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What is done.
    pub event: Event,
    /// The connection's name.
    pub flow: String,
    /// Who sends; not for `exchange`.
    pub from: Option<HostRef>,
    /// The node at which packets from outside arrive.
    pub at: Option<String>,
    /// From which port, host order.
    pub source_port: Option<u16>,
    /// Where to; not for `exchange`.
    pub to: Option<SocketAddr>,
    /// By which protocol.
    pub protocol: Option<Transport>,
    /// What must come of it.
    pub expect: Expect,
}

/// What is done on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// One datagram.
    Datagram,
    /// A connection is opened.
    Connect,
    /// Data on the open connection.
    Exchange,
}
