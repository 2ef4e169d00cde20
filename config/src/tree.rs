//! Values that know where they were written, whichever format they were written in.

mod documents;
mod json;
mod read;
mod toml;
mod yaml;

use std::borrow::Cow;
use std::fmt;

pub(crate) use documents::{Document, Format, documents};
pub(crate) use read::{Reading, Unknown, Wanted, Wrong, read};

use crate::path::{Field, Step};
use crate::source::Span;

/// A value and its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree<'t> {
    pub(crate) value: Value<'t>,
    pub(crate) span: Span,
}

/// What can be written in TOML, YAML and JSON alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value<'t> {
    #[default]
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Tree<'t>>),
    Table(Vec<Member<'t>>),
}

/// A member of a table.
#[derive(Clone, Debug)]
pub(crate) struct Member<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_span: Span,
    pub(crate) tree: Tree<'t>,
}

impl PartialEq for Tree<'_> {
    /// Whether they say the same, wherever they say it.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Member<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.tree == other.tree
    }
}

/// What is not even a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) span: Span,
}

impl<'t> Tree<'t> {
    /// The member of this name, if this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Member<'t>> {
        let Value::Table(members) = &self.value else { return None };
        members.iter().find(|member| member.key == key)
    }

    /// The text of the member of this name.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.tree.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where to point to for a field: its value if that is short, else its key; and if the field is
    /// not written, whatever is written of the way to it.
    pub(crate) fn place(&self, field: &Field) -> Span {
        let mut tree = self;
        let mut place = self.span;
        for step in &field.0 {
            match (step, &tree.value) {
                (Step::Key(key), _) => {
                    let Some(member) = tree.get(key) else { break };
                    tree = &member.tree;
                    place = if tree.is_compound() || tree.span.range().is_empty() {
                        member.key_span
                    } else {
                        tree.span
                    };
                }
                (Step::Index(index), Value::List(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    tree = item;
                    place = item.span;
                }
                (Step::Index(_), _) => break,
            }
        }
        place
    }

    /// Takes out the value at the end of the way, so that the rest can be read without it.
    pub(crate) fn remove(&mut self, field: &Field) -> bool {
        let Some((last, way)) = field.0.split_last() else { return false };
        let mut tree = self;
        for step in way {
            let next = match (step, &mut tree.value) {
                (Step::Key(key), Value::Table(members)) => members
                    .iter_mut()
                    .find(|member| member.key == *key)
                    .map(|member| &mut member.tree),
                (Step::Index(index), Value::List(items)) => items.get_mut(*index),
                _ => None,
            };
            let Some(next) = next else { return false };
            tree = next;
        }
        match (last, &mut tree.value) {
            (Step::Key(key), Value::Table(members)) => {
                let before = members.len();
                members.retain(|member| member.key != *key);
                members.len() < before
            }
            (Step::Index(index), Value::List(items)) if *index < items.len() => {
                // the others keep their numbers
                items.get_mut(*index).is_some_and(|item| {
                    let was = std::mem::take(&mut item.value);
                    was != Value::Null
                })
            }
            _ => false,
        }
    }

    fn is_compound(&self) -> bool {
        matches!(self.value, Value::List(_) | Value::Table(_))
    }
}

impl fmt::Display for Value<'_> {
    /// As messages say it: `the number 8080`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => formatter.write_str("nothing"),
            Self::Bool(is) => write!(formatter, "`{is}`"),
            Self::Integer(number) => write!(formatter, "the number {number}"),
            Self::Float(number) => write!(formatter, "the number {number}"),
            Self::Text(text) => write!(formatter, "the text {text:?}"),
            Self::List(_) => formatter.write_str("a list"),
            Self::Table(_) => formatter.write_str("a table"),
        }
    }
}

/// Refuses a key that a table has already, pointing to the second.
fn duplicate_key(members: &[Member<'_>], key: &str, span: Span) -> Option<SyntaxError> {
    members.iter().any(|member| member.key == key).then(|| SyntaxError {
        message: format!("the key `{key}` stands here for the second time"),
        help: Some("remove one of the two".into()),
        span,
    })
}

/// A whole lab file.
pub(crate) fn parse_toml(text: &str) -> (Tree<'_>, Vec<SyntaxError>) {
    toml::parse(text)
}
