//! Problems as text: the lines they are in, a caret, and what would be right.

use std::fmt::{self, Display};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use super::{Place, Problem, Severity};

/// Problems that are shown in full; how many more there are is told.
const SHOWN: usize = 50;
/// Columns of text that are filled.
const WIDTH: usize = 100;

/// How a text may be decorated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For files and pipes.
    Plain,
    /// For terminals.
    Coloured,
}

pub(super) fn all(problems: &[Problem], look: Look) -> String {
    let theme = match look {
        Look::Plain => GraphicalTheme::unicode_nocolor(),
        Look::Coloured => GraphicalTheme::unicode(),
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_context_lines(1)
        .with_wrap_lines(true);
    let mut text = String::new();
    for problem in problems.iter().take(SHOWN) {
        // writing to a String cannot fail
        let _ = handler.render_report(&mut text, &Report::new(problem));
    }
    if let Some(more @ 1..) = problems.len().checked_sub(SHOWN) {
        text.push_str(&format!("  … and {more} more\n"));
    }
    text
}

/// A problem in the form miette wants.
#[derive(Debug)]
struct Report<'p> {
    problem: &'p Problem,
    lines: Option<Lines<'p>>,
}

impl<'p> Report<'p> {
    fn new(problem: &'p Problem) -> Self {
        Self { problem, lines: problem.place.as_ref().map(Lines) }
    }

    /// What stands beside the caret: object and field.
    fn subject(&self) -> Option<String> {
        let Problem { object, field, .. } = self.problem;
        match (object, field) {
            (Some(object), Some(field)) => Some(format!("{object}, {field}")),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

impl Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.problem.message)?;
        match self.subject() {
            Some(subject) if self.lines.is_none() => write!(formatter, " ({subject})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        let Problem { help, place, also, .. } = self.problem;
        let elsewhere = also.as_ref().filter(|(other, _)| !is_beside(place.as_ref(), other));
        let elsewhere = elsewhere.map(|(other, what)| format!("{what} at {other}"));
        let lines: Vec<_> = help.iter().chain(&elsewhere).map(String::as_str).collect();
        if lines.is_empty() { None } else { Some(Box::new(lines.join("\n"))) }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.lines.as_ref().map(|lines| lines as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Problem { place, also, .. } = self.problem;
        let here = place.as_ref()?;
        let main = LabeledSpan::new_primary_with_span(self.subject(), first_line(here));
        let other = also.as_ref().filter(|(other, _)| is_beside(Some(here), other));
        let other = other
            .map(|(place, what)| LabeledSpan::new_with_span(Some(what.clone()), first_line(place)));
        Some(Box::new([main].into_iter().chain(other)))
    }
}

fn is_beside(place: Option<&Place>, other: &Place) -> bool {
    place.is_some_and(|place| place.source.is(&other.source))
}

/// What is marked: a caret under several lines would mark nothing.
fn first_line(place: &Place) -> SourceSpan {
    let written = place.source.text().get(place.span.range()).unwrap_or("");
    let length = written.lines().next().unwrap_or("").trim_end().len();
    SourceSpan::new(place.span.start().into(), length)
}

/// The lines about a place. Only those are looked at, however long the text is.
#[derive(Debug)]
struct Lines<'p>(&'p Place);

impl SourceCode for Lines<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let source = &self.0.source;
        let text = source.text().as_bytes();
        let (before, rest) =
            text.split_at_checked(span.offset()).ok_or(MietteError::OutOfBounds)?;
        let newlines_before = before.iter().rev().enumerate().filter(|(_, octet)| **octet == b'\n');
        let start = newlines_before.map(|(at, _)| before.len() - at).nth(lines_before).unwrap_or(0);
        let newlines_after =
            rest.iter().enumerate().skip(span.len()).filter(|(_, octet)| **octet == b'\n');
        let end = newlines_after.map(|(at, _)| before.len() + at).nth(lines_after);
        let end = end.unwrap_or(text.len());
        let data = text.get(start..end).ok_or(MietteError::OutOfBounds)?;
        #[expect(clippy::naive_bytecount, reason = "once per message; no crate for that")]
        let newlines = |text: &[u8]| text.iter().filter(|octet| **octet == b'\n').count();
        let line = newlines(text.get(..start).unwrap_or(&[]));
        Ok(Box::new(MietteSpanContents::new_named(
            source.name().to_owned(),
            data,
            SourceSpan::new(start.into(), data.len()),
            line,
            0,
            newlines(data) + 1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Source, Span};

    fn problem() -> Problem {
        let source = Source::new("lab.toml", "[a]\nmtu = 9\n\n[[b]]\nmtu = 9\n# end\n");
        let place = |start, end| Place { source: source.clone(), span: Span::new(start, end) };
        Problem {
            severity: Severity::Error,
            message: "mtu stands here again".into(),
            object: Some("Pod default/b".into()),
            field: Some("mtu".into()),
            help: Some("remove one".into()),
            place: Some(place(19, 26)),
            also: Some((place(4, 7), "first here".into())),
        }
    }

    #[test]
    fn a_problem_shows_its_lines_and_a_caret() {
        let text = all(&[problem()], Look::Plain);
        for part in [
            "× mtu stands here again",
            "lab.toml:5:1",
            " 5 │ mtu = 9",
            "── Pod default/b, mtu",
            " 2 │ mtu = 9",
            "first here",
            "help: remove one",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_place_in_another_text_is_named() {
        let mut problem = problem();
        let other = Source::new("b.yaml", "x\ny\n");
        problem.also =
            Some((Place { source: other, span: Span::new(2, 3) }, "first written".into()));
        let text = all(&[problem], Look::Plain);
        assert!(text.contains("first written at b.yaml:2:1"), "{text}");
    }

    #[test]
    fn without_a_place_the_object_stands_in_the_message() {
        let problem = Problem { place: None, also: None, ..problem() };
        let text = all(&[problem], Look::Plain);
        assert!(text.contains("mtu stands here again (Pod default/b, mtu)"), "{text}");
    }

    #[test]
    fn a_flood_is_counted() {
        let text = all(&vec![problem(); SHOWN + 7], Look::Plain);
        assert!(text.ends_with("  … and 7 more\n"), "{text}");
    }

    #[test]
    fn places_at_the_end_of_a_text_are_shown() {
        let source = Source::new("a", "x = [\n");
        for (start, end) in [(6, 6), (5, 6), (4, 5)] {
            let place = Place { source: source.clone(), span: Span::new(start, end) };
            let problem = Problem { place: Some(place), also: None, ..problem() };
            assert!(all(&[problem], Look::Plain).contains("a:"));
        }
    }
}
