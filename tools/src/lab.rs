//! A lab of the switch's, run for a measurement, and what is done inside its namespaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use kswitch::control::request::{Request, Response};
use kswitch::control::socket;
use kswitch::lab::namespace;
use tempfile::TempDir;

use crate::beds;
use crate::link::ip;

/// A running lab; ends when dropped.
#[derive(Debug)]
pub struct Lab {
    name: String,
    child: Child,
    directory: TempDir,
}

impl Lab {
    /// Runs the lab of this text, under the name it has there, and waits until it is ready.
    ///
    /// # Errors
    /// Why it did not come up.
    pub fn start(name: &str, text: &str) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("lab.toml");
        fs::write(&config, text)?;
        let mut command = Command::new(beds::own("kswitch")?);
        let child = beds::start(command.arg("--config").arg(config))?;
        Ok(Self { name: name.to_owned(), child, directory })
    }

    /// The namespace of a pod of the namespace `default`.
    pub fn pod(&self, pod: &str) -> String {
        format!("{}.default.{pod}", self.name)
    }

    /// The lab file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("lab.toml")
    }

    /// Has the lab read its files again.
    ///
    /// # Errors
    /// If nobody answers, or the files are refused.
    pub fn reload(&self) -> io::Result<()> {
        match socket::ask_one(Path::new(socket::DIRECTORY), &self.name, &Request::Reload)? {
            Response::Done { .. } => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Octets of memory that the switch has in use.
    ///
    /// Source: proc_pid_status(5), `VmRSS`.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(kib.ok_or(io::ErrorKind::InvalidData)? << 10)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        beds::end(&mut self.child);
    }
}

/// Does work in a network namespace.
///
/// # Errors
/// Those of the work, with the name of the namespace; or if there is no such namespace.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let named = |error| io::Error::other(format!("namespace {name}: {error}"));
    namespace::enter(name, work).map_err(named)?
}

/// Has the kernel of a namespace drop what `rule` (nftables) says before anybody there sees it, and
/// count it: [`muted`].
///
/// # Errors
/// If there is no `nft`, or it refuses.
pub fn mute(namespace: &str, rule: &str) -> io::Result<()> {
    let rules = format!(
        "add table ip bench; \
         add chain ip bench early {{ type filter hook prerouting priority -500; }}; \
         add rule ip bench early {rule} counter drop"
    );
    ip(&["netns", "exec", namespace, "nft", &rules]).map(drop)
}

/// What the rules of [`mute`] have dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Muted {
    /// Packets.
    pub packets: u64,
    /// Octets that they had, from their IP headers on.
    pub octets: u64,
}

/// What the rules of [`mute`] have dropped in a namespace so far.
///
/// # Errors
/// If there is no `nft`, or no such rule.
pub fn muted(namespace: &str) -> io::Result<Muted> {
    let text = ip(&["netns", "exec", namespace, "nft", "list", "table", "ip", "bench"])?;
    let sum = |what: &str| {
        let mut words = text.split_whitespace();
        let mut counts = Vec::new();
        while words.any(|word| word == what) {
            counts.extend(words.next().and_then(|word| word.parse::<u64>().ok()));
        }
        let nothing = || io::Error::other(format!("nothing is counted in {namespace}"));
        (!counts.is_empty()).then(|| counts.iter().sum()).ok_or_else(nothing)
    };
    Ok(Muted { packets: sum("packets")?, octets: sum("bytes")? })
}

/// Gives an interface of a namespace a queue for so many frames.
///
/// # Errors
/// If there is no `ip`, or it refuses.
pub fn lengthen(namespace: &str, interface: &str, frames: u64) -> io::Result<()> {
    let frames = frames.to_string();
    ip(&["-n", namespace, "link", "set", interface, "txqueuelen", &frames]).map(drop)
}
