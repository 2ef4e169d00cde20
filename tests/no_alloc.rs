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
use kswitch::dataplane::pipeline::Output;
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
