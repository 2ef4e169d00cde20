//! Links, and what is wrong with them on purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compile::PortKind;
use crate::syntax::{self, Refused};

/// How long a frame may wait for a link of limited rate, unless told otherwise.
pub const QUEUE: Duration = Duration::from_millis(100);

/// Which way along a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the machine; from the node into the fabric.
    From,
    /// To the machine; from the fabric to the node.
    To,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::From, Self::To];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// What befalls the frames of one direction of a link. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// How long each is under way.
    pub delay: Duration,
    /// By how much that is less or more, at most; every length is as likely.
    pub jitter: Duration,
    /// How many are lost.
    pub loss: Share,
    /// How many come twice.
    pub duplicate: Share,
    /// How many have one bit turned, behind the Ethernet header.
    pub corrupt: Share,
    /// How many overtake: they are not delayed.
    pub reorder: Share,
    /// How many bits pass in a second; `None`: as many as come.
    pub rate: Option<Rate>,
    /// How long a frame may wait for its turn where there is a rate; `None`: [`QUEUE`].
    pub queue: Option<Duration>,
    /// Whether none passes.
    pub partition: bool,
    /// What chance follows from; `None`: from the seed of the switch.
    pub seed: Option<u64>,
}

impl Faults {
    /// Whether nothing is wrong.
    pub fn is_none(&self) -> bool {
        Self { seed: None, queue: None, ..*self } == Self::default()
    }

    /// What is no use of it: the key, what is wrong, and how to mend it.
    ///
    /// # Errors
    /// The first of it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str, &'static str)> {
        if self.jitter > self.delay {
            return Err(("jitter", "the jitter is longer than the delay", "write a longer delay"));
        }
        if self.reorder != Share::NONE && self.delay.is_zero() {
            let message = "what is not delayed overtakes nobody";
            return Err(("reorder", message, "write a `delay` too"));
        }
        if self.queue.is_some() && self.rate.is_none() {
            return Err(("queue", "nobody waits where there is no rate", "write a `rate` too"));
        }
        if self.delay > DELAY_MAX {
            return Err(("delay", "the delay is too long", "write 60s at most"));
        }
        Ok(())
    }
}

/// The longest delay.
const DELAY_MAX: Duration = Duration::from_mins(1);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, jitter, loss, duplicate, corrupt, reorder, rate, queue, partition, seed } =
            *self;
        let mut words = Vec::new();
        if partition {
            words.push("partition".to_owned());
        }
        let times = [("delay", delay), ("jitter", jitter), ("queue", queue.unwrap_or_default())];
        for (name, time) in times.into_iter().filter(|(_, time)| !time.is_zero()) {
            words.push(format!("{name} {time:?}"));
        }
        let shares =
            [("loss", loss), ("duplicate", duplicate), ("corrupt", corrupt), ("reorder", reorder)];
        for (name, share) in shares.into_iter().filter(|(_, share)| *share != Share::NONE) {
            words.push(format!("{name} {share}"));
        }
        words.extend(rate.map(|rate| format!("rate {rate}")));
        words.extend(seed.map(|seed| format!("seed {seed}")));
        f.write_str(&if words.is_empty() { "none".to_owned() } else { words.join(", ") })
    }
}

/// A share of all, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(pub u32);

impl Share {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(1_000_000);
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        share(text).map_err(Refused::told)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        let text = format!("{whole}.{rest:04}");
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A share, as `1%` or `0.25%`.
pub(crate) fn share(text: &str) -> Result<Share, Refused> {
    let refused =
        || Refused::new(format!("{text:?} is not a share"), "write it as in \"1%\" or \"0.25%\"");
    let number = text.strip_suffix('%').ok_or_else(refused)?;
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if !is_number(whole) || !is_number(rest) || rest.len() > 4 {
        return Err(refused());
    }
    let parts = |text: &str| text.parse::<u32>().ok();
    let share = parts(whole)
        .and_then(|whole| whole.checked_mul(10_000))
        .zip(parts(&format!("{rest:0<4}")))
        .map(|(whole, rest)| Share(whole + rest));
    share.filter(|share| *share <= Share::ALL).ok_or_else(refused)
}

/// Bits in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate(pub u64);

/// Units of rates, as `tc` knows them.
const UNITS: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        rate(text).map_err(Refused::told)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) =
            UNITS.into_iter().find(|(_, unit)| self.0.is_multiple_of(*unit)).unwrap_or(("bit", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// A rate, as `10mbit`.
pub(crate) fn rate(text: &str) -> Result<Rate, Refused> {
    let refused = || {
        let help = "write it as in \"10mbit\": bit, kbit, mbit or gbit in a second";
        Refused::new(format!("{text:?} is not a rate"), help)
    };
    let lower = text.to_ascii_lowercase();
    let found = UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, unit)));
    let (number, unit) = found.ok_or_else(refused)?;
    let bits = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
    bits.filter(|bits| *bits > 0).map(Rate).ok_or_else(refused)
}

/// A stretch of time, as `20ms`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn duration(text: &str) -> Result<Duration, String> {
    syntax::duration(text).map_err(Refused::told)
}

/// What is wrong with one direction of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyLink {
    /// Whose link: a pod's or an external host's, or a node's to the fabric.
    pub of: PortKind,
    /// Which way.
    pub direction: Direction,
    /// What befalls frames there.
    pub faults: Faults,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_read_as_they_are_written() {
        for text in ["1%", "0.25%", "100%", "0.0001%", "33.3%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for text in ["", "1", "%", "1.%", ".5%", "-1%", "101%", "0.00001%", "1e1%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        for text in ["10mbit", "1500kbit", "7bit", "1gbit"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "10", "mbit", "0kbit", "-1mbit", "10mb", "99999999999999999gbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn faults_that_make_no_sense_are_refused() {
        let wrong = |faults: Faults| faults.check().map_err(|(key, _, _)| key);
        let delay = Duration::from_millis(5);
        assert_eq!(wrong(Faults { jitter: delay, ..Faults::default() }), Err("jitter"));
        assert_eq!(wrong(Faults { reorder: Share(1), ..Faults::default() }), Err("reorder"));
        assert_eq!(wrong(Faults { queue: Some(delay), ..Faults::default() }), Err("queue"));
        let right = Faults { delay, jitter: delay, reorder: Share(1), ..Faults::default() };
        assert_eq!(wrong(right), Ok(()));
        assert_eq!(right.to_string(), "delay 5ms, jitter 5ms, reorder 0.0001%");
        assert!(Faults { seed: Some(1), ..Faults::default() }.is_none() && !right.is_none());
    }
}
