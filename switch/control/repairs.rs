//! Machines that lost their interface or their namespace behind the switch's back, and get new ones.
//!
//! A kubelet gives a pod whose sandbox is gone another one, and so does this: the machine is made
//! again under the same name and addresses, and its programs and listeners start again. All others
//! go on meanwhile; what is sent to the lost one is dropped as `port_gone`. A machine whose interface
//! was handed over to the switch waits until there is one of that name again.
//!
//! A worker that reads from a device that is gone counts that ([`PortCounters::gone`]). What a
//! namespace is called nobody tells of, so that is looked at now and then.
//!
//! [`PortCounters::gone`]: crate::dataplane::counters::PortCounters::gone

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kswitch_config::PlannedPort;
use kswitch_tables::PortId;
use nix::net::if_::if_nametoindex;

use super::INTERFACE;
use super::answer::Office;
use super::running::{Error, Running};
use crate::lab::namespace;
use crate::threads;

/// How often is looked whether namespaces are still called what they were.
const LOOK: Duration = Duration::from_secs(2);

/// How long a machine that was made again, or could not be, is left alone.
const PAUSE: Duration = Duration::from_secs(10);

/// What a machine has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Interface,
    Namespace,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "interface",
            Self::Namespace => "network namespace",
        })
    }
}

/// How long to wait for threads when there are none.
const SHORT: Duration = Duration::from_secs(2);

/// What was seen, and done about it.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// How often workers found the device of a port gone, as far as that was looked into.
    seen: BTreeMap<PortId, u64>,
    /// When namespaces were looked at.
    looked: Option<Instant>,
    /// When machines were made again.
    made: BTreeMap<PortId, Instant>,
    /// Machines of which was told that they wait for an interface.
    waiting: BTreeSet<PortId>,
    /// When to try once more what has failed.
    again: Option<Instant>,
    /// Machines made again so far.
    count: u64,
    /// When to try once more what was left undone for want of threads.
    short: Option<Instant>,
}

impl Repairs {
    /// Machines made again so far.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}

impl Office {
    /// Makes those machines again that have lost what they need.
    pub(super) fn look_after_machines(&self) {
        let now = Instant::now();
        if !self.with_running(|running| running.needs_repair(now)).unwrap_or(false) {
            return;
        }
        let _turn = self.turn();
        self.with_running(|running| running.repair(now));
    }

    /// Has everybody listen who could not for want of a thread, as soon as there are some.
    pub(super) fn catch_up_with_threads(&self) {
        self.with_running(|running| running.catch_up_with_threads(Instant::now()));
    }
}

impl Running {
    fn catch_up_with_threads(&mut self, now: Instant) {
        match self.repairs.short {
            None if threads::left_undone() => {
                self.repairs.short = Some(now + SHORT);
                self.tell_of_switch("short_of_threads", &threads::short().to_string());
            }
            Some(again) if again <= now => {
                threads::left_undone();
                self.listen();
                let is_short = threads::left_undone();
                self.repairs.short = is_short.then(|| now + SHORT);
                if !is_short {
                    self.tell_of_switch("renewed", "there are threads again");
                }
            }
            _ => {}
        }
    }

    fn tell_of_switch(&self, verdict: &str, meaning: &str) {
        tracing::warn!("{meaning}");
        self.monitor.machine("switch", verdict, meaning);
    }

    /// Whether there may be machines to be made again.
    fn needs_repair(&mut self, now: Instant) -> bool {
        let is_due = |then: Option<Instant>, pause| {
            then.is_none_or(|then| now.saturating_duration_since(then) >= pause)
        };
        let has_failed = self.repairs.again.is_some_and(|again| again <= now);
        let is_suspect = self.ports().any(|port| self.is_suspect(port.id));
        if is_due(self.repairs.looked, LOOK) {
            self.repairs.looked = Some(now);
            return true;
        }
        has_failed || is_suspect
    }

    /// Whether a worker found the device of a port gone that was not looked into yet.
    fn is_suspect(&self, id: PortId) -> bool {
        self.switch.times_gone(id) > self.repairs.seen.get(&id).copied().unwrap_or_default()
    }

    /// What a machine has lost, if anything.
    fn lost(&self, port: &PlannedPort) -> Option<Lost> {
        if !self.has_namespace(&port.namespace) {
            return Some(Lost::Namespace);
        }
        let is_waiting = self.repairs.waiting.contains(&port.id);
        (is_waiting || (self.is_suspect(port.id) && !has_interface(port)))
            .then_some(Lost::Interface)
    }

    fn repair(&mut self, now: Instant) {
        let is_recent = |made: &Instant| now.saturating_duration_since(*made) < PAUSE;
        self.repairs.made.retain(|_, made| is_recent(made));
        let suspects: Vec<_> = self.ports().cloned().collect();
        let mut lost = Vec::new();
        for port in suspects {
            let what = self.lost(&port);
            let Some(what) = what else {
                self.repairs.seen.insert(port.id, self.switch.times_gone(port.id));
                continue;
            };
            if port.interface.is_some() && !has_interface(&port) {
                if self.repairs.waiting.insert(port.id) {
                    self.tell(&port, "lost", &format!("it waits for the {what} that it lost"));
                }
            } else if !self.repairs.made.contains_key(&port.id) {
                self.tell(&port, "lost", &format!("it has lost its {what} and gets another"));
                lost.push(port);
            }
        }
        let has_failed = self.repairs.again.take_if(|again| *again <= now).is_some();
        if lost.is_empty() && !has_failed {
            return;
        }
        for port in &lost {
            self.repairs.made.insert(port.id, now);
            self.repairs.waiting.remove(&port.id);
            self.repairs.seen.insert(port.id, self.switch.times_gone(port.id));
        }
        match self.renew(&lost) {
            Ok(()) => {
                self.repairs.count += lost.len() as u64;
                for port in &lost {
                    self.tell(port, "renewed", "it was made again");
                }
            }
            Err(error) => {
                self.repairs.again = Some(now + PAUSE);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!("{error}: {}", cause.unwrap_or_default());
            }
        }
    }

    /// Takes machines away and makes them again, as the cluster has them.
    fn renew(&mut self, lost: &[PlannedPort]) -> Result<(), Error> {
        self.remove(lost)?;
        self.change(Arc::clone(&self.cluster))
    }

    fn tell(&self, port: &PlannedPort, verdict: &str, meaning: &str) {
        let name = port.kind.to_string();
        tracing::warn!("{name}: {meaning}");
        self.monitor.machine(&name, verdict, meaning);
    }
}

/// Whether the interface of a machine is there, or nobody can tell.
fn has_interface(port: &PlannedPort) -> bool {
    let is_there = |name: &str| !matches!(if_nametoindex(name), Err(nix::Error::ENODEV));
    match &port.interface {
        // where this process is
        Some(interface) => is_there(&interface.name),
        None => match namespace::enter(&port.namespace, || is_there(INTERFACE)) {
            Ok(is_there) => is_there,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        },
    }
}
