//! Errors of reading, in words for the person who wrote the file.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use super::Wrong;
use crate::path::Field;
use crate::source::Span;
use crate::tree::{Format, Tree, Value};

/// An error on its way up to the first value that knows where it stands.
#[derive(Debug)]
pub(super) struct Mismatch {
    message: String,
    help: Option<String>,
    place: Option<(Field, Span)>,
}

impl Mismatch {
    pub(super) fn new(message: String, help: Option<String>) -> Self {
        Self { message, help, place: None }
    }

    /// The same, here, unless it is known to be somewhere deeper.
    pub(super) fn at(mut self, place: impl FnOnce() -> (Field, Span)) -> Self {
        self.place.get_or_insert_with(place);
        self
    }

    /// The same place with another text.
    pub(super) fn told_as(self, message: String, help: &str) -> Self {
        Self { message, help: Some(help.to_owned()), place: self.place }
    }
}

impl From<Mismatch> for Wrong {
    fn from(mismatch: Mismatch) -> Self {
        let (field, span) = mismatch.place.unwrap_or_default();
        Self { message: mismatch.message, help: mismatch.help, field, span }
    }
}

impl Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string(), None)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {unexpected}", in_words(expected)), None)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {unexpected}", in_words(expected)), None)
    }
}

/// What Kubernetes' own types call themselves, as people would say it.
fn in_words(expected: &dyn Expected) -> String {
    let name = expected.to_string();
    match name.as_str() {
        "IntOrString" => "a number or a text".into(),
        "Quantity" => "a quantity".into(),
        _ => name,
    }
}

/// What a field asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Text,
    Number,
    Bool,
    List,
    Table(&'static [&'static str]),
}

impl Wanted {
    fn in_words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a whole number",
            Self::Bool => "`true` or `false`",
            Self::List => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The error of a value that is something else.
    pub(super) fn mismatch(self, tree: &Tree<'_>, text: &str, format: Format) -> Mismatch {
        let (message, help) = self.told(tree, text, format);
        Mismatch::new(message, Some(help).filter(|help| !help.is_empty()))
    }

    /// What is wrong with a value that is something else, and what would be right, if that is known.
    pub(crate) fn told(self, tree: &Tree<'_>, text: &str, format: Format) -> (String, String) {
        let written = text.get(tree.span.range()).unwrap_or("");
        let help = match (self, &tree.value) {
            (Self::Text, Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
                Some(format!("put it in quotes: \"{written}\""))
            }
            (Self::Number, Value::Text(word)) if word.parse::<i64>().is_ok() => {
                Some(format!("write it without quotes: {word}"))
            }
            (Self::Bool, Value::Text(word)) => match word.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some("write `true`, without quotes".into()),
                "false" | "no" | "off" | "n" => Some("write `false`, without quotes".into()),
                _ => Some("write `true` or `false`, without quotes".into()),
            },
            (Self::List, Value::Table(_)) if format == Format::Yaml => {
                Some("begin each item with `- `".into())
            }
            (Self::List, _) => Some("put it in brackets: [ … ]".into()),
            (Self::Table(fields), _) if !fields.is_empty() => {
                let fields = fields.iter().copied();
                Some(format!("its fields are {}", crate::suggest::listed(fields, "and")))
            }
            _ => None,
        };
        let message = format!("expected {}, found {}", self.in_words(), tree.value);
        (message, help.unwrap_or_default())
    }
}
