//! Who may import whom: the directions of the house, read off its sources.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// Lines of the sources that are no comments and contain one of these words.
fn lines_with(directory: &str, words: &[&str]) -> Vec<String> {
    sources(directory)
        .iter()
        .flat_map(|(path, text)| {
            text.lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .filter(|line| words.iter().any(|word| line.contains(word)))
                .map(|line| format!("{}: {}", path.display(), line.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn tables_know_no_io_no_clock_no_thread_no_log() {
    let forbidden = [
        "std::fs",
        "std::io",
        "std::net::Tcp",
        "std::net::Udp",
        "std::time",
        "std::thread::spawn",
        "tracing",
        "println!",
        "kswitch_config",
        "k8s_openapi",
        "Kubernetes",
    ];
    let found: Vec<_> = lines_with("tables/src", &forbidden)
        .into_iter()
        // what only a model checker runs may say what it found
        .filter(|line| !line.contains("/slots/checking.rs"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_dataplane_imports_tables_and_ports_alone() {
    let forbidden = [
        "kswitch_config",
        "k8s_openapi",
        "tokio",
        "crate::control",
        "crate::lab",
        "crate::agents",
        "crate::cli",
        "tracing",
        "crate::sim",
    ];
    let found = lines_with("switch/dataplane", &forbidden);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn config_knows_nothing_that_runs() {
    let forbidden = ["tokio", "std::net::Tcp", "std::net::Udp", "tracing"];
    let found = lines_with("config/src", &forbidden);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_lives_in_ports_alone() {
    for directory in ["tables/src", "config/src", "switch"] {
        for (path, text) in sources(directory) {
            let is_port = path.components().any(|part| part.as_os_str() == "port");
            let words = ["unsafe {", "unsafe fn", "unsafe impl"];
            let has_unsafe = words.iter().any(|word| text.contains(word));
            assert!(is_port || !has_unsafe, "{} holds unsafe code", path.display());
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for directory in ["tables/src", "config/src", "switch", "tests"] {
        for (path, text) in sources(directory) {
            let lines = text.lines().count();
            assert!(lines <= 600, "{} has {lines} lines", path.display());
        }
    }
}
