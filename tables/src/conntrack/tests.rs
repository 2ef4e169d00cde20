use super::*;
use crate::slots::BLOCK;
use crate::{Address, Endpoint, Generation, HopId, LoadId, PortId};

pub(super) const NOW: Tick = Tick(1_000);

fn v4(last: u32, port: u16) -> Endpoint {
    Endpoint::new(Address::v4(0x0a04_0000 | last), port)
}

fn v6(last: u128, port: u16) -> Endpoint {
    Endpoint::new(Address::v6(0xfd00 << 112 | last), port)
}

fn flow(protocol: Protocol, source: Endpoint, target: Endpoint) -> Flow {
    Flow { protocol, source, target }
}

fn binding(source: Endpoint, target: Endpoint) -> Binding {
    Binding {
        ingress: PortId(3),
        source,
        target,
        ip_delta: 0x1234,
        transport_delta: 0xfedc,
        hops: 2,
        hop: HopId(77),
        load: LoadId::NONE,
        generation: Generation(5),
        flags: BindingFlags::NAT,
    }
}

/// Records a flow whose frames leave as `rewritten`.
fn bind(
    conntrack: &Conntrack,
    original: &Flow,
    rewritten: &Flow,
    now: Tick,
    state: State,
) -> Result<Bound, BindError> {
    let forward = binding(rewritten.source, rewritten.target);
    let backward = binding(original.target, original.source);
    conntrack.bind(original, forward, &rewritten.reversed(), backward, now, state)
}

fn new(conntrack: &Conntrack, original: &Flow, rewritten: &Flow, state: State) -> Found {
    match bind(conntrack, original, rewritten, NOW, state) {
        Ok(Bound::New(found)) => found,
        other => panic!("not new: {other:?}"),
    }
}

fn find(conntrack: &Conntrack, flow: &Flow) -> Option<Found> {
    conntrack.find(flow, conntrack.hash(flow))
}

/// A client, a service and a backend: what comes in, and what goes out.
fn translated(client: u16) -> (Flow, Flow) {
    let client = v4(9, client);
    let original = flow(Protocol::TCP, client, v4(0x0400, 80));
    (original, flow(Protocol::TCP, client, v4(7, 8080)))
}

fn expire(conntrack: &Conntrack, now: Tick) -> Vec<Death> {
    let mut deaths = Vec::new();
    let timeouts = Timeouts::default();
    let slots = conntrack.slots().iter().sum::<u64>();
    let slots = usize::try_from(slots).unwrap();
    let ended =
        conntrack.expire(&mut Cursor::default(), slots, now, &timeouts, |death| deaths.push(death));
    assert_eq!(ended, deaths.len());
    deaths
}

#[test]
fn both_directions_are_found_by_what_comes_in() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let bound = new(&conntrack, &original, &rewritten, State::SynSent);
    let forward = find(&conntrack, &original).unwrap();
    assert_eq!(forward, bound);
    assert_eq!(forward.binding, binding(rewritten.source, rewritten.target));
    assert_eq!(forward.life, Life::begin(State::SynSent, NOW));
    let reply = find(&conntrack, &rewritten.reversed()).unwrap();
    assert_eq!(reply.binding.direction(), Direction::Reply);
    assert_eq!((reply.binding.source, reply.binding.target), (original.target, original.source));
    assert_eq!(reply.binding.answered_by(Protocol::TCP), original);
    assert_eq!(find(&conntrack, &original.reversed()), None);
    assert_eq!(find(&conntrack, &rewritten), None);
    assert_eq!((conntrack.len(), conntrack.occupancy()[0].connections), (1, 1));
}

#[test]
fn both_families_and_all_protocols_are_apart() {
    let conntrack = Conntrack::new(8, 8, 1);
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol(50)];
    for protocol in protocols {
        let short = flow(protocol, v4(1, 10), v4(2, 20));
        let long = flow(protocol, v6(1, 10), v6(2, 20));
        new(&conntrack, &short, &short, State::first(protocol));
        new(&conntrack, &long, &long, State::first(protocol));
    }
    assert_eq!(conntrack.len(), 8);
    for protocol in protocols {
        let found = find(&conntrack, &flow(protocol, v6(2, 20), v6(1, 10))).unwrap();
        assert_eq!(found.binding.target, v6(1, 10));
        assert_eq!(found.life.state, State::first(protocol));
    }
    let listed: Vec<_> = conntrack.connections().map(|c| c.original).collect();
    assert_eq!(listed.len(), 8);
    assert_eq!(listed.iter().filter(|flow| flow.is_v4()).count(), 4);
}

#[test]
fn who_comes_second_adopts_what_the_first_recorded() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let first = new(&conntrack, &original, &rewritten, State::SynSent);
    let elsewhere = flow(Protocol::TCP, original.source, v4(8, 8080));
    let second = bind(&conntrack, &original, &elsewhere, NOW, State::SynSent);
    assert_eq!(second, Ok(Bound::Existing(first)));
    assert_eq!(find(&conntrack, &elsewhere.reversed()), None);
    assert_eq!(conntrack.len(), 1);
}

#[test]
fn a_flow_that_is_the_answer_of_another_is_that_connection() {
    let conntrack = Conntrack::new(8, 8, 1);
    let there = flow(Protocol::UDP, v4(1, 10), v4(2, 20));
    new(&conntrack, &there, &there, State::UdpUnreplied);
    let back = there.reversed();
    let outcome = bind(&conntrack, &back, &back, NOW, State::UdpUnreplied);
    let Ok(Bound::Existing(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.binding.direction(), Direction::Reply);
    assert_eq!(conntrack.len(), 1);
}

#[test]
fn two_services_with_one_backend_need_two_source_ports() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    new(&conntrack, &original, &rewritten, State::SynSent);
    let other = flow(Protocol::TCP, original.source, v4(0x0401, 80));
    let taken = bind(&conntrack, &other, &rewritten, NOW, State::SynSent);
    assert_eq!(taken, Err(BindError::ReplyTaken));
    assert_eq!(find(&conntrack, &other), None);
    let moved = flow(Protocol::TCP, v4(9, 50_000), rewritten.target);
    new(&conntrack, &other, &moved, State::SynSent);
    assert_eq!(conntrack.len(), 2);
}

#[test]
fn an_endpoint_that_talks_to_itself_is_refused() {
    let conntrack = Conntrack::new(8, 8, 1);
    let land = flow(Protocol::TCP, v4(1, 10), v4(1, 10));
    let outcome = bind(&conntrack, &land, &land, NOW, State::SynSent);
    assert_eq!(outcome, Err(BindError::ReplyTaken));
    assert!(conntrack.is_empty());
}

#[test]
fn removal_from_either_direction_removes_both() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    for incoming in [original, rewritten.reversed()] {
        new(&conntrack, &original, &rewritten, State::SynSent);
        let found = find(&conntrack, &incoming).unwrap();
        assert!(conntrack.remove(&found));
        assert!(!conntrack.remove(&found));
        assert_eq!(find(&conntrack, &original), None);
        assert_eq!(find(&conntrack, &rewritten.reversed()), None);
        assert!(conntrack.is_empty());
        assert_eq!(conntrack.follow(&found, Signal::Frame, Tick(NOW.0 + 1)), Verdict::Gone);
    }
}

#[test]
fn a_binding_is_rewritten_once_per_reading() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let found = new(&conntrack, &original, &rewritten, State::SynSent);
    let judged = Binding { generation: Generation(6), hop: HopId(1), ..found.binding };
    assert!(conntrack.rebind(&found, judged));
    assert!(!conntrack.rebind(&found, judged), "what was read is not there any more");
    let again = find(&conntrack, &original).unwrap();
    assert_eq!(again.binding, judged);
    assert_eq!(again.life, found.life);
    // still tied to its other half
    let reply = find(&conntrack, &rewritten.reversed()).unwrap();
    assert_eq!(conntrack.follow(&reply, Signal::Frame, Tick(1_001)), Verdict::Accept);
    assert!(conntrack.remove(&again));
    assert_eq!(find(&conntrack, &rewritten.reversed()), None);
}

#[test]
fn a_connection_is_counted_for_its_backend_while_it_lives() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let forward = Binding { load: LoadId(5), ..binding(rewritten.source, rewritten.target) };
    let backward = binding(original.target, original.source);
    let bind = || {
        let state = State::SynSent;
        conntrack.bind(&original, forward, &rewritten.reversed(), backward, NOW, state).unwrap()
    };
    let load = || conntrack.loads().get(LoadId(5));
    bind();
    assert!(matches!(bind(), Bound::Existing(_)));
    assert_eq!(load(), 1, "it is one connection, however often it begins");
    // whoever judges it anew need not know who counts it
    let found = find(&conntrack, &original).unwrap();
    assert!(conntrack.rebind(&found, Binding { load: LoadId::NONE, ..found.binding }));
    assert!(conntrack.remove(&find(&conntrack, &rewritten.reversed()).unwrap()));
    assert_eq!(load(), 0, "removed by its answers");
    bind();
    conntrack.remove_where(|_| true, |_| {});
    assert_eq!(load(), 0, "removed on request");
    bind();
    assert_eq!(expire(&conntrack, Tick(NOW.0 + Tick::from_secs(1_000_000).0)).len(), 1);
    assert_eq!(load(), 0, "removed for its silence");
}

#[test]
fn rebinding_cannot_turn_a_direction_around() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    new(&conntrack, &original, &rewritten, State::SynSent);
    let reply = find(&conntrack, &rewritten.reversed()).unwrap();
    let judged = Binding { flags: BindingFlags::NAT, ..reply.binding };
    assert!(conntrack.rebind(&reply, judged));
    let again = find(&conntrack, &rewritten.reversed()).unwrap();
    assert_eq!(again.binding.direction(), Direction::Reply);
}

#[test]
fn answers_keep_a_connection_alive() {
    let conntrack = Conntrack::new(8, 8, 1);
    let ask = flow(Protocol::UDP, v4(1, 10), v4(2, 53));
    new(&conntrack, &ask, &ask, State::UdpUnreplied);
    let reply = find(&conntrack, &ask.reversed()).unwrap();
    conntrack.touch(&reply, Tick(1_200));
    assert_eq!(find(&conntrack, &ask).unwrap().life.state, State::UdpReplied);
    assert_eq!(expire(&conntrack, Tick(1_499)), []);
    let deaths = expire(&conntrack, Tick(1_500));
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].cause, Cause::Silent);
    assert_eq!(deaths[0].connection.original, ask);
    assert!(deaths[0].connection.backward.is_some());
    assert!(conntrack.is_empty());
    assert_eq!(find(&conntrack, &ask.reversed()), None);
}

#[test]
fn a_long_conversation_becomes_a_stream_whoever_speaks() {
    for speaks_last in [Direction::Original, Direction::Reply] {
        let conntrack = Conntrack::new(8, 8, 1);
        let ask = flow(Protocol::UDP, v4(1, 10), v4(2, 53));
        new(&conntrack, &ask, &ask, State::UdpUnreplied);
        let speak = |direction, tick| {
            let flow = if direction == Direction::Reply { ask.reversed() } else { ask };
            let found = find(&conntrack, &flow).unwrap();
            assert_eq!(conntrack.follow(&found, Signal::Frame, Tick(tick)), Verdict::Accept);
            find(&conntrack, &ask).unwrap().life.state
        };
        assert_eq!(speak(Direction::Original, 1_010), State::UdpUnreplied);
        assert_eq!(speak(Direction::Reply, 1_010), State::UdpReplied);
        assert_eq!(speak(Direction::Original, 1_019), State::UdpReplied);
        assert_eq!(speak(speaks_last, 1_020), State::UdpStream);
        // both slots agree
        let copy = find(&conntrack, &ask.reversed()).unwrap().life;
        assert_eq!(copy.state, State::UdpStream);
    }
}

#[test]
fn a_tcp_connection_is_followed_from_both_sides() {
    use Direction::{Original, Reply};
    use Verdict::{Accept, Invalid, Reopen};
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    new(&conntrack, &original, &rewritten, State::SynSent);
    let say = |direction, flags| {
        let incoming = if direction == Direction::Reply { rewritten.reversed() } else { original };
        let found = find(&conntrack, &incoming).unwrap();
        let verdict = conntrack.follow(&found, Signal::Tcp(flags), NOW);
        let states = [original, rewritten.reversed()]
            .map(|incoming| find(&conntrack, &incoming).unwrap().life.state);
        assert_eq!(states[0], states[1], "the copy is behind");
        (verdict, states[0])
    };
    let syn = TcpFlags::SYN;
    let ack = TcpFlags::ACK;
    let fin = TcpFlags::FIN.and(ack);
    assert_eq!(say(Reply, syn.and(ack)), (Accept, State::SynRecv));
    assert_eq!(say(Original, ack), (Accept, State::Established));
    assert_eq!(say(Reply, ack), (Accept, State::Established));
    assert_eq!(say(Original, syn), (Accept, State::Established), "ignored, and forwarded");
    assert_eq!(say(Reply, syn), (Invalid, State::Established));
    assert_eq!(say(Original, fin), (Accept, State::FinWait));
    assert_eq!(say(Reply, ack), (Accept, State::CloseWait));
    assert_eq!(say(Reply, fin), (Accept, State::LastAck));
    assert_eq!(say(Original, ack), (Accept, State::TimeWait));
    assert_eq!(say(Original, syn), (Reopen, State::TimeWait));
}

#[test]
fn a_reopened_connection_may_go_elsewhere() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let old = new(&conntrack, &original, &rewritten, State::SynSent);
    conntrack.follow(&old, Signal::Tcp(TcpFlags::RST), NOW);
    let closed = find(&conntrack, &original).unwrap();
    let again = conntrack.follow(&closed, Signal::Tcp(TcpFlags::SYN), NOW);
    assert_eq!(again, Verdict::Reopen);
    assert!(conntrack.remove(&closed));
    let elsewhere = flow(Protocol::TCP, original.source, v4(8, 8080));
    new(&conntrack, &original, &elsewhere, State::SynSent);
    assert_eq!(find(&conntrack, &rewritten.reversed()), None);
    assert!(find(&conntrack, &elsewhere.reversed()).is_some());
}

#[test]
fn nothing_said_of_an_old_connection_touches_the_new_one() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let old = new(&conntrack, &original, &rewritten, State::Established);
    let old_reply = find(&conntrack, &rewritten.reversed()).unwrap();
    conntrack.remove(&old);
    new(&conntrack, &original, &rewritten, State::SynSent);
    let reset = Signal::Tcp(TcpFlags::RST);
    assert_eq!(conntrack.follow(&old, reset, NOW), Verdict::Gone);
    assert!(!conntrack.remove(&old));
    assert!(!conntrack.rebind(&old_reply, old_reply.binding));
    assert_eq!(find(&conntrack, &original).unwrap().life.state, State::SynSent);
}

#[test]
fn a_full_table_refuses_new_connections_and_keeps_established_ones() {
    let conntrack = Conntrack::new(4, 4, 1);
    let flows: Vec<_> = (0..5).map(translated).collect();
    for (original, rewritten) in &flows[..4] {
        new(&conntrack, original, rewritten, State::Established);
    }
    let (original, rewritten) = &flows[4];
    let refused = bind(&conntrack, original, rewritten, NOW, State::SynSent);
    assert_eq!(refused, Err(BindError::Full));
    assert_eq!(find(&conntrack, original), None);
    assert_eq!(conntrack.reclaim(original, Tick(90_000)), None);
    assert_eq!(conntrack.len(), 4);
    // a table of the other family has room
    let long = flow(Protocol::TCP, v6(1, 1), v6(2, 2));
    new(&conntrack, &long, &long, State::SynSent);
}

/// Fills a table with connections in these states, all as old as `NOW`; the table is small enough
/// for every slot to be near every other.
fn filled(states: &[State]) -> (Conntrack, Flow, Flow) {
    let conntrack = Conntrack::new(states.len(), 1, 1);
    for (client, state) in states.iter().enumerate() {
        let (original, rewritten) = translated(u16::try_from(client).unwrap());
        new(&conntrack, &original, &rewritten, *state);
    }
    let (original, rewritten) = translated(9_999);
    (conntrack, original, rewritten)
}

#[test]
fn room_is_made_by_what_is_worth_least() {
    use State::{Established, FinWait, SynRecv, SynSent, TimeWait};
    let (conntrack, flow, _) = filled(&[Established, FinWait, SynRecv, SynSent, TimeWait]);
    let later = Tick(NOW.0 + HALF_OPEN_GRACE.0);
    let order: Vec<_> = std::iter::from_fn(|| conntrack.reclaim(&flow, later))
        .map(|death| {
            assert_eq!(death.cause, Cause::Displaced);
            death.connection.life.state
        })
        .collect();
    assert_eq!(order, [TimeWait, SynSent, SynRecv, FinWait]);
    assert_eq!(conntrack.len(), 1, "the established one stays");
}

#[test]
fn of_half_open_connections_the_newest_is_refused() {
    let (conntrack, original, rewritten) = filled(&[State::SynSent; 4]);
    let soon = Tick(NOW.0 + HALF_OPEN_GRACE.0 - 1);
    assert_eq!(conntrack.reclaim(&original, soon), None);
    let later = Tick(NOW.0 + HALF_OPEN_GRACE.0);
    assert!(conntrack.reclaim(&original, later).is_some());
    assert!(bind(&conntrack, &original, &rewritten, later, State::SynSent).is_ok());
}

#[test]
fn the_walk_takes_whole_blocks_at_a_time() {
    let conntrack = Conntrack::new(40, 40, 1);
    for client in 0..30 {
        let (original, rewritten) = translated(client);
        new(&conntrack, &original, &rewritten, State::Close);
        let long = flow(Protocol::UDP, v6(client.into(), 1), v6(1, 2));
        new(&conntrack, &long, &long, State::UdpUnreplied);
    }
    let mut cursor = Cursor::default();
    let mut deaths = 0;
    let round = conntrack.slots().iter().sum::<u64>();
    let blocks = round / u64::from(BLOCK);
    for (slots, calls) in [(7, blocks - 2), (BLOCK as usize + 1, 1)] {
        assert_eq!(cursor.rounds, 0);
        for _ in 0..calls {
            let timeouts = Timeouts::default();
            deaths += conntrack.expire(&mut cursor, slots, Tick(90_000), &timeouts, |_| ());
        }
    }
    assert_eq!((deaths, conntrack.len()), (60, 0));
    assert_eq!(cursor.rounds, 1);
}

#[test]
fn unwanted_connections_are_removed_however_busy() {
    let conntrack = Conntrack::new(40, 40, 1);
    for client in 0..20 {
        let (original, rewritten) = translated(client);
        new(&conntrack, &original, &rewritten, State::Established);
    }
    let mut ended = Vec::new();
    let removed = conntrack.remove_where(
        |connection| connection.original.source.port % 2 == 0,
        |death| ended.push(death.cause),
    );
    assert_eq!((removed, conntrack.len()), (10, 10));
    assert_eq!(ended, [Cause::Removed; 10]);
    assert!(conntrack.connections().all(|c| c.original.source.port % 2 == 1));
}

#[test]
fn a_listing_shows_both_directions() {
    let conntrack = Conntrack::new(8, 8, 1);
    let (original, rewritten) = translated(4_000);
    let found = new(&conntrack, &original, &rewritten, State::SynSent);
    let listed: Vec<_> = conntrack.connections().collect();
    let expected = Connection {
        original,
        forward: found.binding,
        backward: find(&conntrack, &rewritten.reversed()).map(|reply| reply.binding),
        life: found.life,
    };
    assert_eq!(listed, [expected]);
}

#[test]
fn a_hash_depends_on_every_part_of_the_flow_and_on_the_seed() {
    let conntrack = Conntrack::new(8, 8, 1);
    let base = flow(Protocol::TCP, v4(1, 10), v4(2, 20));
    let others = [
        flow(Protocol::UDP, v4(1, 10), v4(2, 20)),
        flow(Protocol::TCP, v4(3, 10), v4(2, 20)),
        flow(Protocol::TCP, v4(1, 11), v4(2, 20)),
        flow(Protocol::TCP, v4(1, 10), v4(3, 20)),
        flow(Protocol::TCP, v4(1, 10), v4(2, 21)),
        base.reversed(),
    ];
    assert!(others.iter().all(|other| conntrack.hash(other) != conntrack.hash(&base)));
    assert_ne!(Conntrack::new(8, 8, 2).hash(&base), conntrack.hash(&base));
}

#[test]
fn a_connection_counts_for_its_port_until_it_is_answered() {
    let conntrack = Conntrack::new(64, 64, 1);
    let half_open = || conntrack.half_open(PortId(3));
    let hear = |flow: &Flow, signal| {
        let found = find(&conntrack, flow).unwrap();
        assert_eq!(conntrack.follow(&found, signal, NOW), Verdict::Accept);
        half_open()
    };
    let [syn, syn_ack, ack] = [2, 0x12, 0x10].map(|flags| Signal::Tcp(TcpFlags(flags)));
    let (original, rewritten) = translated(4_000);
    let reply = rewritten.reversed();
    new(&conntrack, &original, &rewritten, State::SynSent);
    let counts = [(original, syn), (reply, syn_ack), (original, ack), (reply, ack)]
        .map(|(flow, signal)| hear(&flow, signal));
    assert_eq!(counts, [1, 1, 0, 0], "a SYN-ACK alone costs who sends it as little as a SYN");

    let query = flow(Protocol::UDP, v4(1, 10), v4(2, 53));
    new(&conntrack, &query, &query, State::UdpUnreplied);
    assert_eq!([query, query.reversed()].map(|flow| hear(&flow, Signal::Frame)), [1, 0]);

    let middle = flow(Protocol::TCP, v6(1, 10), v6(2, 80));
    let found = new(&conntrack, &middle, &middle, State::MidStream);
    assert_eq!(hear(&middle, ack), 1);
    // its machine is found at another port now
    assert!(conntrack.rebind(&found, Binding { ingress: PortId(4), ..found.binding }));
    assert_eq!([3, 4].map(|port| conntrack.half_open(PortId(port))), [0, 0]);
    assert_eq!(hear(&middle.reversed(), ack), 0);
    assert_eq!(find(&conntrack, &middle).unwrap().life.state, State::Established);

    let (original, rewritten) = translated(4_001);
    let found = new(&conntrack, &original, &rewritten, State::SynSent);
    assert_eq!(half_open(), 1);
    assert!(conntrack.remove(&found));
    assert_eq!(half_open(), 0);
    let (original, rewritten) = translated(4_002);
    new(&conntrack, &original, &rewritten, State::SynSent);
    expire(&conntrack, Tick(NOW.0 + 100_000));
    assert_eq!(half_open(), 0);
}
