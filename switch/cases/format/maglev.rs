//! Consistent hashing: backends and the table that must come of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Transport, Word};

/// A table to be built.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Its name.
    pub name: String,
    /// How it is built.
    pub algorithm: Algorithm,
    /// Slots.
    pub table_size: usize,
    /// Seed, in base64.
    pub seed: Option<String>,
    /// Who shares the slots, in this order.
    pub backends: Vec<Backend>,
    /// Who leaves.
    #[serde(default)]
    pub remove: Vec<Word>,
    /// What must come of it.
    pub expect: Expect,
}

/// How a table is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// From given offsets and skips.
    Paper,
    /// As Cilium does.
    Cilium,
    /// As Katran did first.
    KatranV1,
    /// As Katran does.
    KatranV2,
    /// As the implementation likes.
    Any,
}

/// Somebody who shares the slots.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// What the table calls it.
    pub id: Word,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its port, host order.
    pub port: Option<u16>,
    /// Its protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// Its share.
    pub weight: Option<u32>,
    /// The slot it likes best.
    pub offset: Option<u64>,
    /// The step to the next one.
    pub skip: Option<u64>,
    /// A hash that stands for it.
    pub hash: Option<u64>,
}

/// What must come of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The owner of each slot.
    pub table: Option<Vec<Word>>,
    /// The same as `owner(run),…`.
    pub table_rle: Option<String>,
    /// The owners once those in `remove` have left.
    pub table_after: Option<Vec<Word>>,
    /// Slots of each backend.
    #[serde(default)]
    pub counts: BTreeMap<Word, usize>,
    /// Largest count less the smallest.
    pub spread: Option<usize>,
    /// A bound for that.
    pub spread_at_most: Option<usize>,
    /// Share of slots that change their owner though neither has left.
    pub moved_survivors_below: Option<f64>,
    /// Whether the table is the first one again once the removed are back.
    #[serde(default)]
    pub restored_when_added_back: bool,
    /// Whether the order in which backends are given does not matter.
    #[serde(default)]
    pub same_for_any_order: bool,
}

/// Cases about consistent hashing have no steps.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {}
