//! `get --watch`: what there is, and then what changes.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{columns, fetch};
use crate::cli::error::Error;
use crate::cli::lab::Lab;
use crate::cli::output::{self, Format};
use crate::cli::table::Table;
use crate::control::request::{Kind, Selector};

/// How long to wait between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows what there is, then each object that comes or becomes another, until interrupted.
pub(super) fn run(
    lab: &Lab,
    kind: Kind,
    select: &Selector,
    format: Option<Format>,
) -> Result<ExitCode, Error> {
    let mut columns = match format {
        Some(Format::Wide) => columns::wide(kind),
        _ => columns::usual(kind),
    };
    if kind.is_namespaced() {
        columns.insert(0, columns::NAMESPACE);
    }
    let mut table = Table::new(columns.iter().map(|column| column.heading));
    let mut before = BTreeMap::new();
    loop {
        let mut after = BTreeMap::new();
        let mut changed = Vec::new();
        for item in fetch(lab, kind, select)? {
            let row: Vec<String> = columns.iter().map(|column| (column.cell)(&item)).collect();
            let shown = match format {
                Some(Format::Json | Format::Yaml) => item.to_string(),
                Some(Format::Wide) | None => row.join("\t"),
            };
            if before.get(&key(&item)) != Some(&shown) {
                changed.push((item.clone(), row));
            }
            after.insert(key(&item), shown);
        }
        before = after;
        for (item, row) in changed {
            match format {
                // an object on each line, for programs
                Some(Format::Json) => output::text(&format!("{item}\n"))?,
                Some(Format::Yaml) => {
                    output::text("---\n")?;
                    output::yaml(&item)?;
                }
                Some(Format::Wide) | None => table.push(row),
            }
        }
        output::text(&table.render())?;
        thread::sleep(INTERVAL);
    }
}

/// By what an object is known again.
fn key(item: &Value) -> String {
    // several listeners of one Gateway, and several claims of one address, are called alike
    const OWN: [&str; 5] = ["/metadata/name", "/listener", "/address", "/port", "/mac"];
    let own = OWN.iter().map(|pointer| columns::member(item, pointer));
    [columns::namespace(item)].into_iter().chain(own).collect::<Vec<_>>().join(" ")
}
