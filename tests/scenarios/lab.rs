//! The lab of the scenarios, and what is asked of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use kswitch::dataplane::counters::Counter;
use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch::sim::read::Received;
use kswitch_config::{Draft, Observed, PortKind};
use kswitch_tables::{Address, Endpoint};

/// Two nodes with two frontends and a client, behind a Service of each family; an outside.
pub(crate) const SHOP: &str = r#"
[lab]
name = "shop"

[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]

[[node]]
name = "node-a"
[[node]]
name = "node-b"

[[pod]]
metadata = { name = "client" }
spec.nodeName = "node-a"

[[pod]]
metadata = { name = "near", labels = { app = "web" } }
spec = { nodeName = "node-a", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }

[[pod]]
metadata = { name = "far", labels = { app = "web" } }
spec = { nodeName = "node-b", containers = [{ name = "c", ports = [{ containerPort = 8080 }] }] }

[[service]]
metadata = { name = "web" }
[service.spec]
clusterIP = "10.8.1.1"
clusterIPs = ["10.8.1.1", "fd00:8::101"]
ipFamilyPolicy = "RequireDualStack"
selector = { app = "web" }
ports = [
    { name = "http", port = 80, targetPort = 8080 },
    { name = "dns", port = 53, targetPort = 8053, protocol = "UDP" },
]

[[service]]
metadata = { name = "empty" }
spec = { clusterIP = "10.8.1.2", selector = { app = "nobody" }, ports = [{ port = 80 }] }

[[external]]
name = "internet"
addresses = ["198.51.100.7/24", "2001:db8:99::7/64"]
"#;

/// The world of a lab file.
pub(crate) fn world(text: &str) -> World {
    let draft = Draft::read_text("lab.toml", text, Path::new("."));
    let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
    World::new(Arc::new(cluster), Observed::default(), 7)
}

pub(crate) fn pod(name: &str) -> PortKind {
    PortKind::Pod { namespace: "default".into(), name: name.into() }
}

pub(crate) fn node(name: &str) -> PortKind {
    PortKind::Node { name: name.into() }
}

pub(crate) fn internet() -> PortKind {
    PortKind::External { name: "internet".into() }
}

pub(crate) fn at(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse::<IpAddr>().unwrap().into(), port)
}

/// The machine's address of the family.
pub(crate) fn address(world: &World, kind: &PortKind, is_v4: bool) -> Address {
    let port = world.port(kind).unwrap();
    let net = port.addresses.iter().find(|net| net.addr().is_ipv4() == is_v4).unwrap();
    net.addr().into()
}

pub(crate) fn v4(world: &World, kind: &PortKind, port: u16) -> Endpoint {
    Endpoint::new(address(world, kind, true), port)
}

/// The one valid packet that came to the machine; it must be intact.
pub(crate) fn one(world: &mut World, at: &PortKind) -> Received {
    let mut packets = world.packets(at);
    assert_eq!(packets.len(), 1, "packets at {at}: {packets:?}; drops {:?}", world.drops());
    let packet = packets.remove(0);
    assert!(packet.is_intact, "a checksum is wrong: {packet:?}");
    packet
}

/// That nothing came to the machine.
pub(crate) fn nothing(world: &mut World, at: &PortKind) {
    let packets = world.take(at);
    assert!(packets.is_empty(), "{} frames at {at}", packets.len());
}

/// Sends a packet, and says which counters it moved and by how much.
pub(crate) fn moved(
    world: &mut World,
    from: &PortKind,
    packet: &Craft,
) -> BTreeMap<&'static str, u64> {
    let before = counters(world);
    assert!(world.send_packet(from, packet), "no machine {from}");
    difference(&before, counters(world))
}

/// Sends a frame, and says which counters it moved and by how much.
pub(crate) fn moved_by_frame(
    world: &mut World,
    from: &PortKind,
    frame: &[u8],
) -> BTreeMap<&'static str, u64> {
    let before = counters(world);
    assert!(world.send(from, frame), "no machine {from}");
    difference(&before, counters(world))
}

/// Every counter of the world that is no port's.
fn counters(world: &World) -> BTreeMap<&'static str, u64> {
    let counters = &world.counters;
    let get = Counter::get;
    let mut all = world.drops();
    all.extend([
        ("established", get(&counters.established)),
        ("admitted", get(&counters.admitted)),
        ("answered", get(&counters.answered)),
        ("flooded", get(&counters.flooded)),
        ("asked", get(&counters.asked)),
        ("errors_withheld", get(&counters.errors_withheld)),
    ]);
    all
}

fn difference(
    before: &BTreeMap<&'static str, u64>,
    after: BTreeMap<&'static str, u64>,
) -> BTreeMap<&'static str, u64> {
    let moved = after
        .into_iter()
        .map(|(key, count)| (key, count - before.get(key).copied().unwrap_or_default()));
    moved.filter(|(_, count)| *count > 0).collect()
}

/// Counters that moved by one each.
pub(crate) fn each(keys: &[&'static str]) -> BTreeMap<&'static str, u64> {
    keys.iter().map(|key| (*key, 1)).collect()
}
