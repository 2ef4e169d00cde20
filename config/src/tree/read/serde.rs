//! The serde side of reading.

use std::cell::RefCell;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Unknown;
use super::mismatch::{Mismatch, Wanted};
use crate::path::{Field, Path};
use crate::source::Span;
use crate::suggest;
use crate::tree::{Format, Member, Tree, Value};

/// A value about to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a, 't> {
    pub(super) tree: &'a Tree<'t>,
    pub(super) path: &'a Path<'a>,
    pub(super) unknown: &'a RefCell<Vec<Unknown>>,
    pub(super) text: &'a str,
    pub(super) format: Format,
}

impl<'a, 't> Reader<'a, 't> {
    fn place(self) -> (Field, Span) {
        (self.path.to_field(), self.tree.span)
    }

    fn below<'b>(self, tree: &'b Tree<'t>, path: &'b Path<'b>) -> Reader<'b, 't>
    where
        'a: 'b,
    {
        Reader { tree, path, unknown: self.unknown, text: self.text, format: self.format }
    }

    fn mismatch(self, wanted: Wanted) -> Mismatch {
        wanted.mismatch(self.tree, self.text, self.format).at(|| self.place())
    }

    fn members<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let members = match &self.tree.value {
            Value::Table(members) => members.as_slice(),
            Value::Null => &[],
            _ => return Err(self.mismatch(Wanted::Table(fields.unwrap_or(&[])))),
        };
        let access = Members { reader: self, fields, rest: members.iter(), value: None };
        visitor.visit_map(access).map_err(|error| error.at(|| self.place()))
    }

    fn items<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let items = match &self.tree.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(self.mismatch(Wanted::List)),
        };
        let access = Items { reader: self, rest: items.iter().enumerate() };
        visitor.visit_seq(access).map_err(|error| error.at(|| self.place()))
    }

    fn number<'de, V: Visitor<'de>>(
        self,
        least: i64,
        most: i64,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.tree.value {
            Value::Integer(number) if (least..=most).contains(&number) => visitor.visit_i64(number),
            Value::Integer(number) => Err(Mismatch::new(
                format!("{number} is out of range"),
                Some(format!("write a number from {least} to {most}")),
            )),
            Value::Null => visitor.visit_i64(0),
            _ => return Err(self.mismatch(Wanted::Number)),
        }
        .map_err(|error: Mismatch| error.at(|| self.place()))
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.tree.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Null => visitor.visit_str(""),
            _ => return Err(self.mismatch(Wanted::Text)),
        }
        .map_err(|error: Mismatch| error.at(|| self.place()))
    }
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.tree.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is) => visitor.visit_bool(*is),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => return self.items(visitor),
            Value::Table(_) => return self.members(None, visitor),
        }
        .map_err(|error: Mismatch| error.at(|| self.place()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.tree.value {
            Value::Bool(is) => visitor.visit_bool(is),
            Value::Null => visitor.visit_bool(false),
            _ => Err(self.mismatch(Wanted::Bool)),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.number(i32::MIN.into(), i32::MAX.into(), visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.number(i64::MIN, i64::MAX, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.tree.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self).map_err(|error| match name {
            "Time" | "MicroTime" => error.at(|| self.place()).told_as(
                format!("expected a time, found {}", self.tree.value),
                "write it as \"2026-01-31T23:59:59Z\"",
            ),
            _ => error.at(|| self.place()),
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.items(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.members(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.members(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Value::Text(text) = &self.tree.value else { return Err(self.mismatch(Wanted::Text)) };
        let variant: StrDeserializer<'_, Mismatch> = text.as_ref().into_deserializer();
        visitor.visit_enum(variant).map_err(|error| {
            let help = match suggest::closest(text, variants.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("write {}", suggest::listed(variants.iter().copied(), "or")),
            };
            error.at(|| self.place()).told_as(format!("{text:?} is not known here"), &help)
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier
    }
}

/// The items of a list, one after another.
struct Items<'a, 't> {
    reader: Reader<'a, 't>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Tree<'t>>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mismatch> {
        let Some((index, tree)) = self.rest.next() else { return Ok(None) };
        let path = self.reader.path.index(index);
        seed.deserialize(self.reader.below(tree, &path)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The members of a table, one after another; those that the type does not have are told and left
/// out.
struct Members<'a, 't> {
    reader: Reader<'a, 't>,
    fields: Option<&'static [&'static str]>,
    rest: std::slice::Iter<'a, Member<'t>>,
    value: Option<&'a Member<'t>>,
}

impl Members<'_, '_> {
    fn is_known(&self, member: &Member<'_>) -> bool {
        let Some(fields) = self.fields else { return true };
        if fields.contains(&member.key.as_ref()) {
            return true;
        }
        self.reader.unknown.borrow_mut().push(Unknown {
            field: self.reader.path.key(&member.key).to_field(),
            span: member.key_span,
            meant: suggest::closest(&member.key, fields.iter().copied()),
        });
        false
    }
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = Mismatch;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Mismatch> {
        while let Some(member) = self.rest.next() {
            if self.is_known(member) {
                self.value = Some(member);
                let key: StrDeserializer<'_, Mismatch> = member.key.as_ref().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let Some(member) = self.value.take() else {
            return Err(Mismatch::new("a value without a key".into(), None));
        };
        let path = self.reader.path.key(&member.key);
        seed.deserialize(self.reader.below(&member.tree, &path))
    }
}
