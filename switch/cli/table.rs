//! Tables as kubectl aligns them.

/// Blanks between two columns.
const GAP: usize = 3;

/// Rows of cells under headings, each column as wide as its widest cell so far.
#[derive(Debug)]
pub(super) struct Table {
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let mut table = Self { widths: Vec::new(), rows: Vec::new() };
        table.push(headings.into_iter().map(str::to_owned).collect());
        table
    }

    pub(super) fn push(&mut self, row: Vec<String>) {
        self.widths.resize(self.widths.len().max(row.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
        self.rows.push(row);
    }

    /// The rows since the last time, as lines; control characters, which a terminal would obey,
    /// as `?`.
    pub(super) fn render(&mut self) -> String {
        let mut text = String::new();
        for row in self.rows.drain(..) {
            let start = text.len();
            for (cell, width) in row.iter().zip(&self.widths) {
                text.extend(cell.chars().map(|c| if c.is_control() { '?' } else { c }));
                let blanks = (width + GAP).saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n(' ', blanks));
            }
            text.truncate(start.max(text.trim_end_matches(' ').len()));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "READY", "IP"]);
        table.push(vec!["client".into(), "1/1".into(), "10.4.0.2".into()]);
        table.push(vec!["é\u{1b}[2J".into(), "0/1".into(), String::new()]);
        let expected = "\
NAME     READY   IP
client   1/1     10.4.0.2
é?[2J    0/1
";
        assert_eq!(table.render(), expected);
        table.push(vec!["a".into(), "1/1".into(), "10.4.0.3".into()]);
        assert_eq!(table.render(), "a        1/1     10.4.0.3\n", "as wide as before");
    }
}
