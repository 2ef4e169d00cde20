//! `[[link]]` of lab.toml.

use super::fields::Fields;
use crate::draft::WrittenLink;
use crate::error::{Findings, Origin};
use crate::link::{self, Direction, Faults};
use crate::path::Field;
use crate::tree::Tree;

/// A `[[link]]`.
pub(super) fn link(
    tree: &Tree<'_>,
    origin: &Origin,
    findings: &mut Findings,
) -> Option<WrittenLink> {
    let mut fields = Fields::new(tree, origin, findings);
    if !fields.has("of") {
        let help = "write of = \"client\", \"shop/client\", \"node/node-a\" or \"ext/internet\"";
        fields.error(Field::default(), "whose link is not said", help);
    }
    let of = fields.text("of").map(str::to_owned);
    let [from, to] = Direction::ALL;
    let directions = [("both", (true, true)), ("from", (true, false)), ("to", (false, true))];
    let (is_from, is_to) = fields.choice("direction", &directions).unwrap_or((true, true));
    let faults = Faults {
        delay: fields.duration("delay").unwrap_or_default(),
        jitter: fields.duration("jitter").unwrap_or_default(),
        loss: fields.parsed("loss", link::share).unwrap_or_default(),
        duplicate: fields.parsed("duplicate", link::share).unwrap_or_default(),
        corrupt: fields.parsed("corrupt", link::share).unwrap_or_default(),
        reorder: fields.parsed("reorder", link::share).unwrap_or_default(),
        rate: fields.parsed("rate", link::rate),
        queue: fields.duration("queue"),
        partition: fields.bool("partition").unwrap_or_default(),
        seed: fields.number("seed", 0..=i64::MAX),
    };
    if let Err((key, message, help)) = faults.check() {
        fields.error(Field::of(key), message, help);
    }
    fields.finish();
    let directions = [(is_from, from), (is_to, to)];
    let directions = directions.into_iter().filter(|(is_meant, _)| *is_meant).map(|(_, way)| way);
    Some(WrittenLink { of: of?, directions: directions.collect(), faults, origin: origin.clone() })
}
