//! What a connection has gone through, for every protocol.

use super::{Direction, Signal, TcpFlags, Transition, Verdict};
use crate::{Protocol, Tick};

/// The state of a connection. TCP's are netfilter's, under its names.
///
/// Source: Linux `Documentation/networking/nf_conntrack-sysctl.rst` for those with a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: a SYN was seen.
    SynSent,
    /// TCP: SYNs were seen in both directions (simultaneous open).
    SynSent2,
    /// TCP: a SYN and its SYN-ACK were seen.
    SynRecv,
    /// TCP: the handshake is done, or the connection was met in the middle.
    Established,
    /// TCP: a FIN was seen.
    FinWait,
    /// TCP: a FIN was seen and acknowledged.
    CloseWait,
    /// TCP: FINs were seen in both directions.
    LastAck,
    /// TCP: both FINs were acknowledged.
    TimeWait,
    /// TCP: a RST was seen.
    Close,
    /// UDP: no answer yet.
    UdpUnreplied,
    /// UDP: answered, but not for long.
    UdpReplied,
    /// UDP: both sides still talk two seconds after the first datagram.
    UdpStream,
    /// SCTP: no answer yet.
    SctpOpening,
    /// SCTP: answered.
    SctpOpen,
    /// SCTP: shut down or aborted.
    SctpClosed,
    /// ICMP echo, of either version: no answer yet.
    IcmpUnreplied,
    /// ICMP echo, of either version: answered.
    IcmpReplied,
    /// Any other protocol: no answer yet.
    OtherUnreplied,
    /// Any other protocol: answered.
    OtherReplied,
    /// TCP: met in the middle, and only one side was heard.
    MidStream,
}

/// How long after its first datagram a UDP conversation must go on to be a stream.
///
/// Source: Linux `nf_conntrack_proto_udp.c`, `stream_ts`.
const STREAM_AGE: u8 = 20;
const _: () = assert!(STREAM_AGE as u32 == 2 * Tick::PER_SECOND);

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::SynSent,
        Self::SynSent2,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::UdpUnreplied,
        Self::UdpReplied,
        Self::UdpStream,
        Self::SctpOpening,
        Self::SctpOpen,
        Self::SctpClosed,
        Self::IcmpUnreplied,
        Self::IcmpReplied,
        Self::OtherUnreplied,
        Self::OtherReplied,
        Self::MidStream,
    ];

    /// The first state of a connection of this protocol; of TCP, that of one begun by a SYN.
    pub const fn first(protocol: Protocol) -> Self {
        match protocol {
            Protocol::TCP => Self::SynSent,
            Protocol::UDP => Self::UdpUnreplied,
            Protocol::SCTP => Self::SctpOpening,
            Protocol::ICMP | Protocol::ICMPV6 => Self::IcmpUnreplied,
            _ => Self::OtherUnreplied,
        }
    }

    /// The state after a frame that says nothing about the connection beyond its direction.
    ///
    /// `age` is the time since the connection's first frame, in ticks, at most 255.
    #[must_use]
    #[inline]
    pub const fn after_frame(self, direction: Direction, age: u8) -> Self {
        match (self, direction) {
            (Self::UdpUnreplied, Direction::Reply) => Self::UdpReplied,
            (Self::UdpReplied, _) if age >= STREAM_AGE => Self::UdpStream,
            (Self::SctpOpening, Direction::Reply) => Self::SctpOpen,
            (Self::IcmpUnreplied, Direction::Reply) => Self::IcmpReplied,
            (Self::OtherUnreplied, Direction::Reply) => Self::OtherReplied,
            (state, _) => state,
        }
    }

    /// The state after an SCTP packet whose first chunk is of this type.
    ///
    /// ABORT (6), SHUTDOWN (7), SHUTDOWN ACK (8) and SHUTDOWN COMPLETE (14) close, INIT (1) and
    /// its acknowledgement (2) open again.
    ///
    /// Source: RFC 9260 §3.2.
    #[must_use]
    pub const fn after_sctp(self, direction: Direction, chunk: u8) -> Self {
        match (self, chunk) {
            (_, 6..=8 | 14) => Self::SctpClosed,
            (Self::SctpClosed, 1 | 2) => Self::SctpOpening,
            (state, _) => state.after_frame(direction, 0),
        }
    }

    /// Whether nothing but late duplicates is to come.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close | Self::SctpClosed)
    }

    /// Whether the connection has come to its end, or is about to.
    pub const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait
                | Self::CloseWait
                | Self::LastAck
                | Self::TimeWait
                | Self::Close
                | Self::SctpClosed
        )
    }

    /// Whether the connection is not yet known to be wanted by both sides.
    ///
    /// A UDP conversation that was answered once is not either: one answer proves little.
    pub const fn is_half_open(self) -> bool {
        matches!(
            self,
            Self::SynSent
                | Self::SynSent2
                | Self::SynRecv
                | Self::UdpUnreplied
                | Self::UdpReplied
                | Self::SctpOpening
                | Self::IcmpUnreplied
                | Self::IcmpReplied
                | Self::OtherUnreplied
                | Self::MidStream
        )
    }

    /// Whether a connection in this state is one that its other side may know nothing of: those that
    /// one side can make as many of as it likes.
    const fn is_one_sided(self) -> bool {
        matches!(self, Self::SynSent2 | Self::SynRecv | Self::MidStream) || self.is_unreplied()
    }

    /// Whether no answer was seen.
    pub const fn is_unreplied(self) -> bool {
        matches!(
            self,
            Self::SynSent
                | Self::UdpUnreplied
                | Self::SctpOpening
                | Self::IcmpUnreplied
                | Self::OtherUnreplied
        )
    }

    /// The name that `conntrack` listings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynRecv => "SYN_RECV",
            Self::Established | Self::MidStream => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SctpClosed => "CLOSED",
            Self::UdpUnreplied | Self::SctpOpening | Self::IcmpUnreplied | Self::OtherUnreplied => {
                "UNREPLIED"
            }
            Self::UdpReplied | Self::IcmpReplied | Self::OtherReplied => "REPLIED",
            Self::UdpStream | Self::SctpOpen => "ASSURED",
        }
    }
}

/// The state of a connection and when it was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where the connection stands.
    pub state: State,
    /// Ticks from its first frame to its latest, at most 255.
    pub age: u8,
    /// When a frame was last seen, to the tick.
    pub seen: Tick,
    /// Whether it counts for the port where it began ([`Conntrack::half_open`]): from the first frame
    /// until the other side has answered, and a handshake is done.
    ///
    /// [`Conntrack::half_open`]: super::Conntrack::half_open
    pub is_counted: bool,
}

impl Life {
    /// A connection whose first frame is seen now.
    pub const fn begin(state: State, now: Tick) -> Self {
        Self { state, age: 0, seen: now, is_counted: state.is_one_sided() }
    }

    /// The same connection in this state, with a frame seen now.
    #[must_use]
    #[inline]
    pub fn advance(self, state: State, now: Tick) -> Self {
        let age = u8::try_from(now.since(self.seen)).unwrap_or(u8::MAX);
        // workers read the clock each on their own: time does not go back
        let seen = self.seen.max(now);
        Self { state, age: self.age.saturating_add(age), seen, ..self }
    }

    /// Whether a frame changes nothing: most do not, being neither the first of their tick nor one
    /// that moves the state on.
    #[inline]
    pub(super) const fn is_unmoved_by(
        self,
        direction: Direction,
        signal: Signal,
        now: Tick,
    ) -> bool {
        /// States in which time may say something.
        const AGING: u32 = 1 << State::UdpReplied as u32;
        /// States in which an answer does, too.
        const UNANSWERED: u32 = AGING
            | 1 << State::UdpUnreplied as u32
            | 1 << State::SctpOpening as u32
            | 1 << State::IcmpUnreplied as u32
            | 1 << State::OtherUnreplied as u32;
        if self.seen.0 != now.0 {
            return false;
        }
        match signal {
            Signal::Frame => {
                let restless = match direction {
                    Direction::Original => AGING,
                    Direction::Reply => UNANSWERED,
                };
                restless >> (self.state as u32) & 1 == 0
            }
            Signal::Tcp(flags) => {
                matches!(self.state, State::Established)
                    && !flags.has(TcpFlags::SYN.and(TcpFlags::FIN).and(TcpFlags::RST))
                    && flags.has(TcpFlags::ACK)
            }
            Signal::Sctp(_) => false,
        }
    }

    /// The same connection after a frame; or why the frame is no part of it.
    #[inline]
    pub(super) fn after(
        self,
        direction: Direction,
        signal: Signal,
        now: Tick,
    ) -> Result<Self, Verdict> {
        let next = self.advance(self.state, now);
        let state = match signal {
            Signal::Frame => self.state.after_frame(direction, next.age),
            Signal::Sctp(chunk) => self.state.after_sctp(direction, chunk),
            Signal::Tcp(flags) => match self.state.after_segment(direction, flags) {
                Transition::To(state) => state,
                Transition::Ignore => return Ok(self),
                Transition::Invalid => return Err(Verdict::Invalid),
                Transition::Reopen => return Err(Verdict::Reopen),
            },
        };
        let is_answered = match direction {
            // what the side that began says of itself proves nothing, but for the end of a handshake
            Direction::Original => self.state == State::SynRecv && state != State::SynRecv,
            Direction::Reply => !state.is_one_sided(),
        };
        Ok(Self { state, is_counted: self.is_counted && !is_answered, ..next })
    }

    /// Whether it is counted (1 bit), state (7 bits), age (8 bits), tick (32 bits).
    #[inline]
    pub(super) const fn to_bits(self) -> u64 {
        (self.is_counted as u64) << 47
            | (self.state as u64) << 40
            | (self.age as u64) << 32
            | self.seen.0 as u64
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of a word")]
    pub(super) fn from_bits(bits: u64) -> Self {
        let state = State::ALL.get((bits >> 40 & 0x7f) as usize).copied();
        Self {
            state: state.unwrap_or(State::Close),
            age: (bits >> 32) as u8,
            seen: Tick(bits as u32),
            is_counted: bits >> 47 & 1 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_word() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            for is_counted in [false, true] {
                let life = Life { state, age: 255, seen: Tick(u32::MAX), is_counted };
                assert_eq!(Life::from_bits(life.to_bits()), life);
                assert!(life.to_bits() < (1 << 48) - 1, "all ones is reserved");
            }
        }
    }

    #[test]
    fn what_is_said_to_change_nothing_changes_nothing() {
        let tick = Tick(7);
        let mut unmoved = 0;
        for state in State::ALL {
            for age in [0, STREAM_AGE, 255] {
                let life = Life { age, ..Life::begin(state, tick) };
                let tcp = (0..=255).map(|flags| Signal::Tcp(TcpFlags(flags)));
                for signal in tcp.chain([Signal::Frame, Signal::Sctp(0)]) {
                    for direction in [Direction::Original, Direction::Reply] {
                        assert!(!life.is_unmoved_by(direction, signal, Tick(8)));
                        if life.is_unmoved_by(direction, signal, tick) {
                            assert_eq!(life.after(direction, signal, tick), Ok(life));
                            unmoved += 1;
                        }
                    }
                }
            }
        }
        assert!(unmoved > 0);
    }

    #[test]
    fn a_udp_conversation_is_a_stream_after_two_seconds_and_an_answer() {
        let mut life = Life::begin(State::UdpUnreplied, Tick(100));
        let mut hear = |direction, tick| {
            life = life.advance(life.state, Tick(tick));
            life.state = life.state.after_frame(direction, life.age);
            life.state
        };
        assert_eq!(hear(Direction::Original, 130), State::UdpUnreplied);
        assert_eq!(hear(Direction::Reply, 131), State::UdpReplied);
        assert_eq!(hear(Direction::Original, 132), State::UdpStream);
    }

    #[test]
    fn one_question_and_one_answer_are_no_stream() {
        let life = Life::begin(State::UdpUnreplied, Tick(5)).advance(State::UdpReplied, Tick(6));
        assert_eq!(life.state.after_frame(Direction::Original, life.age), State::UdpReplied);
        assert_eq!(life.state.after_frame(Direction::Reply, 19), State::UdpReplied);
    }

    #[test]
    fn age_counts_every_tick_and_stops_at_its_limit() {
        let life = Life::begin(State::UdpReplied, Tick(0))
            .advance(State::UdpReplied, Tick(7))
            .advance(State::UdpReplied, Tick(7))
            .advance(State::UdpReplied, Tick(20));
        assert_eq!(life.age, 20);
        assert_eq!(life.advance(State::UdpStream, Tick(2_000)).age, 255);
        assert_eq!(life.advance(State::UdpStream, Tick(3)).seen, Tick(20), "time went back");
    }

    #[test]
    fn sctp_closes_by_its_chunks() {
        let open = State::SctpOpening.after_sctp(Direction::Reply, 2);
        assert_eq!(open, State::SctpOpen);
        assert_eq!(open.after_sctp(Direction::Original, 0), State::SctpOpen);
        for chunk in [6, 7, 8, 14] {
            assert_eq!(open.after_sctp(Direction::Original, chunk), State::SctpClosed);
        }
        let again = State::SctpClosed.after_sctp(Direction::Original, 1);
        assert_eq!(again, State::SctpOpening);
    }
}
