//! What must hold all the time, and where it did not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Breaches of an invariant that are told in words; the others are counted.
const TOLD_MAX: usize = 5;

/// Something that must hold all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Whoever answers is the one that was asked, and says the word that was said.
    RightPod,
    /// Nobody answers, or is reached by, whom policies forbid.
    Forbidden,
    /// No frame is judged by two generations: it is not sent where the same generation forbids it, nor
    /// to a colour that is not of the generation in force.
    OneGeneration,
    /// Connections go on, whatever is done.
    Lasting,
    /// Once all is as at first, all traffic gets through.
    ComesBack,
    /// What is asked of the switch is done, and it does not panic.
    Answers,
    /// Memory, descriptors, threads, devices, namespaces, files and flows do not grow.
    NoLeak,
    /// Nothing is left at the end.
    NothingLeft,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RightPod,
        Self::Forbidden,
        Self::OneGeneration,
        Self::Lasting,
        Self::ComesBack,
        Self::Answers,
        Self::NoLeak,
        Self::NothingLeft,
    ];

    /// It in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::RightPod => "the pod that was asked answers, and what it was asked",
            Self::Forbidden => "nobody gets where policies forbid it",
            Self::OneGeneration => "no frame sees two generations",
            Self::Lasting => "connections outlive all that is done",
            Self::ComesBack => "all traffic gets through when nothing is done",
            Self::Answers => "the switch does what it is asked, and does not panic",
            Self::NoLeak => "nothing grows",
            Self::NothingLeft => "nothing is left at the end",
        }
    }
}

/// How one kind of traffic fared.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers.
    pub answered: AtomicU64,
    /// Questions without an answer: lost to what was done, or meant to be.
    pub silent: AtomicU64,
}

/// What all clients share.
#[derive(Debug)]
pub struct Findings {
    begun: Instant,
    breaches: Mutex<BTreeMap<Invariant, (u64, Vec<String>)>>,
    /// Silences of the traffic that looks for them: when each began, and how long it was.
    silences: Mutex<Vec<(Instant, Duration)>>,
    /// What had begun when.
    actions: Mutex<Vec<(Instant, &'static str)>>,
    /// Twice the number of colour changes done; odd while one is under way.
    colours: AtomicU64,
    /// Whether clients are to say nothing new.
    is_quiet: AtomicBool,
    is_over: AtomicBool,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            breaches: Mutex::default(),
            silences: Mutex::default(),
            actions: Mutex::default(),
            colours: AtomicU64::new(0),
            is_quiet: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Findings {
    /// Something did not hold.
    pub fn breach(&self, invariant: Invariant, what: &str) {
        let mut breaches = locked(&self.breaches);
        let (count, told) = breaches.entry(invariant).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            let mut line = format!("{:.1} s: {what}", self.begun.elapsed().as_secs_f64());
            let actions = locked(&self.actions);
            // writing to a string cannot fail
            for (when, action) in actions.iter().rev().take(2) {
                let _ = write!(line, "; {action} {:.1} s before", when.elapsed().as_secs_f64());
            }
            told.push(line);
        }
    }

    /// How often each invariant did not hold, and some of the times in words.
    pub fn breaches(&self) -> BTreeMap<Invariant, (u64, Vec<String>)> {
        locked(&self.breaches).clone()
    }

    /// Something is done now.
    pub fn act(&self, action: &'static str) {
        locked(&self.actions).push((Instant::now(), action));
    }

    /// What was done how often.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (_, action) in locked(&self.actions).iter() {
            *counts.entry(*action).or_default() += 1;
        }
        counts
    }

    /// Nobody was heard from then on for so long.
    pub fn silence(&self, begun: Instant, length: Duration) {
        locked(&self.silences).push((begun, length));
    }

    /// The silences by what was done last before their end, longest first.
    pub fn silences(&self) -> BTreeMap<&'static str, Vec<Duration>> {
        let actions = locked(&self.actions);
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (begun, length) in locked(&self.silences).iter() {
            let end = *begun + *length;
            let cause = actions.iter().rev().find(|(when, _)| *when < end);
            found.entry(cause.map_or("start", |(_, action)| action)).or_default().push(*length);
        }
        for lengths in found.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
        }
        found
    }

    /// A change of colours begins, or is done.
    pub fn turn_colours(&self) -> u64 {
        // the change itself goes by files and sockets, which order it
        self.colours.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Twice the number of colour changes done; odd while one is under way.
    pub fn colours(&self) -> u64 {
        self.colours.load(Ordering::SeqCst)
    }

    /// Has clients say nothing new, or go on.
    pub fn quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::SeqCst);
    }

    /// Whether clients are to say nothing new.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::SeqCst)
    }

    /// Has clients end.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// Whether clients are to end.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}
