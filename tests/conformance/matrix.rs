//! `kswitch test --matrix`: which pods of a lab may talk to which.

use std::path::Path;
use std::process::{Command, Output};

/// A lab of three pods; one is open to one other alone.
const LAB: &str = r#"
[lab]
name = "matrix"

[[node]]
name = "node-a"

[[pod]]
metadata = { name = "web", labels = { app = "web" } }

[[pod]]
metadata = { name = "db", labels = { app = "db" } }

[[pod]]
metadata = { name = "other" }

[[network-policy]]
metadata = { name = "db-ingress" }
spec.podSelector.matchLabels.app = "db"
spec.ingress = [{ from = [{ podSelector.matchLabels.app = "web" }], ports = [{ port = 5432 }] }]
"#;

fn matrix(lab: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    let Output { status, stdout, stderr } =
        command.arg("test").args(arguments).arg(lab).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_lab_is_compared_with_the_table_that_is_expected() {
    let directory = tempfile::tempdir().unwrap();
    let lab = directory.path().join("lab.toml");
    std::fs::write(&lab, LAB).unwrap();

    let (code, printed, complaint) = matrix(&lab, &["--matrix", "5432"]);
    assert_eq!(code, Some(0), "{complaint}");
    let rows: Vec<&str> = printed.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rows, ["default/web   # . .", "default/db    . # .", "default/other . X #"]);

    // what was printed is what is expected
    let table = directory.path().join("table.txt");
    std::fs::write(&table, &printed).unwrap();
    let table = table.to_str().unwrap();
    let (code, again, _) = matrix(&lab, &["--matrix", "5432/tcp", "--expected", table]);
    assert_eq!((code, again), (Some(0), printed));

    // at another port nobody reaches it, and the rule that nearly allows it is named
    let (code, said, _) = matrix(&lab, &["--matrix", "5433", "--expected", table]);
    assert_eq!(code, Some(1));
    let different: Vec<&str> = said.lines().filter(|line| line.starts_with("DIFFERS")).collect();
    let expected = "DIFFERS default/web -> default/db: expected it works, got it does not";
    assert_eq!(different, [expected], "{said}");
    let why = said.lines().last().unwrap();
    assert!(why.contains("db-ingress") && why.contains("5432"), "{said}");
}

#[test]
fn what_is_no_table_or_no_lab_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let lab = directory.path().join("lab.toml");
    std::fs::write(&lab, LAB).unwrap();
    let table = directory.path().join("table.txt");
    std::fs::write(&table, "default/web # .\n").unwrap();
    let table = table.to_str().unwrap();
    let (code, said, complaint) = matrix(&lab, &["--matrix", "80", "--expected", table]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(complaint.contains("line 1: 2 signs"), "{complaint}");

    std::fs::write(&lab, LAB.replace("[[node]]", "[[nodes]]")).unwrap();
    let (code, said, complaint) = matrix(&lab, &["--matrix", "80"]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(complaint.contains("nodes"), "{complaint}");
}
