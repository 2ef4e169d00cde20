//! `MurmurHash3` x64 128: a hash with the same result everywhere and always.
//!
//! For what must agree between runs and machines. Tables whose keys come from whoever sends frames
//! hash with [`crate::hash`] instead, which cannot be aimed at.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// Both halves of the hash of `data`.
///
/// Source: A. Appleby, `MurmurHash3_x64_128`, public domain.
pub fn murmur3_x64_128(data: &[u8], seed: u32) -> (u64, u64) {
    let (mut h1, mut h2) = (u64::from(seed), u64::from(seed));
    let (blocks, tail) = data.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(*block);
        h1 ^= scramble1(k1);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= scramble2(k2);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut last = [0; 16];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    // octets that are not there count as zero, and zero scrambles to zero
    let (k1, k2) = halves(last);
    h1 ^= scramble1(k1);
    h2 ^= scramble2(k2);

    let length = data.len() as u64;
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish(h1);
    h2 = finish(h2);
    h1 = h1.wrapping_add(h2);
    (h1, h2.wrapping_add(h1))
}

const fn halves(block: [u8; 16]) -> (u64, u64) {
    let bits = u128::from_le_bytes(block);
    #[expect(clippy::cast_possible_truncation, reason = "each half is what is asked for")]
    (bits as u64, (bits >> 64) as u64)
}

const fn scramble1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

const fn scramble2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

const fn finish(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_string_without_a_seed_is_zero() {
        assert_eq!(murmur3_x64_128(b"", 0), (0, 0));
    }

    /// Values that the reference implementation gives.
    #[test]
    fn known_values() {
        assert_eq!(murmur3_x64_128(b"hello", 0), (0xcbd8_a7b3_41bd_9b02, 0x5b1e_906a_48ae_1d19));
        assert_eq!(
            murmur3_x64_128(b"hello, world", 0),
            (0x342f_ac62_3a5e_bc8e, 0x4cdc_bc07_9642_414d)
        );
        assert_eq!(
            murmur3_x64_128(b"The quick brown fox jumps over the lazy dog.", 0),
            (0xcd99_481f_9ee9_02c9, 0x695d_a1a3_8987_b6e7)
        );
    }

    #[test]
    fn every_octet_and_the_seed_count() {
        let data: Vec<u8> = (0..40).collect();
        let whole = murmur3_x64_128(&data, 7);
        assert_ne!(whole, murmur3_x64_128(&data, 8));
        for at in 0..data.len() {
            let mut other = data.clone();
            other[at] ^= 1;
            assert_ne!(murmur3_x64_128(&other, 7), whole, "octet {at}");
        }
    }
}
