//! From counters to rates.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{Counters, Flows, Occupancy, StageCounters};

/// Flows that are shown at most.
const FLOWS_SHOWN: usize = 32;

/// What happened in one interval, a second each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Rates {
    /// The busiest first.
    pub(in crate::cli) ports: Vec<PortRates>,
    pub(in crate::cli) workers: Vec<WorkerRates>,
    /// Those that ever occurred, the most frequent first.
    pub(in crate::cli) drops: Vec<DropRate>,
    /// The busiest first, estimated.
    pub(in crate::cli) flows: Vec<FlowRate>,
    pub(in crate::cli) entries: u64,
    pub(in crate::cli) capacity: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PortRates {
    pub(in crate::cli) name: String,
    pub(in crate::cli) received_frames: f64,
    pub(in crate::cli) received_bits: f64,
    pub(in crate::cli) sent_frames: f64,
    pub(in crate::cli) sent_bits: f64,
    pub(in crate::cli) busy: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct WorkerRates {
    pub(in crate::cli) core: usize,
    pub(in crate::cli) frames: f64,
    /// The part of its turns that found frames, of one.
    pub(in crate::cli) busy: f64,
    pub(in crate::cli) sleeps: f64,
    /// How the time for a frame is divided, of one; from a sample.
    pub(in crate::cli) split: Split,
}

/// What part of the time for a frame each stage takes; all zero where nothing was timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(in crate::cli) struct Split {
    pub(in crate::cli) receive: f64,
    pub(in crate::cli) pipeline: f64,
    pub(in crate::cli) send: f64,
}

impl Split {
    fn between(before: &StageCounters, after: &StageCounters) -> Self {
        let since = |of: fn(&StageCounters) -> u64| float(of(after).saturating_sub(of(before)));
        let each = |nanos: f64, frames: f64| if frames > 0.0 { nanos / frames } else { 0.0 };
        let frames = since(|stages| stages.frames);
        let receive = each(since(|stages| stages.receive), frames);
        let pipeline = each(since(|stages| stages.pipeline), frames);
        let send = each(since(|stages| stages.send), since(|stages| stages.sent_frames));
        let whole = (receive + pipeline + send).max(f64::EPSILON);
        Self { receive: receive / whole, pipeline: pipeline / whole, send: send / whole }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct DropRate {
    pub(in crate::cli) reason: String,
    pub(in crate::cli) rate: f64,
    pub(in crate::cli) total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct FlowRate {
    pub(in crate::cli) flow: String,
    pub(in crate::cli) bits: f64,
}

/// What happened between two looks.
pub(super) fn rates(before: &Counters, after: &Counters, took: Duration) -> Rates {
    let per_second = |before: u64, after: u64| {
        float(after.saturating_sub(before)) / took.as_secs_f64().max(f64::EPSILON)
    };
    let old = |name: &str| before.ports.iter().find(|port| port.name == name).cloned();
    let ports = after.ports.iter().map(|port| {
        let old = old(&port.name).unwrap_or_default();
        PortRates {
            name: port.name.clone(),
            received_frames: per_second(old.received_frames, port.received_frames),
            received_bits: per_second(old.received_octets, port.received_octets) * 8.0,
            sent_frames: per_second(old.sent_frames, port.sent_frames),
            sent_bits: per_second(old.sent_octets, port.sent_octets) * 8.0,
            busy: per_second(old.send_busy, port.send_busy),
        }
    });
    let mut ports: Vec<_> = ports.collect();
    let bits = |port: &PortRates| port.received_bits + port.sent_bits;
    ports.sort_by(|a, b| bits(b).total_cmp(&bits(a)).then_with(|| a.name.cmp(&b.name)));
    let workers = after.workers.iter().enumerate().map(|(at, worker)| {
        let old = before.workers.get(at).cloned().unwrap_or_default();
        let busy = worker.busy_turns.saturating_sub(old.busy_turns);
        let turns = busy + worker.idle_turns.saturating_sub(old.idle_turns);
        WorkerRates {
            core: worker.core,
            frames: per_second(old.frames, worker.frames),
            busy: if turns == 0 { 0.0 } else { float(busy) / float(turns) },
            sleeps: per_second(old.sleeps, worker.sleeps),
            split: Split::between(&old.stages, &worker.stages),
        }
    });
    let drops = after.drops.iter().filter(|(_, total)| *total > 0).map(|(reason, total)| {
        let old = before.drops.iter().find(|(old, _)| old == reason).map_or(0, |(_, old)| *old);
        DropRate { reason: reason.clone(), rate: per_second(old, *total), total: *total }
    });
    let mut drops: Vec<_> = drops.collect();
    drops.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| b.total.cmp(&a.total)));
    let Occupancy { entries, capacity } = after.conntrack;
    Rates { ports, workers: workers.collect(), drops, flows: Vec::new(), entries, capacity }
}

impl Rates {
    /// Estimates the busiest flows from a sample of frames, one in so many.
    pub(super) fn count_flows(
        &mut self,
        frames: impl Iterator<Item = (String, u64)>,
        sample: u64,
        took: Duration,
    ) {
        let mut flows = Flows::new();
        for (flow, octets) in frames {
            *flows.entry(flow).or_default() += octets;
        }
        let seconds = took.as_secs_f64().max(f64::EPSILON);
        let rate = |octets: u64| float(octets * sample) * 8.0 / seconds;
        self.flows =
            flows.into_iter().map(|(flow, octets)| FlowRate { flow, bits: rate(octets) }).collect();
        self.flows.sort_by(|a, b| b.bits.total_cmp(&a.bits));
        self.flows.truncate(FLOWS_SHOWN);
    }

    /// As JSON.
    pub(super) fn to_object(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// A part of one: `25%`.
pub(in crate::cli) fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

/// A number with its thousands as a letter: `12.3k`.
pub(in crate::cli) fn human(number: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => format!("{:.1}{unit}", number / size),
        None => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PortCounters, WorkerCounters};
    use super::*;

    #[test]
    fn rates_are_differences_by_time() {
        let counters = |frames: u64, drops: u64| Counters {
            ports: vec![
                PortCounters { name: "idle".into(), ..PortCounters::default() },
                PortCounters {
                    name: "busy".into(),
                    received_frames: frames,
                    received_octets: frames * 100,
                    ..PortCounters::default()
                },
            ],
            drops: vec![("never".into(), 0), ("no_route".into(), drops)],
            workers: vec![WorkerCounters {
                busy_turns: frames,
                idle_turns: frames * 3,
                frames,
                stages: StageCounters {
                    frames,
                    receive: frames * 200,
                    pipeline: frames * 100,
                    sent_frames: frames * 2,
                    send: frames * 200,
                },
                ..WorkerCounters::default()
            }],
            ..Counters::default()
        };
        let mut rates = rates(&counters(10, 1), &counters(30, 5), Duration::from_secs(2));
        assert_eq!(rates.ports[0].name, "busy");
        assert!((rates.ports[0].received_frames - 10.0).abs() < 1e-9);
        assert!((rates.ports[0].received_bits - 8000.0).abs() < 1e-9);
        assert!((rates.workers[0].busy - 0.25).abs() < 1e-9);
        let Split { receive, pipeline, send } = rates.workers[0].split;
        assert!((receive - 0.5).abs() < 1e-9 && (pipeline - 0.25).abs() < 1e-9);
        assert!((send - 0.25).abs() < 1e-9);
        assert_eq!(rates.drops.len(), 1);
        assert!((rates.drops[0].rate - 2.0).abs() < 1e-9);
        let frames = [("a", 100), ("b", 300), ("a", 100)];
        let frames = frames.map(|(flow, octets)| (flow.to_owned(), octets));
        rates.count_flows(frames.into_iter(), 16, Duration::from_secs(2));
        let flows: Vec<_> =
            rates.flows.iter().map(|flow| (&*flow.flow, human(flow.bits))).collect();
        assert_eq!(flows, [("b", "19.2k".to_owned()), ("a", "12.8k".to_owned())]);
    }

    #[test]
    fn numbers_are_short() {
        for (number, short) in [(0.0, "0"), (999.4, "999"), (1234.0, "1.2k"), (2.5e9, "2.5G")] {
            assert_eq!(human(number), short);
        }
    }
}
