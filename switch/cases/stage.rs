//! Where a case is carried out: in memory, or in a running lab. What is judged is the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::format::Transport;
use super::topology::{Broken, Lab, Machine};

/// A new connection, or a request and its reply.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who opens it.
    pub from: Machine,
    /// From which port, host order; `None`: from one that was not used before.
    pub source_port: Option<u16>,
    /// Where to.
    pub to: SocketAddr,
    /// By which protocol.
    pub transport: Transport,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} -> {} {}", self.from, self.to, self.transport)
    }
}

/// What a listener reports of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Who listens: `namespace/pod`, or what machine it is.
    pub who: String,
    /// At which of its addresses and ports it was reached.
    pub at: SocketAddr,
    /// From where it was reached, as it sees it.
    pub client: SocketAddr,
}

impl Witness {
    /// As listeners send it.
    pub fn to_text(&self) -> String {
        let Self { who, at, client } = self;
        format!("{who} {at} {client}")
    }

    /// Reads what a listener sent.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let who = words.next()?.to_owned();
        Some(Self { who, at: words.next()?.parse().ok()?, client: words.next()?.parse().ok()? })
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, at, client } = self;
        write!(formatter, "served by {who} at {at}, which sees {client}")
    }
}

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered.
    Served(Witness),
    /// It was refused, in these words.
    Refused(String),
    /// Nothing came back.
    Silent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served(witness) => witness.fmt(formatter),
            Self::Refused(how) => write!(formatter, "refused ({how})"),
            Self::Silent => formatter.write_str("no answer"),
        }
    }
}

/// A connection that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What the caller saw.
    pub outcome: Outcome,
    /// Packets of it that reached a machine, where that can be seen.
    pub arrivals: Vec<Arrival>,
    /// Why frames were dropped meanwhile, by the key of the reason, where that can be seen.
    pub drops: Vec<&'static str>,
    /// What else was seen.
    pub remarks: Vec<String>,
}

impl Attempt {
    /// An attempt of which only the outcome is known.
    pub const fn of(outcome: Outcome) -> Self {
        Self { outcome, arrivals: Vec::new(), drops: Vec::new(), remarks: Vec::new() }
    }

    /// Everything that was seen, a line each.
    pub fn story(&self) -> Vec<String> {
        let arrivals = self.arrivals.iter().map(ToString::to_string);
        let drops = self.drops.iter().map(|reason| format!("dropped: {reason}"));
        arrivals.chain(drops).chain(self.remarks.iter().cloned()).collect()
    }
}

/// A packet that reached a machine, as it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The machine.
    pub machine: String,
    /// Source at arrival.
    pub source: SocketAddr,
    /// Target at arrival.
    pub target: SocketAddr,
}

impl fmt::Display for Arrival {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, source, target } = self;
        write!(formatter, "arrived at {machine}: {source} -> {target}")
    }
}

/// What came of a question over HTTP.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// An answer.
    Answer {
        /// Its status.
        status: u16,
        /// Fields of its head; names in lower case.
        headers: Vec<(String, String)>,
        /// Its body, if that is JSON.
        json: Option<Value>,
    },
    /// Nobody answered HTTP.
    Nobody(Outcome),
}

/// A lab that a case is carried out in.
pub trait Bench {
    /// Makes the lab be as it is to be now, and waits until that has an effect.
    ///
    /// # Errors
    /// It cannot be made so.
    fn change(&mut self, lab: &Lab) -> Result<(), Broken>;

    /// Has packets from outside arrive at this node from now on.
    ///
    /// # Errors
    /// They cannot be made to.
    fn enter_at(&mut self, node: &str) -> Result<(), Broken>;

    /// Lets time pass.
    fn pass(&mut self, seconds: u32);

    /// How many frames were dropped so far, by the key of the reason.
    fn drops(&self) -> BTreeMap<&'static str, u64>;
}

/// A lab in which connections can be opened.
pub trait Stage: Bench {
    /// Tries a connection.
    fn call(&mut self, call: &Call) -> Attempt;

    /// Tries connections that have nothing to do with each other, in any order or at once.
    fn call_all(&mut self, calls: &[Call]) -> Vec<Attempt> {
        calls.iter().map(|call| self.call(call)).collect()
    }

    /// Tries a connection that stays open, under a name.
    fn open(&mut self, name: &str, call: &Call) -> Attempt;

    /// Sends data on an open connection.
    ///
    /// # Errors
    /// There is none of that name.
    fn exchange(&mut self, name: &str) -> Result<Attempt, Broken>;

    /// Asks over HTTP.
    fn fetch(&mut self, from: &Machine, to: SocketAddr, path: &str) -> Fetched;

    /// How often to try where chance has a part, with this many backends.
    fn tries(&self, backends: usize) -> u32;

    /// Addresses that a node uses when it stands in for a client.
    fn addresses_of(&self, node: &str) -> Vec<IpAddr>;
}

/// The reasons of which there are more now than before.
pub fn more_drops(
    before: &BTreeMap<&'static str, u64>,
    now: &BTreeMap<&'static str, u64>,
) -> Vec<&'static str> {
    let is_more = |(reason, count): (&&'static str, &u64)| {
        (before.get(reason).copied().unwrap_or(0) < *count).then_some(*reason)
    };
    now.iter().filter_map(is_more).collect()
}
