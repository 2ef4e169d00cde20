//! `test --matrix`: which pods of a lab may talk to which, and whether that is as it should be.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use kswitch_config::{Cell, Compiler, Difference, Draft, ExpectedTable, Observed, TruthTable};
use kswitch_tables::{Generation, Protocol};

use super::super::error::{Error, FAILED};
use super::super::output;
use crate::trace::{Query, Tables, trace};

/// Exit code for a bad config.
const BAD_CONFIG: u8 = 2;

/// What is left to chance does not matter here.
const SEED: u64 = 1;

/// A port and its protocol: `80`, `53/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    number: u16,
    protocol: Protocol,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|number| *number != 0);
        let number = number.ok_or_else(|| "a port is a number from 1 to 65535".to_owned())?;
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::TCP,
            "udp" => Protocol::UDP,
            "sctp" => Protocol::SCTP,
            other => return Err(format!("{other:?} is none of tcp, udp, sctp")),
        };
        Ok(Self { number, protocol })
    }
}

/// Prints the table of a lab, and what in it is otherwise than expected.
pub(super) fn run(lab: &Path, port: Port, expected: Option<&Path>) -> Result<ExitCode, Error> {
    let expected = expected.map(read).transpose()?;
    let draft = Draft::read(lab);
    let cluster = draft.validate(None).map_err(|errors| Error::with_code(errors, BAD_CONFIG))?;
    let cluster = Arc::new(cluster);
    let observed = Observed::default();
    let compiled = Compiler::new(SEED).compile(&cluster, &observed, Generation(1));
    let table = TruthTable::new(&cluster, &compiled.snapshot, port.protocol, port.number);
    let Port { protocol, number } = port;
    let mut text = format!(
        "# {protocol} {number}: rows send, columns receive, in the same order\n\
         # . may  X may not  ? may, though an audited policy would refuse  # not asked\n\
         {table}"
    );
    let differences = expected.map_or_else(Vec::new, |expected| expected.differences(&table));
    let tables = Tables::of(&compiled, &cluster, &draft);
    for difference in &differences {
        // writing to a string cannot fail
        let _ = writeln!(text, "DIFFERS {difference}");
        if let Difference::Cell { from, to, got: Cell::Denied(_), .. } = difference
            && let Some(why) = why(&tables, from, to, port)
        {
            let _ = writeln!(text, "        {why}");
        }
    }
    output::text(&text)?;
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { FAILED })
}

fn read(path: &Path) -> Result<ExpectedTable, Error> {
    let wrong = |why: String| Error::new(format_args!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    ExpectedTable::read(&text).map_err(wrong)
}

/// Why a connection between two pods is refused.
fn why(tables: &Tables<'_>, from: &str, to: &str, port: Port) -> Option<String> {
    let query = Query {
        from: from.to_owned(),
        to: format!("{to}:{}", port.number),
        protocol: Some(port.protocol.to_string().to_lowercase()),
        seed: SEED,
        ..Query::default()
    };
    let report = trace(tables, &query).ok()?;
    report.explanation.or(report.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_of_tcp_unless_something_else_is_said() {
        let port = |number, protocol| Ok(Port { number, protocol });
        assert_eq!("80".parse(), port(80, Protocol::TCP));
        assert_eq!("53/udp".parse(), port(53, Protocol::UDP));
        assert_eq!("9/SCTP".parse(), port(9, Protocol::SCTP));
        for wrong in ["", "0", "80/", "http", "65536", "80/icmp"] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
    }
}
