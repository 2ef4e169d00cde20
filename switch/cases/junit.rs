//! The report as `JUnit` XML, as continuous integration reads it.

use std::fmt::Write;

use super::report::{CaseReport, Summary, Verdict, differences};

/// The whole report: a test suite for each area, a test case for each case.
pub fn document(reports: &[CaseReport]) -> String {
    let mut areas: Vec<&str> = Vec::new();
    for report in reports {
        if !areas.contains(&report.area) {
            areas.push(report.area);
        }
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all = attributes(reports.iter());
    // writing to a string cannot fail
    let _ = writeln!(xml, "<testsuites name=\"kswitch test\"{all}>");
    for area in areas {
        let cases = || reports.iter().filter(|report| report.area == area);
        let _ = writeln!(xml, "  <testsuite name=\"{}\"{}>", escaped(area), attributes(cases()));
        for report in cases() {
            case(&mut xml, report);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn attributes<'r>(reports: impl Iterator<Item = &'r CaseReport> + Clone) -> String {
    let Summary { passed, failed, skipped, reported, without_lab: _ } =
        Summary::of(reports.clone());
    let tests = passed + failed + skipped + reported;
    let broken = |report: &&CaseReport| matches!(report.verdict, Verdict::Broken(_));
    let errors = reports.clone().filter(broken).count();
    let failures = failed - errors;
    let time: f64 = reports.map(|report| report.took.as_secs_f64()).sum();
    format!(
        " tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" \
         time=\"{time:.3}\""
    )
}

fn case(xml: &mut String, report: &CaseReport) {
    let CaseReport { file, name, area, verdict, findings, took, .. } = report;
    let (name, area) = (escaped(name), escaped(area));
    let (file, time) = (escaped(&file.display().to_string()), took.as_secs_f64());
    let _ = write!(
        xml,
        "    <testcase name=\"{name}\" classname=\"{area}\" file=\"{file}\" time=\"{time:.3}\""
    );
    let text = escaped(&differences(findings));
    let count = findings.differences.len();
    let inner = match verdict {
        Verdict::Passed => String::new(),
        Verdict::Failed => {
            format!("<failure message=\"{count} of {} differ\">{text}</failure>", findings.judged)
        }
        Verdict::Broken(why) => format!("<error message=\"{}\"/>", escaped(why)),
        Verdict::Skipped(why) => format!("<skipped message=\"{}\"/>", escaped(why)),
        Verdict::Reported => format!("<system-out>{text}</system-out>"),
    };
    let _ =
        if inner.is_empty() { writeln!(xml, "/>") } else { writeln!(xml, ">{inner}</testcase>") };
}

/// Text as XML has it, in elements and attributes; what XML cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            control if control.is_control() => out.push('?'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::cases::findings::Findings;

    fn report(name: &str, verdict: Verdict) -> CaseReport {
        CaseReport {
            file: PathBuf::from("a.yaml"),
            name: name.to_owned(),
            area: "services",
            title: "a < b".to_owned(),
            verdict,
            has_lab: true,
            findings: Findings::default(),
            took: Duration::from_millis(5),
        }
    }

    #[test]
    fn cases_are_counted_and_escaped() {
        let mut failed = report("one", Verdict::Failed);
        failed.findings.item("x & y");
        failed.findings.differs("<1>", "\"2\"", vec!["\u{1}".to_owned()]);
        let skipped = report("two", Verdict::Skipped("requires x".to_owned()));
        let broken = report("three", Verdict::Broken("no such file".to_owned()));
        let xml = document(&[failed, skipped, broken]);
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("&lt;1&gt;") && xml.contains("x &amp; y"), "{xml}");
        assert!(!xml.contains('\u{1}'), "{xml}");
        assert_eq!(xml.matches("<testcase").count(), 3);
    }
}
