//! A TAP device with virtio headers: checksums and segmentation are left to whoever needs them.
//!
//! Offloads are worth five times in TCP throughput, so they are on wherever the kernel has them:
//! its senders hand over frames of up to 64 KB, and the virtio header before each frame says what
//! is still to be done.
//!
//! The only system calls that need `unsafe` here are the `ioctl`s that set a device up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use super::{Sent, VNET_HEADER};

/// The device that makes TAPs.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// What this switch asks of every kernel: frames may leave the checksum and TCP segmentation open.
const OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

/// UDP segmentation, which TAPs have since Linux 6.2.
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Most queues that one TAP may have.
///
/// Source: `MAX_TAP_QUEUES` of the Linux TUN driver.
pub const MAX_QUEUES: usize = 256;

/// A TAP just opened, to be taken apart into what workers own and what they share.
#[derive(Debug)]
pub struct Tap {
    first: Arc<File>,
    others: Vec<Arc<File>>,
}

impl Tap {
    /// Makes TAP `name` with this many queues in the calling thread's network namespace.
    ///
    /// The descriptors work from any thread afterwards, whatever its namespace.
    ///
    /// # Errors
    /// What the kernel says, with the name of the call that it refused; `InvalidInput` for a name
    /// or a number of queues that no TAP can have.
    pub fn open(name: &str, queues: usize) -> io::Result<Self> {
        if !(1..=MAX_QUEUES).contains(&queues) {
            let range = format!("a TAP has 1 to {MAX_QUEUES} queues, not {queues}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, range));
        }
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if queues > 1 {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        let open = || {
            let descriptor = open_clone_device()?;
            attach(&descriptor, name, flags)?;
            Ok(Arc::new(descriptor))
        };
        let first = open()?;
        set_header(&first)?;
        set_offloads(&first)?;
        let others = (1..queues).map(|_| open()).collect::<io::Result<_>>()?;
        Ok(Self { first, others })
    }

    /// Lets the device outlive its descriptors; it goes with its namespace then.
    ///
    /// Closing the last descriptor of a device that does not takes the kernel some 20 ms, one
    /// device at a time; a namespace that ends takes hundreds with it in one go.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn outlive_descriptors(&self) -> io::Result<()> {
        set_persistent(&*self.first)
    }

    /// The receiving queues, one worker each, and the sender, for all.
    pub fn into_parts(self) -> (Vec<Queue>, Sender) {
        let Self { first, others } = self;
        let descriptor = Arc::clone(&first);
        let queues: Arc<[_]> = std::iter::once(first).chain(others).collect();
        let receivers = queues.iter().cloned().map(|descriptor| Queue { descriptor }).collect();
        (receivers, Sender { descriptor, queues })
    }
}

/// The receiving side of one queue, owned by one worker.
#[derive(Debug)]
pub struct Queue {
    descriptor: Arc<File>,
}

/// Both sides of another descriptor that takes and gives whole frames behind virtio headers.
pub(super) fn sides(descriptor: File) -> (Queue, Sender) {
    let descriptor = Arc::new(descriptor);
    let queues = Arc::from([Arc::clone(&descriptor)]);
    (Queue { descriptor: Arc::clone(&descriptor) }, Sender { descriptor, queues })
}

impl Queue {
    /// Receives one frame with its header; answers the octets written.
    ///
    /// A frame that is longer than the buffer is cut, so the buffer should have
    /// [`BUFFER_OCTETS`](super::BUFFER_OCTETS).
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none for now; anything else means that the
    /// device is gone.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // no cancellation point of libc's, which takes as long as the rest of a call's way into the kernel
        Ok(rustix::io::read(&*self.descriptor, buffer)?)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// The sending side of a TAP.
///
/// **Sharing**: any thread may send at any time; the kernel takes no lock for it.
#[derive(Clone, Debug)]
pub struct Sender {
    descriptor: Arc<File>,
    queues: Arc<[Arc<File>]>,
}

impl Sender {
    /// The same TAP, entered through another of its queues (counted from zero, round again past
    /// the last).
    ///
    /// The kernel hands the frames of a flow to the queue through which the flow's last frame
    /// came in. A worker that sends through a queue of its own therefore receives the replies.
    #[must_use]
    pub fn through(&self, queue: usize) -> Self {
        let descriptor = self.queues.get(queue % self.queues.len().max(1));
        let descriptor = Arc::clone(descriptor.unwrap_or(&self.descriptor));
        Self { descriptor, queues: Arc::clone(&self.queues) }
    }

    /// Whether frames may leave checksums and segmentation to the receiver.
    pub const fn takes_offloads(&self) -> bool {
        true
    }

    /// Sends one frame with its header.
    ///
    /// **Cost**: one system call, inside which the receiver's protocol stack runs.
    pub fn send(&self, buffer: &[u8]) -> Sent {
        write(&self.descriptor, buffer)
    }

    /// As [`Self::send`], through the queue of this worker (see [`Self::through`]).
    pub fn send_by(&self, worker: usize, buffer: &[u8]) -> Sent {
        write(self.queue(worker), buffer)
    }

    /// The descriptor of a worker's queue.
    pub fn descriptor_of(&self, worker: usize) -> BorrowedFd<'_> {
        self.queue(worker).as_fd()
    }

    fn queue(&self, number: usize) -> &File {
        let queue = self.queues.get(number);
        // a division takes longer than all else here
        let queue = queue.or_else(|| self.queues.get(number % self.queues.len().max(1)));
        queue.unwrap_or(&self.descriptor)
    }
}

fn write(descriptor: &File, buffer: &[u8]) -> Sent {
    // a TAP takes a frame whole or not at all
    match rustix::io::write(descriptor, buffer) {
        Ok(_) => Sent::Done,
        Err(error) => fate(&error.into(), buffer),
    }
}

/// What a refused write says about the frame.
///
/// `EIO` comes from a device that is administratively down, too: the frame is lost, but the device
/// may come back.
pub(super) fn fate(error: &io::Error, buffer: &[u8]) -> Sent {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Sent::Busy,
        // the kernel knows no such offload, e.g. UDP segmentation before Linux 6.2
        Some(libc::EINVAL) if asks_for_work(buffer) => Sent::Unfinished,
        _ => Sent::Gone,
    }
}

/// Whether the header before a frame leaves anything to its receiver.
///
/// Source: virtio 1.2 §5.1.6, `VIRTIO_NET_HDR_F_NEEDS_CSUM` and `VIRTIO_NET_HDR_GSO_NONE`.
pub(super) fn asks_for_work(buffer: &[u8]) -> bool {
    const NEEDS_CSUM: u8 = 1;
    const GSO_NONE: u8 = 0;
    matches!(buffer, [flags, gso, ..] if flags & NEEDS_CSUM != 0 || *gso != GSO_NONE)
}

fn open_clone_device() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|error| named(CLONE_DEVICE, &error))
}

/// `IFF_UP` as requests have it.
const UP: libc::c_short = 1;
const _: () = assert!(UP as libc::c_int == libc::IFF_UP);

/// A request about a device.
#[expect(unsafe_code, reason = "plain integers of value zero")]
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain integers, of which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // the last octet stays zero and ends the name
    if name.is_empty() || name.len() >= request.ifr_name.len() || !name.is_ascii() {
        let text = format!("no interface can be named {name:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    Ok(request)
}

/// Ties a descriptor to device `name`, which the first attachment makes.
#[expect(unsafe_code, reason = "ioctl with a pointer")]
#[expect(clippy::cast_possible_truncation, reason = "flags are 16 bits wide in the request")]
fn attach(descriptor: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request is an initialised `ifreq` that lives across the call, as TUNSETIFF wants.
    let answer = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    checked("TUNSETIFF", answer)
}

/// Settles the size and the byte order of the virtio header: 10 octets, little endian.
#[expect(unsafe_code, reason = "ioctls with a pointer")]
fn set_header(descriptor: &File) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "10")]
    #[expect(clippy::cast_possible_wrap, reason = "10")]
    let octets = VNET_HEADER as libc::c_int;
    // SAFETY: the argument points to an int that lives across the call, as TUNSETVNETHDRSZ wants.
    let answer =
        unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const octets) };
    checked("TUNSETVNETHDRSZ", answer)?;
    let little_endian: libc::c_int = 1;
    // SAFETY: the argument points to an int that lives across the call, as TUNSETVNETLE wants.
    let answer = unsafe {
        libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETVNETLE, &raw const little_endian)
    };
    checked("TUNSETVNETLE", answer)
}

/// Tells the kernel what its senders may leave open.
#[expect(unsafe_code, reason = "ioctl")]
fn set_offloads(descriptor: &File) -> io::Result<()> {
    let offer = |offloads: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
        let answer = unsafe {
            libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads))
        };
        checked("TUNSETOFFLOAD", answer)
    };
    offer(OFFLOADS | UDP_OFFLOADS).or_else(|_| offer(OFFLOADS))
}

/// Brings a device of the calling thread's namespace up.
///
/// # Errors
/// What the kernel says.
#[expect(unsafe_code, reason = "ioctls with a pointer")]
pub(super) fn raise(name: &str) -> io::Result<()> {
    let any = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: the request is an initialised `ifreq` that lives across the call, as SIOCSIFFLAGS wants.
    let answer = unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    checked("SIOCSIFFLAGS", answer)
}

/// Lets a device outlive its descriptors.
#[expect(unsafe_code, reason = "ioctl")]
pub(super) fn set_persistent(descriptor: &impl AsRawFd) -> io::Result<()> {
    let persistent: libc::c_ulong = 1;
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory of ours.
    let answer = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETPERSIST, persistent) };
    checked("TUNSETPERSIST", answer)
}

pub(super) fn checked(call: &str, answer: libc::c_int) -> io::Result<()> {
    if answer < 0 { Err(named(call, &io::Error::last_os_error())) } else { Ok(()) }
}

/// The error with the name of the call in front; its kind stays.
fn named(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_queues_that_cannot_be_are_refused_before_the_kernel_is_asked() {
        for queues in [0, MAX_QUEUES + 1] {
            let error = Tap::open("eth0", queues).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let nowhere = File::open("/dev/null").unwrap();
        for name in ["", "sixteen-octets-x", "ünïcode"] {
            let error = attach(&nowhere, name, libc::IFF_TAP).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_refused_write_tells_full_from_gone_from_unfinished() {
        let plain = [0; VNET_HEADER];
        let checksum = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0];
        let segmented = [0, 1, 54, 0, 0xb4, 5, 0, 0, 0, 0];
        let validated = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let cases = [
            (libc::EAGAIN, plain, Sent::Busy),
            (libc::ENOBUFS, plain, Sent::Busy),
            (libc::EIO, plain, Sent::Gone),
            (libc::EBADFD, segmented, Sent::Gone),
            (libc::ENODEV, plain, Sent::Gone),
            (libc::EINVAL, plain, Sent::Gone),
            (libc::EINVAL, validated, Sent::Gone),
            (libc::EINVAL, checksum, Sent::Unfinished),
            (libc::EINVAL, segmented, Sent::Unfinished),
        ];
        for (code, header, expect) in cases {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(fate(&error, &header), expect, "{error} {header:?}");
        }
    }
}
