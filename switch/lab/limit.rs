//! What the process must be allowed before a lab can be made: capabilities and descriptors.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::Error;

/// What making namespaces and links takes, with the bit of each.
///
/// Source: `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];

/// Descriptors that a process without hosts may want for itself.
const OWN_DESCRIPTORS: usize = 1_024;

/// Descriptors that a queue brings along: its own, and the sockets that listen inside the host.
const DESCRIPTORS_PER_QUEUE: usize = 16;

/// Checks that the calling thread has the rights to make a lab.
///
/// # Errors
/// [`Error::NotRoot`].
pub fn check_capabilities() -> Result<(), Error> {
    let path = "/proc/thread-self/status";
    let status = fs::read_to_string(path).map_err(Error::failed(|| format!("read {path}")))?;
    match missing_capability(&status) {
        Some(capability) => Err(Error::NotRoot { capability }),
        None => Ok(()),
    }
}

/// The first capability that a process with this status lacks.
fn missing_capability(status: &str) -> Option<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    CAPABILITIES.iter().find(|(_, bit)| effective >> bit & 1 == 0).map(|(name, _)| *name)
}

/// Raises the limit of open descriptors, if need be, to hold this many more queues.
pub(super) fn raise_descriptors(queues: usize) -> Result<(), Error> {
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let needed = open + OWN_DESCRIPTORS + queues.saturating_mul(DESCRIPTORS_PER_QUEUE);
    let needed = rlim_t::try_from(needed).unwrap_or(rlim_t::MAX);
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft >= needed {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed))
    };
    raise().map_err(Error::failed(|| format!("raise the limit of open files to {needed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_capability_is_named() {
        let status =
            |mask: u64| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{mask:016x}\nCapBnd:\t0\n");
        assert_eq!(missing_capability(&status(0x1ff_ffff_ffff)), None);
        assert_eq!(missing_capability(&status(1 << 12 | 1 << 21)), None);
        assert_eq!(missing_capability(&status(1 << 21)), Some("CAP_NET_ADMIN"));
        assert_eq!(missing_capability(&status(1 << 12)), Some("CAP_SYS_ADMIN"));
        assert_eq!(missing_capability(""), Some("CAP_NET_ADMIN"));
    }

    #[test]
    fn a_limit_that_suffices_stays() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if before.0 > 100_000 || before.0 == rlim_t::MAX {
            raise_descriptors(1).unwrap();
            assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), before);
        }
    }
}
