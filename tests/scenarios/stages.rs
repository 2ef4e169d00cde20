//! Where the time of frames goes.

use std::path::Path;
use std::sync::Arc;

use kswitch::dataplane::stages::BURSTS_PER_SAMPLE;
use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch_config::{Draft, Observed, PortKind};
use kswitch_tables::Endpoint;

#[test]
fn a_worker_tells_where_the_time_of_its_frames_goes() {
    const LAB: &str = "[lab]\nname = \"stages\"\n[[node]]\nname = \"a\"\n\
         [[pod]]\nmetadata = { name = \"one\" }\nspec.nodeName = \"a\"\n\
         [[pod]]\nmetadata = { name = \"two\" }\nspec.nodeName = \"a\"\n";
    let draft = Draft::read_text("lab.toml", LAB, Path::new("."));
    let cluster = Arc::new(draft.validate(None).unwrap());
    let mut world = World::new(cluster, Observed::default(), 1);
    let pod = |name: &str| PortKind::Pod { namespace: "default".into(), name: name.into() };
    let end = |world: &World, name, port| {
        let address = world.port(&pod(name)).unwrap().addresses[0].addr();
        Endpoint::new(address.into(), port)
    };
    let (source, target) = (end(&world, "one", 4000), end(&world, "two", 8081));
    let sent = u64::from(4 * BURSTS_PER_SAMPLE);
    for _ in 0..sent {
        assert!(world.send_packet(&pod("one"), &Craft::udp(source, target, b"hello")));
    }
    assert_eq!(world.take(&pod("two")).len() as u64, sent);
    let stages = &world.counters.stages;
    // each frame is a burst of its own here
    let bursts = stages.bursts.get();
    assert!((1..=sent / 2).contains(&bursts), "{bursts}");
    assert_eq!((stages.frames.get(), stages.sent_frames.get()), (bursts, bursts));
    for nanos in [&stages.receive_nanos, &stages.parse_nanos, &stages.judge_nanos] {
        assert!(nanos.get() > 0, "{stages:?}");
    }
    assert!(stages.send_nanos.get() > 0, "{stages:?}");
}
