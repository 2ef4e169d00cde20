//! What the processes of a host find under `/etc` instead of the machine's own files.
//!
//! The files are in `/run/kswitch/<lab>.etc/<namespace>/`, and `/etc/netns/<namespace>`, where
//! iproute2 looks for them, is a link to there. The link says whose it is: even after a power cut,
//! when every record in `/run` is gone, the next run of the lab knows its own.
//!
//! The lab's directory is a file system in memory, which goes in one step. Where `/run` is on
//! disk, a big lab started anew would otherwise wait seconds for ext4 to find inodes that were
//! not in use just before.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Error, kept, record};

/// Where iproute2 looks for files of a namespace. Source: `NETNS_ETC_DIR` of iproute2.
pub const DIRECTORY: &str = "/etc/netns";

/// Remembers that a lab made `/etc/netns`, so that the last one removes it.
const DIRECTORY_MADE: &str = "etc-netns.made";

/// The same, as it would be the name of a lab.
pub(super) const DIRECTORY_MARK: &str = "etc-netns";

/// Where the files of one namespace are found, as a link.
pub fn link(namespace: &str) -> PathBuf {
    Path::new(DIRECTORY).join(namespace)
}

fn directory_mark() -> PathBuf {
    Path::new(record::DIRECTORY).join(DIRECTORY_MADE)
}

fn lab_directory(lab: &str) -> PathBuf {
    Path::new(record::DIRECTORY).join(format!("{lab}.etc"))
}

/// Makes the place for the lab's files.
pub(super) fn prepare(lab: &str) -> Result<(), Error> {
    let directory = lab_directory(lab);
    let make = || {
        fs::create_dir_all(&directory)?;
        if kept::is_mounted(&directory)? {
            return Ok(());
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("kswitch"), &directory, Some("tmpfs"), flags, Some("mode=0755"))?;
        io::Result::Ok(())
    };
    make().map_err(Error::failed(|| format!("make {}", directory.display())))
}

/// Writes the files of a namespace, named as under `/etc`.
pub(super) fn write(lab: &str, namespace: &str, files: &[(&str, &str)]) -> Result<(), Error> {
    let directory = lab_directory(lab).join(namespace);
    fs::create_dir_all(&directory)
        .map_err(Error::failed(|| format!("make {}", directory.display())))?;
    for (name, content) in files {
        let path = directory.join(name);
        let content = format!("{}\n", content.trim_end());
        if fs::read(&path).is_ok_and(|there| there == content.as_bytes()) {
            continue;
        }
        // for any user to read, whatever mask we were started with
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .map_err(Error::failed(|| format!("write {}", path.display())))?;
    }
    let link = link(namespace);
    place(&directory, &link).map_err(Error::failed(|| format!("make {}", link.display())))
}

/// Where programs look for certificates to trust, below `/etc/ssl`.
const TRUSTED: &str = "certs/ca-certificates.crt";

/// Makes the processes of a namespace trust a certificate in PEM, beside those that the machine does:
/// what is below `/etc/ssl` is their own from then on.
///
/// # Errors
/// A file that cannot be written.
pub fn trust(lab: &str, namespace: &str, certificate: &str) -> Result<(), Error> {
    let own = lab_directory(lab).join(namespace).join("ssl");
    let machine = Path::new("/etc/ssl");
    let make = || {
        fs::create_dir_all(own.join("certs"))?;
        // a machine without is one that trusts nobody
        let mut trusted = fs::read_to_string(machine.join(TRUSTED)).unwrap_or_default();
        trusted.push_str(certificate);
        fs::write(own.join(TRUSTED), trusted)?;
        match fs::copy(machine.join("openssl.cnf"), own.join("openssl.cnf")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    make().map_err(Error::failed(|| format!("write {}", own.display())))
}

/// Makes the link, and the directory it is in.
fn place(directory: &Path, link: &Path) -> io::Result<()> {
    // again, because another lab that closes may remove the directory at any time
    loop {
        match symlink(directory, link) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && fs::read_link(link).is_ok_and(|target| target == directory) =>
            {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        match fs::create_dir(DIRECTORY) {
            Ok(()) => fs::write(directory_mark(), "")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the files of a namespace, if they are this lab's.
pub(super) fn remove(lab: &str, namespace: &str) -> Result<(), Error> {
    let directory = lab_directory(lab).join(namespace);
    let link = link(namespace);
    if fs::read_link(&link).is_ok_and(|target| target == directory) {
        fs::remove_file(&link).map_err(Error::failed(|| format!("remove {}", link.display())))?;
    }
    absent(fs::remove_dir_all(&directory))
        .map_err(Error::failed(|| format!("remove {}", directory.display())))
}

/// Removes every file that this lab ever placed, also those that no record knows.
pub(super) fn sweep(lab: &str) -> Result<(), Error> {
    let directory = lab_directory(lab);
    sweep_links(&directory).map_err(Error::failed(|| format!("remove links in {DIRECTORY}")))?;
    // of ours, and of a run that was killed; what is no mount needs no unmounting
    while umount2(&directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    absent(fs::remove_dir_all(&directory))
        .map_err(Error::failed(|| format!("remove {}", directory.display())))
}

fn sweep_links(directory: &Path) -> io::Result<()> {
    match fs::read_dir(DIRECTORY) {
        Ok(entries) => {
            for entry in entries {
                let link = entry?.path();
                if fs::read_link(&link).is_ok_and(|target| target.parent() == Some(directory)) {
                    absent(fs::remove_file(&link))?;
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // ours only if a lab made it, and in use as long as it is not empty
    let mark = directory_mark();
    if mark.exists() && absent(fs::remove_dir(DIRECTORY)).is_ok() {
        absent(fs::remove_file(mark))?;
    }
    Ok(())
}

/// What is not there is as good as removed.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
