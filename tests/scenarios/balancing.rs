//! How new flows are spread over the endpoints of a Service.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch_config::{Cluster, Draft, Observed, PortKind};
use kswitch_tables::{Address, Endpoint};

use crate::lab::*;

/// A Service by this method with so many endpoints on two nodes, and a client.
fn cluster(replicas: usize, method: &str, previous: Option<&Cluster>) -> Arc<Cluster> {
    let text = format!(
        r#"
[lab]
name = "balanced"

[cluster]
pod-cidrs = ["10.4.0.0/14"]
service-cidrs = ["10.8.0.0/20"]

[[node]]
name = "node-a"
[[node]]
name = "node-b"

[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "node-a"

[[deployment]]
metadata = {{ name = "web" }}
[deployment.spec]
replicas = {replicas}
selector.matchLabels = {{ app = "web" }}
[deployment.spec.template]
metadata.labels = {{ app = "web" }}
spec.containers = [{{ name = "web", ports = [{{ containerPort = 8080, protocol = "UDP" }}] }}]

[[service]]
metadata = {{ name = "web", annotations = {{ "kswitch.dev/balancing" = "{method}" }} }}
[service.spec]
clusterIP = "10.8.1.1"
selector = {{ app = "web" }}
ports = [{{ port = 53, targetPort = 8080, protocol = "UDP" }}]
"#
    );
    let draft = Draft::read_text("lab.toml", &text, Path::new("."));
    Arc::new(draft.validate(previous).unwrap_or_else(|errors| panic!("{errors}")))
}

fn world_of(cluster: &Arc<Cluster>) -> World {
    World::new(Arc::clone(cluster), Observed::default(), 7)
}

/// The endpoint to which a new flow from each of these ports of the client is sent.
fn spread(world: &mut World, ports: impl IntoIterator<Item = u16>) -> BTreeMap<u16, Address> {
    let client = pod("client");
    let machines: Vec<PortKind> = world.machines().cloned().collect();
    let mut chosen = BTreeMap::new();
    let ports: Vec<u16> = ports.into_iter().collect();
    // no port of a machine holds more than this
    for ports in ports.chunks(1_000) {
        for port in ports {
            let source = v4(world, &client, *port);
            assert!(world.send_packet(&client, &Craft::udp(source, at("10.8.1.1", 53), b"?")));
        }
        for machine in &machines {
            for got in world.packets(machine) {
                let (Endpoint { port, .. }, Endpoint { address, .. }) = got.ends();
                assert_eq!(chosen.insert(port, address), None, "sent twice: {got:?}");
            }
        }
    }
    assert_eq!(chosen.len(), ports.len(), "drops: {:?}", world.drops());
    chosen
}

fn shares(chosen: &BTreeMap<u16, Address>) -> BTreeMap<Address, u32> {
    let mut shares = BTreeMap::new();
    for address in chosen.values() {
        *shares.entry(*address).or_default() += 1;
    }
    shares
}

/// Pearson's statistic of these counts against equal shares.
fn chi_square(shares: &BTreeMap<Address, u32>) -> f64 {
    let total: u32 = shares.values().sum();
    let expected = f64::from(total) / f64::from(u32::try_from(shares.len()).unwrap());
    shares.values().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// For two degrees of freedom, exceeded by chance once in a thousand times.
const CHI_SQUARE_2: f64 = 13.816;

#[test]
fn chance_is_fair() {
    let mut world = world_of(&cluster(3, "random", None));
    let shares = shares(&spread(&mut world, 10_000..20_000));
    assert_eq!(shares.len(), 3);
    assert!(chi_square(&shares) < CHI_SQUARE_2, "{shares:?}");
    // and not by counting, which no chance would do
    assert!(chi_square(&shares) > 0.002, "{shares:?}");
}

#[test]
fn the_test_of_fairness_sees_an_unfair_choice() {
    let address = |last| Address::v4(last);
    let shares = BTreeMap::from([(address(1), 3_433), (address(2), 3_433), (address(3), 3_134)]);
    assert!(chi_square(&shares) > CHI_SQUARE_2);
}

#[test]
fn maglev_moves_few_flows_beyond_those_that_must() {
    let before = cluster(100, "maglev", None);
    let after = cluster(99, "maglev", Some(&before));
    let old = spread(&mut world_of(&before), 10_000..20_000);
    let new = spread(&mut world_of(&after), 10_000..20_000);
    let remaining = shares(&new);
    assert_eq!((shares(&old).len(), remaining.len()), (100, 99));
    let needless =
        old.iter().filter(|(port, at)| remaining.contains_key(at) && new[port] != **at).count();
    assert!(needless < 200, "{needless} of 10000 moved");
}

#[test]
fn the_endpoint_with_the_fewest_flows_is_chosen() {
    let before = cluster(3, "least-connections", None);
    let mut world = world_of(&before);
    let first = shares(&spread(&mut world, 10_000..10_300));
    assert_eq!(first.values().copied().collect::<Vec<_>>(), [100; 3]);
    // a newcomer is given all until it has caught up
    world.change(cluster(4, "least-connections", Some(&before)));
    let second = shares(&spread(&mut world, 20_000..20_100));
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(second.keys().all(|newcomer| !first.contains_key(newcomer)));
    // flows that are over do not count any more
    world.pass(300);
    assert!(world.shared.conntrack.is_empty());
    let third = shares(&spread(&mut world, 30_000..30_100));
    assert_eq!(third.values().copied().collect::<Vec<_>>(), [25; 4]);
}

#[test]
fn an_established_flow_does_not_notice_that_others_come_and_go() {
    let mut cluster = cluster(3, "random", None);
    let mut world = world_of(&cluster);
    let client = pod("client");
    let chosen = spread(&mut world, 10_000..10_200);
    for replicas in [4, 7, 3, 5] {
        cluster = self::cluster(replicas, "random", Some(&cluster));
        world.change(Arc::clone(&cluster));
        for (port, at_first) in &chosen {
            let packet = Craft::udp(v4(&world, &client, *port), at("10.8.1.1", 53), b"?");
            let counted = moved(&mut world, &client, &packet);
            assert!(!counted.contains_key("admitted") && counted.len() <= 1, "{counted:?}");
            let machines: Vec<PortKind> = world.machines().cloned().collect();
            let got: Vec<_> = machines.iter().flat_map(|machine| world.packets(machine)).collect();
            let [got] = &got[..] else { panic!("{port}: {got:?}, drops {:?}", world.drops()) };
            assert_eq!(got.packet.flow.target.address, *at_first, "{port}");
        }
    }
}
