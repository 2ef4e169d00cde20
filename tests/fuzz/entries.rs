//! Where octets from outside come in: one entry for each way, which must take whatever comes.
//!
//! A fuzzer calls them with what it makes up, `tests/hostile.rs` with what was found once. What is
//! wrong is a panic: of the code, or of what an entry demands of its answer.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "an entry that finds something panics; each fuzz target has use for one of them"
)]

pub mod case;
pub mod control;
pub mod dns;
pub mod frame;
pub mod lab;
pub mod manifest;
pub mod pipeline;

/// An entry's name, which is that of its corpus, and the entry.
pub type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Entry; 7] = [
    ("case", case::enter),
    ("control", control::enter),
    ("dns", dns::enter),
    ("frame", frame::enter),
    ("lab", lab::enter),
    ("manifest", manifest::enter),
    ("pipeline", pipeline::enter),
];

/// A lab of everything that frames, manifests and names can be about: two nodes, both families,
/// Services of every type, policies, hosts outside.
pub const LAB: &str = include_str!("lab.toml");
