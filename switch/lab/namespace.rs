//! Named network namespaces, as iproute2 keeps them: `ip netns` lists, enters and deletes ours.
//!
//! A named namespace is a file in `/run/netns` with the namespace mounted over it; the directory
//! is a shared mount, so that unmounting reaches the copies that other mount namespaces have.
//!
//! A thread that has entered a namespace cannot be trusted with anything else, so everything here
//! that enters does so on a thread that ends afterwards.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::Error;
use crate::threads;

/// Where named namespaces are. Source: `NETNS_RUN_DIR` of iproute2.
pub const DIRECTORY: &str = "/run/netns";

/// The calling thread's network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Octets of the longest name; a file name holds 255, and other files are named after namespaces.
const NAME_OCTETS: usize = 240;

/// Which namespace it is: unique among all that live, whatever they are named.
///
/// The number is the inode of the namespace's file, as `/proc/*/ns/net` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u64);

/// Checks that a name is a plain file name and safe to print.
///
/// # Errors
/// [`Error::Name`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let octets = name.as_bytes();
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"._-".contains(octet);
    let starts = octets.first().is_some_and(u8::is_ascii_alphanumeric);
    if starts && octets.len() <= NAME_OCTETS && octets.iter().all(plain) {
        Ok(())
    } else {
        Err(Error::Name { name: name.to_owned() })
    }
}

/// The file of a named namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes `/run/netns` a shared mount, as `ip netns add` does.
///
/// # Errors
/// What the system says.
pub fn prepare() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY)?;
    // the lock that iproute2 takes, lest two starts mount the directory over itself twice
    let directory = File::open(DIRECTORY)?;
    directory.lock()?;
    let share = || remount(MsFlags::MS_SHARED | MsFlags::MS_REC);
    share().or_else(|error| match error {
        // not a mount point yet
        nix::Error::EINVAL => remount(MsFlags::MS_BIND | MsFlags::MS_REC).and_then(|()| share()),
        other => Err(other),
    })?;
    Ok(())
}

fn remount(flags: MsFlags) -> nix::Result<()> {
    mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>)
}

/// Moves the calling thread into a fresh namespace that has no name yet.
///
/// # Errors
/// What the system says.
pub(super) fn unshare_thread() -> io::Result<Identity> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
        // "no space left on device" would send the reader to look at disks
        nix::Error::ENOSPC => {
            let text = "user.max_net_namespaces allows no more of them";
            io::Error::new(io::ErrorKind::QuotaExceeded, text)
        }
        other => other.into(),
    })?;
    Ok(Identity(fs::metadata(OWN)?.ino()))
}

/// Names the calling thread's namespace, which keeps it alive beyond the thread.
///
/// # Errors
/// `AlreadyExists` when the name is taken, or what the system says; nothing is left then.
pub(super) fn name_thread(name: &str) -> io::Result<()> {
    let path = path(name);
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path)?;
    let named = mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    named.map_err(|error| {
        // the mount is what failed, and what to report
        let _ = fs::remove_file(&path);
        error.into()
    })
}

/// Which namespace has this name; `None` when there is only a file, left by a killed run.
///
/// # Errors
/// `NotFound` when there is nothing of this name, or what the system says.
pub fn identity(name: &str) -> io::Result<Option<Identity>> {
    let path = path(name);
    let inode = fs::symlink_metadata(&path)?.ino();
    let is_namespace = statfs(&path)?.filesystem_type() == NSFS_MAGIC;
    Ok(is_namespace.then_some(Identity(inode)))
}

/// Removes a name, unless it names another namespace by now. No name is as good as removed.
///
/// The namespace itself goes, with all that is inside, when the last process, socket and
/// descriptor in it has gone.
///
/// # Errors
/// What the system says.
pub(super) fn delete(name: &str, expected: Identity) -> io::Result<()> {
    let path = path(name);
    match identity(name) {
        Ok(Some(found)) if found != expected => return Ok(()),
        Ok(Some(_)) => umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?,
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Moves the calling thread into a named namespace, for good.
///
/// # Errors
/// What the system says; `NotFound` when there is no such namespace.
pub(super) fn join_thread(name: &str) -> io::Result<()> {
    setns(File::open(path(name))?, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// Runs a closure inside a named namespace and answers what it answers.
///
/// The closure runs on a thread of its own; sockets that it opens belong to the namespace for
/// good, and may be used from anywhere.
///
/// # Errors
/// What the system says; `NotFound` when there is no such namespace.
pub fn enter<T: Send>(name: &str, closure: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        join_thread(name)?;
        Ok(closure())
    })
}

/// Runs a closure on a thread of its own and waits for it.
pub(super) fn on_thread<T: Send>(closure: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = threads::start_within(scope, "lab", closure)?;
        thread.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_file_names() {
        for name in ["demo.default.client", "a", "9.node.node-a", "under_score"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(NAME_OCTETS + 1);
        for name in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\nb", "a\0b", "ü", &long] {
            assert!(matches!(check_name(name), Err(Error::Name { .. })), "{name:?}");
        }
    }

    #[test]
    fn what_has_no_name_cannot_be_entered_and_counts_as_removed() {
        let name = "kswitch-test.no.such";
        assert_eq!(enter(name, || ()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(identity(name).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(delete(name, Identity(1)).is_ok());
    }
}
