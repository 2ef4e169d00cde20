//! Names and ids that controllers would have made up, the same each time.

/// The letters of which Kubernetes makes names: no vowels, nothing that looks like another.
///
/// Source: `k8s.io/apimachinery/pkg/util/rand`.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters at the end of a generated name.
const SUFFIX: usize = 5;
/// Octets of a generated name before its suffix.
///
/// Source: Kubernetes `maxGeneratedNameLength`.
const BASE: usize = 58;

/// An id in the form of a UUID, made of what it identifies.
pub(crate) fn uid(kind: &str, namespace: &str, name: &str) -> String {
    let hash = fnv128([kind, namespace, name]);
    let text = format!("{hash:032x}");
    let part = |from, to| text.get(from..to).unwrap_or("");
    // version 8: made by rules of one's own; variant 8
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// What a ReplicaSet's name ends in.
///
/// Source: Kubernetes `ComputeHash` and `SafeEncodeString`; the hash is of other octets there.
pub(crate) fn template_hash(template: &[u8]) -> String {
    let hash = template
        .iter()
        .fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|octet| letter(usize::from(octet))).collect()
}

/// `base-x2x9z`: different for each index below 27⁵.
pub(crate) fn generated_name(base: &str, index: usize) -> String {
    /// No multiple of 3, so that every index leads elsewhere.
    const STRIDE: u128 = 9_973_543;
    let all = 27_u128.pow(5);
    let start = fnv128([base]) % all;
    let mut at = usize::try_from((start + index as u128 * STRIDE) % all).unwrap_or(0);
    let mut suffix = [' '; SUFFIX];
    for place in &mut suffix {
        *place = letter(at % LETTERS.len());
        at /= LETTERS.len();
    }
    let cut = base.char_indices().map(|(at, _)| at).take_while(|at| *at < BASE - 1).count();
    let base = base.get(..cut).unwrap_or(base);
    format!("{base}-{}", suffix.iter().collect::<String>())
}

fn letter(at: usize) -> char {
    LETTERS.get(at % LETTERS.len()).map_or('x', |letter| char::from(*letter))
}

/// FNV-1a over words and the ends of words.
fn fnv128<const N: usize>(words: [&str; N]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    words
        .iter()
        .flat_map(|word| word.bytes().chain([0xff]))
        .fold(OFFSET, |hash, octet| (hash ^ u128::from(octet)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn generated_names_look_like_kubernetes_and_differ() {
        let names: BTreeSet<_> =
            (0..20_000).map(|at| generated_name("frontend-7d4b9c6f5", at)).collect();
        assert_eq!(names.len(), 20_000);
        for name in &names {
            let (base, suffix) = name.rsplit_once('-').unwrap();
            assert_eq!((base, suffix.len()), ("frontend-7d4b9c6f5", 5));
            assert!(suffix.bytes().all(|octet| LETTERS.contains(&octet)));
        }
        assert_eq!(generated_name(&"a".repeat(80), 3).len(), 63);
        assert_eq!(generated_name("a", 3), generated_name("a", 3));
    }

    #[test]
    fn ids_have_the_form_of_a_uuid_and_tell_words_apart() {
        let id = uid("Pod", "default", "a");
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_ne!(uid("Pod", "ab", "c"), uid("Pod", "a", "bc"));
        assert_eq!(template_hash(b"{}"), template_hash(b"{}"));
        assert_ne!(template_hash(b"{}"), template_hash(b"{ }"));
    }
}
