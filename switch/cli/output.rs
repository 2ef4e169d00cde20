//! Results on standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::error::Error;
use super::lab::Lab;
use crate::control::request::{Request, Response};

/// How objects are written out: complete, or as a table with more columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Yaml,
    Wide,
}

/// Writes text as it is.
pub(super) fn text(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes lines.
pub(super) fn lines<T: AsRef<str>>(lines: &[T]) -> Result<(), Error> {
    let all: String = lines.iter().flat_map(|line| [line.as_ref(), "\n"]).collect();
    text(&all)
}

/// Has the switch do something, and writes what it has done.
pub(super) fn done(lab: &Lab, request: &Request) -> Result<ExitCode, Error> {
    match lab.ask_one(request)? {
        Response::Done { lines: all } => lines(&all)?,
        other => return Err(Error::of(other)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an object as JSON, for people and programs.
pub(super) fn json(object: &Value) -> Result<(), Error> {
    text(&format!("{object:#}\n"))
}

/// Writes an object as YAML.
pub(super) fn yaml(object: &Value) -> Result<(), Error> {
    text(&serde_saphyr::to_string(object).map_err(Error::new)?)
}

/// Several objects as one.
///
/// Source: `v1.List` of kubectl.
pub(super) fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

#[cfg(test)]
mod tests {
    use saphyr::{LoadableYamlNode, Yaml};

    use super::*;

    #[test]
    fn yaml_keeps_strings_apart_from_what_they_look_like() {
        let strings = [
            "yes",
            "no",
            "on",
            "null",
            "~",
            "1",
            "1.0",
            "0x1f",
            "1e3",
            "true",
            "",
            " a",
            "a: b",
            "#x",
            "- a",
            "2026-01-02",
            "a\nb\n",
            "*",
            "&a",
            "!x",
            "%",
            "@",
            "`",
            "'",
            "\"",
            "{",
            "[",
            "1_000",
            "0o7",
            ".inf",
            ":",
            "?",
            "|",
            ">",
            "=",
            "<<",
            "é",
            "10.4.0.0/14",
        ];
        let object = json!({ "items": strings.to_vec() });
        let written = serde_saphyr::to_string(&object).unwrap();
        let documents = Yaml::load_from_str(&written).unwrap();
        let items = documents[0].as_mapping_get("items").and_then(Yaml::as_sequence).unwrap();
        let read: Vec<_> = items.iter().map(Yaml::as_str).collect();
        assert_eq!(read, strings.map(Some), "{written}");
    }
}
