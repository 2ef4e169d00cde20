//! Reading a case file.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::format::{Area, File, Head, Level, dns, l3, l7, maglev, nat, policy, services};

/// A case of any area.
#[derive(Debug)]
pub enum Case {
    /// About Services.
    Services(Box<File<services::Step>>),
    /// About consistent hashing.
    Maglev(Box<File<maglev::Step>>),
    /// About policies.
    Policy(Box<File<policy::Step>>),
    /// About address translation.
    Nat(Box<File<nat::Step>>),
    /// About single packets.
    L3(Box<File<l3::Step>>),
    /// About cluster DNS.
    Dns(Box<File<dns::Step>>),
    /// About load balancers.
    L7(Box<File<l7::Step>>),
}

/// What a case says of itself.
#[derive(Debug)]
pub struct Heading<'c> {
    /// Its name.
    pub name: &'c str,
    /// What it is about.
    pub area: Area,
    /// One sentence for people.
    pub title: &'c str,
    /// Features without which it is skipped.
    pub requires: &'c [String],
    /// How binding it is.
    pub level: Level,
}

impl Case {
    /// What it says of itself.
    pub fn heading(&self) -> Heading<'_> {
        match self {
            Self::Services(case) => heading(case),
            Self::Maglev(case) => heading(case),
            Self::Policy(case) => heading(case),
            Self::Nat(case) => heading(case),
            Self::L3(case) => heading(case),
            Self::Dns(case) => heading(case),
            Self::L7(case) => heading(case),
        }
    }
}

fn heading<S>(case: &File<S>) -> Heading<'_> {
    let File { case: name, area, title, requires, level, .. } = case;
    Heading { name, area: *area, title, requires, level: *level }
}

/// Why a case file cannot be read.
#[derive(Debug)]
pub struct Error {
    file: String,
    /// Line and column, from 1.
    place: Option<(u64, u64)>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, message } = self;
        match place {
            Some((line, column)) => write!(formatter, "{file}:{line}:{column}: {message}"),
            None => write!(formatter, "{file}: {message}"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads a case file.
///
/// # Errors
/// It cannot be read, is no YAML, or has a word that the format does not have.
pub fn file(path: &Path) -> Result<Case, Error> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Error {
        file: name.clone(),
        place: None,
        message: error.to_string(),
    })?;
    read(&name, &text)
}

/// Reads the text of a case file of this name.
///
/// # Errors
/// As [`file()`].
pub fn read(name: &str, text: &str) -> Result<Case, Error> {
    let head: Head = parse(name, text)?;
    Ok(match head.area {
        Area::Services => Case::Services(parse(name, text)?),
        Area::Maglev => Case::Maglev(parse(name, text)?),
        Area::NetworkPolicy | Area::ClusterNetworkPolicy => Case::Policy(parse(name, text)?),
        Area::Nat => Case::Nat(parse(name, text)?),
        Area::L3 => Case::L3(parse(name, text)?),
        Area::Dns => Case::Dns(parse(name, text)?),
        Area::L7 => Case::L7(parse(name, text)?),
    })
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, text: &str) -> Result<T, Error> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| (at.line(), at.column()));
        let message = error.to_string();
        // the place is told in front
        let message = match message.rfind(" at line ") {
            Some(at) if place.is_some() => message.get(..at).unwrap_or(&message).to_owned(),
            _ => message,
        };
        Error { file: name.to_owned(), place, message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = "\
case: x
area: services
title: t
topology:
  nodes: [{name: a, ips: [192.0.2.1]}]
steps:
  - name: s
    flows:
      - {name: f, from: {node: a}, to: '10.0.0.1:80', expect: {action: reject}}
";

    #[test]
    fn a_case_is_read() {
        let case = read("x.yaml", CASE).unwrap();
        assert!(matches!(&case, Case::Services(case) if case.steps.len() == 1));
        assert_eq!(case.heading().name, "x");
    }

    #[test]
    fn what_the_format_does_not_have_is_told_with_its_place() {
        for (from, to, place, word) in [
            ("expect:", "expects:", "x.yaml:9", "expects"),
            ("area: services", "area: service", "x.yaml:2", "service"),
            ("192.0.2.1", "192.0.2.256", "x.yaml:5", "IP"),
            ("{node: a}", "{nodes: a}", "x.yaml:9", "nodes"),
            ("reject", "explode", "x.yaml:9", "explode"),
            ("title: t", "titel: t", "x.yaml:3", "titel"),
        ] {
            let error = read("x.yaml", &CASE.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(word), "{error}");
        }
    }
}
