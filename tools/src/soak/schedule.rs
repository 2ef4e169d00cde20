//! What is done to the lab, round after round: it follows from the seed alone.

use std::fmt;
use std::time::Duration;

/// Replicas of the Deployment that comes and goes, where a round begins and ends.
pub const REPLICAS: u32 = 3;

/// Of so many rounds the first half has kills and upgrades; in the other half one process lives on,
/// so that what it leaks adds up.
const ROUGH_AND_CALM: u64 = 8;

/// Steps of a round.
const STEPS: std::ops::RangeInclusive<u64> = 8..=12;

/// Something that is done to the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The Deployment gets so many replicas.
    Scale(u32),
    /// A pod of it is deleted: this one of those there are, round again.
    DeletePod(u32),
    /// All of its pods are replaced.
    Restart,
    /// The Services take the other colour's pods, and policies let through to none but these.
    Paint(Way),
    /// The lab's files are read again.
    Reload,
    /// A Service and a policy that nobody uses are applied.
    Add,
    /// They are deleted.
    Remove,
    /// A link is faulty from here on.
    Fault(Fault),
    /// No link is.
    Heal,
    /// A node is switched off.
    NodeDown,
    /// It is switched on.
    NodeUp,
    /// The switch is killed, and started again.
    Kill,
    /// The switch goes on as another run of its program.
    Upgrade,
}

/// How a change comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// By `kswitch apply`.
    Apply,
    /// By `kswitch reload`.
    Reload,
}

/// What is wrong with the link of the pod that bears such things. No bits are turned, since machines
/// leave checksums to be done on the way, and nobody could tell whose mistake it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Some frames are lost.
    Loss,
    /// Frames are late, and overtake each other.
    Delay,
    /// Some frames come twice.
    Double,
    /// Nothing passes.
    Cut,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Loss, Self::Delay, Self::Double, Self::Cut];

    /// What `kswitch link` calls it.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Loss => &["--loss", "5%"],
            Self::Delay => &["--delay", "10ms", "--jitter", "5ms", "--reorder", "5%"],
            Self::Double => &["--duplicate", "10%"],
            Self::Cut => &["--partition"],
        }
    }
}

impl Action {
    /// What it is, without its details: for counting.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scale(_) => "scale",
            Self::DeletePod(_) => "delete pod",
            Self::Restart => "restart deployment",
            Self::Paint(Way::Apply) => "other colour, apply",
            Self::Paint(Way::Reload) => "other colour, reload",
            Self::Reload => "reload",
            Self::Add => "apply more",
            Self::Remove => "delete more",
            Self::Fault(_) => "link fault",
            Self::Heal => "links healed",
            Self::NodeDown => "node down",
            Self::NodeUp => "node up",
            Self::Kill => "kill -9, start",
            Self::Upgrade => "upgrade",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(replicas) => write!(f, "scale to {replicas}"),
            Self::DeletePod(which) => write!(f, "delete pod {which}"),
            Self::Fault(fault) => write!(f, "link fault: {}", fault.arguments().join(" ")),
            other => f.write_str(other.name()),
        }
    }
}

/// An action, and how long nothing is done before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long to wait first.
    pub pause: Duration,
    /// What then.
    pub action: Action,
}

/// Some steps, after which the lab is made what it was at first, looked at and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Which round it is, from 1.
    pub number: u64,
    /// What is done.
    pub steps: Vec<Step>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}:", self.number)?;
        for Step { pause, action } in &self.steps {
            write!(f, "\n  after {:>4} ms: {action}", pause.as_millis())?;
        }
        Ok(())
    }
}

/// The rounds that follow from a seed; there is always another.
#[derive(Clone, Debug)]
pub struct Schedule {
    random: Random,
    number: u64,
}

impl Schedule {
    /// The rounds of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { random: Random(seed), number: 0 }
    }

    /// An action that makes sense where a node is off, or more is applied, or neither.
    fn action(&mut self, state: &mut State, is_rough: bool) -> Action {
        let random = &mut self.random;
        match random.below(24) {
            0..4 => Action::Scale(u32::try_from(random.below(6)).unwrap_or(REPLICAS) + 1),
            4..7 => Action::DeletePod(u32::try_from(random.below(6)).unwrap_or(0)),
            7 => Action::Restart,
            8..11 => Action::Paint(Way::Apply),
            11..13 => Action::Paint(Way::Reload),
            13 => Action::Reload,
            14..16 => {
                state.has_more = !state.has_more;
                if state.has_more { Action::Add } else { Action::Remove }
            }
            16..18 => {
                state.is_faulty = !state.is_faulty;
                let fault = usize::try_from(random.below(Fault::ALL.len() as u64));
                let fault = fault.ok().and_then(|at| Fault::ALL.get(at).copied());
                if state.is_faulty {
                    Action::Fault(fault.unwrap_or(Fault::Loss))
                } else {
                    Action::Heal
                }
            }
            18..20 => {
                state.is_node_down = !state.is_node_down;
                if state.is_node_down { Action::NodeDown } else { Action::NodeUp }
            }
            20..23 if is_rough => Action::Kill,
            23 if is_rough => Action::Upgrade,
            _ => Action::Paint(Way::Apply),
        }
    }
}

/// What an action must know of those before it.
#[derive(Debug, Default)]
struct State {
    has_more: bool,
    is_faulty: bool,
    is_node_down: bool,
}

impl Iterator for Schedule {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        let is_rough = self.number % ROUGH_AND_CALM < ROUGH_AND_CALM / 2;
        self.number += 1;
        let mut state = State::default();
        let count = STEPS.start() + self.random.below(STEPS.end() - STEPS.start() + 1);
        let mut steps = Vec::new();
        for _ in 0..count {
            let pause = Duration::from_millis(100 + self.random.below(1_900));
            steps.push(Step { pause, action: self.action(&mut state, is_rough) });
        }
        Some(Round { number: self.number, steps })
    }
}

/// Numbers that follow from a seed.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (`SplitMix64`).
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of the first so many numbers; the bias is nothing for as few as these.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(seed: u64) -> Vec<String> {
        Schedule::new(seed).take(40).map(|round| round.to_string()).collect()
    }

    #[test]
    fn the_schedule_follows_from_the_seed_alone() {
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
        // and stays what it was: a seed that found something finds it again
        let first = Schedule::new(1).next().unwrap();
        assert_eq!(first.number, 1);
        assert!(STEPS.contains(&(first.steps.len() as u64)));
    }

    #[test]
    fn every_action_has_its_turn_and_what_begins_ends() {
        let mut seen = BTreeSet::new();
        for round in Schedule::new(3).take(40) {
            let (mut more, mut down) = (false, false);
            for Step { action, .. } in round.steps {
                seen.insert(action.name());
                match action {
                    Action::Add => assert!(!std::mem::replace(&mut more, true)),
                    Action::Remove => assert!(std::mem::replace(&mut more, false)),
                    Action::NodeDown => assert!(!std::mem::replace(&mut down, true)),
                    Action::NodeUp => assert!(std::mem::replace(&mut down, false)),
                    _ => {}
                }
            }
        }
        assert_eq!(seen.len(), 14, "{seen:?}");
    }

    #[test]
    fn half_of_the_rounds_leave_the_process_alone() {
        let disturbs = |step: &Step| matches!(step.action, Action::Kill | Action::Upgrade);
        let rough: Vec<bool> =
            Schedule::new(5).take(16).map(|round| round.steps.iter().any(disturbs)).collect();
        assert!(rough.iter().any(|rough| *rough), "{rough:?}");
        assert!(rough.chunks(8).all(|rounds| rounds[4..].iter().all(|rough| !rough)), "{rough:?}");
    }
}
