//! A text that was read, and places in it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text with its name, shared by everything read from it.
#[derive(Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    text: String,
}

impl Source {
    /// Octets a text may have: offsets are 32 bits wide.
    pub const LIMIT: usize = u32::MAX as usize;

    /// A text of this name: a file's path, or where else it came from.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { name: name.into(), text: text.into() }) }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// Line and column of an offset, both from 1; the column counts characters.
    pub fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let text = self.text();
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = text.get(..end).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&octet| octet == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// Whether both are the same text, read once.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Source({})", self.name())
    }
}

/// A stretch of a text: offsets of its first octet and of the one after its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The octets from `start` to before `end`; what lies beyond [`Source::LIMIT`] is cut off.
    pub fn new(start: usize, end: usize) -> Self {
        let offset = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: offset(start), end: offset(end.max(start)) }
    }

    /// The first octet.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The octet after the last.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// As a range of octets.
    pub fn range(self) -> Range<usize> {
        self.start()..self.end()
    }

    /// The same stretch in a text that this one begins at `offset` of.
    pub(crate) fn shifted(self, offset: usize) -> Self {
        Self::new(self.start() + offset, self.end() + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_count_characters() {
        let source = Source::new("x", "ab\ncdé=1\n");
        assert_eq!(source.line_and_column(0), (1, 1));
        assert_eq!(source.line_and_column(2), (1, 3));
        assert_eq!(source.line_and_column(3), (2, 1));
        assert_eq!(source.line_and_column("ab\ncdé".len()), (2, 4));
        // within the two octets of é, and beyond the end
        assert_eq!(source.line_and_column(6), (2, 3));
        assert_eq!(source.line_and_column(99), (3, 1));
    }
}
