//! Who may talk to whom, pod by pod.

mod expected;

use std::fmt;
use std::net::IpAddr;

use kswitch_tables::policy::{Contact, Denied};
use kswitch_tables::{Address, Protocol, Snapshot};

pub use expected::{Difference, ExpectedTable};

use crate::{Cluster, Pod};

/// What policies say about one pod and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// They are the same pod, or share no family of addresses.
    NotAsked,
    /// It may.
    Allowed,
    /// It may, but policies that are only watched would refuse it.
    Audited(Denied),
    /// It may not.
    Denied(Denied),
}

impl Cell {
    /// Whether a connection could be made; `None` where that was not asked.
    pub const fn is_allowed(self) -> Option<bool> {
        match self {
            Self::NotAsked => None,
            Self::Allowed | Self::Audited(_) => Some(true),
            Self::Denied(_) => Some(false),
        }
    }
}

/// A table of pods: rows send, columns receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthTable {
    /// `namespace/name` of the pods, of rows and of columns.
    pub pods: Vec<String>,
    /// Row by row.
    pub cells: Vec<Vec<Cell>>,
}

impl TruthTable {
    /// What the policies of a snapshot say about a port, host order, of every pod that has a
    /// network of its own.
    ///
    /// **Cost**: a judgement for each two pods.
    pub fn new(cluster: &Cluster, snapshot: &Snapshot, protocol: Protocol, port: u16) -> Self {
        let is_listed = |pod: &&Pod| !pod.host_network && !pod.is_finished();
        let pods: Vec<&Pod> = cluster.pods.iter().map(|pod| &**pod).filter(is_listed).collect();
        let cell = |(from, to): (&Pod, &Pod)| match contact(snapshot, from, to, protocol, port) {
            None => Cell::NotAsked,
            Some(contact) => match snapshot.policies.check(&contact) {
                Err(denied) => Cell::Denied(denied),
                Ok(allowed) => allowed.audited.map_or(Cell::Allowed, Cell::Audited),
            },
        };
        let row = |from: &&Pod| pods.iter().map(|to| cell((*from, to))).collect();
        Self {
            pods: pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect(),
            cells: pods.iter().map(row).collect(),
        }
    }

    /// What is said about one pod and another, by their names.
    pub fn get(&self, from: &str, to: &str) -> Option<Cell> {
        let at = |name: &str| self.pods.iter().position(|pod| pod == name);
        self.cells.get(at(from)?)?.get(at(to)?).copied()
    }
}

/// From the first address of a pod to one of the other pod's in the same family.
fn contact(
    snapshot: &Snapshot,
    from: &Pod,
    to: &Pod,
    protocol: Protocol,
    port: u16,
) -> Option<Contact> {
    let is_same = from.namespace == to.namespace && from.name == to.name;
    let pair = |source: &IpAddr| {
        let target = to.addresses.iter().find(|ip| ip.is_ipv4() == source.is_ipv4())?;
        Some((Address::from(*source), Address::from(*target)))
    };
    let (source, target) = from.addresses.iter().find_map(pair).filter(|_| !is_same)?;
    let party = |address| {
        let attached = snapshot.topology.hosts.get(&address)?;
        Some(snapshot.policies.party(address, attached))
    };
    let (source, target) = (party(source)?, party(target)?);
    Some(Contact { source, target, protocol, port, is_translated: false })
}

/// A line for each pod: `.` it may, `X` it may not, `?` it may but would not, `#` not asked. Columns
/// are in the order of the rows.
impl fmt::Display for TruthTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.pods.iter().map(String::len).max().unwrap_or(0);
        for (pod, row) in self.pods.iter().zip(&self.cells) {
            write!(formatter, "{pod:width$}")?;
            for cell in row {
                let sign = match cell {
                    Cell::NotAsked => '#',
                    Cell::Allowed => '.',
                    Cell::Audited(_) => '?',
                    Cell::Denied(_) => 'X',
                };
                write!(formatter, " {sign}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}
