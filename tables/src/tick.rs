//! The two counters of time: ticks of the clock and generations of the configuration.

/// A moment, in tenths of a second since the switch started. Wraps after 13 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks in a second.
    pub const PER_SECOND: u32 = 10;

    /// So many seconds, as a span of ticks.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds.saturating_mul(Self::PER_SECOND))
    }

    /// Ticks from `earlier` to this moment; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number of a published snapshot. A binding judged under another one is judged anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);
