//! A tree to a typed object.
//!
//! Other than with `serde_json::Value` between, nothing is copied twice, an error knows its place, and
//! fields that the type does not have are told, with what was probably meant.

mod mismatch;
mod serde;

use std::cell::RefCell;

use ::serde::Deserialize;

use super::{Format, Tree};
use crate::path::{Field, Path};
use crate::source::Span;
pub(crate) use mismatch::Wanted;
use serde::Reader;

/// A value that does not fit the type, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) field: Field,
    pub(crate) span: Span,
}

/// A field that the type does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The way to it.
    pub(crate) field: Field,
    /// Where its key stands.
    pub(crate) span: Span,
    /// The field that was probably meant.
    pub(crate) meant: Option<&'static str>,
}

/// What was read, as far as it could be.
#[derive(Debug)]
pub(crate) struct Reading<T> {
    /// The object without its wrong fields; `None` where too much is wrong.
    pub(crate) object: Option<T>,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) unknown: Vec<Unknown>,
}

/// Errors in one object beyond which reading it is given up.
const WRONG: usize = 16;

/// Reads a tree as an object; `text` is the source that the tree's places are in.
///
/// Wrong fields are taken out of the tree, so that everything wrong is found.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(
    tree: &mut Tree<'_>,
    text: &str,
    format: Format,
) -> Reading<T> {
    let mut wrong = Vec::new();
    loop {
        let unknown = RefCell::default();
        let reader = Reader { tree, path: &Path::Root, unknown: &unknown, text, format };
        match T::deserialize(reader) {
            Ok(object) => {
                return Reading { object: Some(object), wrong, unknown: unknown.into_inner() };
            }
            Err(error) => {
                let error: Wrong = error.into();
                let removed = tree.remove(&error.field);
                wrong.push(error);
                if !removed || wrong.len() == WRONG {
                    return Reading { object: None, wrong, unknown: unknown.into_inner() };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
