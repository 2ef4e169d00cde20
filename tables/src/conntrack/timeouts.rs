//! How long a silent connection is remembered.

use super::{Life, State};
use crate::Tick;

/// Ticks of silence after which a connection in each state is forgotten.
///
/// The defaults are Linux' with kube-proxy's overrides.
/// Source: Linux `Documentation/networking/nf_conntrack-sysctl.rst`; kube-proxy
/// `KubeProxyConntrackConfiguration.tcpEstablishedTimeout` and `.tcpCloseWaitTimeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// [`State::SynSent`] and [`State::SynSent2`].
    pub tcp_syn_sent: Tick,
    /// [`State::SynRecv`].
    pub tcp_syn_recv: Tick,
    /// [`State::Established`]: kube-proxy's 24 hours, not Linux' five days.
    pub tcp_established: Tick,
    /// [`State::MidStream`]: Linux' `tcp_timeout_unacknowledged`.
    pub tcp_unacknowledged: Tick,
    /// [`State::FinWait`].
    pub tcp_fin_wait: Tick,
    /// [`State::CloseWait`]: kube-proxy's hour, not Linux' minute.
    pub tcp_close_wait: Tick,
    /// [`State::LastAck`].
    pub tcp_last_ack: Tick,
    /// [`State::TimeWait`].
    pub tcp_time_wait: Tick,
    /// [`State::Close`].
    pub tcp_close: Tick,
    /// [`State::UdpUnreplied`] and [`State::UdpReplied`].
    pub udp: Tick,
    /// [`State::UdpStream`].
    pub udp_stream: Tick,
    /// [`State::IcmpUnreplied`] and [`State::IcmpReplied`]: both versions of ICMP.
    pub icmp: Tick,
    /// [`State::SctpOpening`] and [`State::SctpClosed`].
    pub sctp_closed: Tick,
    /// [`State::SctpOpen`].
    pub sctp_open: Tick,
    /// [`State::OtherUnreplied`] and [`State::OtherReplied`].
    pub other: Tick,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn_sent: Tick::from_secs(120),
            tcp_syn_recv: Tick::from_secs(60),
            tcp_established: Tick::from_secs(24 * 3_600),
            tcp_unacknowledged: Tick::from_secs(300),
            tcp_fin_wait: Tick::from_secs(120),
            tcp_close_wait: Tick::from_secs(3_600),
            tcp_last_ack: Tick::from_secs(30),
            tcp_time_wait: Tick::from_secs(120),
            tcp_close: Tick::from_secs(10),
            udp: Tick::from_secs(30),
            udp_stream: Tick::from_secs(120),
            icmp: Tick::from_secs(30),
            sctp_closed: Tick::from_secs(10),
            sctp_open: Tick::from_secs(432_000),
            other: Tick::from_secs(600),
        }
    }
}

impl Timeouts {
    /// How long a connection in this state may be silent, ticks.
    pub const fn of(&self, state: State) -> u32 {
        match state {
            State::SynSent | State::SynSent2 => self.tcp_syn_sent.0,
            State::SynRecv => self.tcp_syn_recv.0,
            State::Established => self.tcp_established.0,
            State::MidStream => self.tcp_unacknowledged.0,
            State::FinWait => self.tcp_fin_wait.0,
            State::CloseWait => self.tcp_close_wait.0,
            State::LastAck => self.tcp_last_ack.0,
            State::TimeWait => self.tcp_time_wait.0,
            State::Close => self.tcp_close.0,
            State::UdpUnreplied | State::UdpReplied => self.udp.0,
            State::UdpStream => self.udp_stream.0,
            State::IcmpUnreplied | State::IcmpReplied => self.icmp.0,
            State::SctpOpening | State::SctpClosed => self.sctp_closed.0,
            State::SctpOpen => self.sctp_open.0,
            State::OtherUnreplied | State::OtherReplied => self.other.0,
        }
    }

    /// Whether a connection of this life has been silent for too long.
    pub const fn are_over(&self, life: Life, now: Tick) -> bool {
        now.since(life.seen) >= self.of(life.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_kube_proxys() {
        let timeouts = Timeouts::default();
        assert_eq!(timeouts.of(State::Established), 864_000);
        assert_eq!(timeouts.of(State::CloseWait), 36_000);
        assert_eq!(timeouts.of(State::UdpReplied), 300);
        assert_eq!(timeouts.of(State::UdpStream), 1_200);
    }

    #[test]
    fn a_connection_lives_through_its_last_tick() {
        let timeouts = Timeouts::default();
        let life = Life::begin(State::UdpUnreplied, Tick(1_000));
        assert!(!timeouts.are_over(life, Tick(1_299)));
        assert!(timeouts.are_over(life, Tick(1_300)));
        assert!(!timeouts.are_over(life, Tick(900)), "a clock behind is no silence");
    }
}
