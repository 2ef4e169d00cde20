//! The running lab that a command is about.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::control::request::{Request, Response};
use crate::control::socket::{self, Answers};

/// A lab whose switch runs, or did a moment ago.
#[derive(Clone, Debug)]
pub(super) struct Lab {
    directory: PathBuf,
    name: String,
}

impl Lab {
    /// The lab of this name, or the only one that runs.
    pub(super) fn choose(name: Option<String>) -> Result<Self, Error> {
        Self::choose_in(Path::new(socket::DIRECTORY), name)
    }

    fn choose_in(directory: &Path, name: Option<String>) -> Result<Self, Error> {
        let directory = directory.to_owned();
        if let Some(name) = name {
            if name.is_empty() || name.starts_with('.') || name.contains('/') {
                return Err(Error::new(format_args!("{name:?} is no name of a lab")));
            }
            return Ok(Self { directory, name });
        }
        let mut running = socket::running_labs(&directory).map_err(|error| {
            Error::new(format_args!("{}: {error}{}", directory.display(), hint(&error)))
        })?;
        match (running.pop(), running.len()) {
            (Some(name), 0) => Ok(Self { directory, name }),
            (Some(last), _) => Err(Error::new(format_args!(
                "several labs run, choose one by --lab: {}, {last}",
                running.join(", ")
            ))),
            (None, _) => Err(Error::new("no lab runs; start one with: kswitch --config lab.toml")),
        }
    }

    /// The responses to a request, up to the first that says it failed.
    pub(super) fn ask(&self, request: &Request) -> Result<Responses<'_>, Error> {
        let answers = socket::ask(&self.directory, &self.name, request);
        Ok(Responses { answers: answers.map_err(|error| self.error(&error))?, lab: self })
    }

    /// The response to a request that has one.
    pub(super) fn ask_one(&self, request: &Request) -> Result<Response, Error> {
        let nothing = || Err(self.error(&ErrorKind::UnexpectedEof.into()));
        self.ask(request)?.next().unwrap_or_else(nothing)
    }

    /// Which socket its switch has: a switch that begins anew has another.
    pub(super) fn incarnation(&self) -> Option<u64> {
        let file = fs::symlink_metadata(socket::path_of(&self.directory, &self.name)).ok()?;
        Some(file.ino())
    }

    fn error(&self, error: &io::Error) -> Error {
        let name = &self.name;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                let running = socket::running_labs(&self.directory).unwrap_or_default();
                let others = match running.as_slice() {
                    [] => "none does".to_owned(),
                    names => format!("running: {}", names.join(", ")),
                };
                Error::new(format_args!("lab {name} does not run; {others}"))
            }
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                Error::new(format_args!("the switch of lab {name} went away, or cut this off"))
            }
            _ => Error::new(format_args!("lab {name}: {error}{}", hint(error))),
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == ErrorKind::PermissionDenied {
        " (a lab is asked with root rights)"
    } else {
        ""
    }
}

/// Responses as they come.
#[derive(Debug)]
pub(super) struct Responses<'a> {
    answers: Answers,
    lab: &'a Lab,
}

impl Iterator for Responses<'_> {
    type Item = Result<Response, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.answers.next()? {
            Ok(failed @ Response::Failed { .. }) => Err(Error::of(failed)),
            Ok(response) => Ok(response),
            Err(error) => Err(self.lab.error(&error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(directory: &Path, name: Option<&str>) -> String {
        Lab::choose_in(directory, name.map(str::to_owned)).unwrap_err().to_string()
    }

    #[test]
    fn the_only_lab_is_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(message(path, None).starts_with("no lab runs"));
        let _first = socket::bind(path, "first").unwrap();
        assert_eq!(Lab::choose_in(path, None).unwrap().name, "first");
        let _second = socket::bind(path, "second").unwrap();
        assert_eq!(message(path, None), "several labs run, choose one by --lab: first, second");
        assert_eq!(Lab::choose_in(path, Some("second".into())).unwrap().name, "second");
        for wrong in ["", "../x", "a/b", ".x"] {
            assert!(message(path, Some(wrong)).contains("no name of a lab"));
        }
    }

    #[test]
    fn a_lab_that_does_not_run_is_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let lab = Lab::choose_in(directory.path(), Some("absent".into())).unwrap();
        let error = lab.ask_one(&Request::Reload).unwrap_err().to_string();
        assert_eq!(error, "lab absent does not run; none does");
        let _other = socket::bind(directory.path(), "other").unwrap();
        let error = lab.ask_one(&Request::Reload).unwrap_err().to_string();
        assert_eq!(error, "lab absent does not run; running: other");
    }
}
