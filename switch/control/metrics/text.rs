//! The text format of Prometheus.
//!
//! Source: Prometheus, exposition formats, "Text-based format", version 0.0.4.

use std::fmt::{self, Write};

use super::RefusedBy;
use super::{ConntrackReading, LinkReading, PortReading, Reading, TollRecord, WorkerReading};

/// A reading in text.
pub(super) fn write(reading: &Reading) -> String {
    let Reading {
        generation,
        ports,
        drops,
        workers,
        conntrack,
        dns,
        refused,
        balancers,
        events_lost,
        machines_renewed,
        neighbours,
        duplicate_addresses,
        deaths,
        links,
    } = reading;
    let ConntrackReading { entries, capacity } = conntrack;
    let mut text = Text::default();
    text.gauge("kswitch_snapshot_generation", "Generation of the published snapshot.", *generation);
    for (name, help, value) in PORT_COUNTERS {
        text.head(name, "counter", help);
        for port in ports {
            text.sample(name, &[("port", &port.name), ("kind", port.kind)], value(port));
        }
    }
    let name = "kswitch_drops_total";
    text.head(name, "counter", "Frames that went no further, by reason.");
    for &(reason, count) in drops {
        text.sample(name, &[("reason", reason)], count);
    }
    for (name, help, value) in WORKER_COUNTERS {
        text.head(name, "counter", help);
        for (index, worker) in workers.iter().enumerate() {
            let core = worker.core.to_string();
            text.sample(name, &[("worker", &index.to_string()), ("core", &core)], value(worker));
        }
    }
    stages(&mut text, workers);
    let name = "kswitch_dns_answers_total";
    text.head(name, "counter", "Answers of the name servers, by transport and code.");
    for &(transport, code, count) in &dns.answers {
        text.sample(name, &[("transport", transport), ("code", code)], count);
    }
    let name = "kswitch_dns_forwarded_total";
    text.head(name, "counter", "Questions that the name servers passed on to somebody outside.");
    text.sample(name, &[], dns.forwarded);
    text.gauge("kswitch_conntrack_entries", "Flows in conntrack.", *entries);
    text.gauge("kswitch_conntrack_capacity", "Flows that conntrack has room for.", *capacity);
    let name = "kswitch_policy_refusals_total";
    let help = "Flows and frames that a policy refused, or would have refused were it in force.";
    text.head(name, "counter", help);
    for (RefusedBy { policy, direction, is_audited }, count) in refused {
        let mode = if *is_audited { "audit" } else { "enforce" };
        let labels = [("policy", policy.as_str()), ("direction", direction), ("mode", mode)];
        text.sample(name, &labels, *count);
    }
    let name = "kswitch_balancer_node_healthy";
    text.head(name, "gauge", "Whether a network load balancer finds a node healthy.");
    for (service, node, is_healthy) in &balancers.nodes {
        text.sample(name, &[("service", service), ("node", node)], (*is_healthy).into());
    }
    let name = "kswitch_balancer_health_changes_total";
    text.head(name, "counter", "Nodes found healthy that were not, or the other way round.");
    text.sample(name, &[], balancers.health_changes);
    let name = "kswitch_events_lost_total";
    text.head(name, "counter", "Events of which nobody could be told, for want of room.");
    text.sample(name, &[], *events_lost);
    let name = "kswitch_machines_renewed_total";
    text.head(name, "counter", "Machines made again that had lost their interface or namespace.");
    text.sample(name, &[], *machines_renewed);
    text.gauge("kswitch_neighbours", "Machines outside that were asked for.", *neighbours);
    let help = "Addresses that more than one machine claims.";
    text.gauge("kswitch_duplicate_addresses", help, *duplicate_addresses);
    let name = "kswitch_conntrack_ended_total";
    text.head(name, "counter", "Flows that have ended, by cause.");
    for &(cause, count) in deaths {
        text.sample(name, &[("cause", cause)], count);
    }
    let name = "kswitch_link_frames_total";
    text.head(name, "counter", "Frames on links that are faulty on purpose, by what befell them.");
    for LinkReading { name: link, direction, toll } in links {
        for (fate, count) in fates(toll) {
            let labels = [("link", link.as_str()), ("direction", *direction), ("fate", fate)];
            text.sample(name, &labels, count);
        }
    }
    text.0
}

/// What befell how many frames on a link.
const fn fates(toll: &TollRecord) -> [(&'static str, u64); 8] {
    let TollRecord { frames, lost, cut, full, duplicated, corrupted, reordered, delayed } = *toll;
    [
        ("come", frames),
        ("lost", lost),
        ("cut", cut),
        ("full", full),
        ("duplicated", duplicated),
        ("corrupted", corrupted),
        ("reordered", reordered),
        ("delayed", delayed),
    ]
}

/// What the stages of a frame's way took in the bursts that were timed.
fn stages(text: &mut Text, workers: &[WorkerReading]) {
    let name = "kswitch_worker_stage_seconds_total";
    text.head(name, "counter", "Time that the timed bursts of a worker took, by stage.");
    for (index, WorkerReading { core, stages, .. }) in workers.iter().enumerate() {
        let (index, core) = (index.to_string(), core.to_string());
        let parts =
            [("receive", stages.receive), ("pipeline", stages.pipeline), ("send", stages.send)];
        for (stage, nanos) in parts {
            let labels = [("worker", index.as_str()), ("core", &core), ("stage", stage)];
            let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            text.value(name, &labels, format_args!("{seconds}.{rest:09}"));
        }
    }
    let name = "kswitch_worker_stage_frames_total";
    text.head(name, "counter", "Frames in the timed bursts of a worker, received and sent.");
    for (index, WorkerReading { core, stages, .. }) in workers.iter().enumerate() {
        let (index, core) = (index.to_string(), core.to_string());
        for (way, count) in [("received", stages.frames), ("sent", stages.sent_frames)] {
            text.sample(name, &[("worker", &index), ("core", &core), ("way", way)], count);
        }
    }
}

type Counter<T> = (&'static str, &'static str, fn(&T) -> u64);

const PORT_COUNTERS: [Counter<PortReading>; 5] = [
    ("kswitch_port_received_frames_total", "Frames from the machine behind the port.", |port| {
        port.received_frames
    }),
    ("kswitch_port_received_octets_total", "Octets of the received frames.", |port| {
        port.received_octets
    }),
    ("kswitch_port_sent_frames_total", "Frames to the machine behind the port.", |port| {
        port.sent_frames
    }),
    ("kswitch_port_sent_octets_total", "Octets of the sent frames.", |port| port.sent_octets),
    (
        "kswitch_port_send_busy_total",
        "Frames not sent because the queue of the machine behind the port was full.",
        |port| port.send_busy,
    ),
];

const WORKER_COUNTERS: [Counter<WorkerReading>; 4] = [
    ("kswitch_worker_frames_total", "Frames the worker received.", |worker| worker.frames),
    (
        "kswitch_worker_busy_turns_total",
        "Turns of the worker's loop that found frames.",
        |worker| worker.busy_turns,
    ),
    ("kswitch_worker_idle_turns_total", "Turns of the worker's loop that found none.", |worker| {
        worker.idle_turns
    }),
    ("kswitch_worker_sleeps_total", "Times the worker slept until a port was ready.", |worker| {
        worker.sleeps
    }),
];

#[derive(Default)]
struct Text(String);

impl Text {
    /// A family of one sample that has no labels.
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.value(name, labels, format_args!("{value}"));
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: fmt::Arguments<'_>) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(value)));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{after} {value}\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(text);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{BalancerReading, DnsReading, StagesReading};
    use super::*;

    fn reading() -> Reading {
        let port = PortReading {
            name: "default/client".into(),
            kind: "pod",
            received_frames: 3,
            received_octets: 180,
            sent_frames: 2,
            sent_octets: 120,
            send_busy: 1,
        };
        Reading {
            generation: 4,
            ports: vec![port, PortReading { name: "node/a\"\\\n".into(), ..Default::default() }],
            drops: vec![("no_endpoint", 7), ("malformed", 0)],
            workers: vec![WorkerReading {
                core: 1,
                busy_turns: 5,
                idle_turns: 6,
                sleeps: 8,
                frames: 9,
                stages: StagesReading { receive: 1_500_000_000, ..StagesReading::default() },
            }],
            conntrack: ConntrackReading { entries: 10, capacity: 65_536 },
            dns: DnsReading { answers: vec![("udp", "NXDOMAIN", 11)], forwarded: 12 },
            refused: vec![(
                RefusedBy { policy: "shop/db".into(), direction: "ingress", is_audited: false },
                11,
            )],
            balancers: BalancerReading {
                nodes: vec![("shop/web".into(), "node-a".into(), true)],
                health_changes: 13,
            },
            events_lost: 12,
            machines_renewed: 15,
            neighbours: 13,
            duplicate_addresses: 1,
            deaths: vec![("reset", 13)],
            links: vec![LinkReading {
                name: "ext/net".into(),
                direction: "from",
                toll: TollRecord { lost: 14, ..TollRecord::default() },
            }],
        }
    }

    #[test]
    fn every_counter_is_said() {
        let text = write(&reading());
        for line in [
            "kswitch_snapshot_generation 4",
            "kswitch_neighbours 13",
            "kswitch_duplicate_addresses 1",
            "kswitch_machines_renewed_total 15",
            r#"kswitch_port_received_frames_total{port="default/client",kind="pod"} 3"#,
            r#"kswitch_port_received_octets_total{port="default/client",kind="pod"} 180"#,
            r#"kswitch_port_sent_frames_total{port="default/client",kind="pod"} 2"#,
            r#"kswitch_port_sent_octets_total{port="default/client",kind="pod"} 120"#,
            r#"kswitch_port_send_busy_total{port="default/client",kind="pod"} 1"#,
            r#"kswitch_port_sent_frames_total{port="node/a\"\\\n",kind=""} 0"#,
            r#"kswitch_drops_total{reason="no_endpoint"} 7"#,
            r#"kswitch_drops_total{reason="malformed"} 0"#,
            r#"kswitch_dns_answers_total{transport="udp",code="NXDOMAIN"} 11"#,
            "kswitch_dns_forwarded_total 12",
            r#"kswitch_worker_busy_turns_total{worker="0",core="1"} 5"#,
            r#"kswitch_worker_idle_turns_total{worker="0",core="1"} 6"#,
            r#"kswitch_worker_sleeps_total{worker="0",core="1"} 8"#,
            r#"kswitch_worker_frames_total{worker="0",core="1"} 9"#,
            r#"kswitch_balancer_node_healthy{service="shop/web",node="node-a"} 1"#,
            "kswitch_balancer_health_changes_total 13",
            "kswitch_conntrack_entries 10",
            "kswitch_conntrack_capacity 65536",
            r#"kswitch_conntrack_ended_total{cause="reset"} 13"#,
            r#"kswitch_link_frames_total{link="ext/net",direction="from",fate="lost"} 14"#,
            r#"kswitch_worker_stage_seconds_total{worker="0",core="1",stage="receive"} 1.500000000"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn each_family_is_headed_once_and_its_samples_follow() {
        let text = write(&reading());
        let mut seen = BTreeSet::new();
        let mut family = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap();
                assert!(seen.insert(family), "{family} twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let expected = if family.ends_with("_total") { "counter" } else { "gauge" };
                assert_eq!(kind, format!("{family} {expected}"));
            } else {
                assert_eq!(line.split(['{', ' ']).next(), Some(family), "{line}");
            }
        }
        assert!(text.ends_with('\n'));
    }
}
