//! Measurements of several beds in turn, their medians and ratios, as a table and a plot.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What was measured: for each row of the table, for each bed, a value per round.
#[derive(Clone, Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    title: String,
    unit: &'static str,
    values: BTreeMap<&'static str, Vec<f64>>,
}

/// The middle one, and the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the values are not above it.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// The spread of some values; `None` of none.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Spread {
        median: *sorted.get(sorted.len() / 2)?,
        least: *sorted.first()?,
        most: *sorted.last()?,
    })
}

/// A goal that a ratio of two beds is held to.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The row.
    pub title: String,
    /// The bed it is about.
    pub of: &'static str,
    /// The bed it is compared with.
    pub to: &'static str,
    /// The ratio that is wished for.
    pub bound: f64,
    /// Whether less is better.
    pub is_most: bool,
}

impl Report {
    /// Takes note of a value.
    pub fn add(
        &mut self,
        (title, unit, scale): (&str, &'static str, f64),
        bed: &'static str,
        value: f64,
    ) {
        let at = self.rows.iter().position(|row| row.title == title).unwrap_or_else(|| {
            let title = title.to_owned();
            self.rows.push(Row { title, unit, values: BTreeMap::new() });
            self.rows.len() - 1
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.values.entry(bed).or_default().push(value / scale);
        }
    }

    fn values(&self, title: &str, bed: &str) -> Option<&[f64]> {
        let row = self.rows.iter().find(|row| row.title == title)?;
        row.values.get(bed).map(Vec::as_slice)
    }

    /// The ratios of one bed to another, round by round.
    pub fn ratio(&self, title: &str, of: &str, to: &str) -> Option<Spread> {
        let both = self.values(title, of)?.iter().zip(self.values(title, to)?);
        let ratios: Vec<f64> = both.filter(|(_, to)| **to > 0.0).map(|(of, to)| of / to).collect();
        spread(&ratios)
    }

    /// The medians of every bed, with their spreads, as a table of Markdown.
    pub fn table(&self, beds: &[&'static str]) -> String {
        let mut text = format!("| measured | unit | {} |\n|---|---|", beds.join(" | "));
        text.push_str(&"---|".repeat(beds.len()));
        for row in &self.rows {
            // writing to a string cannot fail
            let _ = write!(text, "\n| {} | {} |", row.title, row.unit);
            for bed in beds {
                let cell = row.values.get(bed).and_then(|values| spread(values)).map_or_else(
                    || " – |".to_owned(),
                    |Spread { median, least, most }| {
                        format!(" **{median:.2}** ({least:.2}–{most:.2}) |")
                    },
                );
                text.push_str(&cell);
            }
        }
        text.push('\n');
        text
    }

    /// The goals and what became of them, as a table of Markdown.
    pub fn goals(&self, goals: &[Goal]) -> String {
        let mut text = String::from(
            "| measured | ratio of | to | median (spread) | goal | |\n|---|---|---|---|---|---|\n",
        );
        for Goal { title, of, to, bound, is_most } in goals {
            let Some(Spread { median, least, most }) = self.ratio(title, of, to) else { continue };
            let holds = if *is_most { median <= *bound } else { median >= *bound };
            let (sign, word) =
                (if *is_most { "≤" } else { "≥" }, if holds { "met" } else { "missed" });
            let _ = writeln!(
                text,
                "| {title} | {of} | {to} | {median:.2} ({least:.2}–{most:.2}) | {sign} {bound} | {word} |"
            );
        }
        text
    }

    /// A plot of the rows of one unit: a bar for every bed, a whisker from least to most.
    pub fn plot(&self, unit: &str, beds: &[&'static str]) -> String {
        let rows: Vec<_> = self.rows.iter().filter(|row| row.unit == unit).collect();
        let all = rows.iter().flat_map(|row| row.values.values().flatten());
        let most = all.copied().fold(f64::MIN_POSITIVE, f64::max);
        let across = |value: f64| value / most * (WIDTH - LEFT - 60.0);
        let (mut body, mut y) = (String::new(), TOP);
        for row in rows {
            let _ = writeln!(body, "<text x=\"8\" y=\"{:.0}\">{}</text>", y + BAR, row.title);
            for (number, bed) in beds.iter().enumerate() {
                let values = row.values.get(bed).and_then(|values| spread(values));
                let Some(Spread { median, least, most }) = values else { continue };
                let colour = COLOURS.get(number % COLOURS.len()).unwrap_or(&"#888");
                let (length, middle) = (across(median), y + BAR / 2.0);
                let (from, to) = (LEFT + across(least), LEFT + across(most));
                let _ = writeln!(
                    body,
                    "<rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\
                     <path d=\"M{from:.1} {middle:.1}H{to:.1}\" stroke=\"#222\"/>\
                     <text x=\"{:.0}\" y=\"{:.0}\">{median:.2}</text>",
                    BAR - 2.0,
                    to + 4.0,
                    y + BAR - 3.0,
                );
                y += BAR;
            }
            y += GAP;
        }
        let mut legend = String::new();
        for (number, bed) in beds.iter().enumerate() {
            let colour = COLOURS.get(number % COLOURS.len()).unwrap_or(&"#888");
            let x = 8 + number * 140;
            let _ = writeln!(
                legend,
                "<rect x=\"{x}\" y=\"26\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"35\">{bed}</text>",
                x + 14
            );
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"8\" y=\"16\" font-size=\"13\">{unit}, medians; lines from least to most</text>\n\
             {legend}{body}</svg>\n"
        )
    }
}

/// Measures of a plot, pixels.
const WIDTH: f64 = 900.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
const LEFT: f64 = 270.0;
const TOP: f64 = 52.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#79706e"];

#[cfg(test)]
mod tests {
    use super::*;

    const PPS: (&str, &str, f64) = ("64 octets", "Mpps", 1e6);

    fn report() -> Report {
        let mut report = Report::default();
        for (ours, theirs) in [(2e6, 1e6), (3e6, 2e6), (1e6, 1e6)] {
            report.add(PPS, "ours", ours);
            report.add(PPS, "theirs", theirs);
        }
        report
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let ratio = report().ratio("64 octets", "ours", "theirs").unwrap();
        assert_eq!(ratio, Spread { median: 1.5, least: 1.0, most: 2.0 });
        assert!(report().ratio("64 octets", "ours", "nobody").is_none());
    }

    #[test]
    fn what_is_missed_is_said() {
        let goal = |bound, is_most| Goal {
            title: "64 octets".into(),
            of: "ours",
            to: "theirs",
            bound,
            is_most,
        };
        let text = report().goals(&[goal(1.4, false), goal(1.6, false), goal(1.6, true)]);
        let ends: Vec<_> =
            text.lines().skip(2).filter_map(|line| line.rsplit("| ").next()).collect();
        assert_eq!(ends, ["met |", "missed |", "met |"]);
        let table = report().table(&["ours", "nobody"]);
        assert!(table.contains("| 64 octets | Mpps | **2.00** (1.00–3.00) | – |"), "{table}");
        assert!(report().plot("Mpps", &["ours", "theirs"]).ends_with("</svg>\n"));
    }
}
