//! Every lab in `tests/broken` is refused, and all that is wrong with it is told: file, line, column,
//! object, field, and what would be right. What is told stands beside each, in `NAME.expected`.
//!
//! After a deliberate change, `UPDATE_EXPECTED=1 cargo test -p kswitch-config --test broken` writes
//! these files anew; read the difference before committing it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kswitch_config::{Draft, Severity};

fn told(name: &str, directory: &Path) -> String {
    let text = fs::read_to_string(directory.join(name)).unwrap();
    let draft = Draft::read_text(name, &text, directory);
    let errors = draft.validate(None).expect_err(name);
    let prefix = directory.display().to_string();
    let mut told = String::new();
    for problem in &errors.problems {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(
            told,
            "{severity}: {}",
            problem.to_string().replace(&format!("{prefix}/"), "").replace(&prefix, "(here)")
        )
        .unwrap();
    }
    told
}

#[test]
fn broken_labs_are_refused_with_all_that_is_wrong() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = Vec::new();
    let mut labs = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        labs += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let told = told(name, &directory);
        assert!(told.contains("error: "), "{name} is refused without an error");
        let expected = path.with_extension("expected");
        if update {
            fs::write(&expected, &told).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if told != wanted {
            differences.push(format!("{name}\n--- expected\n{wanted}+++ told\n{told}"));
        }
    }
    assert!(labs >= 30, "only {labs} labs were found");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_error_of_an_object_names_line_and_help() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let errors = Draft::read(&path).validate(None).unwrap_err();
        for problem in errors.errors() {
            assert!(problem.line_and_column().is_some(), "{problem} has no place");
            let syntax = problem.object.is_none() && problem.field.is_none();
            assert!(problem.help.is_some() || syntax, "{problem} does not say what would be right");
        }
    }
}
