//! Many threads on one table of connections: what must hold while they work, and when they rest.
//!
//! Under ThreadSanitizer, which the stable compiler has but hides:
//!
//! ```sh
//! TSAN_OPTIONS="suppressions=$PWD/tables/tests/sanitizer.supp" \
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" cargo test \
//!     -p kswitch-tables --target x86_64-unknown-linux-gnu --target-dir target/sanitized --test stress
//! ```
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use kswitch_tables::conntrack::{
    BindError, BindingFlags, Bound, Cursor, Direction, Found, Signal, State, TcpFlags, Timeouts,
    Verdict,
};
use kswitch_tables::slots::{Entry, Inserted, Refused, SlotTable};
use kswitch_tables::{
    Address, Binding, Conntrack, Endpoint, Flow, Generation, HopId, LoadId, PortId, Protocol, Tick,
};

const THREADS: u64 = 8;

/// A generator good enough to keep threads apart.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

fn v4(last: u32, port: u16) -> Endpoint {
    Endpoint::new(Address::v4(0x0a00_0000 + last), port)
}

fn flow(source: Endpoint, target: Endpoint) -> Flow {
    Flow { protocol: Protocol::UDP, source, target }
}

/// A binding whose every part tells which flow it is of, and under which generation.
fn binding(source: Endpoint, target: Endpoint, generation: u32) -> Binding {
    Binding {
        ingress: PortId(source.port),
        source,
        target,
        ip_delta: u16::try_from(generation & 0xffff).unwrap(),
        transport_delta: target.port,
        hops: 1,
        hop: HopId(generation),
        load: LoadId::NONE,
        generation: Generation(generation),
        flags: BindingFlags::NAT,
    }
}

fn assert_whole(binding: &Binding) {
    let generation = binding.generation.0;
    let flags = binding.flags.without(BindingFlags::REPLY);
    assert_eq!(
        Binding { flags, ..*binding },
        self::binding(binding.source, binding.target, generation)
    );
}

fn bind(
    conntrack: &Conntrack,
    original: &Flow,
    rewritten: &Flow,
    generation: u32,
    now: Tick,
) -> Result<Bound, BindError> {
    let forward = binding(rewritten.source, rewritten.target, generation);
    let backward = binding(original.target, original.source, generation);
    let reply = rewritten.reversed();
    conntrack.bind(original, forward, &reply, backward, now, State::UdpUnreplied)
}

fn find(conntrack: &Conntrack, flow: &Flow) -> Option<Found> {
    conntrack.find(flow, conntrack.hash(flow))
}

/// As many threads as can run at the same instant, two at least.
fn at_once() -> u64 {
    thread::available_parallelism().map_or(2, |count| count.get() as u64).clamp(2, THREADS)
}

/// Where threads wait for each other while they run, to go on within nanoseconds of each other.
struct Start {
    threads: u64,
    arrived: AtomicU64,
}

impl Start {
    fn of(threads: u64) -> Self {
        Self { threads, arrived: AtomicU64::new(0) }
    }

    fn wait(&self, round: u64) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::Acquire) < (round + 1) * self.threads {
            spins += 1;
            if spins.is_multiple_of(1 << 14) {
                thread::yield_now();
            }
        }
    }
}

/// Runs the same work in so many threads.
fn in_threads(threads: u64, work: impl Fn(u64) + Sync) {
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    // the end of a scope is in the standard library, into which the sanitizer does not see
    let ended = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..threads {
            let (work, barrier, ended) = (&work, &barrier, &ended);
            scope.spawn(move || {
                barrier.wait();
                work(number);
                ended.fetch_add(1, Ordering::Release);
            });
        }
    });
    assert_eq!(ended.load(Ordering::Acquire), threads);
}

/// Every connection listed is found from both sides, and nothing else is there.
fn assert_sound(conntrack: &Conntrack) {
    let mut flows = HashSet::new();
    for connection in conntrack.connections() {
        let backward = connection.backward.expect("half a connection is left");
        assert_whole(&connection.forward);
        assert_whole(&backward);
        let reply = connection.forward.answered_by(connection.original.protocol);
        assert_eq!(backward.answered_by(reply.protocol), connection.original);
        assert!(flows.insert(connection.original), "twice in the table");
        assert!(flows.insert(reply), "answers of two connections in one slot");
        assert!(find(conntrack, &connection.original).is_some());
        assert!(find(conntrack, &reply).is_some());
    }
    let entries = conntrack.occupancy().iter().map(|table| table.connections).sum::<usize>();
    assert_eq!(flows.len(), 2 * entries, "slots are lost");
}

/// All threads bind the same new flow at the same instant, again and again: one of them makes the
/// connection, the others get its binding.
#[test]
fn of_threads_with_the_same_first_frame_one_binds_and_all_agree() {
    const ROUNDS: u32 = 10_000;
    let conntrack = Conntrack::new(1 << 14, 1, 7);
    let start = Start::of(at_once());
    let (made, contended) = (AtomicU32::new(0), AtomicU32::new(0));
    let chosen: Vec<_> = (0..ROUNDS).map(|_| AtomicU64::new(0)).collect();
    in_threads(at_once(), |number| {
        let number = u16::try_from(number).unwrap();
        for round in 0..ROUNDS {
            let client = v4(round, 4_000);
            let original = flow(client, v4(0x00ff_0000, 53));
            // every thread would choose another source port
            let rewritten = flow(Endpoint { port: number, ..client }, v4(0x00fd_0000, 53));
            start.wait(round.into());
            let outcome = loop {
                match bind(&conntrack, &original, &rewritten, 1, Tick(1)) {
                    // another thread was suspended in the middle of it
                    Err(BindError::Contended) => contended.fetch_add(1, Ordering::Relaxed),
                    outcome => break outcome,
                };
            };
            let found = match outcome.expect("room for everyone") {
                Bound::New(found) => {
                    made.fetch_add(1, Ordering::Relaxed);
                    found
                }
                Bound::Existing(found) => found,
            };
            assert_whole(&found.binding);
            // whoever comes first says which it is; the others must say the same
            let port = u64::from(found.binding.source.port) + 1;
            let slot = &chosen[round as usize];
            if let Err(first) = slot.compare_exchange(0, port, Ordering::Relaxed, Ordering::Relaxed)
            {
                assert_eq!(first, port, "two threads forward one flow in two ways");
            }
            // visible from both sides at once
            assert!(find(&conntrack, &original).is_some());
            assert!(find(&conntrack, &found.binding.answered_by(Protocol::UDP)).is_some());
        }
    });
    assert_eq!(made.into_inner(), ROUNDS);
    assert_eq!(conntrack.len(), ROUNDS as usize);
    assert_sound(&conntrack);
    eprintln!("contended {} times", contended.into_inner());
}

/// Both ends send first, at the same instant, without translation: one connection, no deadlock.
#[test]
fn two_ends_that_send_at_once_share_a_connection() {
    const ROUNDS: u32 = 10_000;
    let conntrack = Conntrack::new(1 << 14, 1, 7);
    let start = Start::of(at_once());
    let made = AtomicU32::new(0);
    in_threads(at_once(), |number| {
        for round in 0..ROUNDS {
            let there = flow(v4(round, 10), v4(round ^ 0x00f0_0000, 20));
            let flow = if number % 2 == 0 { there } else { there.reversed() };
            start.wait(round.into());
            loop {
                match bind(&conntrack, &flow, &flow, 1, Tick(1)) {
                    Ok(Bound::New(_)) => {
                        made.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Ok(Bound::Existing(found)) => {
                        assert_eq!(
                            (found.binding.source, found.binding.target),
                            (flow.source, flow.target)
                        );
                        break;
                    }
                    Err(BindError::Contended) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
    });
    assert_eq!(made.into_inner(), ROUNDS);
    assert_sound(&conntrack);
}

/// Threads bind, find, refresh, rebind and remove a few flows while one expires them.
#[test]
fn a_million_operations_leave_a_sound_table() {
    const OPERATIONS: u64 = 1_000_000 / THREADS;
    const CLIENTS: u64 = 400;
    // room for most, not for all
    let conntrack = Conntrack::new(256, 1, 7);
    let clock = AtomicU32::new(1_000);
    let timeouts = Timeouts { udp: Tick(4), udp_stream: Tick(6), ..Timeouts::default() };
    let done: [AtomicU32; 8] = std::array::from_fn(|_| AtomicU32::new(0));
    in_threads(THREADS, |number| {
        let mut random = Random(0x9e37_79b9 + number);
        let mut cursor = Cursor::default();
        let count = |what: usize| done[what].fetch_add(1, Ordering::Relaxed);
        for turn in 0..OPERATIONS {
            let client = u32::try_from(random.below(CLIENTS)).unwrap();
            let original = flow(v4(client, 4_000), v4(0x00ff_0000 + client % 3, 53));
            let backend = u32::try_from(random.below(3)).unwrap();
            // two clients share each translated source, so answers collide
            let rewritten =
                flow(v4(0x0010_0000 + client / 2, 4_000), v4(0x00fd_0000 + backend, 53));
            let now = Tick(clock.load(Ordering::Relaxed));
            if number == 0 && turn % 64 == 0 {
                clock.fetch_add(1, Ordering::Relaxed);
            }
            let found = find(&conntrack, &original);
            if let Some(found) = &found {
                assert_whole(&found.binding);
                assert_eq!(found.binding.direction(), Direction::Original);
            }
            match (random.below(12), found) {
                (0, Some(found)) => {
                    conntrack.remove(&found);
                    count(0);
                }
                (1, Some(found)) => {
                    let generation = u32::try_from(random.below(1 << 20)).unwrap();
                    let (source, target) = (found.binding.source, found.binding.target);
                    conntrack.rebind(&found, binding(source, target, generation));
                    count(1);
                }
                (2..=5, Some(found)) => {
                    let reply = found.binding.answered_by(Protocol::UDP);
                    if let Some(reply) = find(&conntrack, &reply) {
                        assert_whole(&reply.binding);
                        assert_eq!(reply.binding.direction(), Direction::Reply);
                        conntrack.touch(&reply, now);
                        count(2);
                    }
                }
                (6..=9, Some(found)) => {
                    conntrack.touch(&found, now);
                    count(3);
                }
                (10, _) => {
                    conntrack.expire(&mut cursor, 50, now, &timeouts, |death| {
                        assert!(timeouts.are_over(death.connection.life, now));
                        count(4);
                    });
                }
                (..) => match bind(&conntrack, &original, &rewritten, client, now) {
                    Ok(Bound::New(_)) => {
                        count(5);
                    }
                    Ok(Bound::Existing(_)) => {
                        count(6);
                    }
                    Err(BindError::Full) => {
                        conntrack.reclaim(&original, now);
                        count(7);
                    }
                    Err(BindError::ReplyTaken | BindError::Contended) => {}
                },
            }
        }
    });
    assert_sound(&conntrack);
    for (what, count) in done.iter().enumerate() {
        assert!(count.load(Ordering::Relaxed) > 0, "operation {what} was never reached");
    }
    eprintln!("{done:?}, {} left", conntrack.len());
    // nothing stays behind
    conntrack.remove_where(|_| true, |_| ());
    assert!(conntrack.is_empty());
    assert_eq!(conntrack.connections().count(), 0);
}

/// Each thread owns the flows it binds, so a map of its own tells what must be in the table.
#[test]
fn the_table_agrees_with_maps_at_rest() {
    const OPERATIONS: u64 = 1_000_000 / THREADS;
    let conntrack = Conntrack::new(1 << 15, 1, 7);
    let total = AtomicU64::new(0);
    in_threads(THREADS, |number| {
        let mut random = Random(0xdead_beef + number);
        let mut map = HashMap::new();
        let base = u32::try_from(number).unwrap() << 16;
        for _ in 0..OPERATIONS {
            let client = base + u32::try_from(random.below(2_000)).unwrap();
            let original = flow(v4(client, 4_000), v4(0x00ff_0000, 53));
            let backend = u32::try_from(random.below(1 << 12)).unwrap();
            let rewritten = Flow { target: v4(0x00e0_0000 + backend, 53), ..original };
            match (random.below(3), find(&conntrack, &original)) {
                (0, Some(found)) => {
                    assert!(conntrack.remove(&found));
                    assert_eq!(map.remove(&original), Some(found.binding.target));
                }
                (_, Some(found)) => assert_eq!(map.get(&original), Some(&found.binding.target)),
                (0, None) => assert_eq!(map.get(&original), None),
                (_, None) => {
                    let outcome = bind(&conntrack, &original, &rewritten, 1, Tick(1));
                    assert!(matches!(outcome, Ok(Bound::New(_))), "{outcome:?}");
                    assert_eq!(map.insert(original, rewritten.target), None);
                }
            }
        }
        for (original, target) in &map {
            assert_eq!(find(&conntrack, original).unwrap().binding.target, *target);
        }
        total.fetch_add(map.len() as u64, Ordering::Relaxed);
    });
    assert_eq!(conntrack.len() as u64, total.into_inner());
    assert_sound(&conntrack);
}

/// One thread expires all the time while others keep their flows busy: those must all live.
#[test]
fn a_flow_that_is_refreshed_in_time_never_expires() {
    const FLOWS: u32 = 64;
    const ROUNDS: u32 = 2_000;
    let conntrack = Conntrack::new(1_024, 1, 7);
    let timeouts = Timeouts { udp: Tick(2), udp_stream: Tick(2), ..Timeouts::default() };
    let clock = AtomicU32::new(10);
    let over = AtomicBool::new(false);
    let flow_of = |number: u32| flow(v4(number, 4_000), v4(0x00ff_0000, 53));
    for number in 0..FLOWS {
        bind(&conntrack, &flow_of(number), &flow_of(number), 1, Tick(10)).unwrap();
    }
    let passes = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut cursor = Cursor::default();
                while !over.load(Ordering::Relaxed) {
                    let now = Tick(clock.load(Ordering::Relaxed));
                    conntrack.expire(&mut cursor, 512, now, &timeouts, |death| {
                        panic!("{death:?} at {now:?}");
                    });
                    passes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..ROUNDS {
            // every flow is heard from at each tick, from one side or the other
            let now = Tick(clock.load(Ordering::Relaxed));
            for number in 0..FLOWS {
                let there = flow_of(number);
                let flow = if (round + number) % 2 == 0 { there } else { there.reversed() };
                let found = find(&conntrack, &flow).expect("a busy flow is gone");
                assert_eq!(conntrack.follow(&found, Signal::Frame, now), Verdict::Accept);
            }
            clock.fetch_add(1, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(conntrack.len(), FLOWS as usize);
    assert!(passes.into_inner() > 10);
    assert_sound(&conntrack);
}

/// Segments of one TCP connection arrive at many workers at once: both slots agree at rest.
#[test]
fn the_two_slots_of_a_connection_agree_at_rest() {
    let conntrack = Conntrack::new(64, 1, 7);
    for round in 0..500 {
        let there = Flow { protocol: Protocol::TCP, ..flow(v4(round, 4_000), v4(0x00ff_0000, 80)) };
        let forward = binding(there.source, there.target, 1);
        let backward = binding(there.target, there.source, 1);
        let back = there.reversed();
        let bound =
            conntrack.bind(&there, forward, &back, backward, Tick(1), State::Established).unwrap();
        assert!(matches!(bound, Bound::New(_)));
        in_threads(THREADS, |number| {
            let flow = if number % 2 == 0 { there } else { back };
            let flags = if number < 4 { TcpFlags::FIN } else { TcpFlags::ACK };
            for tick in 1..20 {
                let found = find(&conntrack, &flow).unwrap();
                conntrack.follow(&found, Signal::Tcp(flags), Tick(tick));
            }
        });
        let lives = [there, back].map(|flow| find(&conntrack, &flow).unwrap().life);
        assert_eq!(lives[0].state, lives[1].state);
        assert!(lives[0].state.is_closing());
        assert!(conntrack.remove(&find(&conntrack, &there).unwrap()));
    }
}

/// Threads insert, replace and remove the same few keys of a bare table with long searches.
#[test]
fn values_are_never_torn_and_keys_never_doubled() {
    const OPERATIONS: u64 = 1_000_000 / THREADS;
    // every thread may hold a slot that it gives up again, so that it is never full
    const KEYS: u64 = 8;
    let table = SlotTable::<5, 7>::new(16);
    const { assert!(KEYS + THREADS <= 16) };
    let key = |number: u64| [number, !number, number * 3, number * 5, number * 7];
    let value = |number: u64, mark: u64| -> [u64; 7] {
        std::array::from_fn(|at| number << 56 | mark << 8 | at as u64)
    };
    let assert_of = |number: u64, entry: &Entry<7>| {
        let mark = entry.value[0] << 8 >> 16;
        assert_eq!(entry.value, value(number, mark));
    };
    in_threads(THREADS, |thread| {
        let mut random = Random(0xabcd_ef01 + thread);
        for _ in 0..OPERATIONS {
            let number = random.below(KEYS);
            // two homes for all
            let hash = number % 2;
            let mark = random.below(1 << 40);
            match random.below(4) {
                0 => match table.insert(hash, &key(number), &value(number, mark), mark) {
                    Ok(Inserted::New(entry) | Inserted::Exists(entry)) => {
                        assert_of(number, &entry);
                    }
                    Err(refused) => assert_eq!(refused, Refused::Contended),
                },
                1 => {
                    if let Some(entry) = table.find(hash, &key(number)) {
                        assert_of(number, &entry);
                        let _ = table.remove(entry.at, entry.life);
                    }
                }
                2 => {
                    if let Some(entry) = table.find(hash, &key(number)) {
                        let _ = table.replace(entry.at, &value(number, mark));
                    }
                }
                _ => {
                    if let Some(entry) = table.find(hash, &key(number)) {
                        assert_of(number, &entry);
                        let _ = table.refresh(entry.at, entry.life, mark);
                    }
                }
            }
        }
    });
    let mut keys = HashSet::new();
    for (key, entry) in (0..table.slots()).filter_map(|index| table.entry(index)) {
        assert!(keys.insert(key), "twice in the table");
        assert_of(key[0], &entry);
        table.remove(entry.at, entry.life).unwrap();
    }
    assert!(table.is_empty());
}
