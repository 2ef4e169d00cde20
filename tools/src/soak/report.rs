//! How it went.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::findings::Invariant;
use super::leaks::Sample;

/// Rows of the table of leaks at most; the rounds between are left out.
const SAMPLES_SHOWN: usize = 12;

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// What the schedule followed from.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// Rounds done.
    pub rounds: u64,
    /// What was done how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// Each kind of traffic: questions answered, and not.
    pub traffic: Vec<(&'static str, u64, u64)>,
    /// Events of flows that were looked at.
    pub flows_seen: u64,
    /// Silences by what was done last before their end, longest first.
    pub silences: BTreeMap<&'static str, Vec<Duration>>,
    /// What might have grown.
    pub samples: Vec<Sample>,
    /// How often each invariant did not hold, and some of the times in words.
    pub breaches: BTreeMap<Invariant, (u64, Vec<String>)>,
    /// Warnings and errors that the switch logged.
    pub logged: (usize, usize),
}

impl Report {
    /// Whether every invariant held.
    pub fn is_clean(&self) -> bool {
        self.breaches.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, took, rounds, counts, traffic, flows_seen, silences, samples, .. } = self;
        let minutes = took.as_secs_f64() / 60.0;
        writeln!(f, "Seed {seed}, {minutes:.1} minutes, {rounds} rounds.\n")?;
        writeln!(f, "| what was done | how often |\n|---|---|")?;
        for (action, count) in counts {
            writeln!(f, "| {action} | {count} |")?;
        }
        writeln!(f, "\n| traffic | answered | not answered |\n|---|---|---|")?;
        for (name, answered, silent) in traffic {
            writeln!(f, "| {name} | {answered} | {silent} |")?;
        }
        writeln!(f, "\nEvents of flows looked at: {flows_seen}.\n")?;
        writeln!(f, "| silences of 40 ms and more, after | how many | median, ms | worst, ms |")?;
        writeln!(f, "|---|---|---|---|")?;
        for (cause, lengths) in silences {
            let at = |at: usize| lengths.get(at).map_or(0, Duration::as_millis);
            let (count, median) = (lengths.len(), at(lengths.len() / 2));
            writeln!(f, "| {cause} | {count} | {median} | {} |", at(0))?;
        }
        writeln!(
            f,
            "\n| after round | life | memory, KiB | descriptors | TAP queues | threads | namespaces | kept files | flows |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        let every = samples.len().div_ceil(SAMPLES_SHOWN).max(1);
        let last = samples.len().saturating_sub(1);
        for (at, sample) in samples.iter().enumerate() {
            if at % every != 0 && at != last {
                continue;
            }
            let Sample {
                round,
                life,
                memory,
                descriptors,
                taps,
                threads,
                namespaces,
                files,
                flows,
            } = sample;
            writeln!(
                f,
                "| {round} | {life} | {memory} | {descriptors} | {taps} | {threads} | {namespaces} | {files} | {flows} |"
            )?;
        }
        let (warnings, errors) = self.logged;
        writeln!(f, "\nLogged: {warnings} warnings, {errors} errors.\n")?;
        writeln!(f, "| must hold | broken |\n|---|---|")?;
        for invariant in Invariant::ALL {
            let count = self.breaches.get(&invariant).map_or(0, |(count, _)| *count);
            writeln!(f, "| {} | {count} |", invariant.text())?;
        }
        for line in self.breaches.values().flat_map(|(_, told)| told) {
            writeln!(f, "\nBROKEN: {line}")?;
        }
        Ok(())
    }
}
