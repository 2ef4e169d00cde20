//! The life of a TCP connection as someone between its ends can tell it.
//!
//! Netfilter's table without its window checks (`nf_conntrack_tcp_be_liberal`): segments are
//! judged by their flags alone.
//!
//! Source: Linux `net/netfilter/nf_conntrack_proto_tcp.c`, `tcp_conntracks`.

use super::{Direction, State};

/// The flags octet of a TCP header.
///
/// Source: RFC 9293 §3.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// PSH.
    pub const PSH: Self = Self(0x08);
    /// ACK.
    pub const ACK: Self = Self(0x10);
    /// URG.
    pub const URG: Self = Self(0x20);

    /// Whether one of `flags` is set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// What a segment with these flags is about: the first of RST, SYN, FIN and ACK that is set.
    const fn kind(self) -> Kind {
        if self.has(Self::RST) {
            Kind::Rst
        } else if self.has(Self::SYN) {
            if self.has(Self::ACK) { Kind::SynAck } else { Kind::Syn }
        } else if self.has(Self::FIN) {
            Kind::Fin
        } else if self.has(Self::ACK) {
            Kind::Ack
        } else {
            Kind::None
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    None,
}

/// What a segment means for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The connection is in this state now, perhaps the same one.
    To(State),
    /// The segment may be valid or not, its receiver will tell: forward it, change nothing.
    Ignore,
    /// The segment cannot belong to the connection: forward it to nobody.
    Invalid,
    /// A new connection begins with the endpoints of one that ended: remove it, and treat the
    /// segment as a first one.
    Reopen,
}

impl State {
    /// The state of a connection whose first segment has these flags; `None` if no connection
    /// starts like this.
    ///
    /// A connection may be met in the middle (`nf_conntrack_tcp_loose`); whether that is wanted is for
    /// the caller to say.
    pub const fn of_first_segment(flags: TcpFlags) -> Option<Self> {
        match flags.kind() {
            Kind::Syn => Some(Self::SynSent),
            Kind::Ack => Some(Self::MidStream),
            Kind::SynAck | Kind::Fin | Kind::Rst | Kind::None => None,
        }
    }

    /// What a segment with these flags does to a connection in this state.
    #[inline]
    pub const fn after_segment(self, direction: Direction, flags: TcpFlags) -> Transition {
        use Transition::To;
        match flags.kind() {
            Kind::Ack => self.after_ack(direction),
            Kind::Syn => self.after_syn(direction),
            Kind::SynAck => self.after_syn_ack(direction),
            Kind::Fin => self.after_fin(),
            Kind::Rst => To(Self::Close),
            Kind::None => Transition::Invalid,
        }
    }

    const fn after_syn(self, direction: Direction) -> Transition {
        use Transition::{Ignore, Invalid, Reopen, To};
        match (direction, self) {
            // sent again
            (Direction::Original, Self::SynSent) => To(Self::SynSent),
            // simultaneous open, or sent again in it
            (Direction::Reply, Self::SynSent) | (_, Self::SynSent2) => To(Self::SynSent2),
            // RFC 9293 §3.6.1 allows it; the server may have become the client
            (_, Self::TimeWait) | (Direction::Original, Self::Close) => Reopen,
            // an error, or what we hold is long dead: the receiver answers with RST or ACK
            (Direction::Original, _) => Ignore,
            (Direction::Reply, _) => Invalid,
        }
    }

    const fn after_syn_ack(self, direction: Direction) -> Transition {
        use Transition::{Ignore, Invalid, To};
        match (direction, self) {
            (Direction::Original, Self::SynSent2 | Self::SynRecv)
            | (Direction::Reply, Self::SynSent | Self::SynSent2) => To(Self::SynRecv),
            (Direction::Original, _) => Invalid,
            // late, sent again, or the answer to a SYN that was ignored
            (Direction::Reply, _) => Ignore,
        }
    }

    const fn after_fin(self) -> Transition {
        use Transition::{Invalid, To};
        match self {
            Self::SynRecv | Self::Established | Self::MidStream => To(Self::FinWait),
            Self::FinWait | Self::CloseWait | Self::LastAck => To(Self::LastAck),
            Self::TimeWait => To(Self::TimeWait),
            Self::Close => To(Self::Close),
            _ => Invalid,
        }
    }

    const fn after_ack(self, direction: Direction) -> Transition {
        use Transition::{Ignore, Invalid, To};
        match (direction, self) {
            (_, Self::Established)
            | (Direction::Original, Self::SynRecv)
            | (Direction::Reply, Self::MidStream) => To(Self::Established),
            (Direction::Original, Self::MidStream) => To(Self::MidStream),
            (Direction::Reply, Self::SynRecv) => To(Self::SynRecv),
            (_, Self::FinWait | Self::CloseWait) => To(Self::CloseWait),
            (_, Self::LastAck | Self::TimeWait) => To(Self::TimeWait),
            (_, Self::Close) => To(Self::Close),
            // half-open at the other end: its answer will tell
            (Direction::Reply, Self::SynSent | Self::SynSent2) => Ignore,
            _ => Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::State::{
        Close, CloseWait, Established, FinWait, LastAck, MidStream, SynRecv, SynSent, SynSent2,
        TimeWait,
    };
    use super::Transition::{Ignore, Invalid, Reopen, To};
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const SYN_ACK: TcpFlags = TcpFlags::SYN.and(TcpFlags::ACK);
    const FIN_ACK: TcpFlags = TcpFlags::FIN.and(TcpFlags::ACK);
    const ACK: TcpFlags = TcpFlags::ACK;
    const RST: TcpFlags = TcpFlags::RST;

    const TCP: [State; 10] = [
        SynSent,
        SynSent2,
        SynRecv,
        Established,
        FinWait,
        CloseWait,
        LastAck,
        TimeWait,
        Close,
        MidStream,
    ];

    /// Every state, with what SYN, SYN-ACK, FIN and ACK do in the original direction, then in the
    /// reply direction.
    const TABLE: [(State, [Transition; 4], [Transition; 4]); 10] = [
        (
            SynSent,
            [To(SynSent), Invalid, Invalid, Invalid],
            [To(SynSent2), To(SynRecv), Invalid, Ignore],
        ),
        (
            SynSent2,
            [To(SynSent2), To(SynRecv), Invalid, Invalid],
            [To(SynSent2), To(SynRecv), Invalid, Ignore],
        ),
        (
            SynRecv,
            [Ignore, To(SynRecv), To(FinWait), To(Established)],
            [Invalid, Ignore, To(FinWait), To(SynRecv)],
        ),
        (
            Established,
            [Ignore, Invalid, To(FinWait), To(Established)],
            [Invalid, Ignore, To(FinWait), To(Established)],
        ),
        (
            FinWait,
            [Ignore, Invalid, To(LastAck), To(CloseWait)],
            [Invalid, Ignore, To(LastAck), To(CloseWait)],
        ),
        (
            CloseWait,
            [Ignore, Invalid, To(LastAck), To(CloseWait)],
            [Invalid, Ignore, To(LastAck), To(CloseWait)],
        ),
        (
            LastAck,
            [Ignore, Invalid, To(LastAck), To(TimeWait)],
            [Invalid, Ignore, To(LastAck), To(TimeWait)],
        ),
        (
            TimeWait,
            [Reopen, Invalid, To(TimeWait), To(TimeWait)],
            [Reopen, Ignore, To(TimeWait), To(TimeWait)],
        ),
        (Close, [Reopen, Invalid, To(Close), To(Close)], [Invalid, Ignore, To(Close), To(Close)]),
        (
            MidStream,
            [Ignore, Invalid, To(FinWait), To(MidStream)],
            [Invalid, Ignore, To(FinWait), To(Established)],
        ),
    ];

    #[test]
    fn every_segment_in_every_state() {
        assert_eq!(TABLE.map(|(state, ..)| state), TCP);
        for (state, original, reply) in TABLE {
            for (direction, row) in [(Original, original), (Reply, reply)] {
                for (flags, expected) in [SYN, SYN_ACK, FIN_ACK, ACK].into_iter().zip(row) {
                    let after = state.after_segment(direction, flags);
                    assert_eq!(after, expected, "{state:?} {direction:?} {flags:?}");
                }
            }
        }
    }

    #[test]
    fn a_reset_closes_from_every_state_whatever_else_is_set() {
        for state in TCP {
            for direction in [Original, Reply] {
                assert_eq!(state.after_segment(direction, RST), To(Close));
                assert_eq!(state.after_segment(direction, RST.and(ACK)), To(Close));
                assert_eq!(state.after_segment(direction, RST.and(SYN)), To(Close));
            }
        }
    }

    #[test]
    fn a_segment_without_flags_is_never_valid() {
        for state in TCP {
            for direction in [Original, Reply] {
                for flags in [TcpFlags(0), TcpFlags::PSH, TcpFlags::URG] {
                    assert_eq!(state.after_segment(direction, flags), Invalid);
                }
            }
        }
    }

    #[test]
    fn push_and_urgent_change_nothing() {
        let flags = ACK.and(TcpFlags::PSH).and(TcpFlags::URG);
        assert_eq!(Established.after_segment(Original, flags), To(Established));
        assert_eq!(SynSent.after_segment(Reply, SYN_ACK.and(TcpFlags::PSH)), To(SynRecv));
    }

    #[test]
    fn tcp_flags_leave_other_protocols_alone() {
        for state in [State::UdpStream, State::OtherReplied, State::IcmpUnreplied] {
            assert_eq!(state.after_segment(Original, ACK), Invalid);
        }
    }

    #[test]
    fn only_a_syn_or_a_bare_ack_begins_a_connection() {
        assert_eq!(State::of_first_segment(SYN), Some(SynSent));
        assert_eq!(State::of_first_segment(ACK), Some(MidStream));
        for flags in [SYN_ACK, FIN_ACK, RST, RST.and(ACK), TcpFlags(0)] {
            assert_eq!(State::of_first_segment(flags), None);
        }
    }

    /// Plays segments; each must belong to the connection.
    fn play(segments: &[(Direction, TcpFlags)]) -> Vec<State> {
        let mut state = SynSent;
        let step = |(direction, flags): &(Direction, TcpFlags)| {
            match state.after_segment(*direction, *flags) {
                To(next) => state = next,
                Ignore => {}
                other => panic!("{other:?} after {state:?}"),
            }
            state
        };
        segments.iter().map(step).collect()
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let states = play(&[
            (Reply, SYN_ACK),
            (Original, ACK),
            (Reply, ACK),
            (Original, FIN_ACK),
            (Reply, ACK),
            (Reply, FIN_ACK),
            (Original, ACK),
        ]);
        let expected = [SynRecv, Established, Established, FinWait, CloseWait, LastAck, TimeWait];
        assert_eq!(states, expected);
    }

    #[test]
    fn two_ends_may_open_at_once() {
        let states = play(&[(Reply, SYN), (Original, SYN_ACK), (Reply, SYN_ACK), (Original, ACK)]);
        assert_eq!(states, [SynSent2, SynRecv, SynRecv, Established]);
    }

    #[test]
    fn two_ends_may_close_at_once() {
        let states = play(&[
            (Reply, SYN_ACK),
            (Original, ACK),
            (Original, FIN_ACK),
            (Reply, FIN_ACK),
            (Original, ACK),
            (Reply, ACK),
        ]);
        assert_eq!(states[2..], [FinWait, LastAck, TimeWait, TimeWait]);
    }
}
