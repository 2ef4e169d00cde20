//! The process of the switch: started, killed, asked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long it may take to come up, and to go down.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often is looked.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A switch that runs a lab.
#[derive(Debug)]
pub struct Switch {
    program: PathBuf,
    config: PathBuf,
    lab: String,
    said: PathBuf,
    log: PathBuf,
    child: Child,
    /// Which life of the lab this is: one more with each start, kill and upgrade.
    pub life: u64,
}

impl Switch {
    /// Starts it, and waits until it is ready; what it says goes to files in `directory`.
    ///
    /// # Errors
    /// It did not come up; with what it said.
    pub fn start(program: &Path, config: &Path, lab: &str, directory: &Path) -> io::Result<Self> {
        let (said, log) = (directory.join("said"), directory.join("log"));
        let child = spawn(program, config, &said, &log)?;
        let (program, config, lab) = (program.to_owned(), config.to_owned(), lab.to_owned());
        let mut switch = Self { program, config, lab, said, log, child, life: 1 };
        switch.wait_ready()?;
        Ok(switch)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn wait_ready(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !fs::read_to_string(&self.said)?.starts_with("ready") {
            if Instant::now() > end || self.child.try_wait()?.is_some() {
                return Err(io::Error::other(format!("the lab did not come up: {}", self.log())));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Kills it, and starts it again at once.
    ///
    /// # Errors
    /// As [`Switch::start`].
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.program, &self.config, &self.said, &self.log)?;
        self.life += 1;
        self.wait_ready()
    }

    /// Has it go on as another run of its program.
    ///
    /// # Errors
    /// It refused.
    pub fn upgrade(&mut self) -> io::Result<()> {
        let program = self.program.display().to_string();
        self.life += 1;
        self.ask(&["upgrade", &program]).map(drop)
    }

    /// What it answers on its command line.
    ///
    /// # Errors
    /// It refused, with what it said.
    pub fn ask(&self, arguments: &[&str]) -> io::Result<String> {
        let output =
            Command::new(&self.program).args(["--lab", &self.lab]).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("kswitch {}: {said}", arguments.join(" "))))
    }

    /// Ends it, and waits; answers its exit code.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> io::Result<Option<i32>> {
        if let Ok(pid) = i32::try_from(self.pid()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Err(io::Error::other("the switch does not end"))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.stop().is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // after a run that ended otherwise; nothing to do as a rule
        let _ = Command::new(&self.program).args(["clean", &self.lab]).output();
    }
}

fn spawn(program: &Path, config: &Path, said: &Path, log: &Path) -> io::Result<Child> {
    let log = OpenOptions::new().append(true).create(true).open(log)?;
    Command::new(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(File::create(said)?)
        .stderr(log)
        .spawn()
}
