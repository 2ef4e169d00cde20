//! Compiled policies against a reading of the objects one by one, on random clusters.
//!
//! Each cluster is compiled, probed, changed, compiled again from what the first compilation left
//! behind, and probed again. `POLICY_ORACLE_CLUSTERS` asks for more clusters than usual.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "policy_oracle/naive.rs"]
mod naive;
#[path = "policy_oracle/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kswitch_config::{Cluster, Compiled, Compiler, Observed};
use kswitch_tables::policy::{Contact, Denied, Direction, Party, Policies, Tier};
use kswitch_tables::{Address, Generation};
use naive::{Probe, Reading, Refusal, Seen, Verdict};
use random::Random;

const CLUSTERS: u64 = 2_000;
/// Of each cluster: before it changes, and after.
const PROBES: usize = 200;

/// What has to be read both as true and as false.
const BOTH: [&str; 35] = [
    "enabled",
    "echo allowed",
    "audit of the lab",
    "audited policy",
    "default deny",
    "itself by a service",
    "node to its own pod",
    "isolated",
    "isolated and allowed",
    "policyTypes",
    "all peers",
    "all ports",
    "ipBlock",
    "ipBlock.except",
    "namespaceSelector and podSelector",
    "namespaceSelector",
    "podSelector",
    "protocol",
    "port",
    "endPort",
    "named port",
    "subject",
    "namespaces",
    "pods",
    "nodes",
    "networks",
    "number",
    "range",
    "destinationNamedPort",
    "matchLabels",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "empty selector",
];

/// What has to be read as true; of the other reading there is none.
const ONCE: [&str; 7] = [
    "protocol without port",
    "Admin Accept",
    "Admin Deny",
    "Admin Pass",
    "Baseline Accept",
    "Baseline Deny",
    "Baseline Pass",
];

#[test]
fn compiled_policies_say_what_the_objects_say() {
    let clusters = std::env::var("POLICY_ORACLE_CLUSTERS").ok();
    let clusters = clusters.and_then(|count| count.parse().ok()).unwrap_or(CLUSTERS);
    let seen = Seen::default();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 1..=clusters {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut compiler = Compiler::new(seed);
        let mut cluster = random::cluster(&mut random);
        for generation in 1..=2 {
            let shared = Arc::new(cluster.clone());
            let compiled = compiler.compile(&shared, &Observed::default(), Generation(generation));
            let reading = Reading::new(&cluster, &seen);
            for _ in 0..PROBES {
                let probe = random::probe(&mut random, &cluster);
                let expected = reading.judge(&probe);
                let found = check(&compiled, &probe);
                let place =
                    || format!("cluster {seed}.{generation}: {probe:?}\n{}", told(&cluster));
                assert_eq!(found, expected, "{}", place());
                *outcomes.entry(outcome(&expected)).or_default() += 1;
            }
            random::change(&mut random, &mut cluster);
        }
    }
    println!("{outcomes:#?}");
    visited(&seen, &outcomes);
}

/// The policies of a cluster, to be read by whoever looks for the difference.
fn told(cluster: &Cluster) -> String {
    let network = cluster.network_policies.iter().map(|policy| serde_json::to_string(&**policy));
    let of_cluster = cluster.cluster_network_policies.iter().map(|p| serde_json::to_string(&**p));
    let namespaces = format!("{:?} {:?}", cluster.namespaces, cluster.settings.policy);
    let policies: Vec<_> = network.chain(of_cluster).map(Result::unwrap).collect();
    format!("{namespaces}\n{}", policies.join("\n"))
}

/// Fails unless the run has seen every construct and every outcome.
fn visited(seen: &Seen, outcomes: &BTreeMap<String, u32>) {
    let seen = seen.0.borrow();
    let both = BOTH.into_iter().flat_map(|construct| [(construct, true), (construct, false)]);
    let once = ONCE.into_iter().map(|construct| (construct, true));
    let wanted: BTreeSet<_> = both.chain(once).chain([("domainNames", false)]).collect();
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "never read: {missing:?}");
    for direction in [Direction::Egress, Direction::Ingress] {
        for tier in [Tier::Admin, Tier::Isolation, Tier::Baseline, Tier::Fallback] {
            for fate in ["denied", "audited"] {
                let outcome = format!("{fate} {direction:?} {tier:?}");
                assert!(outcomes.contains_key(&outcome), "never seen: {outcome}");
            }
        }
    }
    assert!(outcomes.contains_key("allowed"));
}

fn outcome(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed => "allowed".into(),
        Verdict::Audited((direction, tier, _)) => format!("audited {direction:?} {tier:?}"),
        Verdict::Denied((direction, tier, _)) => format!("denied {direction:?} {tier:?}"),
    }
}

/// What the compiled policies say.
fn check(compiled: &Compiled, probe: &Probe<'_>) -> Verdict {
    let policies = &compiled.snapshot.policies;
    let party = |ip: std::net::IpAddr| -> Party {
        let address = Address::from(ip);
        let attached = compiled.snapshot.topology.hosts.get(&address);
        attached.map_or(Policies::stranger(address), |at| policies.party(address, at))
    };
    let contact = Contact {
        source: party(probe.source.1),
        target: party(probe.target.1),
        protocol: probe.protocol,
        port: probe.port,
        is_translated: probe.is_translated,
    };
    let refusal = |denied: Denied| -> Refusal {
        let rule = denied.rule.map(|rule| {
            assert_eq!(rule.direction, denied.direction);
            let policy = compiled.names.policies().get(rule.policy).unwrap();
            (policy.name().to_owned(), usize::from(rule.index))
        });
        (denied.direction, denied.tier, rule)
    };
    match policies.check(&contact) {
        Err(denied) => Verdict::Denied(refusal(denied)),
        Ok(allowed) => match allowed.audited {
            Some(denied) => Verdict::Audited(refusal(denied)),
            None => Verdict::Allowed,
        },
    }
}
