//! What somebody may have meant.

/// Likeness, of 1, from which a word counts as meant.
const LIKE: f64 = 0.75;

/// The candidate that looks most like `word`, if any looks like it at all.
pub(crate) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = bare(word);
    candidates
        .into_iter()
        .map(|candidate| (likeness(&word, &bare(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Words in back quotes, the last after an `and` or whatever `before_last` is; the rest is counted.
pub(crate) fn listed<'c>(words: impl IntoIterator<Item = &'c str>, before_last: &str) -> String {
    /// As many as can be read at a glance.
    const SHOWN: usize = 12;
    let words: Vec<_> = words.into_iter().collect();
    let mut quoted: Vec<_> = words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect();
    if words.len() > SHOWN {
        quoted.push(format!("{} more", words.len() - SHOWN));
    }
    match quoted.pop() {
        None => String::new(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} {before_last} {last}", quoted.join(", ")),
    }
}

/// Without what people get wrong most: case and the way words are joined.
fn bare(word: &str) -> String {
    let is_letter = |letter: &char| !matches!(letter, '-' | '_' | '.' | ' ');
    word.chars().filter(is_letter).flat_map(char::to_lowercase).collect()
}

fn likeness(word: &str, candidate: &str) -> f64 {
    let plural = |a: &str, b: &str| a.strip_suffix('s') == Some(b);
    if plural(word, candidate) || plural(candidate, word) {
        return 0.99;
    }
    strsim::normalized_damerau_levenshtein(word, candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        let keys = ["pod-cidrs", "service-cidrs", "node-cidrs", "mtu", "workers"];
        assert_eq!(closest("pod-cidr", keys), Some("pod-cidrs"));
        assert_eq!(closest("podCIDRs", keys), Some("pod-cidrs"));
        assert_eq!(closest("worker", keys), Some("workers"));
        assert_eq!(closest("wokrers", keys), Some("workers"));
        assert_eq!(closest("colour", keys), None);
        assert_eq!(closest("", keys), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(listed(["a"], "or"), "`a`");
        assert_eq!(listed(["a", "b", "c"], "or"), "`a`, `b` or `c`");
        assert_eq!(listed([], "or"), "");
        let many: Vec<_> = (0..20).map(|at| at.to_string()).collect();
        assert!(listed(many.iter().map(String::as_str), "and").ends_with("`11` and 8 more"));
    }
}
