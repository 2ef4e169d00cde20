//! JSON to a tree. Scalars are read by `serde_json`; what it does not tell is where they stand.

use std::borrow::Cow;

use super::{Member, SyntaxError, Tree, Value, duplicate_key};
use crate::source::Span;

/// Tables and lists within each other; deeper ones are refused rather than overflow the stack.
const DEPTH: usize = 128;

/// The values of a text, one after another. An error ends it.
pub(crate) fn parse(text: &str) -> (Vec<Tree<'_>>, Option<SyntaxError>) {
    let mut parser = Parser { text, at: 0 };
    let mut trees = Vec::new();
    loop {
        parser.skip_blanks();
        if parser.at == text.len() {
            return (trees, None);
        }
        match parser.value(0) {
            Ok(tree) => trees.push(tree),
            Err(error) => return (trees, Some(error)),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Offset of the next octet.
    at: usize,
}

impl<'t> Parser<'t> {
    fn value(&mut self, depth: usize) -> Result<Tree<'t>, SyntaxError> {
        let start = self.at;
        if depth > DEPTH {
            return Err(self.error(start, "too many tables within each other"));
        }
        let value = match self.peek() {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(_) => self.word()?,
            None => return Err(self.error(start, "the text ends where a value should stand")),
        };
        Ok(Tree { value, span: Span::new(start, self.at) })
    }

    fn table(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        let mut members: Vec<Member<'t>> = Vec::new();
        self.at += 1;
        self.skip_blanks();
        if self.take(b'}') {
            return Ok(Value::Table(members));
        }
        loop {
            self.skip_blanks();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error(start, "a key in double quotes should stand here"));
            }
            let key = self.string()?;
            let key_span = Span::new(start, self.at);
            if let Some(error) = duplicate_key(&members, &key, key_span) {
                return Err(error);
            }
            self.skip_blanks();
            if !self.take(b':') {
                return Err(self.error(self.at, "a colon should stand here"));
            }
            self.skip_blanks();
            let tree = self.value(depth + 1)?;
            members.push(Member { key, key_span, tree });
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(Value::Table(members));
            }
            if !self.take(b',') {
                return Err(self.error(self.at, "a comma or `}` should stand here"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_blanks();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            self.skip_blanks();
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return Err(self.error(self.at, "a comma or `]` should stand here"));
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        let start = self.at;
        let mut escaped = false;
        let rest = self.text.as_bytes().get(start + 1..).unwrap_or(&[]);
        for (index, &octet) in rest.iter().enumerate() {
            match octet {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.at = start + index + 2;
                    let quoted = self.text.get(start..self.at).unwrap_or("");
                    let inner = self.text.get(start + 1..self.at - 1).unwrap_or("");
                    if !inner.contains('\\') && !inner.contains(|at: char| at < ' ') {
                        return Ok(Cow::Borrowed(inner));
                    }
                    let text = serde_json::from_str(quoted).map(Cow::Owned);
                    return text.map_err(|_| self.error(start, "this text is not well formed"));
                }
                _ => {}
            }
        }
        Err(self.error(start, "these quotes are never closed"))
    }

    fn word(&mut self) -> Result<Value<'t>, SyntaxError> {
        let start = self.at;
        let is_word =
            |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
        let rest = self.text.as_bytes().get(start..).unwrap_or(&[]);
        self.at += rest.iter().take_while(|octet| is_word(octet)).count();
        let word = self.text.get(start..self.at).unwrap_or("");
        match serde_json::from_str(word) {
            Ok(serde_json::Value::Null) => Ok(Value::Null),
            Ok(serde_json::Value::Bool(is)) => Ok(Value::Bool(is)),
            Ok(serde_json::Value::Number(_)) => Ok(match word.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Float(word.parse().unwrap_or(f64::NAN)),
            }),
            _ => Err(self.error(start, "a value should stand here")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn error(&self, start: usize, message: &str) -> SyntaxError {
        let end = self.at.max(start + 1).min(self.text.len());
        SyntaxError { message: message.into(), help: None, span: Span::new(start, end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn to_json(tree: &Tree<'_>) -> serde_json::Value {
        match &tree.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(is) => (*is).into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::List(items) => items.iter().map(to_json).collect(),
            Value::Table(members) => serde_json::Value::Object(
                members.iter().map(|at| (at.key.to_string(), to_json(&at.tree))).collect(),
            ),
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e9..1e9_f64).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_json_writes_is_read(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            let (trees, error) = parse(&text);
            prop_assert_eq!(error, None);
            prop_assert_eq!(trees.len(), 1);
            prop_assert_eq!(to_json(&trees[0]), value);
            prop_assert_eq!(trees[0].span, Span::new(0, text.len()));
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\ u0-9a-f\n-]{0,40}"#) {
            let (trees, error) = parse(&text);
            // minus zero is an integer here, and a fraction for serde_json
            prop_assume!(!text.contains("-0"));
            let is_json = serde_json::from_str::<serde_json::Value>(&text);
            if let Ok(value) = is_json {
                // a key twice is an error here only
                prop_assert!(error.is_some() || to_json(&trees[0]) == value);
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let (_, error) = parse(&"[".repeat(100_000));
        assert!(error.is_some());
    }

    #[test]
    fn a_key_twice_is_refused() {
        let (_, error) = parse(r#"{"a": 1, "a": 2}"#);
        assert_eq!(error.unwrap().span, Span::new(9, 12));
    }
}
