//! What a lab made, written down before it is made.
//!
//! `/run/kswitch/<lab>.lock` is locked as long as the lab runs; the kernel unlocks it however the
//! process ends. `/run/kswitch/<lab>.made` lists the lab's namespaces, each by name and identity:
//! the identity tells ours from one that somebody else made under the same name later.
//!
//! ```text
//! boot 6f8d1c3e-…
//! namespace 4026532281 demo.default.client
//! host 00c0ffee00c0ffee demo.default.client
//! ```
//!
//! Identities mean nothing after the machine has started anew, hence the first line. A line that
//! does not end is one whose namespace was never made. The last line says that all of the host was
//! made, and by which spec: such a host may be adopted by the next run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Error;
use super::namespace::{Identity, check_name};
use super::turn::Turn;

/// Where running labs keep their state; for root's eyes only.
pub const DIRECTORY: &str = "/run/kswitch";

/// Different each time the machine starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An identity that no namespace has: of namespaces from before the machine started anew.
const EXTINCT: Identity = Identity(0);

/// A lab's lock and its list of namespaces.
///
/// **Sharing**: any thread may add and ask; the list has a lock.
#[derive(Debug)]
pub(super) struct Record {
    lab: String,
    lock: Option<File>,
    made: Mutex<Made>,
}

#[derive(Debug)]
struct Made {
    boot: String,
    namespaces: BTreeMap<String, Identity>,
    /// Hosts that are whole, and by which spec they were made.
    hosts: BTreeMap<String, Fingerprint>,
}

/// By which spec a host was made: another for all that differ in what it takes to make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) u64);

impl Record {
    /// Locks the lab's name; the list is what a killed run left.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Running`], or [`Error::Failed`].
    pub(super) fn open(lab: &str) -> Result<Self, Error> {
        check_name(lab)?;
        let lock = lock(lab)?;
        let path = made_path(lab);
        let made = read(&path).map_err(Error::failed(|| format!("read {}", path.display())))?;
        Ok(Self { lab: lab.to_owned(), lock: Some(lock), made: Mutex::new(made) })
    }

    /// The lab's name.
    pub(super) fn lab(&self) -> &str {
        &self.lab
    }

    /// Whether the lock is held still.
    pub(super) const fn is_open(&self) -> bool {
        self.lock.is_some()
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of the lab's namespaces.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.made().namespaces.keys().cloned().collect()
    }

    /// Which namespace the lab made under this name.
    pub(super) fn identity(&self, namespace: &str) -> Option<Identity> {
        self.made().namespaces.get(namespace).copied()
    }

    /// Writes a namespace down that is about to be named.
    pub(super) fn add(&self, namespace: &str, identity: Identity) -> Result<(), Error> {
        let path = made_path(&self.lab);
        let mut made = self.made();
        let write = || {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            // one call each, so that a line is whole or ends the file
            if file.metadata()?.len() == 0 {
                file.write_all(boot_line(&made.boot).as_bytes())?;
            }
            file.write_all(namespace_line(namespace, identity).as_bytes())
        };
        write().map_err(Error::failed(|| format!("write {}", path.display())))?;
        made.namespaces.insert(namespace.to_owned(), identity);
        Ok(())
    }

    /// Writes down that a host is whole.
    pub(super) fn complete(&self, namespace: &str, spec: Fingerprint) -> Result<(), Error> {
        let path = made_path(&self.lab);
        let mut made = self.made();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(host_line(namespace, spec).as_bytes()))
            .map_err(Error::failed(|| format!("write {}", path.display())))?;
        made.hosts.insert(namespace.to_owned(), spec);
        Ok(())
    }

    /// By which spec the whole host in a namespace was made.
    pub(super) fn made_by(&self, namespace: &str) -> Option<Fingerprint> {
        self.made().hosts.get(namespace).copied()
    }

    /// Strikes namespaces out that are no more.
    pub(super) fn strike(&self, namespaces: &[String]) -> Result<(), Error> {
        let path = made_path(&self.lab);
        let mut made = self.made();
        for namespace in namespaces {
            made.namespaces.remove(namespace);
            made.hosts.remove(namespace);
        }
        rewrite(&path, &made).map_err(Error::failed(|| format!("write {}", path.display())))
    }

    /// Gives the name free. A list that is not empty stays, for the next run to reclaim.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        if let Some(lock) = self.lock.take() {
            let path = lock_path(&self.lab);
            fs::remove_file(&path)
                .map_err(Error::failed(|| format!("remove {}", path.display())))?;
            drop(lock);
            // other labs may be in there
            let _ = fs::remove_dir(DIRECTORY);
        }
        Ok(())
    }
}

/// The labs whose names begin so and of which there is any file, running or not.
pub(super) fn left(prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let lab = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (lab, _) = name.rsplit_once('.')?;
        lab.starts_with(prefix).then(|| lab.to_owned())
    };
    entries.filter_map(lab).collect()
}

fn lock_path(lab: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{lab}.lock"))
}

fn made_path(lab: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{lab}.made"))
}

fn make_directory() -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)?;
    fs::set_permissions(DIRECTORY, Permissions::from_mode(0o700))
}

/// Takes the lab's lock and leaves our process number in it.
fn lock(lab: &str) -> Result<File, Error> {
    let path = lock_path(lab);
    let mut turn = Turn::of(lab);
    loop {
        make_directory().map_err(Error::failed(|| format!("make {DIRECTORY}")))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            // another lab closed and removed the directory just now
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::failed(|| format!("open {}", path.display()))(error));
            }
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = holder(&mut file);
                if turn.wait(process) {
                    continue;
                }
                return Err(Error::Running { lab: lab.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::failed(|| format!("lock {}", path.display()))(source));
            }
        }
        // whoever held it may have removed the file between our opening and locking it
        if is_at(&file, &path) {
            let process = std::process::id();
            file.set_len(0)
                .and_then(|()| writeln!(file, "{process}"))
                .map_err(Error::failed(|| format!("write {}", path.display())))?;
            return Ok(file);
        }
    }
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn boot_line(boot: &str) -> String {
    format!("boot {boot}\n")
}

fn namespace_line(namespace: &str, Identity(inode): Identity) -> String {
    format!("namespace {inode} {namespace}\n")
}

fn host_line(namespace: &str, Fingerprint(spec): Fingerprint) -> String {
    format!("host {spec:016x} {namespace}\n")
}

fn read(path: &Path) -> io::Result<Made> {
    let boot = fs::read_to_string(BOOT_ID)?.trim().to_owned();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let (namespaces, hosts) = (parse(&text, &boot), parse_hosts(&text));
    Ok(Made { boot, namespaces, hosts })
}

/// Reads which hosts are whole, however the list was cut short. Of a namespace that was made again
/// later there are two lines, of which the last counts.
fn parse_hosts(text: &str) -> BTreeMap<String, Fingerprint> {
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let host = |line: &str| {
        let (spec, name) = line.strip_prefix("host ")?.split_once(' ')?;
        check_name(name).ok()?;
        Some((name.to_owned(), Fingerprint(u64::from_str_radix(spec, 16).ok()?)))
    };
    lines.filter_map(host).collect()
}

/// Reads a list, however it was cut short.
fn parse(text: &str, boot: &str) -> BTreeMap<String, Identity> {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let same_boot = lines.next() == Some(boot_line(boot).trim_end());
    lines
        .filter_map(|line| {
            let (inode, name) = line.strip_prefix("namespace ")?.split_once(' ')?;
            let identity = Identity(inode.parse().ok()?);
            check_name(name).ok()?;
            Some((name.to_owned(), if same_boot { identity } else { EXTINCT }))
        })
        .collect()
}

/// Replaces the list in one step; an empty list is no file.
fn rewrite(path: &Path, made: &Made) -> io::Result<()> {
    let Made { boot, namespaces, hosts } = made;
    if namespaces.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
    }
    let mut text = boot_line(boot);
    text.extend(namespaces.iter().map(|(name, identity)| namespace_line(name, *identity)));
    text.extend(hosts.iter().map(|(name, spec)| host_line(name, *spec)));
    let new = path.with_extension("made-new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, u64)]) -> BTreeMap<String, Identity> {
        entries.iter().map(|&(name, inode)| (name.to_owned(), Identity(inode))).collect()
    }

    #[test]
    fn a_list_reads_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("demo.made");
        let boot = fs::read_to_string(BOOT_ID).unwrap().trim().to_owned();
        let namespaces = list(&[("demo.default.a", 4_026_532_281), ("demo.node.n", 7)]);
        let hosts = BTreeMap::from([("demo.node.n".to_owned(), Fingerprint(0xbeef))]);
        let made =
            Made { boot: boot.clone(), namespaces: namespaces.clone(), hosts: hosts.clone() };
        rewrite(&path, &made).unwrap();
        assert_eq!(read(&path).unwrap().namespaces, namespaces);
        assert_eq!(read(&path).unwrap().hosts, hosts);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let none = Made { boot, namespaces: BTreeMap::new(), hosts: BTreeMap::new() };
        rewrite(&path, &none).unwrap();
        assert!(!path.exists());
        assert_eq!(read(&path).unwrap().namespaces, BTreeMap::new());
    }

    #[test]
    fn a_list_cut_anywhere_keeps_its_whole_lines_and_invents_none() {
        let text = "boot x\nnamespace 1 demo.a\nnamespace 22 demo.b\n";
        for end in 0..text.len() {
            let read = parse(&text[..end], "x");
            let whole = text[..end].matches('\n').count().saturating_sub(1);
            assert_eq!(read.len(), whole, "{end}");
        }
        assert_eq!(parse(text, "x"), list(&[("demo.a", 1), ("demo.b", 22)]));
    }

    #[test]
    fn identities_from_before_a_restart_match_no_namespace() {
        let text = "boot x\nnamespace 1 demo.a\n";
        assert_eq!(parse(text, "y"), BTreeMap::from([("demo.a".to_owned(), EXTINCT)]));
    }

    #[test]
    fn lines_that_are_no_namespaces_of_ours_are_ignored() {
        let text = "boot x\nnamespace 1 ../../etc/passwd\nnamespace x demo.a\nsomething\n\n";
        assert_eq!(parse(text, "x"), BTreeMap::new());
    }
}
