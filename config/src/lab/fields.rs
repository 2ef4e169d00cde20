//! The tables of lab.toml, key by key.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::error::{Finding, Findings, Origin};
use crate::path::Field;
use crate::suggest;
use crate::syntax::{self, Refused};
use crate::tree::{Format, Member, Tree, Value, Wanted};

/// A table that is read key by key: what is wrong is noted and counts as not written, and keys that
/// nobody asked for are found in the end.
#[derive(Debug)]
pub(super) struct Fields<'a, 't> {
    tree: &'a Tree<'t>,
    origin: &'a Origin,
    asked: Vec<&'static str>,
    findings: &'a mut Findings,
}

impl<'a, 't> Fields<'a, 't> {
    /// The table that `origin` leads to.
    pub(super) fn new(tree: &'a Tree<'t>, origin: &'a Origin, findings: &'a mut Findings) -> Self {
        if !matches!(tree.value, Value::Table(_)) {
            let (message, help) = Wanted::Table(&[]).told(tree, "", Format::Toml);
            findings.error(Field::default(), message, help).within(origin).at(tree.span);
        }
        Self { tree, origin, asked: Vec::new(), findings }
    }

    /// Names every key that nobody asked for.
    pub(super) fn finish(self) {
        let Self { tree, origin, asked, findings } = self;
        let Value::Table(members) = &tree.value else { return };
        for member in members.iter().filter(|member| !asked.contains(&member.key.as_ref())) {
            unknown_key(member, &asked, origin, findings);
        }
    }

    /// Whether the key is written.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.member(key).is_some()
    }

    /// A table below this one, and where it comes from.
    pub(super) fn table(&mut self, key: &'static str) -> Option<(&'a Tree<'t>, Origin)> {
        let member = self.member(key)?;
        Some((&member.tree, self.origin.part(self.origin.base.clone().key(key))))
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let member = self.member(key)?;
        self.text_of(&member.tree, Field::of(key))
    }

    /// The text of a member whose key is not known beforehand.
    pub(super) fn text_at(&mut self, key: &str, tree: &'a Tree<'t>) -> Option<&'a str> {
        self.text_of(tree, Field::of(key))
    }

    /// Several texts, or one without brackets; each with the way to it.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<(Field, &'a str)>> {
        let member = self.member(key)?;
        let field = Field::of(key);
        let Value::List(items) = &member.tree.value else {
            let text = self.text_of(&member.tree, field.clone())?;
            return Some(vec![(field, text)]);
        };
        let texts = items.iter().enumerate().map(|(index, item)| {
            let field = field.clone().index(index);
            self.text_of(item, field.clone()).map(|text| (field, text))
        });
        texts.collect::<Vec<_>>().into_iter().collect()
    }

    /// A number within a range.
    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<N> {
        let member = self.member(key)?;
        let Value::Integer(number) = member.tree.value else {
            self.mismatch(Wanted::Number, &member.tree, Field::of(key));
            return None;
        };
        if range.contains(&number)
            && let Ok(number) = N::try_from(number)
        {
            return Some(number);
        }
        let message = format!("{number} is out of range");
        let help = format!("write a number from {} to {}", range.start(), range.end());
        self.error(Field::of(key), message, help);
        None
    }

    /// True or false.
    pub(super) fn bool(&mut self, key: &'static str) -> Option<bool> {
        let member = self.member(key)?;
        if let Value::Bool(is) = member.tree.value {
            return Some(is);
        }
        self.mismatch(Wanted::Bool, &member.tree, Field::of(key));
        None
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let words = choices.iter().map(|(word, _)| *word);
        let help = match suggest::closest(text, words.clone()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write {}", suggest::listed(words, "or")),
        };
        self.error(Field::of(key), format!("{text:?} is not known here"), help);
        None
    }

    /// A text with a form.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let text = self.text(key)?;
        self.parse(text, Field::of(key), parse)
    }

    /// Texts with a form, each with the way to it; none of them if one is wrong, as the numbers of the
    /// others would not be those in the file.
    pub(super) fn all_parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<Vec<(Field, T)>> {
        let texts = self.texts(key)?;
        let parsed = texts.into_iter().map(|(field, text)| {
            let value = self.parse(text, field.clone(), &parse);
            value.map(|value| (field, value))
        });
        // every one is looked at, even after one is found to be wrong
        parsed.collect::<Vec<_>>().into_iter().collect()
    }

    /// Ranges of addresses.
    pub(super) fn cidrs(&mut self, key: &'static str) -> Option<Vec<IpNet>> {
        Some(self.all_parsed(key, syntax::cidr)?.into_iter().map(|(_, range)| range).collect())
    }

    /// Addresses.
    pub(super) fn addresses(&mut self, key: &'static str) -> Option<Vec<IpAddr>> {
        Some(self.all_parsed(key, syntax::address)?.into_iter().map(|(_, at)| at).collect())
    }

    /// A stretch of time.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, syntax::duration)
    }

    /// Notes that a field is wrong.
    pub(super) fn error(
        &mut self,
        field: impl Into<Field>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.findings.error(field, message, help).within(self.origin)
    }

    /// A table below this one, to be read key by key too.
    pub(super) fn below<'b>(
        &'b mut self,
        tree: &'b Tree<'t>,
        origin: &'b Origin,
    ) -> Fields<'b, 't> {
        Fields::new(tree, origin, self.findings)
    }

    fn parse<T>(
        &mut self,
        text: &str,
        field: Field,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(Refused { message, help }) => {
                self.error(field, message, help);
                None
            }
        }
    }

    fn text_of(&mut self, tree: &'a Tree<'t>, field: Field) -> Option<&'a str> {
        if let Value::Text(text) = &tree.value {
            return Some(text);
        }
        self.mismatch(Wanted::Text, tree, field);
        None
    }

    fn mismatch(&mut self, wanted: Wanted, tree: &Tree<'_>, field: Field) {
        let (message, help) = wanted.told(tree, self.origin.document.source.text(), Format::Toml);
        self.error(field, message, help).at(tree.span);
    }

    fn member(&mut self, key: &'static str) -> Option<&'a Member<'t>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.tree.get(key)
    }
}

/// Notes a key that has no meaning, with the one that was probably meant.
pub(super) fn unknown_key(
    member: &Member<'_>,
    known: &[&'static str],
    origin: &Origin,
    findings: &mut Findings,
) {
    let help = match suggest::closest(&member.key, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here are {}", suggest::listed(known.iter().copied(), "and")),
    };
    let message = format!("unknown key `{}`", member.key);
    findings.error(Field::of(&member.key), message, help).within(origin).at(member.key_span);
}
