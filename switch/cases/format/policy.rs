//! Policies: who may talk to whom.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Change, HostRef, PodName, Transport};

/// A step of a case about policies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Tables of who may talk to whom.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// Single connections.
    #[serde(default)]
    pub flows: Vec<Flow>,
}

/// A table of who may talk to whom on one port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// By which protocol.
    pub protocol: Transport,
    /// Port, host order.
    pub port: u16,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
    /// Who may talk to whom.
    pub table: Table,
}

/// Rows send, columns receive.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "TableFields")]
pub struct Table {
    /// Who receives.
    pub columns: Vec<PodName>,
    /// Who sends, and what must come of it at each column.
    pub rows: Vec<(PodName, Vec<Cell>)>,
}

/// What must come of a connection from a row to a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It works.
    Allow,
    /// It does not.
    Deny,
    /// Nothing is asked.
    Any,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFields {
    columns: Vec<PodName>,
    rows: BTreeMap<String, String>,
}

impl TryFrom<TableFields> for Table {
    type Error = String;

    fn try_from(fields: TableFields) -> Result<Self, String> {
        let TableFields { columns, rows } = fields;
        let cell = |word: &str| match word {
            "." => Ok(Cell::Allow),
            "X" => Ok(Cell::Deny),
            "#" => Ok(Cell::Any),
            other => Err(format!("{other:?} is none of `.`, `X` and `#`")),
        };
        let row = |(name, cells): (String, String)| {
            let cells = cells.split_whitespace().map(cell).collect::<Result<Vec<_>, _>>()?;
            if cells.len() != columns.len() {
                let (have, want) = (cells.len(), columns.len());
                return Err(format!("row {name} has {have} cells for {want} columns"));
            }
            Ok((PodName::try_from(name)?, cells))
        };
        let rows = rows.into_iter().map(row).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows })
    }
}

/// A single connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Who sends.
    pub from: HostRef,
    /// The node at which packets from outside arrive.
    pub at: Option<String>,
    /// Who receives.
    pub to: Receiver,
    /// By which protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// Port, host order.
    pub port: u16,
    /// What must come of it.
    pub expect: Expect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// Who receives.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ReceiverFields")]
pub enum Receiver {
    /// A machine, at its own address.
    Host(HostRef),
    /// A Service, at its cluster IP.
    Service(PodName),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiverFields {
    pod: Option<String>,
    node: Option<String>,
    external: Option<String>,
    ip: Option<std::net::IpAddr>,
    service: Option<PodName>,
}

impl TryFrom<ReceiverFields> for Receiver {
    type Error = String;

    fn try_from(fields: ReceiverFields) -> Result<Self, String> {
        let ReceiverFields { pod, node, external, ip, service } = fields;
        match service {
            Some(service) if pod.is_none() && node.is_none() && external.is_none() => {
                Ok(Self::Service(service))
            }
            Some(_) => Err("a reference names one receiver".to_owned()),
            None => HostRef::from_words(pod, node, None, external, ip).map(Self::Host),
        }
    }
}

/// What must come of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It works.
    Allow,
    /// It does not.
    Deny,
}

/// An object that must be taken or refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// The object.
    pub object: Value,
    /// What must come of it.
    pub expect: LoadExpect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// What must come of loading an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadExpect {
    /// It is taken.
    Accept,
    /// It is refused.
    Reject,
}
