//! What can be wrong with a lab, and how that is told.

mod finding;
mod render;

use std::fmt;

pub(crate) use finding::{Finding, Findings, Origin, resolve};
pub use render::Look;

use crate::source::{Source, Span};

/// Whether something has to be put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The lab is refused.
    Error,
    /// The lab is taken, but not everything in it has an effect.
    Warning,
}

/// One thing that is wrong, or that somebody should know of.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Whether it has to be put right.
    pub severity: Severity,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// The object it is in, as `Service default/web`.
    pub object: Option<String>,
    /// The field it is in, as `spec.ports[0].port`.
    pub field: Option<String>,
    /// What would be right.
    pub help: Option<String>,
    /// Where it is written.
    pub place: Option<Place>,
    /// Another place that has to do with it, and what that is.
    pub also: Option<(Place, String)>,
}

impl Problem {
    /// The file it is in.
    pub fn file(&self) -> Option<&str> {
        Some(self.place.as_ref()?.source.name())
    }

    /// Line and column of the place, from 1.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        Some(self.place.as_ref()?.line_and_column())
    }
}

impl fmt::Display for Problem {
    /// In one line: `lab.toml:3:8: message (object, field); help`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(formatter, "{place}: ")?;
        }
        formatter.write_str(&self.message)?;
        match (&self.object, &self.field) {
            (Some(object), Some(field)) => write!(formatter, " ({object}, {field})")?,
            (Some(one), None) | (None, Some(one)) => write!(formatter, " ({one})")?,
            (None, None) => {}
        }
        match &self.help {
            Some(help) => write!(formatter, "; {help}"),
            None => Ok(()),
        }
    }
}

/// A stretch of a text that was read.
#[derive(Clone, Debug)]
pub struct Place {
    /// The text.
    pub source: Source,
    /// The stretch.
    pub span: Span,
}

impl Place {
    /// Line and column where it begins, from 1.
    pub fn line_and_column(&self) -> (usize, usize) {
        self.source.line_and_column(self.span.start())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        write!(formatter, "{}:{line}:{column}", self.source.name())
    }
}

/// All that is wrong with a lab; never empty.
#[derive(Clone, Debug)]
pub struct Errors {
    /// The errors, in the order of the files, then the warnings.
    pub problems: Vec<Problem>,
}

impl Errors {
    /// The text for people: every problem with its lines and a caret.
    pub fn render(&self, look: Look) -> String {
        render::all(&self.problems, look)
    }

    /// Those that have to be put right.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(Look::Plain))
    }
}

impl std::error::Error for Errors {}

/// The text for people of warnings, or of any other problems.
pub fn render(problems: &[Problem], look: Look) -> String {
    render::all(problems, look)
}
