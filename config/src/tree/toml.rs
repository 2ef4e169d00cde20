//! TOML to a tree.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Member, SyntaxError, Tree, Value};
use crate::source::Span;

/// Everything that could be read of a text, and all that is wrong with it.
pub(crate) fn parse(text: &str) -> (Tree<'_>, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors.into_iter().map(|error| SyntaxError {
        message: error.message().lines().collect::<Vec<_>>().join("; "),
        help: None,
        span: error.span().map_or(Span::default(), |span| Span::new(span.start, span.end)),
    });
    let span = span_of(&table);
    (Tree { value: self::table(table.into_inner()), span }, errors.collect())
}

fn span_of<T>(spanned: &Spanned<T>) -> Span {
    let span = spanned.span();
    Span::new(span.start, span.end)
}

fn table(table: DeTable<'_>) -> Value<'_> {
    let members = table.into_iter().map(|(key, value)| Member {
        key_span: span_of(&key),
        key: key.into_inner(),
        tree: tree(value),
    });
    Value::Table(members.collect())
}

fn tree(spanned: Spanned<DeValue<'_>>) -> Tree<'_> {
    let span = span_of(&spanned);
    let value = match spanned.into_inner() {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        },
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(is) => Value::Bool(is),
        DeValue::Datetime(time) => Value::Text(Cow::Owned(time.to_string())),
        DeValue::Array(items) => Value::List(items.into_iter().map(tree).collect()),
        DeValue::Table(members) => table(members),
    };
    Tree { value, span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Field;

    #[test]
    fn values_know_their_places() {
        let text = "[[pod]]\nmetadata = { name = \"a\" }\nspec.nodeName = \"n\"\n";
        let (tree, errors) = parse(text);
        assert_eq!(errors, []);
        let pod = Field::of("pod").index(0);
        let at = |field: &Field| &text[tree.place(field).range()];
        assert_eq!(at(&pod.clone().key("spec").key("nodeName")), "\"n\"");
        assert_eq!(at(&pod.clone().key("metadata").key("name")), "\"a\"");
        assert_eq!(at(&pod.clone().key("metadata").key("labels")), "metadata");
        assert_eq!(at(&pod.clone().key("status")), "[[pod]]");
    }

    #[test]
    fn every_error_is_told() {
        let (_, errors) = parse("a = \nb = 1\nb = 2\nc = [1\n");
        assert!(errors.len() >= 2, "{errors:?}");
    }
}
