//! The real program with real TAPs, namespaces and sockets.
//!
//! Needs root; without it every test here is counted as ignored. Tests that look on with programs
//! from outside (ping, traceroute, iperf3) are ignored where these are missing.

#![allow(
    clippy::duplicate_mod,
    reason = "random labs and random clusters each bring their numbers with them"
)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod asked;
mod balancers;
mod browser;
mod calls;
mod cases;
mod churn;
mod digs;
mod faults;
mod floods;
mod gso;
mod joined;
mod kinds;
mod lab;
mod labs;
mod lags;
mod life;
mod links;
mod load;
mod losses;
mod modes;
#[path = "../../config/tests/dns_oracle/naive.rs"]
#[allow(dead_code, reason = "the test of random clusters uses all of it")]
mod naive;
mod names;
mod network;
mod nodes;
mod packets;
mod ports;
mod power;
mod probes;
mod programs;
mod proxied;
#[path = "../../config/tests/dns_oracle/random.rs"]
#[allow(dead_code, reason = "the test of random clusters uses all of it")]
mod random;
#[path = "../trace/labs.rs"]
mod random_labs;
mod restart;
mod rights;
mod rollouts;
mod scale;
mod see;
mod shortage;
mod shown;
mod traffic;
#[path = "../conformance/turned.rs"]
mod turned;
mod upkeep;
mod uplink;
mod web;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test: its name, the programs it wants, and what it does.
type Test = (&'static str, &'static [&'static str], fn() -> Result<(), Failed>);

fn main() {
    let arguments = Arguments::from_args();
    let is_root = nix::unistd::geteuid().is_root();
    let tests = [
        traffic::TESTS,
        cases::TESTS,
        balancers::TESTS,
        nodes::TESTS,
        modes::TESTS,
        names::TESTS,
        network::TESTS,
        proxied::TESTS,
        digs::TESTS,
        floods::TESTS,
        ports::TESTS,
        uplink::TESTS,
        programs::TESTS,
        probes::TESTS,
        labs::TESTS,
        kinds::TESTS,
        life::TESTS,
        asked::TESTS,
        lags::TESTS,
        links::TESTS,
        rights::TESTS,
        churn::TESTS,
        power::TESTS,
        gso::TESTS,
        joined::TESTS,
        rollouts::TESTS,
        upkeep::TESTS,
        web::TESTS,
        calls::TESTS,
        losses::TESTS,
        restart::TESTS,
        faults::TESTS,
        shortage::TESTS,
        scale::TESTS,
        see::TESTS,
        packets::TESTS,
        shown::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, wanted, test): Test| {
        let missing = wanted.iter().find(|program| !lab::has_program(program));
        let name = match (is_root, missing) {
            (false, _) => format!("{name} (needs root)"),
            (true, Some(program)) => format!("{name} (needs {program})"),
            (true, None) => name.to_owned(),
        };
        Trial::test(name, test).with_ignored_flag(!is_root || missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
