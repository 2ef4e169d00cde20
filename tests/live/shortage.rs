//! There is no room: on disks, in memory, for descriptors. And clocks that jump.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use kswitch::lab::process::processes_in;
use libtest_mimic::Failed;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use crate::Test;
use crate::lab::{Lab, fresh_name, leftovers, until};
use crate::restart::{self, Connections};

pub(crate) const TESTS: &[Test] = &[
    ("shortage: where nothing can be kept the lab does not come up", &[], kept_too_small),
    ("shortage: what can be kept no more is told, and the lab goes on", &[], kept_full),
    ("shortage: a full disk ends a capture, not the lab", &[], capture_full),
    ("shortage: what cannot be logged is not", &[], log_full),
    ("shortage: too little memory is one error, and nothing is left", &["prlimit"], little_memory),
    ("shortage: a control group's limit is seen before it is met", &[], little_memory_in_a_group),
    ("shortage: no descriptors left: what is there goes on", &["prlimit"], no_descriptors),
    ("shortage: too few threads are one error, and nothing is left", &[], too_few_threads),
    (
        "shortage: no threads left: what is there goes on, and the rest as soon as there are",
        &[],
        no_threads,
    ),
    ("shortage: clocks that jump change nothing", &["cc"], clock_jumps),
];

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, octets: usize) -> Result<Self, Failed> {
        fs::create_dir_all(path)?;
        let size = format!("size={octets}");
        mount(Some("small"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Runs a program of which nothing but its end is of interest.
fn end(command: &mut Command) -> Result<Output, Failed> {
    Ok(command.stdin(Stdio::null()).output()?)
}

/// A lab that does not come up says why in one line, ends with 1, and leaves nothing.
fn refused(name: &str, output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mut errors = said.lines().filter(|line| line.starts_with("kswitch: "));
    assert!(errors.next().is_some_and(|line| line.contains(words)), "{words}: {said}");
    assert_eq!(errors.next(), None, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(leftovers(name), [] as [&str; 0]);
}

/// The lab in a file of a directory.
fn written(name: &str) -> Result<(tempfile::TempDir, PathBuf), Failed> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("lab.toml");
    fs::write(&config, restart::lab(name, ""))?;
    Ok((directory, config))
}

fn kswitch(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.arg("--config").arg(config);
    command
}

fn kept(name: &str) -> PathBuf {
    Path::new("/run/kswitch").join(format!("{name}.kept"))
}

/// Lets a small part more of what a lab keeps be kept than there is already.
fn narrow(kept: &Path) -> Result<(), Failed> {
    let status = statvfs(kept)?;
    let used = (status.blocks() - status.blocks_free()) * status.fragment_size();
    resize(kept, used + (1 << 16))
}

fn resize(kept: &Path, octets: u64) -> Result<(), Failed> {
    let size = format!("size={octets}");
    let flags = MsFlags::MS_REMOUNT;
    Ok(mount(None::<&str>, kept, None::<&str>, flags, Some(size.as_str()))?)
}

fn kept_too_small() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &restart::lab(&name, ""))?;
    lab.kill()?;
    narrow(&kept(&name))?;
    // tables of another size, for which there is no room
    let (_directory, config) = written(&name)?;
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("conntrack-flows = 16384", "conntrack-flows = 65536"))?;
    refused(&name, &end(&mut kswitch(&config))?, "No space left on device");
    lab = Lab::start(&name, &restart::lab(&name, ""))?;
    assert_eq!(lab.stop()?, Some(0));
    Ok(())
}

fn kept_full() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &restart::lab(&name, ""))?;
    let mut connections = Connections::open(&lab, 2)?;
    let kept = kept(&name);
    narrow(&kept)?;
    let mut filler = fs::File::create(kept.join("filler"))?;
    while filler.write_all(&[0; 4096]).is_ok() {}
    let directory = tempfile::tempdir()?;
    let manifest = directory.path().join("late.yaml");
    let late = |command: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: late}}\nspec:\n  nodeName: node-b\n  \
             containers:\n  - name: main\n    command: [sh, -c, \"{command}\"]\n"
        )
    };
    fs::write(&manifest, late("echo up; exec sleep 1000"))?;
    let file = manifest.to_str().ok_or("no text")?;
    lab.ask(&["apply", "-f", file])?;
    connections.talk()?;
    assert!(lab.ask(&["get", "pods"])?.contains("late"));
    // as soon as there is room its program comes up, and the next change is kept
    drop(filler);
    fs::remove_file(kept.join("filler"))?;
    resize(&kept, 1 << 30)?;
    until("the program comes up", || Ok(lab.ask(&["logs", "late"])? == "up\n"))?;
    lab.ask(&["scale", "deployment/none", "--replicas", "1"]).err().ok_or("there is none")?;
    lab.ask(&["reload"])?;
    lab.ask(&["apply", "-f", file])?;
    connections.talk()?;
    lab.kill()?;
    lab = Lab::start(&name, &restart::lab(&name, ""))?;
    assert!(lab.ask(&["get", "pods"])?.contains("late"));
    connections.talk()?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn capture_full() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &restart::lab(&name, ""))?;
    let directory = tempfile::tempdir()?;
    let _small = Small::mount(&directory.path().join("small"), 1 << 16)?;
    let file = directory.path().join("small/all.pcapng");
    let file = file.to_str().ok_or("no text")?;
    let mut connections = Connections::open(&lab, 2)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.args(["--lab", &name, "capture", "any", "-w", file]);
    let mut capture = command.stderr(Stdio::piped()).spawn()?;
    until("the disk is full", || {
        connections.talk()?;
        Ok(capture.try_wait()?.is_some())
    })?;
    let mut said = String::new();
    capture.stderr.take().ok_or("no standard error")?.read_to_string(&mut said)?;
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(capture.wait()?.code(), Some(1));
    connections.talk()
}

fn log_full() -> Result<(), Failed> {
    let name = fresh_name();
    let (_directory, config) = written(&name)?;
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    let mut child = kswitch(&config).stdout(full()?).stderr(full()?).spawn()?;
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
        end(command.args(["--lab", &name]).args(arguments))
    };
    until("it answers", || Ok(ask(&["get", "pods"])?.status.success()))?;
    // this logs a word for each
    let mut hang_up = || -> Result<(), Failed> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP)?;
        thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait()?.is_none());
        Ok(())
    };
    hang_up()?;
    fs::write(&config, "[lab")?;
    hang_up()?;
    until("it answers still", || Ok(ask(&["get", "pods"])?.status.success()))?;
    assert_eq!(stop(&mut child)?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn stop(child: &mut Child) -> Result<Option<i32>, Failed> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    until("it ends", || Ok(child.try_wait()?.is_some()))?;
    Ok(child.wait()?.code())
}

fn little_memory() -> Result<(), Failed> {
    let name = fresh_name();
    let (_directory, config) = written(&name)?;
    for mebibytes in [256, 512, 700] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={}", mebibytes << 20)).arg(env!("CARGO_BIN_EXE_kswitch"));
        refused(&name, &end(command.arg("--config").arg(&config))?, "memory");
    }
    Ok(())
}

/// A control group that goes with the test.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl Group {
    /// One for a lab, with a limit in the first of these places, directory and file, that has such
    /// limits; `None` where control groups are not ours to make.
    fn with(name: &str, places: [(&str, &str); 2], limit: &str) -> Option<Self> {
        places.into_iter().find_map(|(root, file)| {
            let group = Self(Path::new(root).join(format!("kswitch-{name}")));
            fs::create_dir(&group.0).ok()?;
            // where the group has no such file it has no such limit
            fs::write(group.0.join(file), limit).ok()?;
            Some(group)
        })
    }

    /// The switch, in this group from its start.
    fn kswitch(&self, config: &Path) -> Command {
        let script = "echo $$ > \"$1\" && exec \"$2\" --config \"$3\"";
        let procs = self.0.join("cgroup.procs");
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(procs);
        command.arg(env!("CARGO_BIN_EXE_kswitch")).arg(config);
        command
    }
}

fn little_memory_in_a_group() -> Result<(), Failed> {
    let name = fresh_name();
    let (_directory, config) = written(&name)?;
    let roots =
        [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
    let Some(group) = Group::with(&name, roots, &(48 << 20).to_string()) else {
        // a machine whose control groups are not ours to make; what is read of them is tested apart
        return Ok(());
    };
    let mut text = fs::read_to_string(&config)?;
    text = text.replace("conntrack-flows = 16384", "conntrack-flows = 1048576");
    fs::write(&config, text)?;
    refused(&name, &end(&mut group.kswitch(&config))?, "conntrack-flows");
    Ok(())
}

/// A control group without a limit of processes yet; `None` where they are not ours to make.
fn group_of_processes(name: &str) -> Option<Group> {
    let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
    Group::with(name, roots.map(|root| (root, "pids.max")), "max")
}

fn too_few_threads() -> Result<(), Failed> {
    let name = fresh_name();
    let (_directory, config) = written(&name)?;
    let Some(group) = group_of_processes(&name) else { return Ok(()) };
    fs::write(group.0.join("pids.max"), "12")?;
    refused(&name, &end(&mut group.kswitch(&config))?, "pids.max");
    Ok(())
}

fn no_threads() -> Result<(), Failed> {
    let name = fresh_name();
    let Some(group) = group_of_processes(&name) else { return Ok(()) };
    let talker = r#"
[[pod]]
metadata = { name = "talker" }
spec.nodeName = "node-a"
[[pod.spec.containers]]
name = "main"
command = ["sleep", "1000"]
"#;
    let mut lab = Lab::start(&name, &restart::lab(&name, talker))?;
    let mut connections = Connections::open(&lab, 2)?;
    connections.talk()?;
    fs::write(group.0.join("cgroup.procs"), lab.pid().to_string())?;
    let current = || -> Result<usize, Failed> {
        Ok(fs::read_to_string(group.0.join("pids.current"))?.trim().parse()?)
    };
    let limit = |count: &str| fs::write(group.0.join("pids.max"), count);
    let directory = tempfile::tempdir()?;
    let more = directory.path().join("more.yaml");
    fs::write(&more, "apiVersion: v1\nkind: Pod\nmetadata: {name: more}\nspec: {}\n")?;
    let apply = || lab.client(&["apply", "-f", more.to_str().unwrap_or_default()]);

    // none for clients
    limit(&current()?.to_string())?;
    let refused = lab.client(&["get", "pods"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("pids.max"), "{said}");
    connections.talk()?;

    // one, for the client: none for what it asks for
    limit(&(current()? + 1).to_string())?;
    let refused = apply()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("pids.max"), "{said}");
    connections.talk()?;

    // a program that has ended is not started, and says why
    let program = || -> Result<Option<i32>, Failed> {
        let inside = processes_in(&format!("{name}.default.talker"))?;
        let is_program = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        };
        Ok(inside.into_iter().find(is_program).and_then(|pid| pid.try_into().ok()))
    };
    let first = program()?.ok_or("no program")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)?;
    until("the pod says why it does not run", || {
        let Ok(pods) = lab.get("pods") else { return Ok(false) };
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "talker").ok_or("no pod")?;
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        Ok(waiting["reason"] == "CreateContainerError" && message.contains("pids.max"))
    })?;
    connections.talk()?;

    // and all of it is made up for
    limit("max")?;
    until("the program runs again", || Ok(program()?.is_some_and(|pid| pid != first)))?;
    assert!(apply()?.status.success());
    let target = format!("{}:8080", lab.pod_ip("more", true)?);
    until("the new pod answers", || {
        Ok(lab.fetch("default.client", &target, "/hostname").is_ok_and(|name| name == "more"))
    })?;
    connections.talk()?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn no_descriptors() -> Result<(), Failed> {
    let name = fresh_name();
    let (_directory, config) = written(&name)?;
    let mut command = Command::new("prlimit");
    command.arg("--nofile=24:24").arg(env!("CARGO_BIN_EXE_kswitch"));
    refused(&name, &end(command.arg("--config").arg(&config))?, "");

    let mut lab = Lab::start(&name, &restart::lab(&name, ""))?;
    let mut connections = Connections::open(&lab, 2)?;
    let pid = lab.pid();
    let directory = tempfile::tempdir()?;
    let pods = |count: usize| -> Result<String, Failed> {
        let pod = |n| {
            format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: more-{n}}}\nspec: {{}}\n---\n")
        };
        let file = directory.path().join(format!("{count}.yaml"));
        fs::write(&file, (0..count).map(pod).collect::<String>())?;
        Ok(file.to_str().ok_or("no text")?.to_owned())
    };
    // enough for a few machines, and the thousand that is kept for all else; it could not be raised again
    let limit = fs::read_dir(format!("/proc/{pid}/fd"))?.count() + 1_100;
    let limit = format!("--nofile={limit}:{limit}");
    let output = end(Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]))?;
    assert!(output.status.success(), "{output:?}");
    let refused = lab.client(&["apply", "-f", &pods(200)?])?;
    assert!(!refused.status.success(), "{refused:?}");
    connections.talk()?;
    // nothing is left of what was begun
    until("it answers", || {
        Ok(lab.ask(&["get", "pods"]).is_ok_and(|pods| !pods.contains("more-")))
    })?;
    lab.ask(&["apply", "-f", &pods(1)?])?;
    connections.talk()?;
    let target = format!("{}:8080", lab.pod_ip("more-0", true)?);
    assert_eq!(lab.fetch("default.client", &target, "/hostname")?, "more-0");
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

/// Between the program and the system: the time of day is what a file says it is off by.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int answer = syscall(SYS_clock_gettime, clock, time);
    if (answer == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        char text[32] = "0";
        int file = open(getenv("CLOCK_OFF_BY"), O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            ssize_t octets = read(file, text, sizeof text - 1);
            text[octets > 0 ? octets : 0] = 0;
            close(file);
            time->tv_sec += atol(text);
        }
    }
    return answer;
}
"#;

/// The machine's clock is nobody's to set here, so the switch is lied to about it.
fn clock_jumps() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (source, library, off_by) = (path("clock.c"), path("clock.so"), path("off-by"));
    fs::write(&source, CLOCK)?;
    fs::write(&off_by, "0")?;
    let compiled = end(Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]))?;
    assert!(compiled.status.success(), "{compiled:?}");
    let environment = [("LD_PRELOAD", library.as_str()), ("CLOCK_OFF_BY", off_by.as_str())];
    let more = r#"
[[pod]]
metadata = { name = "talker" }
spec.nodeName = "node-a"
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "echo up; exec sleep 1000"]
livenessProbe = { exec = { command = ["true"] }, periodSeconds = 1 }
"#;
    let name = fresh_name();
    let mut lab = Lab::start_with(&name, &restart::lab(&name, more), &environment)?;
    let mut connections = Connections::open(&lab, 4)?;
    until("the program is up", || Ok(lab.ask(&["logs", "talker"])? == "up\n"))?;
    let is_there = |lab: &Lab, state: &str| -> Result<usize, Failed> {
        Ok(lab.ask(&["conntrack", "list", "--state", state])?.matches(state).count())
    };
    let year = 365 * 86_400;
    for seconds in [year, -year, 0, 3_600, -3_600] {
        fs::write(&off_by, seconds.to_string())?;
        connections.talk()?;
        thread::sleep(Duration::from_millis(400));
        connections.talk()?;
        assert!(is_there(&lab, "ESTABLISHED")? >= 4, "{seconds}");
        let target = format!("{}:8080", lab.pod_ip("server-b", true)?);
        assert_eq!(lab.fetch("default.client", &target, "/hostname")?, "server-b");
        // a second old at most, whatever the clock says
        assert!(is_there(&lab, "TIME_WAIT")? >= 1, "{seconds}");
        let pods = lab.get("pods")?;
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "talker").ok_or("no pod")?;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{seconds}");
        lab.ask(&["reload"])?;
    }
    // a pod that is given a minute has it, whatever its last day is called
    fs::write(&off_by, (2 * year).to_string())?;
    lab.ask(&["delete", "pod", "server-a", "--grace-period", "60"])?;
    fs::write(&off_by, (4 * year).to_string())?;
    thread::sleep(Duration::from_millis(400));
    let pods = lab.get("pods")?;
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "server-a").ok_or("it has gone")?;
    let told = pod["metadata"]["deletionTimestamp"].as_str().ok_or("it does not end")?;
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    // of one year too many or too few by a leap day
    let this_year = 1970 + since / 31_556_952;
    assert!(told[..4].parse::<u64>()? > this_year, "it was not lied to: {told}");
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}
