//! What became of a packet that was tried, in words.

use kswitch_config::{PlannedPort, explain};
use kswitch_tables::policy::{Contact, Denied};
use kswitch_tables::{Endpoint, PortId};

use super::Tables;
use super::probe::Tried;
use super::report::Report;
use crate::dataplane::decision::Decision;
use crate::dataplane::{DropReason, Verdict};
use crate::sim::read::Received;

/// Where a packet ends.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// At a machine.
    Arrives {
        /// The machine's port.
        port: PortId,
        /// What it is called.
        name: String,
        /// The packet as it comes there.
        received: Received,
    },
    /// At the switch, which answers it.
    Answered {
        /// The address that answers.
        at: Option<Endpoint>,
    },
    /// At every machine of its link.
    Flooded,
    /// Nowhere.
    Refused {
        /// Why.
        reason: DropReason,
        /// Whether the sender is told.
        is_told: bool,
        /// The policies and rules that refuse it.
        explanation: Option<String>,
    },
}

/// What became of a packet of the machine on `from`.
pub(super) fn fate(tables: &Tables<'_>, from: &PlannedPort, tried: &Tried) -> Fate {
    let is_told = tried.is_told(from.id);
    match tried.verdict {
        Verdict::Forwarded(port) => match tried.received(port) {
            Some(received) => {
                let name = tables.names.port(port).map(ToString::to_string).unwrap_or_default();
                Fate::Arrives { port, name, received }
            }
            None => Fate::Refused { reason: DropReason::PortGone, is_told, explanation: None },
        },
        Verdict::Answered => {
            let answered = tried.received(from.id).map(|received| received.ends().0);
            Fate::Answered { at: answered }
        }
        Verdict::Flooded | Verdict::Held => Fate::Flooded,
        Verdict::Dropped(reason) => {
            let explanation = denied(tried).map(|(contact, denied)| {
                let policies = &tables.snapshot.policies;
                explain(policies, tables.names.policies(), contact, denied).to_string()
            });
            Fate::Refused { reason, is_told, explanation }
        }
    }
}

/// What policies refused, if they did.
pub(super) fn denied(tried: &Tried) -> Option<(&Contact, &Denied)> {
    tried.decisions.iter().find_map(|decision| match decision {
        Decision::Policy { contact, verdict: Err(denied) } => Some((contact, denied)),
        _ => None,
    })
}

impl Fate {
    /// `forward`, `drop` or `reject`.
    pub(super) const fn verdict(&self) -> &'static str {
        match self {
            Self::Arrives { .. } | Self::Answered { .. } | Self::Flooded => "forward",
            Self::Refused { is_told: true, .. } => "reject",
            Self::Refused { is_told: false, .. } => "drop",
        }
    }

    /// Why it goes no further.
    pub(super) const fn reason(&self) -> Option<DropReason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::Arrives { .. } | Self::Answered { .. } | Self::Flooded => None,
        }
    }

    /// Writes it into a report.
    pub(super) fn tell(&self, report: &mut Report) {
        report.verdict = self.verdict().into();
        match self {
            Self::Arrives { name, received, .. } => {
                report.endpoint = Some(received.ends().1.to_string());
                report.endpoint_name = Some(name.clone());
            }
            Self::Answered { at } => {
                report.endpoint = at.map(|at| at.to_string());
                report.meaning = Some("a router answers it itself".into());
            }
            Self::Flooded => report.meaning = Some("for every machine of its link".into()),
            Self::Refused { reason, explanation, .. } => {
                report.reason = Some(reason.key().into());
                report.meaning = Some(reason.meaning().into());
                report.explanation.clone_from(explanation);
            }
        }
    }
}
