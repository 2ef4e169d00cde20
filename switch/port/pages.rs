//! Large pages for large tables.
//!
//! A table of a million flows is some hundred megabytes read at random: with pages of 4 KB nearly
//! every read waits for the page tables first. The kernel gives pages of 2 MB to memory for which it
//! is asked to.

use std::ops::Range;

/// Octets of a large page.
const LARGE: usize = 2 << 20;

/// Asks for large pages at these addresses, as far as they lie in whole ones. A kernel that has
/// none to give leaves everything as it is.
///
/// Source: `madvise(2)`, `MADV_HUGEPAGE`.
#[expect(unsafe_code, reason = "madvise names memory by address")]
pub fn enlarge(addresses: Range<usize>) {
    let start = addresses.start.next_multiple_of(LARGE);
    let end = addresses.end - addresses.end % LARGE;
    if start >= end {
        return;
    }
    let (at, octets) = (std::ptr::without_provenance_mut(start), end - start);
    // SAFETY: MADV_HUGEPAGE changes neither what is at an address nor whether it may be used, only
    // the size of the pages behind it; addresses that are not ours are refused.
    let _ = unsafe { libc::madvise(at, octets, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_it_was_whatever_is_asked_for_it() {
        let mut memory = vec![7u8; 3 * LARGE];
        let start = memory.as_ptr().addr();
        enlarge(start..start + memory.len());
        assert!(memory.iter().all(|octet| *octet == 7));
        memory.fill(9);
        enlarge(start..start + memory.len());
        enlarge(start..start);
        // nothing of ours
        enlarge(0..LARGE);
        assert!(memory.iter().all(|octet| *octet == 9));
    }
}
