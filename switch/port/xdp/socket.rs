//! A socket of one queue: memory for frames, and the two rings by which the kernel and a worker hand
//! places of it to each other.
//!
//! The kernel takes empty places from one ring, fills them, and hands them over on the other; the
//! worker copies what it finds and gives the place back. Each ring has one side that puts and one
//! that takes, and two counters that only ever grow.
//!
//! Source: Linux `Documentation/networking/af_xdp.rst`, `include/uapi/linux/if_xdp.h`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::tap::checked;
use super::owned;

/// Places for frames, a power of two.
const PLACES: u32 = 2048;
/// Octets of a place, the kernel's headroom among them: a page.
const PLACE_OCTETS: u32 = 4096;
/// Where the kernel's counters say that the rings lie.
const RECEIVE_AT: libc::off_t = 0;
const FILL_AT: libc::off_t = 0x1_0000_0000;

/// Memory shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

impl Mapping {
    /// Maps so many octets of a descriptor, or of nothing.
    #[expect(unsafe_code, reason = "makes a mapping")]
    fn new(octets: usize, from: Option<(RawFd, libc::off_t)>) -> io::Result<Self> {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let (flags, (descriptor, offset)) = match from {
            Some(from) => (libc::MAP_SHARED | libc::MAP_POPULATE, from),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, (-1, 0)),
        };
        // SAFETY: the kernel chooses the address, so that nothing of ours is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), octets, both, flags, descriptor, offset) };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(error.kind(), format!("mmap: {error}")));
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, octets })
    }

    /// The address so many octets from the start, where at least `octets` more are mapped.
    #[expect(unsafe_code, reason = "arithmetic on an address")]
    fn at(&self, offset: usize, octets: usize) -> Option<*mut u8> {
        let fits = offset.checked_add(octets).is_some_and(|end| end <= self.octets);
        // SAFETY: the address is within the mapping, as was just seen.
        fits.then(|| unsafe { self.start.as_ptr().add(offset) })
    }

    /// The counter at an offset.
    #[expect(unsafe_code, reason = "reads memory that the kernel writes")]
    fn counter(&self, offset: usize) -> io::Result<&AtomicU32> {
        let at = self.at(offset, size_of::<AtomicU32>()).filter(|at| at.addr().is_multiple_of(4));
        let at = at.ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: four aligned octets of the mapping, which lives as long as the answer is borrowed;
        // both sides use them as an atomic number only.
        Ok(unsafe { AtomicU32::from_ptr(at.cast()) })
    }
}

impl Drop for Mapping {
    #[expect(unsafe_code, reason = "undoes the mapping")]
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and everything that was borrowed from it has ended.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}

/// Where the parts of a ring lie in its mapping, octets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Offsets {
    producer: u64,
    consumer: u64,
    entries: u64,
    flags: u64,
}

/// Of all four rings a socket may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct AllOffsets {
    receive: Offsets,
    send: Offsets,
    fill: Offsets,
    completion: Offsets,
}

/// A ring of [`PLACES`] entries.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    entries: usize,
}

impl Ring {
    fn new(socket: &OwnedFd, offsets: Offsets, entry: usize, at: libc::off_t) -> io::Result<Self> {
        let octets = |value: u64| usize::try_from(value).map_err(io::Error::other);
        let [producer, consumer, entries] =
            [octets(offsets.producer)?, octets(offsets.consumer)?, octets(offsets.entries)?];
        let whole = entries + PLACES as usize * entry;
        let mapping = Mapping::new(whole, Some((socket.as_raw_fd(), at)))?;
        let ring = Self { mapping, producer, consumer, entries };
        ring.mapping.counter(producer)?;
        ring.mapping.counter(consumer)?;
        Ok(ring)
    }

    /// The entry of a count, of type `T`.
    fn entry<T>(&self, count: u32) -> Option<*mut T> {
        let at = self.entries + (count % PLACES) as usize * size_of::<T>();
        Some(self.mapping.at(at, size_of::<T>())?.cast())
    }
}

/// What the kernel says of a frame: where it begins, and its octets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    octets: u32,
    options: u32,
}

/// A socket that receives from one queue of an interface.
#[derive(Debug)]
pub(super) struct Socket {
    // in the order in which they go: the kernel lets go of the memory with its socket
    descriptor: OwnedFd,
    receive: Ring,
    fill: Ring,
    memory: Mapping,
}

#[expect(unsafe_code, reason = "addresses of mappings")]
// SAFETY: the mappings belong to the socket alone, wherever it goes; nothing is tied to a thread.
unsafe impl Send for Mapping {}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

#[repr(C)]
struct Memory {
    address: u64,
    octets: u64,
    place_octets: u32,
    headroom: u32,
    flags: u32,
    metadata: u32,
}

impl Socket {
    /// A socket of a queue of an interface, ready to be handed frames.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` where there is no such queue.
    #[expect(unsafe_code, reason = "a system call that makes a descriptor")]
    pub(super) fn open(index: libc::c_int, queue: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call names no memory.
        let answer = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
        let descriptor = owned("socket", answer.into())?;
        let memory = Mapping::new((PLACES * PLACE_OCTETS) as usize, None)?;
        let told = Memory {
            address: memory.start.as_ptr().addr() as u64,
            octets: memory.octets as u64,
            place_octets: PLACE_OCTETS,
            headroom: 0,
            flags: 0,
            metadata: 0,
        };
        set(&descriptor, libc::XDP_UMEM_REG, &told, "XDP_UMEM_REG")?;
        set(&descriptor, libc::XDP_UMEM_FILL_RING, &PLACES, "XDP_UMEM_FILL_RING")?;
        // the kernel wants one, though nothing is sent by this socket
        set(&descriptor, libc::XDP_UMEM_COMPLETION_RING, &64u32, "XDP_UMEM_COMPLETION_RING")?;
        set(&descriptor, libc::XDP_RX_RING, &PLACES, "XDP_RX_RING")?;
        let offsets = offsets(&descriptor)?;
        let entry = size_of::<Descriptor>();
        let receive = Ring::new(&descriptor, offsets.receive, entry, RECEIVE_AT)?;
        let fill = Ring::new(&descriptor, offsets.fill, size_of::<u64>(), FILL_AT)?;
        let mut socket = Self { descriptor, receive, fill, memory };
        for place in 0..PLACES {
            socket.give_back(u64::from(place * PLACE_OCTETS))?;
        }
        bind(&socket.descriptor, index, queue)?;
        Ok(socket)
    }

    /// Copies the next frame into `room`, as far as it goes; `None` if there is none.
    #[expect(unsafe_code, reason = "reads memory that the kernel hands over")]
    pub(super) fn receive(&mut self, room: &mut [u8]) -> Option<usize> {
        let ring = &self.receive;
        let producer = ring.mapping.counter(ring.producer).ok()?;
        let consumer = ring.mapping.counter(ring.consumer).ok()?;
        let next = consumer.load(Ordering::Relaxed);
        // Pairs with the kernel's release of what it has put.
        if producer.load(Ordering::Acquire) == next {
            return None;
        }
        // SAFETY: the entry lies within the ring's mapping, and the kernel has put it, and leaves it
        // alone until the count of those taken goes past it.
        let Descriptor { address, octets, .. } =
            unsafe { ring.entry::<Descriptor>(next)?.read_unaligned() };
        // Releases the entry to the kernel.
        consumer.store(next.wrapping_add(1), Ordering::Release);
        let start = usize::try_from(address).ok()?;
        let octets = octets as usize;
        let kept = octets.min(room.len());
        if let Some(frame) = self.memory.at(start, octets) {
            // SAFETY: the frame lies within the memory for frames, and the place belongs to us until
            // it is given back below; `room` is elsewhere, and at least `kept` octets long.
            unsafe { ptr::copy_nonoverlapping(frame, room.as_mut_ptr(), kept) };
        }
        // a ring that has lost count is one that receives nothing more
        self.give_back(address - address % u64::from(PLACE_OCTETS)).ok()?;
        Some(kept)
    }

    /// Gives the kernel a place to fill. There are as many entries as places, so there is room.
    #[expect(unsafe_code, reason = "writes memory that the kernel reads")]
    fn give_back(&mut self, address: u64) -> io::Result<()> {
        let ring = &self.fill;
        let producer = ring.mapping.counter(ring.producer)?;
        let next = producer.load(Ordering::Relaxed);
        let entry = ring.entry::<u64>(next).ok_or(io::ErrorKind::InvalidData)?;
        // SAFETY: the entry lies within the ring's mapping, and is ours to write until the count of
        // those put goes past it: the kernel has as many places at most as the ring has entries.
        unsafe { entry.write(address) };
        // Releases the entry to the kernel.
        producer.store(next.wrapping_add(1), Ordering::Release);
        Ok(())
    }
}

#[expect(unsafe_code, reason = "a system call that names memory")]
fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T, what: &str) -> io::Result<()> {
    let octets = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let value: *const T = value;
    // SAFETY: the value is borrowed across the call, which reads as many octets of it as told.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, value.cast(), octets)
    };
    checked(what, answer)
}

#[expect(unsafe_code, reason = "a system call that names memory")]
fn offsets(socket: &OwnedFd) -> io::Result<AllOffsets> {
    let mut offsets = AllOffsets::default();
    let mut octets = libc::socklen_t::try_from(size_of::<AllOffsets>()).unwrap_or(0);
    let (option, room) = (libc::XDP_MMAP_OFFSETS, (&raw mut offsets).cast());
    // SAFETY: the room is plain integers, as many octets as told, and lives across the call.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, option, room, &raw mut octets)
    };
    checked("XDP_MMAP_OFFSETS", answer)?;
    Ok(offsets)
}

/// Binds to a queue of an interface; without a copy where its driver can.
#[expect(unsafe_code, reason = "a system call that names memory")]
fn bind(socket: &OwnedFd, index: libc::c_int, queue: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or(0),
        sxdp_flags: 0,
        sxdp_ifindex: index.cast_unsigned(),
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let octets = libc::socklen_t::try_from(size_of::<libc::sockaddr_xdp>()).unwrap_or(0);
    let address: *const libc::sockaddr_xdp = &raw const address;
    // SAFETY: the address is that of such a socket and lives across the call.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), address.cast(), octets) };
    checked("bind", answer)
}
