//! Many reads and writes in one system call, by io_uring.
//!
//! A system call for every frame read and every frame written is most of what a TAP costs. Here the
//! frames of a burst are written, and the next burst is read, by one call. Nothing is asked for that
//! would have to wait (`RWF_NOWAIT`; a descriptor that does not block is not enough, since io_uring
//! waits for it), so the kernel is done with every buffer before the call returns: buffers belong to
//! the kernel during the call and at no other time.
//!
//! A ring can do whatever system calls can, past any filter of these. So this one is told, before it
//! can do anything, that it may read and write and nothing else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};

/// How a worker reads and writes frames, where a port leaves the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// By io_uring where the kernel permits it, by a call for each frame elsewhere.
    #[default]
    Auto,
    /// By io_uring, or not at all.
    IoUring,
    /// By a call for each frame.
    ReadWrite,
}

impl Io {
    /// How lab files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io-uring",
            Self::ReadWrite => "read-write",
        }
    }
}

/// Reads that one call may ask for, and as many writes.
pub const MOST: usize = 64;

/// What a read or a write that is not there would have been answered.
const UNASKED: i32 = -libc::EAGAIN;

/// One worker's way to read and write many frames at once.
pub struct Batch {
    /// Gone once the kernel has refused it.
    ring: Option<IoUring>,
    results: [i32; 2 * MOST],
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

/// What came of one exchange, in the order in which it was asked for: octets, or the negative of an
/// error number.
#[derive(Clone, Copy, Debug)]
pub struct Done<'b> {
    /// Of the writes.
    pub writes: &'b [i32],
    /// Of the reads.
    pub reads: &'b [i32],
}

impl Batch {
    /// A ring for the calling thread, which alone may use it.
    ///
    /// # Errors
    /// What the kernel says: it may be too old, or forbid io_uring (`kernel.io_uring_disabled`, a
    /// container's filter of system calls).
    pub fn new() -> io::Result<Self> {
        let entries = u32::try_from(2 * MOST).unwrap_or(u32::MAX);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_r_disabled()
            .build(entries)
            // before Linux 6.1
            .or_else(|_| IoUring::builder().setup_r_disabled().build(entries))?;
        restrict(&ring)?;
        Ok(Self { ring: Some(ring), results: [UNASKED; 2 * MOST] })
    }

    /// Writes these frames, each to its descriptor, then reads a frame into each of these rooms,
    /// each from its descriptor: at most [`MOST`] of each; the rest is not looked at.
    ///
    /// **Cost**: one system call, whatever the number.
    ///
    /// # Errors
    /// If the kernel takes nothing at all, now and later; nothing was written then.
    pub fn exchange<'a>(
        &mut self,
        writes: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        reads: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
    ) -> io::Result<Done<'_>> {
        self.results.fill(UNASKED);
        let (mut written, mut read) = (0, 0);
        let Some(ring) = &mut self.ring else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut whole = true;
        for (descriptor, frame) in writes.take(MOST) {
            let octets = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            let descriptor = types::Fd(descriptor.as_raw_fd());
            let entry = opcode::Write::new(descriptor, frame.as_ptr(), octets)
                .rw_flags(libc::RWF_NOWAIT)
                .build();
            whole &= push(ring, &entry.user_data(written as u64));
            written += usize::from(whole);
        }
        for (descriptor, room) in reads.take(MOST) {
            let octets = u32::try_from(room.len()).unwrap_or(u32::MAX);
            let descriptor = types::Fd(descriptor.as_raw_fd());
            let entry = opcode::Read::new(descriptor, room.as_mut_ptr(), octets)
                .rw_flags(libc::RWF_NOWAIT)
                .build();
            whole &= push(ring, &entry.user_data((MOST + read) as u64));
            read += usize::from(whole);
        }
        if let Err(error) = complete(ring, &mut self.results, written + read) {
            // what it was handed but has not begun is forgotten with the ring itself
            self.ring = None;
            return Err(error);
        }
        if self.results.contains(&-libc::EOPNOTSUPP) {
            // a kernel whose TAPs cannot be asked without waiting: it says so of all
            self.ring = None;
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (writes, reads) = self.results.split_at(MOST);
        Ok(Done {
            writes: writes.get(..written).unwrap_or(&[]),
            reads: reads.get(..read).unwrap_or(&[]),
        })
    }
}

/// Leaves a ring that is not in use yet reading and writing, without any of their variants, for good.
///
/// Source: io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`.
fn restrict(ring: &IoUring) -> io::Result<()> {
    let mut left = [opcode::Read::CODE, opcode::Write::CODE].map(Restriction::sqe_op);
    ring.submitter().register_restrictions(&mut left)?;
    ring.submitter().register_enable_rings()
}

/// Puts a request into the queue; there is room for all that one exchange asks for.
#[expect(unsafe_code, reason = "a request that names memory")]
fn push(ring: &mut IoUring, entry: &squeue::Entry) -> bool {
    // SAFETY: memory and descriptor that the entry names are borrowed by the caller of `exchange`
    // until that returns, and it returns only once `complete` has seen the end of every request in
    // the queue, or the kernel has taken none of them and the queue is gone.
    unsafe { ring.submission().push(entry) }.is_ok()
}

/// Hands `count` requests to the kernel and waits for the end of every one.
///
/// # Errors
/// If the kernel took none.
fn complete(ring: &mut IoUring, results: &mut [i32], count: usize) -> io::Result<()> {
    let (mut left, mut has_begun) = (count, false);
    while left > 0 {
        match ring.submit_and_wait(left) {
            Ok(_) => has_begun = true,
            Err(error) if has_begun || is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        for entry in ring.completion() {
            let at = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            if let Some(result) = results.get_mut(at) {
                *result = entry.result();
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}

/// Whether the same call may succeed when it is made again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    fn batch() -> Option<Batch> {
        // a kernel or a container that forbids it has nothing to be tested
        Batch::new().ok()
    }

    #[test]
    fn frames_are_written_and_read_in_order_by_one_call() {
        let Some(mut batch) = batch() else { return };
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        for text in [&b"one"[..], b"three"] {
            far.send(text).unwrap();
        }
        let mut rooms = [[0u8; 16]; 4];
        let writes = [&b"to"[..], b"fro"].into_iter().map(|text| (near.as_fd(), text));
        let reads = rooms.iter_mut().map(|room| (near.as_fd(), &mut room[..]));
        let done = batch.exchange(writes, reads).unwrap();
        assert_eq!(done.writes, [2, 3]);
        assert_eq!(done.reads, [3, 5, -libc::EAGAIN, -libc::EAGAIN]);
        assert_eq!((&rooms[0][..3], &rooms[1][..5]), (&b"one"[..], &b"three"[..]));
        let mut room = [0; 8];
        assert_eq!(far.recv(&mut room).unwrap(), 2);
        assert_eq!(far.recv(&mut room).unwrap(), 3);
    }

    #[test]
    fn a_ring_reads_and_writes_and_does_nothing_else() {
        let Some(mut batch) = batch() else { return };
        let (near, _far) = UnixDatagram::pair().unwrap();
        let ring = batch.ring.as_mut().unwrap();
        let descriptor = types::Fd(near.as_raw_fd());
        for (at, entry) in [
            opcode::Nop::new().build(),
            opcode::Shutdown::new(descriptor, libc::SHUT_RDWR).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build(),
            opcode::Close::new(descriptor).build(),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(push(ring, &entry.user_data(at as u64)));
            complete(ring, &mut batch.results, 1).unwrap();
            assert_eq!(batch.results[at], -libc::EACCES, "{at}");
        }
        // nor is anything more to be made of it
        let refused = ring.submitter().register_eventfd(near.as_raw_fd()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn a_refused_write_says_why_and_stops_no_other() {
        let Some(mut batch) = batch() else { return };
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let (gone, other) = UnixDatagram::pair().unwrap();
        gone.set_nonblocking(true).unwrap();
        drop(other);
        let writes = [(gone.as_fd(), &b"lost"[..]), (near.as_fd(), b"kept")].into_iter();
        let done = batch.exchange(writes, std::iter::empty()).unwrap();
        assert_eq!(done.writes, [-libc::ECONNREFUSED, 4]);
        assert_eq!(done.reads, [] as [i32; 0]);
        let mut room = Vec::new();
        drop(near);
        let _ = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(far))
            .take(4)
            .read_to_end(&mut room);
        assert_eq!(room, b"kept");
    }
}
