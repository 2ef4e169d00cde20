//! What a frame costs in instructions, by fate: callgrind counts them, and so the figures repeat.
//!
//! `cargo bench --bench instructions`; needs `valgrind`. Each row is the difference of two runs that
//! differ in frames alone, so that bringing the tables up does not count.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot go on fails"
)]

#[path = "support/lab.rs"]
mod lab;

use std::process::Command;

use kswitch::dataplane::burst::BURST;
use lab::{CLIENTS, Fate, Lab, Nowhere};

/// Frames of the shorter run.
const FRAMES: usize = 64 * BURST;

/// How many times as many the longer run carries.
const LONGER: usize = 11;

/// Carries so many frames: of a few established flows, or each of a new one.
fn carry(fate: Fate, is_new: bool, frames: usize) {
    let lab = Lab::new(100, 0, 2 * FRAMES * LONGER);
    let (mut sender, mut pipeline) = (lab.sender(fate), lab.pipeline());
    if !is_new {
        sender.establish(&lab, &mut pipeline, CLIENTS * BURST);
    }
    let mut out = Nowhere::default();
    for number in 0..frames / BURST {
        let mut flow = if is_new { number / CLIENTS * BURST } else { 0 };
        let next = || {
            flow += 1;
            flow - 1
        };
        sender.carry(&lab, &mut pipeline, number % CLIENTS, next, &mut out);
    }
    std::hint::black_box(out.0);
}

/// Instructions of a run of this program with these arguments.
fn count(arguments: &[&str]) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .output()
        .expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find(|line| line.contains("Collected"));
    let number = line.and_then(|line| line.split_whitespace().last());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no count: {text}"))
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, word, fate, is_new, frames] = &arguments[..]
        && word == "carry"
    {
        let fate = Fate::ALL.into_iter().find(|known| known.name() == fate).unwrap();
        return carry(fate, is_new == "new", frames.parse().unwrap());
    }
    for kind in ["established", "new"] {
        for fate in Fate::ALL {
            let run = |frames: usize| count(&["carry", fate.name(), kind, &frames.to_string()]);
            let more = run(FRAMES * LONGER) - run(FRAMES);
            let each = more / u64::try_from(FRAMES * (LONGER - 1)).unwrap();
            println!("{kind}/{}: {each} instructions a frame", fate.name());
        }
    }
}
