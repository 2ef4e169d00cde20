//! YAML to a tree: the events of `saphyr-parser`, as Kubernetes' own tools understand them.
//!
//! Scalars follow the core schema of YAML 1.2, with the octal numbers of YAML 1.1 (`0644`), which
//! manifests are full of. Anchors, aliases and merge keys are resolved.

use std::borrow::Cow;
use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Member, SyntaxError, Tree, Value, duplicate_key};
use crate::source::Span;

/// Tables and lists within each other; deeper ones are refused rather than overflow the stack.
const DEPTH: usize = 128;
/// Values that aliases of one document may stand for: a few lines of aliases of aliases could
/// otherwise fill the memory.
const ALIASED: usize = 100_000;

/// The documents of a text that begins at `base` of its source. An error ends it.
pub(crate) fn parse(text: &str, base: usize) -> (Vec<Tree<'_>>, Option<SyntaxError>) {
    let offsets = Offsets::of(text, base);
    let mut builder = Builder { offsets, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let result = match event {
            Ok((event, span)) => {
                let span = builder.offsets.span(span.start, span.end);
                builder.event(event, span)
            }
            Err(error) => {
                let at = builder.offsets.offset(*error.marker());
                Err(syntax_error(text, error.info(), at - base, base))
            }
        };
        if let Err(error) = result {
            return (builder.documents, Some(error));
        }
    }
    (builder.documents, None)
}

fn syntax_error(text: &str, message: &str, at: usize, base: usize) -> SyntaxError {
    // what follows the last line is an error about that line
    let at = at.min(text.trim_end().len());
    let line_start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    let indent: &str = line.get(..line.len() - line.trim_start().len()).unwrap_or("");
    let help = if indent.contains('\t') {
        "indent with blanks: YAML does not allow tabs there"
    } else {
        "compare the indentation and quotes of this line with those of the lines before it"
    };
    SyntaxError {
        message: format!("not well-formed YAML: {message}"),
        help: Some(help.into()),
        span: Span::new(at, (at + 1).min(text.len())).shifted(base),
    }
}

/// From the parser's positions, which count characters, to octets.
#[derive(Default)]
struct Offsets {
    /// By character; empty where every character is one octet.
    by_character: Vec<u32>,
    /// Of the first character.
    base: usize,
}

impl Offsets {
    fn of(text: &str, base: usize) -> Self {
        if text.is_ascii() {
            return Self { by_character: Vec::new(), base };
        }
        let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        let by_character = starts.map(|at| u32::try_from(at).unwrap_or(u32::MAX)).collect();
        Self { by_character, base }
    }

    fn offset(&self, marker: Marker) -> usize {
        let index = marker.index();
        let at = match self.by_character.last() {
            None => index,
            Some(&end) => self.by_character.get(index).copied().unwrap_or(end) as usize,
        };
        self.base + at
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        Span::new(self.offset(start), self.offset(end))
    }
}

/// A table or list that is being read.
struct Open<'t> {
    value: OpenValue<'t>,
    start: usize,
    anchor: usize,
}

enum OpenValue<'t> {
    List(Vec<Tree<'t>>),
    /// With the key whose value comes next.
    Table(Vec<Member<'t>>, Option<(Cow<'t, str>, Span)>),
}

#[derive(Default)]
struct Builder<'t> {
    offsets: Offsets,
    documents: Vec<Tree<'t>>,
    open: Vec<Open<'t>>,
    anchors: BTreeMap<usize, Tree<'t>>,
    aliased: usize,
    /// Where the last value ended.
    end: usize,
}

impl<'t> Builder<'t> {
    fn event(&mut self, event: Event<'t>, span: Span) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.aliased = 0;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag, span),
            Event::SequenceStart(anchor, _) => {
                self.start(OpenValue::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(anchor, _) => {
                self.start(OpenValue::Table(Vec::with_capacity(4), None), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.finish(span),
            Event::Alias(anchor) => self.alias(anchor, span),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'t, Tag>>,
        span: Span,
    ) -> Result<(), SyntaxError> {
        self.end = span.end();
        if let Some(Open { value: OpenValue::Table(members, key @ None), .. }) =
            self.open.last_mut()
        {
            if let Some(error) = duplicate_key(members, &text, span) {
                return Err(error);
            }
            *key = Some((text, span));
            return Ok(());
        }
        let is_text = style != ScalarStyle::Plain
            || tag.is_some_and(|tag| tag.handle == "!" || tag.suffix == "str");
        let value = if is_text { Value::Text(text) } else { plain(text) };
        self.value(Tree { value, span }, anchor)
    }

    fn start(
        &mut self,
        value: OpenValue<'t>,
        anchor: usize,
        span: Span,
    ) -> Result<(), SyntaxError> {
        if let Some(Open { value: OpenValue::Table(_, None), .. }) = self.open.last() {
            return Err(error(span, "a table or a list cannot be a key", "write a text as key"));
        }
        if self.open.len() == DEPTH {
            return Err(error(span, "too many tables within each other", "make it flatter"));
        }
        self.open.push(Open { value, start: span.start(), anchor });
        Ok(())
    }

    fn finish(&mut self, span: Span) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // a table in blocks ends where the next thing begins, one in braces with its brace
        let end = if span.range().is_empty() { self.end } else { span.end() };
        self.end = end;
        let value = match open.value {
            OpenValue::List(items) => Value::List(items),
            OpenValue::Table(members, _) => Value::Table(merged(members)),
        };
        self.value(Tree { value, span: Span::new(open.start, end.max(open.start)) }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), SyntaxError> {
        self.end = span.end();
        let Some(tree) = self.anchors.get(&anchor) else {
            return Err(error(span, "this alias stands for nothing", "write the anchor before it"));
        };
        self.aliased += size(tree);
        if self.aliased > ALIASED {
            return Err(error(span, "aliases stand for too much here", "write it out"));
        }
        let tree = Tree { value: tree.value.clone(), span };
        self.value(tree, 0)
    }

    fn value(&mut self, tree: Tree<'t>, anchor: usize) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        match self.open.last_mut() {
            None => self.documents.push(tree),
            Some(Open { value: OpenValue::List(items), .. }) => items.push(tree),
            Some(Open { value: OpenValue::Table(members, key), .. }) => match key.take() {
                Some((key, key_span)) => members.push(Member { key, key_span, tree }),
                None => {
                    return Err(error(
                        tree.span,
                        "an alias cannot be a key",
                        "write a text as key",
                    ));
                }
            },
        }
        Ok(())
    }
}

fn error(span: Span, message: &str, help: &str) -> SyntaxError {
    SyntaxError { message: message.into(), help: Some(help.into()), span }
}

fn size(tree: &Tree<'_>) -> usize {
    match &tree.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Table(members) => 1 + members.iter().map(|at| size(&at.tree)).sum::<usize>(),
        _ => 1,
    }
}

/// Members without `<<`, whose tables are taken over where they say something new.
fn merged(members: Vec<Member<'_>>) -> Vec<Member<'_>> {
    if !members.iter().any(|member| member.key == "<<") {
        return members;
    }
    let (merges, mut members): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|member| member.key == "<<");
    for merge in merges {
        let tables = match merge.tree.value {
            Value::List(items) => items.into_iter().map(|item| item.value).collect(),
            value => vec![value],
        };
        for table in tables {
            let Value::Table(more) = table else { continue };
            for member in more {
                if !members.iter().any(|have| have.key == member.key) {
                    members.push(member);
                }
            }
        }
    }
    members
}

/// What a scalar without quotes means.
fn plain(text: Cow<'_, str>) -> Value<'_> {
    match text.as_bytes() {
        // no number, no word with a meaning: nearly everything
        [b'a'..=b'e' | b'g'..=b'm' | b'o'..=b's' | b'u'..=b'z', ..] => Value::Text(text),
        [] | b"~" => Value::Null,
        _ => match text.as_ref() {
            "null" | "Null" | "NULL" => Value::Null,
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            word => number(word).unwrap_or(Value::Text(text)),
        },
    }
}

fn number(word: &str) -> Option<Value<'static>> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let all = |digits: &str, radix| {
        !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix))
    };
    if all(unsigned, 10) {
        let radix = if unsigned.len() > 1 && unsigned.starts_with('0') && all(unsigned, 8) {
            8
        } else {
            10
        };
        return match i64::from_str_radix(word, radix) {
            Ok(number) => Some(Value::Integer(number)),
            Err(_) => word.parse().ok().map(Value::Float),
        };
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = unsigned.strip_prefix(prefix)
            && all(digits, radix)
        {
            return i64::from_str_radix(digits, radix).ok().map(|number| {
                Value::Integer(if word.starts_with('-') { -number } else { number })
            });
        }
    }
    match unsigned.to_ascii_lowercase().as_str() {
        ".inf" => {
            let sign = if word.starts_with('-') { -1.0 } else { 1.0 };
            return Some(Value::Float(f64::INFINITY * sign));
        }
        ".nan" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let begins = unsigned.trim_start_matches('.').starts_with(|at: char| at.is_ascii_digit());
    let is_float =
        begins && unsigned.chars().all(|at| matches!(at, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
    if is_float { word.parse().ok().map(Value::Float) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Value<'_> {
        let (mut trees, error) = parse(text, 0);
        assert_eq!(error, None, "{text}");
        assert_eq!(trees.len(), 1, "{text}");
        trees.remove(0).value
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    #[test]
    fn scalars_mean_what_they_mean_to_kubernetes() {
        for (written, meant) in [
            ("~", Value::Null),
            ("null", Value::Null),
            ("\"null\"", text("null")),
            ("true", Value::Bool(true)),
            ("'true'", text("true")),
            ("yes", text("yes")),
            ("8080", Value::Integer(8080)),
            ("-1", Value::Integer(-1)),
            ("+1", Value::Integer(1)),
            ("0644", Value::Integer(0o644)),
            ("0o17", Value::Integer(15)),
            ("0x1F", Value::Integer(31)),
            ("0089", Value::Integer(89)),
            ("0", Value::Integer(0)),
            ("1.10", Value::Float(1.1)),
            ("1e3", Value::Float(1000.0)),
            (".5", Value::Float(0.5)),
            ("-.inf", Value::Float(f64::NEG_INFINITY)),
            ("10.0.0.1", text("10.0.0.1")),
            ("10.0.0.0/8", text("10.0.0.0/8")),
            ("1_000", text("1_000")),
            ("100m", text("100m")),
            ("2026-01-31", text("2026-01-31")),
            ("-", Value::List(vec![Tree::default()])),
            ("--flag", text("--flag")),
            ("!!str 80", text("80")),
            ("|\n  a\n  b\n", text("a\nb\n")),
            ("99999999999999999999", Value::Float(1e20)),
        ] {
            assert_eq!(one(written), meant, "{written}");
        }
    }

    #[test]
    fn tables_end_where_their_last_value_ends() {
        let written = "a:\n  b: 1\n  c: [2, 3]\n\nd: {e: f}\n";
        let (trees, _) = parse(written, 0);
        let place = |key| &written[trees[0].get(key).unwrap().tree.span.range()];
        assert_eq!(place("a"), "b: 1\n  c: [2, 3]");
        assert_eq!(place("d"), "{e: f}");
        assert_eq!(&written[trees[0].get("a").unwrap().key_span.range()], "a");
    }

    #[test]
    fn aliases_and_merge_keys_stand_for_what_they_name() {
        let written = "a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, p: 3}\n";
        let meant = "a: {p: 1, q: 2}\nb: {p: 1, q: 2}\nc: {p: 3, q: 2}\n";
        assert_eq!(one(written), one(meant));
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..12 {
            let last = at - 1;
            let nine = vec![format!("*a{last}"); 9].join(", ");
            bomb.push_str(&format!("a{at}: &a{at} [{nine}]\n"));
        }
        assert!(parse(&bomb, 0).1.unwrap().message.contains("too much"));
    }

    #[test]
    fn errors_know_their_line() {
        for (written, place, help) in [
            ("a: 1\nb: 2\na: 3\n", "a", "remove one"),
            ("a:\n\tb: 1\n", "b", "tabs"),
            ("a: [1\nb: 2\n", ":", "compare"),
            ("a: \"x\n", "", "compare"),
            ("? {a: b}\n: 1\n", "{", "write a text"),
            ("a: *b\n", "*", ""),
        ] {
            let (_, error) = parse(written, 100);
            let error = error.expect(written);
            let at = error.span.start() - 100;
            assert!(written[at..].starts_with(place), "{written:?}: {error:?}");
            assert!(error.help.unwrap().contains(help), "{written:?}");
        }
        let deep = format!("{}1", "[".repeat(10_000));
        assert!(parse(&deep, 0).1.is_some());
    }
}
