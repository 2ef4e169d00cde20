//! What people read of a run: a line for each case, and the differences.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::findings::Findings;

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It went as it must.
    Passed,
    /// It did not.
    Failed,
    /// It cannot be read or carried out, for this reason.
    Broken(String),
    /// It was left out, for this reason.
    Skipped(String),
    /// It was measured; nothing is asked of it.
    Reported,
}

/// A case that was looked at.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// Where it is written.
    pub file: PathBuf,
    /// Its name; that of the file if it could not be read.
    pub name: String,
    /// What it is about; empty if it could not be read.
    pub area: &'static str,
    /// Its title.
    pub title: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether it has a lab: else it judges tables and packets alone, in memory or not.
    pub has_lab: bool,
    /// What was found.
    pub findings: Findings,
    /// How long it took.
    pub took: Duration,
}

/// Lines of what was seen that are printed for a difference.
const WHY_LINES: usize = 20;

/// One line, and the differences below it.
impl fmt::Display for CaseReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, name, verdict, findings, .. } = self;
        match verdict {
            Verdict::Passed => write!(formatter, "ok      {name}")?,
            Verdict::Failed => write!(formatter, "FAIL    {name}: {}", self.title)?,
            Verdict::Broken(why) => {
                return writeln!(formatter, "BROKEN  {name} ({}): {why}", file.display());
            }
            Verdict::Skipped(why) => return writeln!(formatter, "skip    {name} ({why})"),
            Verdict::Reported => {
                let (judged, otherwise) = (findings.judged, findings.differences.len());
                let counts = format!("{judged} judged, {otherwise} came out otherwise");
                write!(formatter, "report  {name}: {} ({counts})", self.title)?;
            }
        }
        for left in &findings.left_out {
            write!(formatter, " (left out: {left})")?;
        }
        writeln!(formatter)?;
        formatter.write_str(&differences(findings))
    }
}

/// Each difference in a few lines.
pub fn differences(findings: &Findings) -> String {
    let mut text = String::new();
    for difference in &findings.differences {
        let place = match (difference.step.as_str(), difference.item.as_str()) {
            ("", item) => item.to_owned(),
            (step, "") => step.to_owned(),
            (step, item) => format!("{step} / {item}"),
        };
        // writing to a string cannot fail
        let _ = writeln!(text, "    {place}");
        let _ = writeln!(text, "      expected  {}", difference.expected);
        let _ = writeln!(text, "      got       {}", difference.got);
        for line in difference.why.iter().take(WHY_LINES) {
            let _ = writeln!(text, "                {line}");
        }
        if let Some(more) = difference.why.len().checked_sub(WHY_LINES).filter(|more| *more > 0) {
            let _ = writeln!(text, "                and {more} more lines");
        }
    }
    text
}

/// How many cases became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Went as they must.
    pub passed: usize,
    /// Did not, or could not be read or carried out.
    pub failed: usize,
    /// Were left out.
    pub skipped: usize,
    /// Were measured.
    pub reported: usize,
    /// Of all these, judge tables and packets alone: there is no lab in them.
    pub without_lab: usize,
}

impl Summary {
    /// That of these cases.
    pub fn of<'r>(reports: impl IntoIterator<Item = &'r CaseReport>) -> Self {
        let mut summary = Self::default();
        for report in reports {
            let count = match report.verdict {
                Verdict::Passed => &mut summary.passed,
                Verdict::Failed | Verdict::Broken(_) => &mut summary.failed,
                Verdict::Skipped(_) => &mut summary.skipped,
                Verdict::Reported => &mut summary.reported,
            };
            *count += 1;
            summary.without_lab += usize::from(!report.has_lab);
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, reported, without_lab } = self;
        write!(
            formatter,
            "{passed} passed, {failed} failed, {skipped} skipped, {reported} reported"
        )?;
        match without_lab {
            0 => Ok(()),
            count => write!(formatter, "; {count} of them on tables alone, without a lab"),
        }
    }
}
