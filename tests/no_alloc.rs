//! The established path allocates nothing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use kswitch::dataplane::burst::Arrival;
use kswitch::dataplane::capture::{Capture, Copied};
use kswitch::dataplane::pipeline::Output;
use kswitch::dataplane::watch::Watch;
use kswitch::dataplane::{Counters, Frame, Parsed, Pipeline, Verdict};
use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch_config::{Draft, Observed, PortKind};
use kswitch_tables::{Endpoint, PortId};

/// Counts what the test's own thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call is handed on to the system's allocator unchanged
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator asks for
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Nowhere(u64);

impl Output for Nowhere {
    fn send(&mut self, _: PortId, buffer: &[u8]) {
        self.0 += buffer.len() as u64;
    }
}

const LAB: &str = r#"
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
spec = { clusterIP = "10.8.1.1", selector = { app = "web" }, ports = [{ port = 80, targetPort = 8080 }] }
[lab]
name = "quiet"
"#;

#[test]
fn an_established_frame_allocates_nothing() {
    let cluster = Draft::read_text("lab.toml", LAB, Path::new(".")).validate(None).unwrap();
    let world = World::new(Arc::new(cluster), Observed::default(), 1);
    let client = PortKind::Pod { namespace: "default".into(), name: "client".into() };
    let port = world.port(&client).unwrap();
    let source = Endpoint::new(port.addresses[0].addr().into(), 4000);
    let vip = Endpoint::new("10.8.1.1".parse::<std::net::IpAddr>().unwrap().into(), 80);
    let original = world.frame(&client, &Craft::syn(source, vip)).unwrap();

    let counters = Arc::new(Counters::new(64));
    let mut pipeline = Pipeline::new(Arc::clone(&world.shared), Arc::clone(&counters), 3);
    let mut out = Nowhere(0);
    let mut buffer = original.clone();
    let mut carry = |pipeline: &mut Pipeline, buffer: &mut Vec<u8>| {
        buffer.copy_from_slice(&original);
        let mut frame = Frame::new(buffer);
        let arrival = Arrival::of(&frame, &pipeline.shared.conntrack);
        assert!(matches!(arrival.parsed, Ok(Parsed::Ip(_))));
        let (id, snapshot) = (port.id, world.snapshot());
        pipeline.forward(snapshot, world.now(), id, &mut frame, &arrival, &mut out)
    };
    assert!(matches!(carry(&mut pipeline, &mut buffer), Verdict::Forwarded(_)));
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..1000 {
        assert!(matches!(carry(&mut pipeline, &mut buffer), Verdict::Forwarded(_)));
    }
    let after = ALLOCATIONS.with(Cell::get);
    assert_eq!(after - before, 0, "allocations in a thousand frames");
    assert_eq!(counters.established.get(), 1000);
}

/// What a worker allocates for a thousand established frames through memory ports, whose own
/// copies are among it; with everything that may look on, if `is_watched`.
fn allocations_of_a_worker(is_watched: bool) -> u64 {
    let cluster = Draft::read_text("lab.toml", LAB, Path::new(".")).validate(None).unwrap();
    let mut world = World::new(Arc::new(cluster), Observed::default(), 1);
    let pod = |name: &str| PortKind::Pod { namespace: "default".into(), name: name.into() };
    let (client, web) = (pod("client"), pod("web"));
    let (watch, capture) = (Arc::new(Watch::default()), Arc::new(Capture::default()));
    world.show(Arc::clone(&watch), Arc::clone(&capture), std::time::Instant::now());
    if is_watched {
        watch.turn(true);
        capture.select_all(true);
        capture.turn(true);
        // fewer than are needed: what finds none is counted, and nothing is made for it
        for _ in 0..500 {
            let data = Vec::with_capacity(2048);
            capture.give(Box::new(Copied { data, ..Copied::default() }));
        }
    }
    let source = Endpoint::new(world.port(&client).unwrap().addresses[0].addr().into(), 4000);
    let vip = Endpoint::new("10.8.1.1".parse::<std::net::IpAddr>().unwrap().into(), 80);
    let frame = world.frame(&client, &Craft::syn(source, vip)).unwrap();
    let mut carry = || {
        world.send(&client, &frame);
        assert_eq!(world.take(&web).len(), 1);
    };
    (0..10).for_each(|_| carry());
    let before = ALLOCATIONS.with(Cell::get);
    (0..1000).for_each(|_| carry());
    let after = ALLOCATIONS.with(Cell::get);
    assert_eq!(capture.lost.get() > 0, is_watched);
    after - before
}

#[test]
fn who_looks_on_costs_a_worker_no_allocation() {
    assert_eq!(allocations_of_a_worker(true), allocations_of_a_worker(false));
}
