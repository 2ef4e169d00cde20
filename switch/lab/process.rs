//! Processes inside a host: starting them, and ending those that are left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Pid, sethostname};

use super::etc;
use super::namespace::{self, Identity};

/// How long processes may take to end after `SIGTERM`, and again after `SIGKILL`.
const GRACE: Duration = Duration::from_secs(1);

/// How often is looked whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What stands behind the program's name in the words of the kernel about a process: its state first.
///
/// Source: proc_pid_stat(5), from field 3 on.
pub(crate) fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    // the name, in parentheses, may have anything in it
    stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace()
}

/// Starts a command inside a named namespace, with the host's own name, `/sys/class/net` and
/// files under `/etc`, as `ip netns exec` does.
///
/// The child is an ordinary child of this process. It must not ask for a signal on its parent's
/// death, since the thread that starts it ends at once.
///
/// # Errors
/// What the system says; `NotFound` when there is no such namespace or command.
pub fn spawn(namespace: &str, command: &mut Command) -> io::Result<Child> {
    namespace::on_thread(|| {
        // what is missing is the same for all of them; `exec` tells of it
        become_host(namespace, None)?;
        command.spawn()
    })
}

/// Moves the calling thread into a namespace and its view of the machine, for good: for a thread
/// that is about to turn into another program, or to start one and end. Its host name is `hostname`, or else what its files
/// say. Answers what could not be had and can be done without, in words.
///
/// # Errors
/// What the system says; `NotFound` when there is no such namespace.
pub fn become_host(namespace: &str, hostname: Option<&str>) -> io::Result<Vec<String>> {
    let mut missing = Vec::new();
    namespace::join_thread(namespace)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
    // what we mount stays here; what the machine unmounts, namespaces for one, goes here too
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SLAVE, NOTHING)?;
    if let Err(error) = show_own_devices(namespace) {
        missing.push(format!("/sys shows the machine's devices, not the host's own: {error}"));
    }
    let files = etc::link(namespace);
    match (hostname, fs::read_to_string(files.join("hostname"))) {
        (Some(name), _) => sethostname(name)?,
        (None, Ok(name)) => sethostname(name.trim())?,
        (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        (None, Err(error)) => return Err(error),
    }
    cover_etc(&files, &mut missing)?;
    Ok(missing)
}

const NOTHING: Option<&str> = None;

/// Mounts a `/sys` that shows the devices of this network; a mount of it belongs to the network it
/// was made in.
fn show_own_devices(namespace: &str) -> nix::Result<()> {
    let mut flags = MsFlags::empty();
    if umount2("/sys", MntFlags::MNT_DETACH).is_err() {
        // it has to be covered then, and one that can be written cannot cover one that cannot
        let read_only =
            statvfs("/sys").is_ok_and(|status| status.flags().contains(FsFlags::ST_RDONLY));
        flags.set(MsFlags::MS_RDONLY, read_only);
    }
    mount(Some(namespace), "/sys", Some("sysfs"), flags, NOTHING)
}

/// Mounts a host's files over the machine's; what the machine has no file for is left out.
fn cover_etc(files: &Path, missing: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(files) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let target = Path::new("/etc").join(entry.file_name());
        match mount(Some(&entry.path()), &target, NOTHING, MsFlags::MS_BIND, NOTHING) {
            Ok(()) => {}
            Err(nix::Error::ENOENT) => {
                let target = target.display();
                missing.push(format!("{target} is not there to be replaced by the host's own"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The processes in a named namespace, this one excepted.
///
/// # Errors
/// What the system says; `NotFound` when there is no such namespace.
pub fn processes_in(namespace: &str) -> io::Result<Vec<u32>> {
    let identity = namespace::identity(namespace)?.ok_or(io::ErrorKind::NotFound)?;
    let pids = find(&BTreeSet::from([identity])).into_iter();
    Ok(pids.filter_map(|pid| pid.as_raw().try_into().ok()).collect())
}

/// All processes in any of these namespaces, this one excepted.
///
/// Processes come and go meanwhile, so what cannot be read is not there.
fn find(namespaces: &BTreeSet<Identity>) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| *pid != Pid::this())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|file| namespaces.contains(&Identity(file.ino())))
        })
        .collect()
}

/// Ends all processes in these namespaces: asks first, then insists.
///
/// **Cost**: one look at every process of the machine when there are none.
pub(super) fn end(namespaces: &BTreeSet<Identity>) {
    if namespaces.is_empty() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let start = Instant::now();
        let mut told = BTreeSet::new();
        loop {
            let processes = find(namespaces);
            if processes.is_empty() {
                return;
            }
            for process in processes {
                if told.insert(process) {
                    // it may have ended by itself since
                    let _ = kill(process, signal);
                }
            }
            if start.elapsed() > GRACE {
                break;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}
