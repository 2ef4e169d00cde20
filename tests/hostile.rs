//! Octets of enemies: what fuzzing has found and kept, and what chance makes of it.
//!
//! How to look for more stands in `tests/fuzz/README.md`. A file that an entry cannot take is kept
//! in `tests/fuzz/corpus/ENTRY`, where this finds it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "fuzz/entries.rs"]
mod entries;
#[path = "fuzz/mutate.rs"]
mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// What each entry is given in its first place: files that are no enemy's.
const FRIENDS: [(&str, &[&str]); 3] = [
    ("case", &["tests/conformance"]),
    ("lab", &["config/labs", "config/tests/broken", "tests/fuzz/lab.toml"]),
    ("manifest", &["config/labs"]),
];

/// Octets of a friend that take too long to be read hundreds of times.
const LONG: usize = 20_000;

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

fn read(paths: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    paths.iter().for_each(|path| files(path, &mut found));
    found.sort();
    found.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Gives octets to an entry; what it cannot take is written down and told.
fn give(entry: entries::Entry, origin: &str, octets: &[u8]) {
    let (name, enter) = entry;
    if catch_unwind(AssertUnwindSafe(|| enter(octets))).is_err() {
        let kept = std::env::temp_dir().join(format!("kswitch-hostile-{name}"));
        fs::write(&kept, octets).unwrap();
        panic!("{name} cannot take {origin}, which is in {}", kept.display());
    }
}

/// Everything kept for an entry, and so many things that chance makes of it.
fn withstands(name: &str, rounds: u64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entry = *entries::ALL.iter().find(|(each, _)| *each == name).unwrap();
    let kept = read(&[root.join("tests/fuzz/corpus").join(name)]);
    assert!(!kept.is_empty(), "nothing is kept for {name}");
    for (origin, octets) in &kept {
        give(entry, origin, octets);
    }
    let friends = FRIENDS.iter().find(|(each, _)| *each == name).map_or(&[][..], |each| each.1);
    let friends = read(&friends.iter().map(|path| root.join(path)).collect::<Vec<_>>());
    let all = kept.iter().chain(friends.iter().filter(|(_, octets)| octets.len() < LONG));
    let all: Vec<&[u8]> = all.map(|(_, octets)| &octets[..]).collect();
    for seed in 0..rounds {
        let octets = Mutator::new(seed).mutate(&all);
        give(entry, &format!("what seed {seed} makes"), &octets);
    }
}

#[test]
fn every_entry_is_called_here() {
    let here = ["case", "control", "dns", "frame", "lab", "manifest", "pipeline"];
    assert!(entries::ALL.iter().map(|(name, _)| *name).eq(here));
}

#[test]
fn case_files() {
    withstands("case", 1_000);
}

#[test]
fn requests_and_filters() {
    withstands("control", 20_000);
}

#[test]
fn dns_messages() {
    withstands("dns", 20_000);
}

#[test]
fn frames() {
    withstands("frame", 50_000);
}

#[test]
fn lab_files() {
    withstands("lab", 500);
}

#[test]
fn manifests() {
    withstands("manifest", 500);
}

#[test]
fn frames_through_the_pipeline() {
    withstands("pipeline", 2_000);
}
