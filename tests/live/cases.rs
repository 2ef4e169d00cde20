//! Case files on real TAPs: the conformance cases, and how such a run behaves.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::named;
use crate::{Test, turned};

pub(crate) const TESTS: &[Test] = &[
    ("every conformance case holds on real TAPs", &[], conformance),
    ("expectations turned round fail on real TAPs", &[], turned_round),
    ("a difference says what was expected, what came, and why", &[], difference),
    ("a run that is broken off leaves nothing", &[], broken_off),
    ("what a killed run left goes with the next", &[], killed),
    ("without rights a run says so and does nothing", &[], without_rights),
];

/// Areas whose cases are carried out, and how many there are at least.
const AREAS: [(&str, usize); 7] = [
    ("services", 46),
    ("networkpolicy", 55),
    ("clusternetworkpolicy", 10),
    ("nat", 25),
    ("l3", 8),
    ("maglev", 7),
    ("dns", 36),
];

/// What may be left out: vectors of algorithms that are not claimed.
const LEFT_OUT: [&str; 1] = ["maglev-katran-small"];

/// How long something may take that takes a second as a rule.
const PATIENCE: Duration = Duration::from_mins(1);

fn conformance() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let junit = directory.path().join("report.xml");
    let paths = AREAS.map(|(area, _)| conformance_directory().join(area));
    let run = test(["--junit".into(), junit.clone()].into_iter().chain(paths))?;
    let text = String::from_utf8_lossy(&run.output.stdout).into_owned();
    assert_eq!(run.output.status.code(), Some(0), "{text}");
    for line in text.lines().filter(|line| line.starts_with("skip")) {
        let is_known = LEFT_OUT.iter().any(|name| line.contains(name));
        assert!(is_known, "{line}");
    }
    let cases = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    let at_least: usize = AREAS.iter().map(|(_, count)| count).sum();
    assert_eq!(cases("skip"), LEFT_OUT.len(), "{text}");
    assert!(cases("ok") + cases("report") + cases("skip") >= at_least, "{text}");
    let xml = fs::read_to_string(junit)?;
    assert!(xml.matches("<testcase").count() >= at_least, "{xml}");
    assert!(!xml.contains("<failure") && !xml.contains("<error"), "{xml}");
    assert_eq!(run.leftovers(), [] as [&str; 0]);
    Ok(())
}

fn turned_round() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let mut names = Vec::new();
    for (at, (name, text)) in turned::cases().enumerate() {
        fs::write(directory.path().join(format!("{at:03}.yaml")), text)?;
        names.push(name);
    }
    let run = test([directory.path().to_owned()])?;
    let text = String::from_utf8_lossy(&run.output.stdout).into_owned();
    assert_eq!(run.output.status.code(), Some(1), "{text}");
    let is_verdict = |line: &&str| {
        ["ok ", "FAIL ", "BROKEN ", "skip ", "report "].iter().any(|word| line.starts_with(word))
    };
    let verdicts: Vec<&str> = text.lines().filter(is_verdict).collect();
    assert_eq!(verdicts.len(), names.len(), "{text}");
    for (verdict, name) in verdicts.iter().zip(&names) {
        assert!(verdict.starts_with("FAIL "), "{name}\n{verdict}\n{text}");
    }
    Ok(())
}

fn difference() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let case = fs::read_to_string(conformance_directory().join("services/svc-no-endpoints.yaml"))?;
    let at = case.rfind("action: reject").ok_or("nothing is refused")?;
    let turned = format!("{}action: drop{}", &case[..at], &case[at + "action: reject".len()..]);
    let path = directory.path().join("case.yaml");
    fs::write(&path, turned)?;
    let run = test([path])?;
    let text = String::from_utf8_lossy(&run.output.stdout).into_owned();
    for words in ["expected  no answer", "got       refused (", "trace: ", "no_endpoints"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    Ok(())
}

fn broken_off() -> Result<(), Failed> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut run = start([conformance_directory().join("services")])?;
        wait_for("a lab", || !run.leftovers().is_empty())?;
        kill(Pid::from_raw(i32::try_from(run.child.id())?), signal)?;
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match run.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => return Err("it does not end".into()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        assert_eq!(status.code(), Some(1));
        assert_eq!(run.leftovers(), [] as [&str; 0]);
    }
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let mut run = start([conformance_directory().join("services")])?;
    wait_for("a lab", || !run.leftovers().is_empty())?;
    run.child.kill()?;
    run.child.wait()?;
    let next = test([conformance_directory().join("services/svc-no-endpoints.yaml")])?;
    assert_eq!(next.output.status.code(), Some(0));
    assert_eq!(run.leftovers(), [] as [&str; 0]);
    Ok(())
}

fn without_rights() -> Result<(), Failed> {
    const NOBODY: u32 = 65_534;
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let copy = directory.path().join("kswitch");
    fs::copy(env!("CARGO_BIN_EXE_kswitch"), &copy)?;
    let case = directory.path().join("case.yaml");
    fs::copy(conformance_directory().join("services/svc-no-endpoints.yaml"), &case)?;
    let mut command = Command::new(copy);
    command.args(["test", "--live"]).arg(case).uid(NOBODY).gid(NOBODY).current_dir("/");
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("root rights"), "{complaint}");
    assert!(output.stdout.is_empty());
    Ok(())
}

/// A run of case files that has ended.
struct Run {
    output: Output,
    process: u32,
}

/// One that has not.
struct Running {
    child: Child,
}

impl Run {
    fn leftovers(&self) -> Vec<String> {
        leftovers(self.process)
    }
}

impl Running {
    fn leftovers(&self) -> Vec<String> {
        leftovers(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What there is of the labs of a process.
fn leftovers(process: u32) -> Vec<String> {
    named(&format!("test-{process}-"))
}

fn test(paths: impl IntoIterator<Item = PathBuf>) -> Result<Run, Failed> {
    let child = spawn(paths, Stdio::piped())?;
    let process = child.id();
    Ok(Run { output: child.wait_with_output()?, process })
}

fn start(paths: impl IntoIterator<Item = PathBuf>) -> Result<Running, Failed> {
    Ok(Running { child: spawn(paths, Stdio::null())? })
}

fn spawn(paths: impl IntoIterator<Item = PathBuf>, stdout: Stdio) -> Result<Child, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.args(["test", "--live"]).args(paths).stdout(stdout);
    Ok(command.stderr(Stdio::inherit()).spawn()?)
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<(), Failed> {
    let end = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > end {
            return Err(format!("{what} does not appear").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn conformance_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}
