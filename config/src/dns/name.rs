//! Domain names, as they are looked up: labels in lower case.

use std::borrow::Borrow;
use std::fmt;

/// Octets of the longest label, and of the longest name with its lengths and its root.
///
/// Source: RFC 1035 §2.3.4.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;

/// A domain name without regard to case, absolute.
///
/// It is kept as on the wire, the root left out: each label behind its length. So the end of a name
/// is the name of its parent, and a look-up needs no copy.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The name of these labels, the most special first; `None` if it would be none.
    pub fn of<'l>(labels: impl IntoIterator<Item = &'l [u8]>) -> Option<Self> {
        let mut octets = Vec::with_capacity(64);
        for label in labels {
            let length = u8::try_from(label.len()).ok()?;
            if label.is_empty() || label.len() > LABEL_MAX {
                return None;
            }
            octets.push(length);
            octets.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        // the root takes one more
        (octets.len() < NAME_MAX).then(|| Self(octets.into()))
    }

    /// A name as people write it, with or without a final dot; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Some(Self::default());
        }
        Self::of(text.split('.').map(str::as_bytes))
    }

    /// This name below another one.
    pub fn below(&self, parent: &Self) -> Option<Self> {
        Self::of(self.labels().chain(parent.labels()))
    }

    /// A label below this name.
    pub fn child(&self, label: &[u8]) -> Option<Self> {
        Self::of([label].into_iter().chain(self.labels()))
    }

    /// Its labels, the most special first.
    pub fn labels(&self) -> Labels<'_> {
        Labels(&self.0)
    }

    /// The labels before `parent`, the most special first; `None` if it is not below it or itself.
    pub(super) fn within<'n>(&'n self, parent: &Self) -> Option<Vec<&'n [u8]>> {
        let mut rest = self.labels();
        let mut before = Vec::with_capacity(8);
        while rest.0.len() > parent.0.len() {
            before.push(rest.next()?);
        }
        (rest.0 == &*parent.0).then_some(before)
    }

    /// Its parents, itself left out, up to the root.
    pub(super) fn parents(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.labels();
        std::iter::from_fn(move || {
            rest.next()?;
            Some(rest.0)
        })
    }

    /// A name that is known to be one: the end of another.
    pub(super) fn from_octets(octets: &[u8]) -> Self {
        Self(octets.into())
    }
}

/// By its octets, so that the end of a name can be looked up.
impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        self.labels().try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The labels of a name that are still to come.
#[derive(Clone, Debug)]
pub struct Labels<'n>(&'n [u8]);

impl<'n> Iterator for Labels<'n> {
    type Item = &'n [u8];

    fn next(&mut self) -> Option<&'n [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_label_by_label() {
        let name = Name::parse("WWW.Example.com").unwrap();
        assert_eq!(name, Name::parse("www.example.COM.").unwrap());
        assert_eq!(name.to_string(), "www.example.com.");
        let parent = Name::parse("example.com").unwrap();
        assert_eq!(name.within(&parent).unwrap(), [b"www"]);
        assert!(parent.within(&parent).unwrap().is_empty());
        assert!(parent.within(&name).is_none());
        // a dot within a label does not make two of it
        let odd = Name::of([&b"www.example"[..], b"com"]).unwrap();
        assert!(odd != name && odd.within(&parent).is_none());
        let inside = Name::parse("x.wexample.com").unwrap();
        assert!(inside.within(&parent).is_none());
    }

    #[test]
    fn what_is_too_long_or_empty_is_no_name() {
        assert_eq!(Name::parse(".").unwrap().to_string(), ".");
        assert!(Name::parse("a..b").is_none());
        assert!(Name::parse(&"a".repeat(64)).is_none());
        assert!(Name::parse(&["a"; 127].join(".")).is_some());
        assert!(Name::parse(&["a"; 128].join(".")).is_none());
    }
}
