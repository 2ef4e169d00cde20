//! The system calls of a worker.
//!
//! A worker receives, sends, waits, and lets go of ports: it opens nothing, connects nowhere and
//! starts nothing. Anything else is refused with `EPERM`, so that a mistake of ours shows as an error
//! rather than as a lab that is gone.
//!
//! Source: seccomp(2), `SECCOMP_SET_MODE_FILTER`.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What a worker asks of the kernel.
const WORKER: &[i64] = &[
    // frames, by descriptor and by ring
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_getsockopt,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // waiting
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    // letting go of ports
    libc::SYS_close,
    libc::SYS_fcntl,
    // memory, before the first frame and for ports that come
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    libc::SYS_prctl,
    // its end, be it a panic's
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that older architectures have beside those above.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Leaves the calling thread the system calls of a worker, for good.
///
/// # Errors
/// The kernel has no such filters, or not for this architecture.
pub fn keep_workers() -> Result<(), seccompiler::Error> {
    let rules: BTreeMap<_, _> =
        WORKER.iter().chain(OLDER).map(|&number| (number, Vec::new())).collect();
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_worker_moves_octets_and_opens_nothing() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || {
            keep_workers().unwrap();
            let refused = [File::open("/etc/passwd").err(), UdpSocket::bind("127.0.0.1:0").err()];
            let started = std::process::Command::new("true").status().err();
            let mut octets = [0; 4];
            there.read_exact(&mut octets).unwrap();
            let more = vec![octets[0]; 1 << 24];
            there.write_all(&more[..4]).unwrap();
            refused.into_iter().chain([started]).map(|error| error.unwrap().kind()).collect()
        });
        here.write_all(b"ping").unwrap();
        let refused: Vec<ErrorKind> = worker.join().unwrap();
        assert_eq!(refused, [ErrorKind::PermissionDenied; 3]);
        let mut octets = [0; 4];
        here.read_exact(&mut octets).unwrap();
        assert_eq!(&octets, b"pppp");
    }
}
