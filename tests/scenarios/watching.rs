//! What those who look on are told.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use kswitch::control::capture::{Captures, FrameRecord, Wish, unhex};
use kswitch::control::monitor::{EventRecord, Filter, Monitor, RefusedBy};
use kswitch::control::request::Response;
use kswitch::dataplane::capture::Capture;
use kswitch::dataplane::watch::{EVENTS_MAX, Watch};
use kswitch::sim::World;
use kswitch::sim::craft::Craft;
use kswitch_config::Draft;

use crate::lab::{SHOP, address, at, moved, one, pod, v4, world};

const POLICY: &str = r#"
[[network-policy]]
metadata = { name = "far-only" }
spec.podSelector = { matchLabels = { app = "web" } }
spec.ingress = [{ from = [{ podSelector = { matchLabels = { app = "web" } } }] }]
"#;

const WATCHED: &str = r#"
[[network-policy]]
metadata = { name = "watched", annotations = { "kswitch.dev/audit" = "true" } }
spec.podSelector = { matchLabels = { app = "web" } }
spec.ingress = []
"#;

/// A world, and who looks on.
struct Show {
    world: World,
    monitor: Arc<Monitor>,
    captures: Arc<Captures>,
    watch: Arc<Watch>,
}

fn show(text: &str) -> Show {
    let mut world = world(text);
    let (watch, capture) = (Arc::<Watch>::default(), Arc::<Capture>::default());
    let start = Instant::now();
    world.show(Arc::clone(&watch), Arc::clone(&capture), start);
    let monitor = Monitor::new(vec![Arc::clone(&watch)], start);
    let captures = Captures::new(vec![capture], Arc::clone(&world.shared), start);
    let show = Show { world, monitor: Arc::new(monitor), captures: Arc::new(captures), watch };
    show.follow();
    show
}

impl Show {
    fn follow(&self) {
        let names = Arc::new(self.world.names().clone());
        self.monitor.follow(Arc::clone(&names), Arc::clone(self.world.snapshot()));
        self.captures.follow(names);
    }
}

fn events(response: Option<Response>) -> Vec<EventRecord> {
    let Some(Response::Objects { items }) = response else { panic!("{response:?}") };
    items.into_iter().map(|item| serde_json::from_value(item).unwrap()).collect()
}

#[test]
fn flows_are_told_as_they_begin_are_refused_and_end() {
    let mut show = show(SHOP);
    let client = pod("client");
    let from = v4(&show.world, &client, 40_000);
    // nobody looks on yet
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.1", 80)));
    show.monitor.drain();
    let mut stream = show.monitor.subscribe(Filter::default());

    let from = v4(&show.world, &client, 40_001);
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.1", 80)));
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.2", 80)));
    show.monitor.drain();
    let told = events(stream.next());
    assert_eq!(told.len(), 2, "{told:?}");
    let [opened, refused] = &told[..] else { panic!() };
    assert_eq!((opened.event.as_str(), opened.verdict.as_str()), ("new", "forward"));
    assert_eq!(opened.source_name.as_deref(), Some("default/client"));
    assert_eq!(opened.service.as_deref(), Some("default/web"));
    assert_eq!(opened.target.as_deref(), Some("10.8.1.1:80"));
    let endpoint = opened.endpoint_name.clone().unwrap();
    assert!(["default/near", "default/far"].contains(&endpoint.as_str()));
    let port = opened.rewritten_target.as_ref().unwrap().ends_with(":8080");
    assert!(port, "{opened:?}");
    assert_eq!(refused.reason.as_deref(), Some("no_endpoints"));
    assert_eq!(refused.service.as_deref(), Some("default/empty"));

    // a frame of a known flow is nothing new
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.1", 80)));
    show.monitor.drain();
    let shared = Arc::clone(&show.world.shared);
    shared.conntrack.remove_where(|_| true, |death| show.monitor.ended(&death));
    let told = events(stream.next());
    let causes: Vec<_> = told.iter().map(|event| (&*event.event, event.cause.as_deref())).collect();
    assert_eq!(causes, [("closed", Some("removed")), ("closed", Some("removed"))]);
}

#[test]
fn refusals_by_policies_are_explained_and_counted() {
    let mut show = show(&format!("{SHOP}{POLICY}"));
    let client = pod("client");
    let from = v4(&show.world, &client, 40_000);
    let near = address(&show.world, &pod("near"), true).to_string();
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    show.monitor.drain();
    let by = |policy: &str, is_audited| RefusedBy {
        policy: policy.into(),
        direction: "ingress",
        is_audited,
    };
    assert_eq!(show.monitor.refused(), [(by("default/far-only", false), 1)]);

    let filter = Filter { policy: Some("far-only".into()), ..Filter::default() };
    let mut stream = show.monitor.subscribe(filter);
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.2", 80)));
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    show.monitor.drain();
    let told = events(stream.next());
    assert_eq!(told.len(), 1, "the other refusal is no policy's: {told:?}");
    let expected = "ingress: isolated by default/far-only; rule 1 of default/far-only allows \
        pods app=web of its namespace, not 10.4.0.2";
    let meaning = told[0].meaning.as_deref().unwrap();
    let from_client = from.address.to_string();
    assert!(meaning.starts_with("ingress: isolated by default/far-only; rule 1"), "{meaning}");
    assert!(meaning.ends_with(&from_client), "{meaning} is not like {expected}");
    assert_eq!(told[0].policies, ["default/far-only"]);
    drop(stream);
    assert!(!show.watch.is_on(), "nobody looks on any more");
}

#[test]
fn policies_that_are_only_watched_tell_and_refuse_nothing() {
    let mut show = show(&format!("{SHOP}{WATCHED}"));
    let client = pod("client");
    let from = v4(&show.world, &client, 40_000);
    let near = address(&show.world, &pod("near"), true).to_string();
    let mut stream = show.monitor.subscribe(Filter::default());
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    one(&mut show.world, &pod("near"));
    show.monitor.drain();
    let mut told = events(stream.next());
    told.sort_by(|a, b| a.event.cmp(&b.event));
    let kinds: Vec<_> = told.iter().map(|event| (&*event.event, &*event.verdict)).collect();
    assert_eq!(kinds, [("audited", "audit"), ("new", "forward")]);
    assert_eq!(told[0].policies, ["default/watched"]);
    let by = RefusedBy { policy: "default/watched".into(), direction: "ingress", is_audited: true };
    assert_eq!(show.monitor.refused(), [(by, 1)]);
}

#[test]
fn a_flow_that_a_new_policy_ends_is_told_as_closed() {
    let mut show = show(SHOP);
    let client = pod("client");
    let from = v4(&show.world, &client, 40_000);
    let near = address(&show.world, &pod("near"), true).to_string();
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    let draft = Draft::read_text("lab.toml", &format!("{SHOP}{POLICY}"), Path::new("."));
    let cluster = draft.validate(Some(&show.world.cluster)).unwrap();
    show.world.change(Arc::new(cluster));
    show.follow();
    let mut stream = show.monitor.subscribe(Filter::default());
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    show.monitor.drain();
    let told = events(stream.next());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&*told[0].event, told[0].cause.as_deref()), ("closed", Some("policy_ingress")));
}

#[test]
fn a_full_ring_forgets_and_says_how_much() {
    let mut show = show(SHOP);
    let client = pod("client");
    let mut stream = show.monitor.subscribe(Filter::default());
    let from = v4(&show.world, &client, 40_000);
    for _ in 0..EVENTS_MAX + 5 {
        show.world.send_packet(&client, &Craft::syn(from, at("10.8.1.2", 80)));
        show.world.clear();
    }
    assert_eq!(show.monitor.lost(), 5);
    show.monitor.drain();
    let mut told = Vec::new();
    while told.len() < EVENTS_MAX + 1 {
        told.extend(events(stream.next()));
    }
    let lost: Vec<_> = told.iter().filter_map(|event| event.count).collect();
    assert_eq!(lost, [5]);
}

fn frames(response: Option<Response>) -> Vec<FrameRecord> {
    let Some(Response::Objects { items }) = response else { panic!("{response:?}") };
    items.into_iter().map(|item| serde_json::from_value(item).unwrap()).collect()
}

#[test]
fn frames_are_captured_before_and_after_rewriting() {
    let mut show = show(SHOP);
    let client = pod("client");
    let mut stream = show.captures.begin(Wish { snap: 1000, ..Wish::default() });
    let from = v4(&show.world, &client, 40_000);
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.1", 80)));
    moved(&mut show.world, &client, &Craft::udp(from, at("10.8.1.2", 81), b"x"));
    show.captures.drain();
    let captured = frames(stream.next());
    let outline: Vec<_> = captured.iter().map(|frame| (frame.is_inbound, frame.octets)).collect();
    assert_eq!(outline.len(), 4, "{captured:?}");
    assert!(outline[0].0 && !outline[1].0 && outline[2].0 && !outline[3].0, "{outline:?}");
    let [came, sent, refused, error] = &captured[..] else { panic!() };
    assert_eq!((came.port.as_str(), error.port.as_str()), ("default/client", "default/client"));
    assert_eq!(came.comment.split("; ").next(), Some(&*format!("forwarded to {}", sent.port)));
    let flow = |frame: &FrameRecord| frame.comment.split("; ").nth(1).unwrap().to_owned();
    assert_eq!(flow(came), flow(sent), "one flow, whatever was rewritten");
    assert!(flow(came).ends_with("-> 10.8.1.1:80"), "{}", flow(came));
    assert!(refused.comment.starts_with("dropped, no_service_port: "), "{}", refused.comment);
    assert_ne!(unhex(&came.data).unwrap()[30..34], unhex(&sent.data).unwrap()[30..34]);
    drop(stream);
    assert!(!show.captures.is_on());
    moved(&mut show.world, &client, &Craft::syn(from, at("10.8.1.1", 80)));
    show.captures.drain();
}

#[test]
fn captures_take_only_what_was_asked_for() {
    let mut show = show(SHOP);
    let client = pod("client");
    let id = show.world.port(&pod("near")).unwrap().id;
    let filter = kswitch::control::capture::filter::Filter::parse("udp").unwrap();
    let wish = Wish { ports: Some(vec![id]), snap: 20, filter: Some(filter), sample: 1 };
    let mut stream = show.captures.begin(wish);
    let from = v4(&show.world, &client, 40_000);
    let near = address(&show.world, &pod("near"), true).to_string();
    moved(&mut show.world, &client, &Craft::syn(from, at(&near, 8080)));
    moved(&mut show.world, &client, &Craft::udp(from, at(&near, 8080), b"hello"));
    show.captures.drain();
    let captured = frames(stream.next());
    let [frame] = &captured[..] else { panic!("{captured:?}") };
    assert_eq!((frame.port.as_str(), frame.is_inbound), ("default/near", false));
    assert_eq!((frame.octets, frame.data.len()), (47, 40));
}
