//! The way from an object to one of its fields.

use std::fmt;

/// A way that lives on the stack while something is walked; made whole only when somebody is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'p> {
    /// The object itself.
    Root,
    /// A member of a table.
    Key(&'p Path<'p>, &'p str),
    /// An item of a list, from 0.
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// On to a member.
    pub(crate) fn key(&'p self, key: &'p str) -> Self {
        Self::Key(self, key)
    }

    /// On to an item.
    pub(crate) fn index(&'p self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// The same way, to keep.
    pub(crate) fn to_field(self) -> Field {
        let mut steps = Vec::new();
        let mut at = self;
        loop {
            match at {
                Self::Root => break,
                Self::Key(parent, key) => {
                    steps.push(Step::Key(key.to_owned()));
                    at = *parent;
                }
                Self::Index(parent, index) => {
                    steps.push(Step::Index(index));
                    at = *parent;
                }
            }
        }
        steps.reverse();
        Field(steps)
    }
}

/// One step of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To a member of a table.
    Key(String),
    /// To an item of a list, from 0.
    Index(usize),
}

/// A way to a field, written as `spec.ports[0].port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) Vec<Step>);

impl Field {
    /// The way to a member of the object itself.
    pub(crate) fn of(key: &str) -> Self {
        Self(vec![Step::Key(key.to_owned())])
    }

    /// The same way, and on to a member.
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    /// The same way, and on to an item.
    pub(crate) fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    /// Whether it leads to the same as the other, or further.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// This way first, then the other.
    pub(crate) fn then(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// The same with every index taken out: `spec.ports[].port`.
    pub(crate) fn pattern(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) => push_key(&mut text, key),
                Step::Index(_) => text.push_str("[]"),
            }
        }
        text
    }
}

impl From<Path<'_>> for Field {
    fn from(path: Path<'_>) -> Self {
        path.to_field()
    }
}

fn push_key(text: &mut String, key: &str) {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    if key.is_empty() || !key.bytes().all(is_plain) {
        text.push_str(&format!("[{key:?}]"));
    } else {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(key);
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) => push_key(&mut text, key),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        formatter.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_as_people_write_them() {
        let root = Path::Root;
        let ports = root.key("spec");
        let ports = ports.key("ports");
        let first = ports.index(2);
        assert_eq!(first.key("port").to_field().to_string(), "spec.ports[2].port");
        assert_eq!(first.key("port").to_field().pattern(), "spec.ports[].port");
        let label = Field::of("metadata").key("labels").key("app.kubernetes.io/name");
        assert_eq!(label.to_string(), "metadata.labels[\"app.kubernetes.io/name\"]");
        assert_eq!(Field::default().to_string(), "");
        assert_eq!(Field::of("pod").index(1).then(&label).to_string().len(), 6 + 1 + 41);
    }
}
