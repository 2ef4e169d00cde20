//! The conformance cases, carried out in memory: every case must go as it says, and none may be left
//! out but for the reasons listed here.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "conformance/matrix.rs"]
mod matrix;
#[path = "conformance/turned.rs"]
mod turned;

use std::path::{Path, PathBuf};

use kswitch::cases;
use kswitch::cases::report::{CaseReport, Summary, Verdict};

/// Cases that are left out, with the words of the reason.
const LEFT_OUT: [(&str, &str); 1] = [("maglev-katran-small", "not claimed")];

fn run(area: &str) -> Vec<CaseReport> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(area);
    let files: Vec<PathBuf> = cases::files(&[directory]).unwrap();
    files.iter().map(|file| cases::run_file(file)).collect()
}

/// Fails with the report of every case of the area that did not go as it says.
fn judge(area: &str, at_least: usize) {
    let reports = run(area);
    let mut text = String::new();
    for report in &reports {
        let is_right = match &report.verdict {
            Verdict::Passed | Verdict::Reported => true,
            Verdict::Failed | Verdict::Broken(_) => false,
            Verdict::Skipped(why) => {
                LEFT_OUT.iter().any(|(name, reason)| report.name == *name && why.contains(reason))
            }
        };
        if !is_right {
            text.push_str(&report.to_string());
        }
        assert_eq!(report.area, area, "{}", report.name);
    }
    assert!(text.is_empty(), "\n{text}\n{area}: {}", Summary::of(&reports));
    assert!(reports.len() >= at_least, "only {} cases of {area}", reports.len());
}

#[test]
fn services() {
    judge("services", 48);
}

#[test]
fn dns() {
    judge("dns", 36);
}

#[test]
fn maglev() {
    judge("maglev", 7);
}

#[test]
fn nat() {
    judge("nat", 25);
}

#[test]
fn l3() {
    judge("l3", 8);
}

#[test]
fn network_policies() {
    judge("networkpolicy", 55);
}

#[test]
fn cluster_network_policies() {
    judge("clusternetworkpolicy", 10);
}

#[test]
fn load_balancers() {
    judge("l7", 94);
}

/// A judge that cannot fail proves nothing: what a case expects is turned round, one word at a time,
/// and the case must fail each time.
#[test]
fn turned_round_expectations_fail() {
    let directory = tempfile::tempdir().unwrap();
    for (turned, text) in turned::cases() {
        let path = directory.path().join("case.yaml");
        std::fs::write(&path, text).unwrap();
        let report = cases::run_file(&path);
        assert_eq!(report.verdict, Verdict::Failed, "{turned}\n{report}");
    }
}
