//! The files of a lab.

use std::fs;
use std::path::{Path, PathBuf};

use super::Draft;
use crate::error::Findings;
use crate::lab;
use crate::manifest;
use crate::path::Field;
use crate::settings::Settings;
use crate::source::Source;
use crate::suggest;
use crate::tree::Format;

pub(super) fn read(path: &Path) -> Draft {
    match text_of(path) {
        Ok(text) => {
            let directory = path.parent().unwrap_or(Path::new(""));
            read_text(&path.display().to_string(), text, directory)
        }
        Err(reason) => {
            let mut draft = Draft::new(Settings::default());
            draft.is_broken = true;
            let help =
                beside(path).unwrap_or_else(|| "name a lab file that can be read".to_owned());
            let message = format!("cannot read {}: {reason}", path.display());
            draft.findings.error(Field::default(), message, help);
            draft
        }
    }
}

pub(super) fn read_text(name: &str, text: String, directory: &Path) -> Draft {
    let mut draft = Draft::new(Settings::default());
    draft.add_lab(lab::read(&Source::new(name, text), directory));
    let mut sources = Vec::new();
    for (index, pattern) in draft.settings.lab.manifests.clone().iter().enumerate() {
        let mut findings = Findings::default();
        for path in matches(directory, pattern, &mut findings) {
            match text_of(&path) {
                Ok(text) => {
                    let name = path.display().to_string();
                    let format = Format::of_manifest(&name);
                    // a file that two patterns name is one file
                    if sources.iter().all(|(source, _): &(Source, _)| source.name() != name) {
                        sources.push((Source::new(name, text), format));
                    }
                }
                Err(reason) => {
                    let message = format!("cannot read {}: {reason}", path.display());
                    findings.error(Field::default(), message, "name files that can be read");
                }
            }
        }
        draft.is_broken |= findings.has_errors();
        let origin = draft.lab.clone();
        for mut finding in findings.0 {
            finding.field = Field::of("lab").key("manifests").index(index);
            finding.origin.clone_from(&origin);
            draft.findings.0.push(finding);
        }
    }
    draft.add_manifests(manifest::read(&sources));
    draft
}

/// The files that a name or pattern stands for, in order.
fn matches(directory: &Path, pattern: &str, findings: &mut Findings) -> Vec<PathBuf> {
    let whole = directory.join(pattern);
    if !pattern.contains(['*', '?', '[']) {
        if whole.is_file() {
            return vec![whole];
        }
        let message = format!("there is no file {}", whole.display());
        findings.error(
            Field::default(),
            message,
            beside(&whole).unwrap_or_else(|| relative(directory)),
        );
        return Vec::new();
    }
    // only what the user wrote is a pattern, not the directory's own name
    let escaped = Path::new(&glob::Pattern::escape(&directory.display().to_string())).join(pattern);
    let paths = match glob::glob(&escaped.display().to_string()) {
        Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect::<Vec<_>>(),
        Err(error) => {
            let message = format!("{pattern:?} is not a pattern: {}", error.msg);
            findings.error(Field::default(), message, "write a pattern as in \"shop/*.yaml\"");
            return Vec::new();
        }
    };
    if paths.is_empty() {
        let message = format!("no file matches {}", whole.display());
        findings.error(Field::default(), message, relative(directory));
    }
    paths
}

fn relative(directory: &Path) -> String {
    if directory.as_os_str().is_empty() {
        "names are relative to the lab file".to_owned()
    } else {
        format!("names are relative to the lab file, in {}", directory.display())
    }
}

/// The file there that may have been meant.
fn beside(path: &Path) -> Option<String> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let names = fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let wanted = path.file_name()?.to_str()?;
    let meant = suggest::closest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean {}?", path.with_file_name(meant).display()))
}

fn text_of(path: &Path) -> Result<String, String> {
    let octets = fs::read(path).map_err(|error| error.to_string())?;
    if octets.len() > Source::LIMIT {
        return Err("it is larger than 4 GiB".to_owned());
    }
    let text = String::from_utf8(octets);
    text.map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        format!("it is not UTF-8 text from octet {valid} on")
    })
}
