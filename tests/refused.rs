//! Lab files with mistakes: exit code 2, each mistake with its place, and nothing made.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The broken labs, each with what must be said of it.
fn broken() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/broken");
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap();
            (path, expected)
        })
        .collect();
    found.sort();
    found
}

/// Namespaces of labs that are called as the broken ones are.
fn made() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().display().to_string());
    names.filter(|name| name.starts_with("broken.")).collect()
}

#[test]
fn every_broken_lab_is_refused_with_line_and_field() {
    let labs = broken();
    assert!(labs.len() >= 20, "only {} broken labs", labs.len());
    for (path, expected) in labs {
        let mut errors = expected.lines().filter(|line| line.starts_with("error: ")).peekable();
        assert!(errors.peek().is_some(), "{}: nothing is wrong with it", path.display());
        let output = Command::new(env!("CARGO_BIN_EXE_kswitch"))
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{}: {said}", path.display());
        assert!(output.stdout.is_empty(), "{}: it says it is ready", path.display());
        for error in errors {
            // error: FILE[:LINE:COLUMN]: MESSAGE (OBJECT, FIELD); HELP
            let (place, rest) = error.trim_start_matches("error: ").split_once(": ").unwrap();
            let file_and_line = place.rsplit_once(':').map_or(place, |(before, _column)| before);
            assert!(
                said.contains(file_and_line),
                "{}: no {file_and_line} in\n{said}",
                path.display()
            );
            let field = rest.rsplit_once(')').and_then(|(before, _)| before.rsplit_once('('));
            if let Some((_, field)) = field {
                let field = field.rsplit(", ").next().unwrap();
                assert!(said.contains(field), "{}: no {field} in\n{said}", path.display());
            }
        }
    }
    assert_eq!(made(), [] as [&str; 0]);
}
