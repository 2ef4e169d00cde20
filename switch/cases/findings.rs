//! What a judge has found.

use super::stage::Attempt;

/// Something that came out otherwise than the case says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which step.
    pub step: String,
    /// What in it.
    pub item: String,
    /// What had to come of it.
    pub expected: String,
    /// What came of it.
    pub got: String,
    /// What was seen on the way.
    pub why: Vec<String>,
}

/// Everything that a judge has found so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    step: String,
    item: String,
    /// How many things were judged.
    pub judged: usize,
    /// What came out otherwise.
    pub differences: Vec<Difference>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

impl Findings {
    /// A step begins.
    pub fn step(&mut self, name: &str) {
        name.clone_into(&mut self.step);
        self.item.clear();
    }

    /// Something is about to be judged.
    pub fn item(&mut self, name: impl Into<String>) {
        self.item = name.into();
        self.judged += 1;
    }

    /// What is judged came out otherwise.
    pub fn differs(
        &mut self,
        expected: impl Into<String>,
        got: impl Into<String>,
        why: Vec<String>,
    ) {
        self.differences.push(Difference {
            step: self.step.clone(),
            item: self.item.clone(),
            expected: expected.into(),
            got: got.into(),
            why,
        });
    }

    /// A connection came out otherwise.
    pub fn differs_by(&mut self, expected: impl Into<String>, attempt: &Attempt) {
        self.differs(expected, attempt.outcome.to_string(), attempt.story());
    }

    /// Says more of what came out otherwise last.
    pub fn because(&mut self, lines: Vec<String>) {
        if let Some(last) = self.differences.last_mut() {
            last.why.extend(lines);
        }
    }

    /// What is judged cannot be, for this reason.
    pub fn leave_out(&mut self, why: impl Into<String>) {
        self.judged = self.judged.saturating_sub(1);
        self.left_out.push(format!("{}: {}", self.item, why.into()));
    }
}
