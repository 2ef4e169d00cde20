//! A naive reading of the objects agrees with the compiled tables.
//!
//! Random clusters change step by step under one compiler, and after each step random packets are
//! judged twice: by the tables, and by a reading that goes through the objects for every packet as
//! the Kubernetes documents say. The test fails if the two differ, and if any kind of outcome was
//! never met.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "oracle/naive.rs"]
mod naive;
#[path = "oracle/packets.rs"]
mod packets;
#[path = "oracle/random.rs"]
mod random;
#[path = "oracle/tables.rs"]
mod tables;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kswitch_config::{Compiler, Observed};
use kswitch_tables::{Generation, Protocol};

use random::Random;

/// Who sends a packet, as the node that judges it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A process of the node itself.
    Node,
    /// A pod.
    Pod,
    /// Anybody else.
    Outside,
}

/// A packet that a node judges.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// Index of the node.
    node: usize,
    origin: Origin,
    source: std::net::IpAddr,
    target: SocketAddr,
    protocol: Protocol,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It goes to one of these backends.
    Served { backends: Vec<SocketAddr>, masquerade: bool, sticky_seconds: Option<u32> },
    /// Its sender hears that nobody is there.
    Rejected,
    /// Nothing is heard of it.
    Dropped,
    /// Its target is an address of a Service that has no such port.
    NoSuchPort,
    /// No Service has to do with it.
    Untouched,
}

/// Kinds of outcome, each of which has to be met.
const KINDS: &[&str] = &[
    "cluster ip",
    "cluster ip, local",
    "cluster ip, masqueraded",
    "external ip",
    "load balancer",
    "load balancer, in the source ranges",
    "node port",
    "external, local, from outside",
    "external, local, from a pod",
    "external, local, from the node",
    "host port",
    "host port at one address",
    "sticky",
    "node hints",
    "zone hints",
    "hints of which one is missing",
    "terminating, of the cluster",
    "terminating, of the node",
    "not ready, but published",
    "refused by source ranges",
    "none local",
    "none at all",
    "no such port",
    "untouched",
];

const CLUSTERS: u64 = 250;
const STEPS: usize = 6;
const PACKETS: usize = 120;

#[test]
fn tables_and_objects_agree() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..CLUSTERS {
        let mut random = Random::new(seed);
        let mut compiler = Compiler::new(seed);
        let mut cluster = Arc::new(random::cluster(&mut random));
        let mut observed = Observed::default();
        for step in 0..STEPS {
            let compiled = compiler.compile(&cluster, &observed, Generation(1));
            for _ in 0..PACKETS {
                let packet = packets::packet(&mut random, &cluster);
                let (expected, kinds) = naive::judge(&packet, &cluster, &observed);
                let actual = tables::judge(&packet, &compiled.snapshot);
                assert_eq!(
                    actual, expected,
                    "seed {seed}, step {step}: {packet:?} ({kinds:?})\n{:#?}",
                    cluster.services
                );
                for kind in kinds {
                    *met.entry(kind).or_default() += 1;
                }
            }
            for (target, backend, protocol) in packets::flows(&mut random, &cluster) {
                let expected = naive::may_stay(target, backend, protocol, &cluster, &observed);
                let actual = tables::may_stay(target, backend, protocol, &compiled.snapshot);
                assert_eq!(actual, expected, "seed {seed}, step {step}: {target} to {backend}");
            }
            for (target, expected) in naive::entries(&cluster, &observed) {
                let actual = tables::entry(target, &compiled);
                assert_eq!(actual, expected, "seed {seed}, step {step}: {target}");
            }
            cluster = Arc::new(random::step(&mut random, &cluster, &mut observed));
        }
    }
    println!("{met:#?}");
    for kind in KINDS {
        assert!(met.contains_key(kind), "never met: {kind}");
    }
    for kind in met.keys() {
        assert!(KINDS.contains(kind), "not in the list: {kind}");
    }
}
