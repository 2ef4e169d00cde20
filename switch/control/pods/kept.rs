//! The programs that run, written down for a run of the lab after this one.
//!
//! A program is a process of its own, so it outlives the switch. What it says it writes to pipes that
//! have names and that it holds open in both directions itself: with nobody at the other end it waits once the
//! pipe is full, and is not ended.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodSpec;
use kswitch_config::Program;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde::{Deserialize, Serialize};

use crate::lab::process::stat_fields;

/// How long a program that is not wanted any more may take to be gone once it was killed.
const DYING: Duration = Duration::from_secs(1);

/// How often is looked whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Where programs of pods are written down.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    /// `None`: they are not.
    directory: Option<PathBuf>,
    /// The pod as it was written. It says which programs are the same: what they were told when they
    /// were started, as of Services, may have changed since, and they run on all the same.
    spec: String,
}

/// A program that ran when this was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The number of its process.
    pub(super) process: i32,
    /// When that was started, by which it is known from a later one of the same number.
    ///
    /// Source: proc_pid_stat(5), field 22.
    pub(super) start: u64,
    /// The pod that it was made from.
    spec: String,
    /// Whether it had come up.
    pub(super) is_started: bool,
    /// Whether it could be used.
    pub(super) is_ready: bool,
    /// How often it had been started again.
    pub(super) restarts: u32,
}

/// Which of a program's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Standard,
    Error,
}

impl Register {
    /// A register in a directory of its own below this one.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("pods");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory: Some(directory), spec: String::new() })
    }

    /// Forgets the pods that are not among these, each written `namespace.name`: what ran in them has
    /// ended, or is about to.
    pub(super) fn forget_others(&self, wanted: &BTreeSet<String>) {
        let entries = self.directory.iter().filter_map(|directory| fs::read_dir(directory).ok());
        for entry in entries.flatten().flatten() {
            let name = entry.file_name();
            // pods may have dots in their names, containers and what follows have none
            let pod = name.to_str().and_then(|name| Some(name.rsplitn(3, '.').nth(2)?.to_owned()));
            if pod.is_some_and(|pod| !wanted.contains(&pod)) {
                // it goes with the lab otherwise
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The register for a pod of this spec.
    pub(super) fn of(&self, spec: Option<&PodSpec>) -> Self {
        // what could not be written down would be found by nobody
        let spec = spec.and_then(|spec| serde_json::to_string(spec).ok()).unwrap_or_default();
        Self { directory: self.directory.clone(), spec }
    }

    fn path(&self, pod: (&str, &str), program: &Program, end: &str) -> Option<PathBuf> {
        let (namespace, pod) = pod;
        // none of these names has a slash in it
        Some(self.directory.as_ref()?.join(format!("{namespace}.{pod}.{}.{end}", program.name)))
    }

    /// The program of this container of a pod that still runs.
    pub(super) fn find(&self, pod: (&str, &str), program: &Program) -> Option<Entry> {
        self.running(pod, program).filter(|entry| entry.spec == self.spec)
    }

    /// Ends what runs of this container of a pod that was another then.
    pub(super) fn end_other(&self, pod: (&str, &str), program: &Program) {
        let Some(entry) = self.running(pod, program).filter(|entry| entry.spec != self.spec) else {
            return;
        };
        // it may have ended by itself since
        let _ = killpg(Pid::from_raw(entry.process), Signal::SIGKILL);
        let end = Instant::now() + DYING;
        while started(entry.process) == Some(entry.start) && Instant::now() < end {
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// What was written down of this container, if it still runs.
    fn running(&self, pod: (&str, &str), program: &Program) -> Option<Entry> {
        let text = fs::read(self.path(pod, program, "json")?).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok()?;
        (started(entry.process) == Some(entry.start)).then_some(entry)
    }

    /// Writes down that a program was started.
    pub(super) fn add(
        &self,
        pod: (&str, &str),
        program: &Program,
        process: i32,
        restarts: u32,
    ) -> io::Result<()> {
        let Some(start) = started(process) else { return Ok(()) };
        let (is_started, is_ready) = (false, false);
        let spec = self.spec.clone();
        let entry = Entry { process, start, spec, is_started, is_ready, restarts };
        self.write(pod, program, &entry)
    }

    /// Writes down how a program is by now.
    pub(super) fn update(
        &self,
        pod: (&str, &str),
        program: &Program,
        change: impl FnOnce(&mut Entry),
    ) -> io::Result<()> {
        let Some(mut entry) = self.find(pod, program) else { return Ok(()) };
        let before = entry.clone();
        change(&mut entry);
        if entry == before { Ok(()) } else { self.write(pod, program, &entry) }
    }

    fn write(&self, pod: (&str, &str), program: &Program, entry: &Entry) -> io::Result<()> {
        let Some(path) = self.path(pod, program, "json") else { return Ok(()) };
        let new = path.with_extension("json-new");
        fs::write(&new, serde_json::to_vec(entry)?)?;
        fs::rename(new, path)
    }

    /// Makes the pipe for a program's output anew; answers the program's end. `None` where nothing is
    /// written down.
    pub(super) fn pipe(
        &self,
        pod: (&str, &str),
        program: &Program,
        output: Output,
    ) -> io::Result<Option<File>> {
        let Some(path) = self.pipe_path(pod, program, output) else { return Ok(None) };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?,
        }
        // in both directions, as said above; to open it to write alone would wait for a reader, too
        OpenOptions::new().read(true).write(true).open(path).map(Some)
    }

    /// Where the pipe of a program's output is.
    pub(super) fn pipe_path(
        &self,
        pod: (&str, &str),
        program: &Program,
        output: Output,
    ) -> Option<PathBuf> {
        let end = match output {
            Output::Standard => "stdout",
            Output::Error => "stderr",
        };
        self.path(pod, program, end)
    }
}

/// When a process was started, if it has not ended: ticks since the machine started.
pub(super) fn started(process: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat_fields(&text);
    let has_ended = matches!(fields.next()?, "Z" | "X");
    if has_ended { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};

    use kswitch_config::{Role, SecurityContext};

    use super::*;

    const POD: (&str, &str) = ("default", "web");

    fn program() -> Program {
        Program {
            name: "main".into(),
            role: Role::Main,
            command: vec!["cat".into()],
            environment: Vec::new(),
            directory: "/".into(),
            startup: None,
            readiness: None,
            liveness: None,
            post_start: None,
            pre_stop: None,
            security: SecurityContext::default(),
        }
    }

    #[test]
    fn a_program_is_found_while_it_runs_and_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::open(directory.path()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        register.add(POD, &program(), process, 3).unwrap();
        register.update(POD, &program(), |entry| entry.is_ready = true).unwrap();
        let found = register.find(POD, &program()).unwrap();
        assert_eq!((found.process, found.is_ready, found.restarts), (process, true, 3));
        // it was told of other Services when it was started
        let told = Program { environment: vec![("DB_PORT".into(), "1".into())], ..program() };
        assert_eq!(register.find(POD, &told), Some(found));
        assert_eq!(register.find(("default", "other"), &program()), None);
        register.end_other(POD, &program());
        assert!(child.try_wait().unwrap().is_none(), "it is the same");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(register.find(POD, &program()), None);
    }

    #[test]
    fn a_program_of_a_pod_that_was_another_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::open(directory.path()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        register.add(POD, &program(), process, 0).unwrap();
        let spec = PodSpec { hostname: Some("another".into()), ..PodSpec::default() };
        let other = register.of(Some(&spec));
        assert_eq!(other.find(POD, &program()), None);
        other.end_other(POD, &program());
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn pods_that_have_gone_are_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::open(directory.path()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = i32::try_from(child.id()).unwrap();
        let dotted = ("default", "web.two");
        for pod in [POD, dotted] {
            register.add(pod, &program(), process, 0).unwrap();
            register.pipe(pod, &program(), Output::Standard).unwrap().unwrap();
        }
        register.forget_others(&["default.web.two".to_owned()].into());
        assert_eq!(register.find(POD, &program()), None);
        assert!(register.find(dotted, &program()).is_some());
        assert_eq!(fs::read_dir(directory.path().join("pods")).unwrap().count(), 2);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn who_writes_to_a_pipe_does_not_mind_that_the_reader_went() {
        let directory = tempfile::tempdir().unwrap();
        let register = Register::open(directory.path()).unwrap();
        let mut end = register.pipe(POD, &program(), Output::Standard).unwrap().unwrap();
        let path = register.pipe_path(POD, &program(), Output::Standard).unwrap();
        let reader = File::open(&path).unwrap();
        end.write_all(b"one").unwrap();
        drop(reader);
        end.write_all(b"two").unwrap();
        let mut text = [0; 6];
        File::open(&path).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"onetwo");
    }

    #[test]
    fn a_register_that_is_none_knows_nothing() {
        let none = Register::default();
        none.add(POD, &program(), 1, 0).unwrap();
        assert_eq!(none.find(POD, &program()), None);
        assert!(none.pipe(POD, &program(), Output::Error).unwrap().is_none());
    }
}
