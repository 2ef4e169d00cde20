//! A table of who may talk to whom as somebody wants it to be.

use std::collections::BTreeMap;
use std::fmt;

use super::{Cell, TruthTable};

/// A table that was written, or printed and kept.
///
/// A line for each pod, `namespace/name` and then a sign for each column, in the order of the lines:
/// `.` it must work (as does `?`), `X` it must not, `#` either. Lines that begin with `#` say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTable {
    pods: Vec<String>,
    /// Row by row: whether it must work; `None` where that is left open.
    cells: Vec<Vec<Option<bool>>>,
}

/// Where two tables differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A pod that is expected, and not there.
    Missing(String),
    /// A pod that is there, and nothing is said of.
    Unexpected(String),
    /// Whether one may talk to another.
    Cell {
        /// Who sends.
        from: String,
        /// Who receives.
        to: String,
        /// Whether it had to work.
        expected: bool,
        /// What is the case.
        got: Cell,
    },
}

impl ExpectedTable {
    /// Reads a table.
    ///
    /// # Errors
    /// What of it is no table, with the number of the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let (mut pods, mut cells): (Vec<String>, Vec<(usize, Vec<_>)>) = (Vec::new(), Vec::new());
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        for (at, line) in lines.filter(|(_, line)| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let Some(pod) = words.next() else { continue };
            if pods.iter().any(|known| known == pod) {
                return Err(format!("line {at}: {pod} has a row already"));
            }
            let row = words.map(sign).collect::<Result<Vec<_>, _>>();
            cells.push((at, row.map_err(|why| format!("line {at}: {why}"))?));
            pods.push(pod.to_owned());
        }
        let is_short = |(_, row): &&(usize, Vec<_>)| row.len() != pods.len();
        if let Some((at, row)) = cells.iter().find(is_short) {
            let (have, want) = (row.len(), pods.len());
            return Err(format!("line {at}: {have} signs where {want} pods have a row"));
        }
        Ok(Self { pods, cells: cells.into_iter().map(|(_, row)| row).collect() })
    }

    /// Where a table is otherwise than this one.
    pub fn differences(&self, table: &TruthTable) -> Vec<Difference> {
        let missing = self.pods.iter().filter(|pod| !table.pods.contains(pod));
        let mut found: Vec<_> = missing.cloned().map(Difference::Missing).collect();
        let unexpected = table.pods.iter().filter(|pod| !self.pods.contains(pod));
        found.extend(unexpected.cloned().map(Difference::Unexpected));
        let columns: BTreeMap<&str, usize> =
            table.pods.iter().enumerate().map(|(at, pod)| (pod.as_str(), at)).collect();
        let got = |from: &str, to: &str| {
            let (row, column) = (columns.get(from)?, columns.get(to)?);
            table.cells.get(*row)?.get(*column).copied()
        };
        for (from, row) in self.pods.iter().zip(&self.cells) {
            for (to, expected) in self.pods.iter().zip(row) {
                let (Some(expected), Some(got)) = (*expected, got(from, to)) else { continue };
                // what is not asked cannot be wrong
                if got.is_allowed().is_some_and(|allowed| allowed != expected) {
                    let (from, to) = (from.clone(), to.clone());
                    found.push(Difference::Cell { from, to, expected, got });
                }
            }
        }
        found
    }
}

fn sign(word: &str) -> Result<Option<bool>, String> {
    match word {
        "." | "?" => Ok(Some(true)),
        "X" | "x" => Ok(Some(false)),
        "#" => Ok(None),
        other => Err(format!("{other:?} is none of . X ? #")),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |allowed| if allowed { "it works" } else { "it must not work" };
        match self {
            Self::Missing(pod) => write!(formatter, "{pod}: there is no such pod"),
            Self::Unexpected(pod) => write!(formatter, "{pod}: nothing is expected of it"),
            Self::Cell { from, to, expected, .. } => {
                let got = if *expected { "it does not" } else { "it works" };
                write!(formatter, "{from} -> {to}: expected {}, got {got}", word(*expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TruthTable {
        let pods = ["a/x", "a/y", "b/z"].map(str::to_owned).to_vec();
        let (no, yes) = (Cell::NotAsked, Cell::Allowed);
        TruthTable { pods, cells: vec![vec![no, yes, yes], vec![yes, no, yes], vec![yes, yes, no]] }
    }

    #[test]
    fn a_table_that_was_printed_is_the_expected_one() {
        let printed = format!("# TCP 80\n{}", table());
        let expected = ExpectedTable::read(&printed).unwrap();
        assert_eq!(expected.differences(&table()), []);
    }

    #[test]
    fn differences_are_found_in_any_order_of_the_pods() {
        let expected = ExpectedTable::read("b/z # X .\na/x . # #\na/gone . . #\n").unwrap();
        let found: Vec<_> =
            expected.differences(&table()).iter().map(ToString::to_string).collect();
        let words = [
            "a/gone: there is no such pod",
            "a/y: nothing is expected of it",
            "b/z -> a/x: expected it must not work, got it works",
        ];
        assert_eq!(found, words);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        for (text, why) in [
            ("a/x # .\n", "line 1: 2 signs where 1 pods have a row"),
            ("# head\na/x # .\na/y y #\n", "line 3: \"y\" is none of . X ? #"),
            ("a/x # .\na/x . #\n", "line 2: a/x has a row already"),
        ] {
            assert_eq!(ExpectedTable::read(text), Err(why.to_owned()));
        }
    }
}
