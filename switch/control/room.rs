//! How much memory there is to be had, and whether it is enough to begin with.
//!
//! A process that runs out of memory later is ended, by the kernel or by its allocator, and takes its
//! lab with it. So what a start takes is asked for before anything is made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where limits of control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Octets of address space that a start takes beside workers and tables: most of it regions that the
/// allocator reserves for threads, as long as there is any, and would then miss for what is wanted.
const START: usize = 640 << 20;

/// Octets that a worker takes: bursts, counters of every port there may be, rings.
const WORKER: usize = 64 << 20;

/// Sees whether there is room for this many workers, tables of so many octets, and all else that a
/// start takes.
///
/// # Errors
/// There is not, in words.
pub(super) fn check(workers: usize, tables: usize) -> io::Result<()> {
    let wanted = WORKER.saturating_mul(workers).saturating_add(START).saturating_add(tables);
    let refused = |why: String| io::Error::new(io::ErrorKind::OutOfMemory, why);
    // what is reserved is not touched: this asks for addresses, as a limit of them would refuse
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(wanted).map_err(|_| {
        let mib = mib(wanted);
        refused(format!(
            "a start with {workers} workers takes up to {mib} MiB of address space (ulimit -v)"
        ))
    })
}

/// Octets in words.
pub(super) fn mib(octets: usize) -> usize {
    octets.div_ceil(1 << 20)
}

/// Octets that are available without swapping: in the machine, and in the control groups that this
/// process is in. `None` where nobody says.
pub(super) fn available() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(of_machine);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(of_groups(Path::new(CGROUPS), &groups)).min()
}

/// Source: proc_meminfo(5), `MemAvailable`.
fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is left in the narrowest of the groups that `groups` tells of.
///
/// Source: cgroups(7), `/proc/[pid]/cgroup`.
fn of_groups(root: &Path, groups: &str) -> Option<usize> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, form) = match controllers {
            "" => (root.to_owned(), &UNIFIED),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), &V1),
            _ => continue,
        };
        // a group that is not to be seen from here, as in a container, is the root there
        let mut group: Option<PathBuf> = Some(root.join(path.trim_start_matches('/')));
        while let Some(directory) = group {
            least = least.into_iter().chain(form.left(&directory)).min();
            group = directory.parent().filter(|up| up.starts_with(&root)).map(Path::to_owned);
        }
    }
    least
}

/// What the files of a group are called.
struct Form {
    limit: &'static str,
    usage: &'static str,
    /// What could be had back, of what is used.
    reclaimable: &'static str,
}

/// Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
const UNIFIED: Form =
    Form { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };

/// Source: Linux, Documentation/admin-guide/cgroup-v1/memory.rst.
const V1: Form = Form {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

impl Form {
    /// What is left in one group; `None` where it has no limit.
    fn left(&self, group: &Path) -> Option<usize> {
        let number = |name: &str| -> Option<usize> {
            fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
        };
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| {
            line.strip_prefix(self.reclaimable)?.strip_prefix(' ')?.trim().parse::<usize>().ok()
        });
        let used = number(self.usage)?.saturating_sub(reclaimable.unwrap_or_default());
        Some(limit.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_octets() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(of_machine(text), Some(2 << 20));
        assert_eq!(of_machine("MemTotal: 16384 kB\n"), None);
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let groups = "9:cpu,cpuacct:/ci\n4:memory:/ci/job\n0::/ci/job\n";
        assert_eq!(of_groups(root.path(), groups), None);
        write("ci/job/memory.max", "max\n");
        write("ci/job/memory.current", "100\n");
        assert_eq!(of_groups(root.path(), groups), None);
        write("ci/memory.max", "5000\n");
        write("ci/memory.current", "3000\n");
        write("ci/memory.stat", "anon 1000\ninactive_file 500\n");
        assert_eq!(of_groups(root.path(), groups), Some(2500));
        write("memory/ci/job/memory.limit_in_bytes", "900\n");
        write("memory/ci/job/memory.usage_in_bytes", "1000\n");
        assert_eq!(of_groups(root.path(), groups), Some(0));
    }

    #[test]
    fn more_than_there_can_be_is_refused_in_words() {
        assert!(check(1, 1 << 20).is_ok());
        assert!(check(usize::MAX, 0).unwrap_err().to_string().contains("address space"));
    }
}
