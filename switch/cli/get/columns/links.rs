//! Links, and what is wrong with them.

use serde_json::Value;

use super::{Column, column, member};

pub(super) fn usual() -> Vec<Column> {
    vec![
        column("NAME", |link| member(link, "/name")),
        column("FROM IT", |link| member(link, "/from/faults")),
        column("TO IT", |link| member(link, "/to/faults")),
        column("FRAMES", |link| sum(link, &["frames"])),
        column("LOST", |link| sum(link, &["lost", "cut", "full"])),
    ]
}

pub(super) fn more() -> Vec<Column> {
    vec![
        column("DELAYED", |link| sum(link, &["delayed"])),
        column("DOUBLED", |link| sum(link, &["duplicated"])),
        column("CORRUPTED", |link| sum(link, &["corrupted"])),
        column("REORDERED", |link| sum(link, &["reordered"])),
        column("AS", |link| {
            let origin = |way: &str| link.pointer(&format!("/{way}/origin"))?.as_str();
            let origins: Vec<_> = ["from", "to"].into_iter().filter_map(origin).collect();
            match *origins {
                [one, other] if one != other => format!("{one}, {other}"),
                [one, ..] => one.to_owned(),
                [] => "-".to_owned(),
            }
        }),
    ]
}

/// What both directions counted; `-` where nothing is wrong, so that nobody counts.
fn sum(link: &Value, keys: &[&str]) -> String {
    let count = |way: &&Value| -> u64 {
        keys.iter().filter_map(|key| way.pointer(&format!("/toll/{key}"))?.as_u64()).sum()
    };
    let ways: Vec<_> = ["from", "to"].into_iter().filter_map(|way| link.get(way)).collect();
    let mut ways = ways.iter().filter(|way| way.is_object()).peekable();
    if ways.peek().is_none() {
        return "-".to_owned();
    }
    ways.map(count).sum::<u64>().to_string()
}
