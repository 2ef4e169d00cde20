//! What must not grow: measured whenever the lab is what it was at first.

use std::fs;
use std::io;
use std::path::Path;

use super::findings::{Findings, Invariant};
use super::switch::Switch;

/// KiB of memory of its own that a process may have gained since it was first measured: what is
/// learned and counted takes room once, and an allocator keeps some.
const GAIN_MAX: u64 = 16 * 1_024;

/// Descriptors and threads that may be under way: a client that is answered, an entry into a
/// namespace.
const UNDER_WAY: u64 = 6;

/// Flows that may be there when all but the lasting ones have been silent for a while.
const FLOWS_MAX: u64 = 64;

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// After which round.
    pub round: u64,
    /// Which life of the switch.
    pub life: u64,
    /// Memory of the process's own, KiB.
    pub memory: u64,
    /// Descriptors.
    pub descriptors: u64,
    /// Of these, TAP queues.
    pub taps: u64,
    /// Threads.
    pub threads: u64,
    /// Network namespaces of the lab.
    pub namespaces: u64,
    /// Files kept for the next run.
    pub files: u64,
    /// Flows.
    pub flows: u64,
}

fn count(directory: &Path, wanted: impl Fn(&Path) -> bool) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| wanted(&entry.path())).count() as u64
}

/// The number behind a word at the beginning of a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(word))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

impl Sample {
    /// How much there is now.
    ///
    /// # Errors
    /// The process cannot be looked at, or does not answer.
    pub fn take(round: u64, switch: &Switch, lab: &str) -> io::Result<Self> {
        let process = Path::new("/proc").join(switch.pid().to_string());
        let status = fs::read_to_string(process.join("status"))?;
        let stats = switch.ask(&["conntrack", "stats"])?;
        let descriptors = process.join("fd");
        let missing = || io::Error::other("a number is missing");
        let is_tap =
            |path: &Path| fs::read_link(path).is_ok_and(|to| to == Path::new("/dev/net/tun"));
        let prefix = format!("{lab}.");
        let is_ours = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        };
        let kept = Path::new("/run/kswitch").join(format!("{lab}.kept"));
        Ok(Self {
            round,
            life: switch.life,
            memory: number(&status, "RssAnon:").ok_or_else(missing)?,
            descriptors: count(&descriptors, |_| true),
            taps: count(&descriptors, is_tap),
            threads: number(&status, "Threads:").ok_or_else(missing)?,
            namespaces: count(Path::new("/run/netns"), is_ours),
            files: count(&kept, |_| true) + count(&kept.join("pods"), |_| true),
            flows: number(&stats, "entries").ok_or_else(missing)?,
        })
    }

    /// What has grown beyond its bound since the first sample of all, and the first of this life.
    pub fn grown(&self, first: &Self, of_life: &Self) -> Vec<String> {
        let mut grown = Vec::new();
        let mut check = |what: &str, now: u64, then: u64, more: u64| {
            if now > then + more {
                grown.push(format!("{what}: {now} after round {}, {then} before", self.round));
            }
        };
        check("KiB of memory", self.memory, of_life.memory, GAIN_MAX);
        check("descriptors", self.descriptors, first.descriptors, UNDER_WAY);
        check("threads", self.threads, first.threads, UNDER_WAY);
        check("TAP queues", self.taps, first.taps, 0);
        check("namespaces", self.namespaces, first.namespaces, 0);
        check("kept files", self.files, first.files, 0);
        check("flows", self.flows, 0, FLOWS_MAX);
        grown
    }
}

/// All samples so far.
#[derive(Debug, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// Adds one, and says what has grown.
    pub fn add(&mut self, sample: Sample, findings: &Findings) {
        let first = self.0.first().copied().unwrap_or(sample);
        let of_life = self.0.iter().find(|old| old.life == sample.life).copied().unwrap_or(sample);
        for what in sample.grown(&first, &of_life) {
            findings.breach(Invariant::NoLeak, &what);
        }
        self.0.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_told_and_what_is_under_way_is_not() {
        let first = Sample { memory: 50_000, descriptors: 60, taps: 20, ..Sample::default() };
        let later = Sample { memory: 60_000, descriptors: 63, ..first };
        assert_eq!(later.grown(&first, &first), [] as [&str; 0]);
        let leaked = Sample { memory: 70_000, descriptors: 70, taps: 21, flows: 65, ..first };
        assert_eq!(leaked.grown(&first, &first).len(), 4);
        // another process has another memory, and the same descriptors
        let of_life = Sample { memory: 69_000, ..first };
        assert_eq!(leaked.grown(&first, &of_life).len(), 3);
    }

    #[test]
    fn a_number_follows_its_word() {
        let text = "NAME     VALUE\nentries  12\nRssAnon:\t   5120 kB\n";
        assert_eq!((number(text, "entries"), number(text, "RssAnon:")), (Some(12), Some(5120)));
        assert_eq!(number(text, "Threads:"), None);
    }
}
