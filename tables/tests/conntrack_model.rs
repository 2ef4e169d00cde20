//! Random operations on a table of connections, beside a naive map of them.
#![cfg(not(loom))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;

use proptest::prelude::*;

use kswitch_tables::conntrack::{
    BindError, BindingFlags, Bound, Cursor, Direction, Found, Life, Signal, State, TcpFlags,
    Timeouts, Transition, Verdict,
};
use kswitch_tables::{
    Address, Binding, Conntrack, Endpoint, Flow, Generation, HopId, LoadId, PortId, Protocol, Tick,
};

const CAPACITY: usize = 12;

/// One of few flows, so that they meet: protocol, client, service, backend, family.
#[derive(Clone, Copy, Debug)]
struct Pick {
    protocol: Protocol,
    client: u16,
    service: u16,
    backend: u16,
    is_v4: bool,
}

impl Pick {
    fn endpoint(self, host: u16, port: u16) -> Endpoint {
        let address = if self.is_v4 {
            Address::v4(0x0a00_0000 | u32::from(host))
        } else {
            Address::v6(0xfd00 << 112 | u128::from(host))
        };
        Endpoint::new(address, port)
    }

    fn original(self) -> Flow {
        Flow {
            protocol: self.protocol,
            source: self.endpoint(self.client, 1_000),
            target: self.endpoint(100 + self.service, 80),
        }
    }

    /// What leaves: service 0 is not translated.
    fn rewritten(self) -> Flow {
        if self.service == 0 {
            return self.original();
        }
        Flow { target: self.endpoint(100 + self.backend, 80), ..self.original() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Bind(Pick),
    Frame(Pick, Direction),
    Segment(Pick, Direction, u8),
    Rebind(Pick, Direction, u32),
    Remove(Pick, Direction),
    Wait(u32),
    Expire,
}

fn pick() -> impl Strategy<Value = Pick> {
    let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol(47))];
    (protocol, 0..4_u16, 0..3_u16, 0..2_u16, any::<bool>()).prop_map(
        |(protocol, client, service, backend, is_v4)| Pick {
            protocol,
            client,
            service,
            backend,
            is_v4,
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{Bind, Expire, Frame, Rebind, Remove, Segment, Wait};
    let direction = || prop_oneof![Just(Direction::Original), Just(Direction::Reply)];
    prop_oneof![
        6 => pick().prop_map(Bind),
        4 => (pick(), direction()).prop_map(|(pick, way)| Frame(pick, way)),
        4 => (pick(), direction(), 0..32_u8).prop_map(|(pick, way, flags)| Segment(pick, way, flags)),
        1 => (pick(), direction(), any::<u32>()).prop_map(|(pick, way, n)| Rebind(pick, way, n)),
        2 => (pick(), direction()).prop_map(|(pick, way)| Remove(pick, way)),
        2 => (0..400_u32).prop_map(Wait),
        1 => Just(Expire),
    ]
}

/// A connection as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    forward: Binding,
    backward: Binding,
    life: Life,
}

struct Model {
    conntrack: Conntrack,
    known: HashMap<Flow, Known>,
    now: Tick,
    timeouts: Timeouts,
}

fn binding(source: Endpoint, target: Endpoint, flags: BindingFlags) -> Binding {
    Binding {
        ingress: PortId(source.port % 3),
        source,
        target,
        ip_delta: 1,
        transport_delta: 2,
        hops: 3,
        hop: HopId(4),
        load: LoadId::NONE,
        generation: Generation(5),
        flags,
    }
}

impl Model {
    fn new() -> Self {
        let conntrack = Conntrack::new(CAPACITY, CAPACITY, 3);
        Self { conntrack, known: HashMap::new(), now: Tick(1), timeouts: Timeouts::default() }
    }

    fn find(&self, flow: &Flow) -> Option<Found> {
        self.conntrack.find(flow, self.conntrack.hash(flow))
    }

    /// The flow of the connection that frames looking like `flow` belong to.
    fn owner(&self, flow: &Flow) -> Option<(Flow, Direction)> {
        if self.known.contains_key(flow) {
            return Some((*flow, Direction::Original));
        }
        self.known
            .iter()
            .find(|(original, known)| known.forward.answered_by(original.protocol) == *flow)
            .map(|(original, _)| (*original, Direction::Reply))
    }

    /// What comes in when a flow of `pick` goes this way.
    fn incoming(&self, pick: Pick, way: Direction) -> Flow {
        match (way, self.known.get(&pick.original())) {
            (Direction::Reply, Some(known)) => known.forward.answered_by(pick.protocol),
            (Direction::Reply, None) => pick.rewritten().reversed(),
            (Direction::Original, _) => pick.original(),
        }
    }

    fn bind(&mut self, pick: Pick) {
        let (original, rewritten) = (pick.original(), pick.rewritten());
        let forward = binding(rewritten.source, rewritten.target, BindingFlags::NAT);
        let flags = BindingFlags::NAT.and(BindingFlags::REPLY);
        let backward = binding(original.target, original.source, flags);
        let reply = rewritten.reversed();
        let state = match (pick.protocol, pick.client) {
            (Protocol::TCP, 0) => State::MidStream,
            (protocol, _) => State::first(protocol),
        };
        let outcome = self.conntrack.bind(&original, forward, &reply, backward, self.now, state);
        let family = self.known.keys().filter(|flow| flow.is_v4() == pick.is_v4).count();
        match outcome {
            Ok(Bound::New(found)) => {
                assert!(self.owner(&original).is_none() && self.owner(&reply).is_none());
                assert!(family < CAPACITY);
                let life = Life::begin(state, self.now);
                assert_eq!((found.binding, found.life), (forward, life));
                self.known.insert(original, Known { forward, backward, life });
            }
            Ok(Bound::Existing(found)) => {
                let (_, direction) = self.owner(&original).expect("it exists");
                assert_eq!(found.binding.direction(), direction);
            }
            Err(BindError::ReplyTaken) => {
                assert!(self.owner(&original).is_none() && self.owner(&reply).is_some());
            }
            Err(BindError::Full) => assert_eq!(family, CAPACITY),
            Err(BindError::Contended) => panic!("there is nobody else"),
        }
    }

    fn follow(&mut self, flow: &Flow, signal: Signal) {
        let Some(found) = self.find(flow) else { return };
        let (original, direction) = self.owner(flow).expect("what is found is known");
        let known = self.known.get_mut(&original).expect("it is known");
        let verdict = self.conntrack.follow(&found, signal, self.now);
        let moved = known.life.advance(known.life.state, self.now);
        let transition = match signal {
            Signal::Tcp(flags) => known.life.state.after_segment(direction, flags),
            _ => Transition::To(moved.state.after_frame(direction, moved.age)),
        };
        let expected = match transition {
            Transition::To(state) => {
                // until the other side has answered; a handshake is answered once it is done
                let is_answered = match direction {
                    Direction::Original => {
                        known.life.state == State::SynRecv && state != State::SynRecv
                    }
                    Direction::Reply => !matches!(state, State::SynSent2 | State::SynRecv),
                };
                let is_counted = known.life.is_counted && !is_answered;
                known.life = Life { state, is_counted, ..moved };
                Verdict::Accept
            }
            Transition::Ignore => Verdict::Accept,
            Transition::Invalid => Verdict::Invalid,
            Transition::Reopen => Verdict::Reopen,
        };
        assert_eq!(verdict, expected);
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Bind(pick) => self.bind(pick),
            Operation::Frame(pick, way) => {
                let signal = match pick.protocol {
                    Protocol::TCP => Signal::Tcp(TcpFlags::ACK),
                    _ => Signal::Frame,
                };
                self.follow(&self.incoming(pick, way), signal);
            }
            Operation::Segment(pick, way, flags) => {
                let pick = Pick { protocol: Protocol::TCP, ..pick };
                self.follow(&self.incoming(pick, way), Signal::Tcp(TcpFlags(flags)));
            }
            Operation::Rebind(pick, way, number) => {
                let flow = self.incoming(pick, way);
                let Some(found) = self.find(&flow) else { return };
                let (original, direction) = self.owner(&flow).expect("what is found is known");
                // now and then the machine is at another port
                let ingress = PortId(found.binding.ingress.0 ^ u16::from(number % 4 == 0));
                let judged = Binding { generation: Generation(number), ingress, ..found.binding };
                assert!(self.conntrack.rebind(&found, judged));
                let known = self.known.get_mut(&original).expect("it is known");
                match direction {
                    Direction::Original => {
                        known.life.is_counted &= known.forward.ingress == ingress;
                        known.forward = judged;
                    }
                    Direction::Reply => known.backward = judged,
                }
            }
            Operation::Remove(pick, way) => {
                let flow = self.incoming(pick, way);
                let owner = self.owner(&flow);
                let removed = self.find(&flow).map(|found| self.conntrack.remove(&found));
                assert_eq!(removed, owner.map(|_| true));
                if let Some((original, _)) = owner {
                    self.known.remove(&original);
                }
            }
            Operation::Wait(ticks) => self.now.0 += ticks,
            Operation::Expire => self.expire(),
        }
    }

    fn expire(&mut self) {
        let slots = self.conntrack.slots().iter().sum::<u64>();
        let mut cursor = Cursor::default();
        let mut dead = Vec::new();
        let slots = usize::try_from(slots).unwrap();
        self.conntrack.expire(&mut cursor, slots, self.now, &self.timeouts, |death| {
            dead.push(death.connection.original);
        });
        let is_over = |known: &Known| self.timeouts.are_over(known.life, self.now);
        assert_eq!(dead.len(), self.known.values().filter(|known| is_over(known)).count());
        for original in dead {
            let known = self.known.remove(&original).expect("what dies was known");
            assert!(self.timeouts.are_over(known.life, self.now));
        }
    }

    fn assert_agrees(&self) {
        assert_eq!(self.conntrack.len(), self.known.len());
        for (original, known) in &self.known {
            let there = self.find(original).expect("it is known");
            let back = self.find(&known.forward.answered_by(original.protocol)).expect("so is it");
            assert_eq!((there.binding, there.life), (known.forward, known.life));
            assert_eq!((back.binding, back.life.state), (known.backward, known.life.state));
        }
        let mut listed = 0;
        for connection in self.conntrack.connections() {
            let known = self.known[&connection.original];
            assert_eq!(connection.forward, known.forward);
            assert_eq!(connection.backward, Some(known.backward));
            listed += 1;
        }
        assert_eq!(listed, self.known.len());
        for port in 0..4 {
            let counts = |known: &&Known| known.life.is_counted && known.forward.ingress.0 == port;
            let half_open = self.known.values().filter(counts).count();
            assert_eq!(self.conntrack.half_open(PortId(port)) as usize, half_open);
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_map(operations in prop::collection::vec(operation(), 1..200)) {
        let mut model = Model::new();
        for operation in operations {
            model.apply(operation);
            model.assert_agrees();
        }
    }
}
