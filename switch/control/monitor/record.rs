//! Events as clients see them.

use std::time::SystemTime;

use kswitch_config::{Explanation, FrontendName};
use kswitch_tables::conntrack::{Cause, Death, State};
use kswitch_tables::{Address, Endpoint, Flow};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::control::request::Record;
use crate::dataplane::watch::{Event, What};

/// Something that befell a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// When, as in RFC 3339, to a tenth of a second.
    pub time: String,
    /// `new`, `closed`, `refused`, `audited`, `health` where a load balancer finds a place healthy or
    /// not any more, `machine` where one was made again, or `lost` for events that nobody could be told.
    pub event: String,
    /// `forward`, `drop`, or `audit` where policies that are only watched would refuse; of health
    /// `healthy` or `unhealthy`, of machines `lost` or `renewed`.
    pub verdict: String,
    /// Why it went no further, as the metrics call it.
    pub reason: Option<String>,
    /// What that means, or the policies that refuse it and the rule that nearly allows it.
    pub meaning: Option<String>,
    /// The policies that have a part in it.
    pub policies: Vec<String>,
    /// `TCP`, `UDP`, `SCTP`, `ICMP` or `ICMPv6`.
    pub protocol: Option<String>,
    /// Where its first packet came from, `address:port`.
    pub source: Option<String>,
    /// The machine there.
    pub source_name: Option<String>,
    /// Where its first packet was sent to.
    pub target: Option<String>,
    /// The machine there.
    pub target_name: Option<String>,
    /// The Service that was asked, `namespace/name`, or the host port.
    pub service: Option<String>,
    /// Its source after rewriting, where that is another.
    pub rewritten_source: Option<String>,
    /// Its target after rewriting, where that is another.
    pub rewritten_target: Option<String>,
    /// The machine where it ends.
    pub endpoint_name: Option<String>,
    /// Why it was closed: `finished`, `reset`, `silent`, `displaced`, `removed` or the reason of the
    /// refusal.
    pub cause: Option<String>,
    /// How many events were lost.
    pub count: Option<u64>,
}

impl Record for EventRecord {
    const KIND: &'static str = "Event";
}

impl EventRecord {
    /// A place of a load balancer is found healthy, or not any more.
    pub(super) fn health(service: &str, place: &str, is_healthy: bool, asked: &str) -> Self {
        let word = if is_healthy { "healthy" } else { "unhealthy" };
        Self {
            time: when(SystemTime::now()),
            event: "health".into(),
            verdict: word.into(),
            meaning: Some(format!("{word} for {service}, asked for {asked}")),
            service: Some(service.to_owned()),
            source_name: Some(place.to_owned()),
            ..Self::default()
        }
    }

    /// A machine has lost what it needs, or was made again.
    pub(super) fn machine(name: &str, verdict: &str, meaning: &str) -> Self {
        Self {
            time: when(SystemTime::now()),
            event: "machine".into(),
            verdict: verdict.into(),
            meaning: Some(meaning.to_owned()),
            source_name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// Events that were lost.
    pub(super) fn lost(count: u64) -> Self {
        Self {
            time: when(SystemTime::now()),
            event: "lost".into(),
            count: Some(count),
            ..Self::default()
        }
    }
}

/// What a worker told.
pub(super) fn of(
    subject: &Subject,
    time: SystemTime,
    event: &Event,
    explanation: Option<&Explanation>,
) -> EventRecord {
    let mut record = match &event.flow {
        Some(flow) => about(subject, flow),
        None => EventRecord {
            source_name: subject.names.port(event.ingress).map(ToString::to_string),
            ..EventRecord::default()
        },
    };
    record.time = when(time);
    record.service = event.frontend.and_then(|label| service(subject, label));
    if let Some(explanation) = explanation {
        record.meaning = Some(explanation.to_string());
        record.policies = policies(explanation);
    }
    let mut put = |event: &str, verdict: &str| {
        record.event = event.into();
        record.verdict = verdict.into();
    };
    match &event.what {
        What::Opened(binding) => {
            put("new", "forward");
            if let Some(flow) = &event.flow {
                rewritten(&mut record, flow, (binding.source, binding.target));
            }
            let port = subject.snapshot.topology.hop(binding.hop).map(|hop| hop.port);
            let name = port.and_then(|port| subject.names.port(port));
            record.endpoint_name = name.map(ToString::to_string);
        }
        What::Refused { reason, is_end, .. } => {
            put(if *is_end { "closed" } else { "refused" }, "drop");
            record.reason = Some(reason.key().into());
            record.meaning.get_or_insert_with(|| reason.meaning().into());
            record.cause = is_end.then(|| reason.key().into());
        }
        What::Audited(..) => put("audited", "audit"),
        What::Displaced(_) => {
            put("closed", "forward");
            record.cause = Some("displaced".into());
        }
    }
    record
}

/// A connection that was forgotten.
pub(super) fn ended(subject: &Subject, time: SystemTime, death: &Death) -> EventRecord {
    let Death { connection, cause: _ } = death;
    let mut record = about(subject, &connection.original);
    record.time = when(time);
    record.event = "closed".into();
    record.verdict = "forward".into();
    let ends = (connection.forward.source, connection.forward.target);
    rewritten(&mut record, &connection.original, ends);
    record.endpoint_name = machine(subject, connection.forward.target.address);
    record.cause = Some(cause(death).into());
    record
}

/// Why a connection has ended: one of [`super::CAUSES`].
pub(super) const fn cause(death: &Death) -> &'static str {
    match (death.cause, death.connection.life.state) {
        (Cause::Removed, _) => "removed",
        (Cause::Displaced, _) => "displaced",
        (Cause::Silent, State::TimeWait | State::SctpClosed) => "finished",
        (Cause::Silent, State::Close) => "reset",
        (Cause::Silent, _) => "silent",
    }
}

/// The policies that have a part in a refusal.
pub(super) fn policies(explanation: &Explanation) -> Vec<String> {
    let rule = explanation.rule.iter().map(|rule| rule.policy.clone());
    rule.chain(explanation.isolating.iter().cloned()).collect()
}

fn about(subject: &Subject, flow: &Flow) -> EventRecord {
    EventRecord {
        protocol: Some(flow.protocol.to_string()),
        source: Some(flow.source.to_string()),
        source_name: machine(subject, flow.source.address),
        target: Some(flow.target.to_string()),
        target_name: machine(subject, flow.target.address),
        ..EventRecord::default()
    }
}

fn rewritten(record: &mut EventRecord, flow: &Flow, (source, target): (Endpoint, Endpoint)) {
    record.rewritten_source = (source != flow.source).then(|| source.to_string());
    record.rewritten_target = (target != flow.target).then(|| target.to_string());
}

/// What the machine at an address is called.
fn machine(subject: &Subject, address: Address) -> Option<String> {
    let port = subject.snapshot.topology.owner(address)?;
    subject.names.port(port).map(ToString::to_string)
}

fn service(subject: &Subject, label: u32) -> Option<String> {
    Some(match subject.names.frontend(label)? {
        FrontendName::Service { service, .. } => {
            let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
            format!("{namespace}/{}", service.metadata.name.as_deref().unwrap_or_default())
        }
        host_port @ FrontendName::HostPort { .. } => host_port.to_string(),
    })
}

/// A moment as in RFC 3339, to a tenth of a second.
fn when(time: SystemTime) -> String {
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let tenths = i64::try_from(millis / 100).unwrap_or(i64::MAX / 100);
    let time = jiff::Timestamp::from_millisecond(tenths * 100).unwrap_or_default();
    format!("{time:.1}")
}
