//! Coming up, going down, and what is left.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{Lab, fresh_name, leftovers, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("a lab comes up and leaves nothing", &[], comes_and_goes),
    ("what a killed run left is reclaimed", &[], reclaimed),
    ("two labs run side by side", &[], side_by_side),
    ("a second run of a running lab is refused", &[], refused),
    ("a change of the file reaches the running lab", &[], reloads),
    ("an idle lab uses next to no processor", &[], idle),
];

fn comes_and_goes() -> Result<(), Failed> {
    let mut lab = Lab::quickstart()?;
    assert!(!lab.leftovers().is_empty(), "nothing to be seen of a running lab");
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(lab.leftovers(), [] as [&str; 0]);
    Ok(())
}

fn reclaimed() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &quickstart(&name))?;
    lab.kill()?;
    assert!(!leftovers(&name).is_empty(), "a killed run cleans up after itself?");
    let mut again = Lab::start(&name, &quickstart(&name))?;
    let target = format!("{}:80", again.cluster_ip("frontend", true)?);
    again.fetch("default.client", &target, "/hostname")?;
    assert_eq!(again.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn side_by_side() -> Result<(), Failed> {
    let labs = [Lab::quickstart()?, Lab::quickstart()?];
    for lab in &labs {
        let target = format!("{}:80", lab.cluster_ip("frontend", true)?);
        lab.fetch("default.client", &target, "/hostname")?;
    }
    let [mut first, second] = labs;
    first.stop()?;
    let target = format!("{}:80", second.cluster_ip("frontend", true)?);
    second.fetch("default.client", &target, "/hostname")?;
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let second =
        Command::new(env!("CARGO_BIN_EXE_kswitch")).arg("--config").arg(&lab.config).output()?;
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(complaint.contains("run"), "{complaint}");
    let target = format!("{}:80", lab.cluster_ip("frontend", true)?);
    lab.fetch("default.client", &target, "/hostname")?;
    Ok(())
}

fn reloads() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let more = r#"
[[pod]]
metadata = { name = "late", labels = { app = "late" } }
spec.nodeName = "node-b"

[[service]]
metadata = { name = "late" }
spec = { selector = { app = "late" }, ports = [{ port = 80, targetPort = 8080 }] }
"#;
    let text = std::fs::read_to_string(&lab.config)?;
    std::fs::write(&lab.config, format!("{text}{more}"))?;
    lab.ask(&["reload"])?;
    let target = format!("{}:80", lab.cluster_ip("late", true)?);
    assert_eq!(lab.fetch("default.client", &target, "/hostname")?, "late");
    std::fs::write(&lab.config, &text)?;
    lab.ask(&["reload"])?;
    assert!(lab.fetch("default.client", &target, "/hostname").is_err());
    std::fs::write(&lab.config, format!("{text}\nnonsense"))?;
    let refused = lab.client(&["reload"])?;
    assert_eq!(refused.status.code(), Some(2));
    let target = format!("{}:80", lab.cluster_ip("frontend", true)?);
    lab.fetch("default.client", &target, "/hostname")?;
    Ok(())
}

/// Ticks of processor time that a process has used.
pub(crate) fn used(pid: i32) -> Result<u64, Failed> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("unreadable")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn idle() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    std::thread::sleep(Duration::from_millis(500));
    let before = used(lab.pid())?;
    std::thread::sleep(Duration::from_secs(4));
    let ticks = used(lab.pid())? - before;
    // a worker that spins would use 400 hundredths of a second
    assert!(ticks < 40, "{ticks} hundredths of a second in four seconds");
    Ok(())
}
