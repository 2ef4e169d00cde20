//! Whole labs in memory, a frame at a time: what arrives where, and which counters moved.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod balancers;
mod balancing;
mod drops;
mod floods;
mod forwarding;
mod fragments;
mod icmp;
mod lab;
mod links;
mod masquerade;
mod modes;
mod neighbours;
mod odd;
mod power;
mod refusals;
mod requirements;
mod rules;
mod segments;
mod services;
mod stages;
mod uplink;
mod watching;
