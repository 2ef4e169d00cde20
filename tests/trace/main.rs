//! What a trace says is what befalls a frame.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod labs;
mod links;
#[path = "../../config/tests/policy_oracle/naive.rs"]
#[allow(dead_code, reason = "another test reads all that it says")]
mod naive;
mod pairs;
mod proxied;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kswitch::dataplane::Kind;
use kswitch::sim::World;
use kswitch::trace::probe::first;
use kswitch::trace::{Query, Report, Tables, changes, trace};
use kswitch_config::{Cluster, Compiled, Draft, Observed, PlannedPort, PortKind, compile};
use kswitch_tables::{Endpoint, Flow, Generation, Protocol};
use labs::Random;

/// A lab, and what is asked of it.
struct Lab {
    draft: Draft,
    cluster: Arc<Cluster>,
    compiled: Compiled,
}

impl Lab {
    fn new(text: &str) -> Self {
        let draft = Draft::read_text("lab.toml", text, Path::new("."));
        let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let compiled = compile(&cluster, &Observed::default(), Generation(1), 7);
        Self { draft, cluster: Arc::new(cluster), compiled }
    }

    fn tables(&self) -> Tables<'_> {
        Tables::of(&self.compiled, &self.cluster, &self.draft)
    }

    fn trace(&self, from: &str, to: &str, protocol: &str) -> Report {
        let query = Query {
            from: from.into(),
            to: to.into(),
            protocol: Some(protocol.into()),
            ..Query::default()
        };
        trace(&self.tables(), &query).unwrap()
    }
}

/// What befell a frame in the world.
#[derive(Debug, Default)]
struct Befell {
    /// Who received it, as what.
    arrived: Vec<(PortKind, Endpoint, Endpoint, u8)>,
    /// Whether its sender was told something.
    is_told: bool,
    /// The counters that moved.
    drops: Vec<&'static str>,
}

fn send(world: &mut World, from: &PortKind, flow: &Flow) -> Befell {
    let before = world.drops();
    world.clear();
    let asked = world.counters.asked.get();
    assert!(world.send_packet(from, &first(flow)));
    if world.counters.asked.get() > asked {
        // nobody of whom the lab knows: it waits until it is sure that nobody answers
        world.pass(4);
    }
    let after = world.drops();
    let machines: Vec<_> = world.machines().cloned().collect();
    let mut befell = Befell::default();
    for machine in machines {
        for packet in world.packets(&machine) {
            if matches!(packet.packet.kind, Kind::NeighbourDiscovery(_)) {
                continue;
            }
            let (source, target) = packet.ends();
            // what is balanced to its own sender comes back too, but not to where it came from
            let is_error = packet.packet.kind == Kind::IcmpError;
            let is_own = machine == *from && (is_error || target == flow.source);
            if is_own {
                befell.is_told = true;
            } else {
                befell.arrived.push((machine.clone(), source, target, packet.packet.ttl));
            }
        }
    }
    let moved = after.iter().filter(|(key, count)| before.get(*key).unwrap_or(&0) < *count);
    befell.drops = moved.map(|(key, _)| *key).collect();
    befell
}

fn ends(flow: &Flow) -> (String, String) {
    let bare = |end: &Endpoint| end.address.to_string();
    let target =
        if flow.protocol.has_ports() { flow.target.to_string() } else { bare(&flow.target) };
    (bare(&flow.source), target)
}

/// Compares a trace with what befell the frame; answers the verdict.
fn compare(lab: &Lab, from: &PlannedPort, flow: &Flow, befell: &Befell) -> String {
    let (source, to) = ends(flow);
    let protocol = match flow.protocol {
        Protocol::TCP => "tcp",
        Protocol::UDP => "udp",
        Protocol::SCTP => "sctp",
        _ => "icmp",
    };
    let query = Query {
        from: source,
        to,
        protocol: Some(protocol.into()),
        source_port: Some(flow.source.port),
        ..Query::default()
    };
    let mut report = trace(&lab.tables(), &query).unwrap();
    assert_eq!(report.from, from.kind.to_string());
    let at = |end: &Endpoint| end.to_string().parse().unwrap();
    if let [(_, _, target, _)] = befell.arrived.as_slice()
        && report.endpoint.as_deref() != Some(&target.to_string())
    {
        // another backend was chosen: it is one of those that may be
        let may_be = report.candidates.iter().any(|other| other.endpoint == target.to_string());
        assert!(may_be, "{flow}: {befell:?}\n{report:#?}");
        let query = Query { backend: Some(at(target)), ..query.clone() };
        report = trace(&lab.tables(), &query).unwrap();
    } else if befell.arrived.is_empty() && report.verdict == "forward" && !befell.is_told {
        let refused = report.candidates.iter().find(|other| {
            other.reason.as_deref().is_some_and(|reason| befell.drops.contains(&reason))
        });
        let refused = refused.unwrap_or_else(|| panic!("{flow}: {befell:?}\n{report:#?}"));
        let query = Query { backend: refused.endpoint.parse().ok(), ..query.clone() };
        report = trace(&lab.tables(), &query).unwrap();
    }
    let context = format!("{flow} from {}: {befell:?}\n{report:#?}", from.kind);
    match befell.arrived.as_slice() {
        [(machine, source, target, ttl)] => {
            assert_eq!(report.verdict, "forward", "{context}");
            assert_eq!(report.endpoint_name, Some(machine.to_string()), "{context}");
            assert_eq!(report.endpoint, Some(target.to_string()), "{context}");
            assert_eq!(report.rewritten_source, Some(source.to_string()), "{context}");
            assert_eq!(report.rewritten_target, Some(target.to_string()), "{context}");
            assert_eq!(report.ttl_spent, Some(64 - ttl), "{context}");
            let reply = report.reply.as_ref().expect(&context);
            assert_eq!(reply.verdict, "forward", "{context}");
            assert_eq!(reply.rewritten_source, Some(flow.target.to_string()), "{context}");
            assert_eq!(reply.rewritten_target, Some(flow.source.to_string()), "{context}");
        }
        [] if befell.drops.is_empty() => {
            assert_eq!((report.verdict.as_str(), befell.is_told), ("forward", true), "{context}");
        }
        [] => {
            let verdict = if befell.is_told { "reject" } else { "drop" };
            assert_eq!(report.verdict, verdict, "{context}");
            let reason = report.reason.as_deref().expect(&context);
            assert_eq!(befell.drops, [reason], "{context}");
            let is_policy = reason.starts_with("policy");
            assert_eq!(report.explanation.is_some(), is_policy, "{context}");
        }
        several => panic!("{several:?} for one packet: {context}"),
    }
    assert!(!report.hops.is_empty(), "{context}");
    report.reason.unwrap_or(report.verdict)
}

#[test]
fn random_packets_meet_what_was_said() {
    let mut seen = BTreeMap::<String, usize>::new();
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let text = labs::lab(&mut random);
        let lab = Lab::new(&text);
        let mut world = World::new(Arc::clone(&lab.cluster), Observed::default(), seed);
        for number in 0..100 {
            let ports = &lab.compiled.plan.ports;
            let from = &ports[random.below(ports.len())];
            let Some(flow) = labs::flow(&mut random, &lab.cluster, from, 20_000 + number) else {
                continue;
            };
            let befell = send(&mut world, &from.kind, &flow);
            *seen.entry(compare(&lab, from, &flow, &befell)).or_default() += 1;
        }
    }
    for outcome in [
        "forward",
        "policy_egress",
        "policy_ingress",
        "no_service",
        "no_service_port",
        "no_endpoints",
        "no_local_endpoints",
        "source_range",
        "router_port",
        "no_route",
    ] {
        assert!(seen.contains_key(outcome), "{outcome} never: {seen:?}");
    }
}

const SHOP: &str = r#"
[lab]
name = "shop"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = { name = "client", labels = { app = "client" } }
spec.nodeName = "node-a"
[[pod]]
metadata = { name = "web", labels = { app = "web" } }
spec = { nodeName = "node-a", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }
[[pod]]
metadata = { name = "db", labels = { app = "db" } }
spec = { nodeName = "node-b", containers = [{ name = "c", ports = [{ containerPort = 5432 }] }] }
[[service]]
metadata = { name = "db" }
spec = { clusterIP = "10.8.0.5", selector = { app = "db" }, ports = [{ port = 5432 }] }
"#;

const POLICY: &str = r#"
[[network-policy]]
metadata = { name = "db-ingress" }
spec.podSelector = { matchLabels = { app = "db" } }
spec.ingress = [
    { from = [{ podSelector = { matchLabels = { app = "nobody" } } }] },
    { from = [{ podSelector = { matchLabels = { app = "web" } } }], ports = [{ port = 5432 }] },
]
"#;

#[test]
fn a_refusal_names_policies_rules_and_lines() {
    let lab = Lab::new(&format!("{SHOP}{POLICY}"));
    let report = lab.trace("web", "db:5433", "tcp");
    assert_eq!(report.verdict, "drop");
    assert_eq!(report.reason.as_deref(), Some("policy_ingress"));
    let explanation = "ingress: isolated by default/db-ingress; \
        rule 2 of default/db-ingress allows 5432, not 5433";
    assert_eq!(report.explanation.as_deref(), Some(explanation));
    let hop = report.hops.last().unwrap();
    assert_eq!(hop.table, "ingress-policy");
    assert_eq!(hop.object.as_deref(), Some("NetworkPolicy default/db-ingress"));
    let line = format!("{SHOP}{POLICY}").lines().position(|line| line.contains("db-ingress"));
    assert_eq!((hop.file.as_deref(), hop.line), (Some("lab.toml"), line.map(|line| line + 1)));

    let report = lab.trace("web", "10.8.0.5:5432", "tcp");
    assert_eq!(report.endpoint_name.as_deref(), Some("default/db"));
    let tables: Vec<_> = report.hops.iter().map(|hop| hop.table.as_str()).collect();
    let expected = [
        "port",
        "frontends",
        "backends",
        "routes",
        "routes",
        "egress-policy",
        "ingress-policy",
        "conntrack",
        "port",
    ];
    assert_eq!(tables, expected);
    let rule = report.hops[6].rule.as_deref();
    assert_eq!(rule, Some("ingress rule 2"));
    let line =
        format!("{SHOP}{POLICY}").lines().position(|line| line.contains("port = 5432 }] },"));
    assert_eq!(report.hops[6].line, line.map(|line| line + 1));
}

#[test]
fn a_changed_policy_changes_exactly_its_pairs() {
    let (before, after) = (Lab::new(SHOP), Lab::new(&format!("{SHOP}{POLICY}")));
    let found = changes(&before.tables(), &after.tables());
    let pairs: BTreeSet<_> = found
        .changed
        .iter()
        .map(|pair| {
            let (from, target) = (pair.from.as_str(), pair.target.as_str());
            (from, target, pair.before.verdict.as_str(), pair.after.verdict.as_str())
        })
        .collect();
    let db = lab_address(&after, "db");
    let (service, pod) = ("TCP 10.8.0.5:5432".to_owned(), format!("TCP {db}:5432"));
    // the client alone: what web may not send, it could not send before either
    let expected = [
        ("default/client", service.as_str(), "forward", "drop"),
        ("default/client", pod.as_str(), "forward", "drop"),
    ];
    assert_eq!(pairs, expected.into());
    assert!(found.pairs > pairs.len());
    let why = found.changed[0].after.explanation.as_deref().unwrap();
    assert!(why.starts_with("ingress: isolated by default/db-ingress; rule 1"), "{why}");
    assert!(changes(&after.tables(), &after.tables()).changed.is_empty());
}

fn lab_address(lab: &Lab, pod: &str) -> String {
    lab.cluster.pod("default", pod).unwrap().addresses[0].to_string()
}

#[test]
fn wrong_names_are_said_in_a_line() {
    let lab = Lab::new(SHOP);
    for (from, to, said) in [
        ("nobody", "web", "no pod nobody in namespace default"),
        ("client", "shop/web", "no pod and no service web in namespace shop"),
        ("node/x", "web", "no node/x"),
        ("10.99.0.1", "web", "no machine has the address 10.99.0.1"),
        ("client", "web:admin", "default/web has no port admin"),
    ] {
        let query = Query { from: from.into(), to: to.into(), ..Query::default() };
        assert_eq!(trace(&lab.tables(), &query).unwrap_err(), said);
    }
}

#[test]
fn a_diff_names_exactly_the_pairs_that_a_naive_reading_does() {
    let mut total = 0;
    for seed in 0..40 {
        let mut random = Random::new(1000 + seed);
        let text = labs::lab(&mut random);
        let mut more = text.clone();
        for number in 10..=10 + random.below(2) {
            labs::policy(&mut random, number, &mut more);
        }
        let (one, other) = if seed % 2 == 0 { (&text, &more) } else { (&more, &text) };
        let (before, after) = (Lab::new(one), Lab::new(other));
        let found = changes(&before.tables(), &after.tables()).changed;
        let found: BTreeSet<_> = found
            .into_iter()
            .filter(|pair| pairs::is_compared(&after.cluster, &pair.target))
            .map(|pair| (pair.from, pair.target))
            .collect();
        let (first, second) = (pairs::of(&before.cluster), pairs::of(&after.cluster));
        let differ = first.iter().filter(|(pair, verdict)| second.get(*pair) != Some(*verdict));
        let expected: BTreeSet<_> = differ.map(|(pair, _)| pair.clone()).collect();
        assert_eq!(found, expected, "{one}\n--- becomes ---\n{other}");
        total += found.len();
    }
    assert!(total > 100, "only {total} pairs change");
}
