//! Two stacks move data through a Service while the link loses, doubles and reorders frames.
//!
//! More of it: `KSWITCH_OCTETS=10000000 cargo test --test tcp`, which takes a minute or two.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;
use std::sync::Arc;

use kswitch::sim::World;
use kswitch::sim::host::{Host, Impairment};
use kswitch_config::{Draft, Observed, PortKind};
use kswitch_tables::Tick;
use smoltcp::wire::IpEndpoint;

const LAB: &str = r#"
[lab]
name = "lossy"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = { name = "client" }
spec.nodeName = "a"
[[pod]]
metadata = { name = "web", labels = { app = "web" } }
spec.nodeName = "b"
[[service]]
metadata = { name = "web" }
[service.spec]
clusterIP = "10.8.1.1"
clusterIPs = ["10.8.1.1", "fd00:8::101"]
ipFamilyPolicy = "RequireDualStack"
selector = { app = "web" }
ports = [{ port = 80, targetPort = 8080 }]
"#;

/// How long nothing may arrive: longer than retransmissions back off.
const PATIENCE: Tick = Tick::from_secs(1200);

/// Octets moved each way, unless more are asked for.
const OCTETS: u64 = 1_000_000;

/// Seeds for which it is tried, unless more are asked for.
const SEEDS: u64 = 100;

/// A number from the environment.
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn pod(name: &str) -> PortKind {
    PortKind::Pod { namespace: "default".into(), name: name.into() }
}

fn octet(n: usize) -> u8 {
    u8::try_from((n * 31 + n / 251) % 253).unwrap()
}

/// Moves the data each way; answers the seconds it took on the virtual clock.
fn transfer(seed: u64, to: IpEndpoint, impairment: Impairment) -> u32 {
    let cluster = Draft::read_text("lab.toml", LAB, Path::new(".")).validate(None).unwrap();
    let mut world = World::new(Arc::new(cluster), Observed::default(), seed);
    let host = |name: &str, seed| {
        let kind = pod(name);
        let peer = world.peer(&kind).unwrap();
        Host::new(world.port(&kind).unwrap(), peer, impairment, seed, world.now())
    };
    let (mut client, mut server) = (host("client", seed * 2 + 1), host("web", seed * 2 + 2));
    let listening = server.listen(8080);
    let connecting = client.connect(to, 4000);
    let octets = usize::try_from(asked("KSWITCH_OCTETS", OCTETS)).unwrap();
    let mut sent = [0usize; 2];
    let mut received = [0usize; 2];
    let start = world.now();
    let mut moved = (0, start);
    while received != [octets; 2] {
        let progress = received.iter().sum();
        if progress != moved.0 {
            moved = (progress, world.now());
        }
        if world.now().since(moved.1) > PATIENCE.0 {
            let drops = world.drops();
            let ends = [client.tcp(connecting), server.tcp(listening)]
                .map(|end| (end.state(), end.send_queue(), end.recv_queue()));
            panic!("seed {seed}: stalled at {sent:?}, {received:?}, dropped {drops:?}; {ends:?}");
        }
        for _ in 0..4 {
            for (n, (host, handle)) in
                [(&mut client, connecting), (&mut server, listening)].into_iter().enumerate()
            {
                host.poll(world.now());
                let socket = host.tcp(handle);
                if socket.can_send() && sent[n] < octets {
                    let more = socket.send(|room| {
                        let count = room.len().min(octets - sent[n]);
                        for (at, room) in room[..count].iter_mut().enumerate() {
                            *room = octet(sent[n] + at);
                        }
                        (count, count)
                    });
                    sent[n] += more.unwrap();
                }
                while socket.can_recv() {
                    let more = socket.recv(|data| {
                        for (at, got) in data.iter().enumerate() {
                            assert_eq!(*got, octet(received[n] + at), "another octet, seed {seed}");
                        }
                        (data.len(), data.len())
                    });
                    received[n] += more.unwrap();
                }
                host.poll(world.now());
            }
            world.run();
        }
        world.pass_ticks(1);
    }
    world.now().since(start) / 10
}

fn over_both_families(seeds: std::ops::Range<u64>, impairment: Impairment) {
    for seed in seeds {
        for vip in ["10.8.1.1", "fd00:8::101"] {
            let to = IpEndpoint::new(vip.parse::<std::net::IpAddr>().unwrap().into(), 80);
            transfer(seed, to, impairment);
        }
    }
}

#[test]
fn data_is_whole_over_a_good_link() {
    over_both_families(0..2, Impairment::default());
}

#[test]
fn data_is_whole_over_a_bad_link() {
    let bad = Impairment { loss: 50, duplication: 20, reordering: 50 };
    over_both_families(0..asked("KSWITCH_SEEDS", SEEDS), bad);
}
