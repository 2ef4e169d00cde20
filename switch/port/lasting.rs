//! Memory that outlives the process: a file in a file system in memory, mapped for good.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU64;

use kswitch_tables::slots::Slot;

use super::pages::enlarge;

/// A mapped file, given away piece by piece from its beginning.
///
/// It is never unmapped, so the pieces live as long as the process. Each octet belongs to one piece
/// at most.
#[derive(Debug)]
pub struct Lasting {
    base: NonNull<u8>,
    octets: usize,
    /// Octets given away already.
    taken: usize,
}

impl Lasting {
    /// Maps the first octets of a file, of which as many must be there: what is written is seen by
    /// whoever maps the file later.
    ///
    /// The file must not be made shorter while this process lives.
    ///
    /// # Errors
    /// What the kernel says; `UnexpectedEof` if the file is too short.
    #[expect(unsafe_code, reason = "mmap")]
    pub fn map(file: &File, octets: usize) -> io::Result<Self> {
        let there = file.metadata()?.len();
        if octets == 0 || u64::try_from(octets).is_ok_and(|octets| there < octets) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(null_mut(), octets, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { base, octets, taken: 0 })
    }

    /// Has all of it cleared and entered in the page tables now, rather than page by page under the
    /// first frames that touch it: to clear one of 2 MB takes as long as hundreds of frames.
    ///
    /// Large pages are asked for first: unasked, the kernel gives only those that lie free, which are
    /// none where its cache of files has filled the memory.
    ///
    /// A kernel older than this advice (5.14) leaves it as it is.
    ///
    /// Source: `madvise(2)`, `MADV_POPULATE_WRITE`.
    ///
    /// # Errors
    /// There is no memory behind it.
    #[expect(unsafe_code, reason = "madvise")]
    pub fn populate(&self) -> io::Result<()> {
        let start = self.base.as_ptr().addr();
        enlarge(start..start + self.octets);
        // SAFETY: the range is mapped for good, and what is in it stays as it is.
        let code = unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.octets, libc::MADV_POPULATE_WRITE)
        };
        match io::Error::last_os_error() {
            error if code != 0 && error.raw_os_error() != Some(libc::EINVAL) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next so many words; `None` if there are not as many.
    pub fn words(&mut self, count: usize) -> Option<&'static [AtomicU64]> {
        self.take(count)
    }

    /// The next so many slots; `None` if there are not as many.
    pub fn slots<const KEY: usize, const VALUE: usize>(
        &mut self,
        count: usize,
    ) -> Option<&'static [Slot<KEY, VALUE>]> {
        self.take(count)
    }

    #[expect(unsafe_code, reason = "a slice of mapped memory")]
    fn take<T: Plain>(&mut self, count: usize) -> Option<&'static [T]> {
        let begin = self.taken.checked_next_multiple_of(align_of::<T>())?;
        let end = begin.checked_add(count.checked_mul(size_of::<T>())?)?;
        if end > self.octets {
            return None;
        }
        self.taken = end;
        // SAFETY: the octets from `begin` to `end` are mapped for good, begin at a multiple of the
        // alignment (pages are aligned to more), and are given away here alone; whatever is in them
        // is a value of `T`, which nobody writes but by atomic operations.
        Some(unsafe {
            std::slice::from_raw_parts(self.base.add(begin).cast::<T>().as_ptr(), count)
        })
    }
}

/// Types of which any bits are a value, and which any process may change at any time.
///
/// # Safety
/// They consist of atomic integers alone, laid out as in C.
#[expect(unsafe_code, reason = "a promise about layouts")]
unsafe trait Plain: 'static {}

// SAFETY: an atomic integer.
#[expect(unsafe_code, reason = "a promise about layouts")]
unsafe impl Plain for AtomicU64 {}

// SAFETY: `repr(C)`, and atomic integers alone, as its documentation promises.
#[expect(unsafe_code, reason = "a promise about layouts")]
unsafe impl<const KEY: usize, const VALUE: usize> Plain for Slot<KEY, VALUE> {}

// SAFETY: the mapping belongs to the whole process.
#[expect(unsafe_code, reason = "a pointer to memory of the whole process")]
unsafe impl Send for Lasting {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn what_is_written_is_there_for_the_next_to_map_it() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mut first = Lasting::map(&file, 4096).unwrap();
        first.words(3).unwrap()[2].store(7, Relaxed);
        assert_eq!(Lasting::map(&file, 4096).unwrap().words(3).unwrap()[2].load(Relaxed), 7);
    }

    #[test]
    fn memory_is_there_before_it_is_touched_and_keeps_what_it_had() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut memory = Lasting::map(&file, 1 << 20).unwrap();
        memory.words(2).unwrap()[1].store(5, Relaxed);
        memory.populate().unwrap();
        // proc_pid_smaps(5): what the process has of each mapping
        let address = format!("{:x}-", memory.base.as_ptr().addr());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = smaps.lines().skip_while(|line| !line.starts_with(&address));
        let resident = mapping.skip(1).find(|line| line.starts_with("Rss:")).unwrap();
        assert_eq!(resident.split_whitespace().nth(1), Some("1024"));
        assert_eq!(Lasting::map(&file, 4096).unwrap().words(2).unwrap()[1].load(Relaxed), 5);
    }

    #[test]
    fn pieces_are_aligned_apart_and_no_more_than_there_are() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(Lasting::map(&file, 4097).is_err());
        let mut memory = Lasting::map(&file, 4096).unwrap();
        let words = memory.words(1).unwrap().as_ptr() as usize;
        let slots = memory.slots::<2, 4>(2).unwrap().as_ptr() as usize;
        assert_eq!(slots - words, 64);
        assert!(memory.slots::<2, 4>(62).is_none());
        assert!(memory.slots::<2, 4>(61).is_some());
        assert!(memory.words(1).is_none());
    }
}
