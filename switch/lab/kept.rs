//! What a lab keeps for its next run, should this one be killed: `/run/kswitch/<lab>.kept`.
//!
//! The directory is a file system in memory: what is in it is as quick as memory, cannot fill a disk,
//! is gone when the machine starts anew, and goes in one step.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Error, record};

/// The directory of a lab; there is one while the lab runs, and after it was killed.
pub fn directory(lab: &str) -> PathBuf {
    Path::new(record::DIRECTORY).join(format!("{lab}.kept"))
}

/// Makes the directory, unless it is there.
pub(super) fn prepare(lab: &str) -> Result<(), Error> {
    let directory = directory(lab);
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        if !is_mounted(&directory)? {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            // as large as the machine's memory: what is in it is bounded by who puts it there
            let data = "mode=0700,size=100%";
            let mount =
                |data: &str| mount(Some("kswitch"), &directory, Some("tmpfs"), flags, Some(data));
            // large tables on large pages; not every kernel has these
            mount(&format!("{data},huge=within_size")).or_else(|_| mount(data))?;
        }
        io::Result::Ok(())
    };
    make().map_err(Error::failed(|| format!("make {}", directory.display())))
}

/// Removes the directory and all that is in it.
pub(super) fn sweep(lab: &str) -> Result<(), Error> {
    let directory = directory(lab);
    // what is no mount needs no unmounting
    while umount2(&directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(|| format!("remove {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Whether a file system is mounted on a directory of `/run/kswitch`.
pub(super) fn is_mounted(directory: &Path) -> io::Result<bool> {
    let around = directory.parent().unwrap_or(directory);
    Ok(fs::metadata(directory)?.dev() != fs::metadata(around)?.dev())
}
