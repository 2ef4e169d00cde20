//! The control side: owns the cluster, publishes snapshots, answers clients.
//!
//! [`run`] is the life of a lab; [`running`] makes one cluster of another; [`switch`] holds the
//! workers; [`sweep`] forgets what fell silent; `restart` is what outlives the process. Clients come by [`socket`], scrapers by
//! [`metrics`].

mod answer;
mod balanced;
mod balancers;
pub mod capture;
mod cores;
mod describe;
mod diversions;
mod echoes;
mod etc;
mod firewall;
pub mod flows;
mod gates;
mod health;
mod hosts;
mod issuing;
mod lags;
mod lifecycle;
pub mod links;
pub mod logging;
mod loopbacks;
pub mod metrics;
pub mod monitor;
mod name_servers;
pub mod neighbourhood;
mod neighbours;
mod network;
mod network_views;
mod nodes;
mod objects;
mod onlookers;
pub(crate) mod pods;
mod progress;
mod repairs;
pub mod request;
mod request_log;
mod restart;
mod rollouts;
mod room;
pub mod run;
pub mod running;
pub mod socket;
pub mod sweep;
pub mod switch;
mod trace;
mod views;

use std::time::Duration;

pub(crate) use hosts::INTERFACE;

use kswitch_config::{FrameIo, Timeouts as Settings};
use kswitch_tables::Tick;
use kswitch_tables::conntrack::Timeouts;

use crate::port::batch::Io;

/// How workers read and write frames, as the lab's settings have it.
pub const fn frame_io(io: FrameIo) -> Io {
    match io {
        FrameIo::Auto => Io::Auto,
        FrameIo::IoUring => Io::IoUring,
        FrameIo::ReadWrite => Io::ReadWrite,
    }
}

/// Conntrack's timeouts as the lab's settings have them.
pub fn conntrack_timeouts(settings: &Settings) -> Timeouts {
    let ticks = |duration: Duration| {
        let tenths = duration.as_millis() / u128::from(1000 / Tick::PER_SECOND);
        Tick(u32::try_from(tenths).unwrap_or(u32::MAX))
    };
    let Settings {
        tcp_syn_sent,
        tcp_syn_received,
        tcp_established,
        tcp_unacknowledged,
        tcp_fin_wait,
        tcp_close_wait,
        tcp_last_ack,
        tcp_time_wait,
        tcp_close,
        udp,
        udp_stream,
        icmp,
        sctp,
        generic,
    } = *settings;
    Timeouts {
        tcp_syn_sent: ticks(tcp_syn_sent),
        tcp_syn_recv: ticks(tcp_syn_received),
        tcp_established: ticks(tcp_established),
        tcp_unacknowledged: ticks(tcp_unacknowledged),
        tcp_fin_wait: ticks(tcp_fin_wait),
        tcp_close_wait: ticks(tcp_close_wait),
        tcp_last_ack: ticks(tcp_last_ack),
        tcp_time_wait: ticks(tcp_time_wait),
        tcp_close: ticks(tcp_close),
        udp: ticks(udp),
        udp_stream: ticks(udp_stream),
        icmp: ticks(icmp),
        sctp_open: ticks(sctp),
        sctp_closed: ticks(tcp_close),
        other: ticks(generic),
    }
}
