//! Whether something is healthy, by what its checks have shown in a row.

/// How many answers in a row it takes to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones.
    pub healthy: u32,
    /// Bad ones.
    pub unhealthy: u32,
}

/// What checks have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// Whether it is healthy.
    pub is_healthy: bool,
    /// Answers in a row that say otherwise.
    contrary: u32,
}

impl Streak {
    /// What counts as healthy, or not, until checks say otherwise.
    pub const fn new(is_healthy: bool) -> Self {
        Self { is_healthy, contrary: 0 }
    }

    /// After one more check. An answer that agrees forgets those before that did not: only bad ones
    /// one after another drain anything.
    #[must_use]
    pub fn after(self, is_good: bool, thresholds: Thresholds) -> Self {
        if is_good == self.is_healthy {
            return Self::new(is_good);
        }
        let contrary = self.contrary + 1;
        let needed = if is_good { thresholds.healthy } else { thresholds.unhealthy };
        if contrary >= needed { Self::new(is_good) } else { Self { contrary, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Thresholds = Thresholds { healthy: 2, unhealthy: 2 };

    #[test]
    fn one_bad_answer_drains_nothing_and_two_do() {
        let mut streak = Streak::new(true);
        let mut told = Vec::new();
        for is_good in [false, true, false, true, false, false, true, false, true, true] {
            streak = streak.after(is_good, TWO);
            told.push(streak.is_healthy);
        }
        assert_eq!(told, [true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn one_failure_a_minute_for_an_hour_drains_nothing() {
        // a check every three seconds: twenty a minute, of which one fails
        let mut streak = Streak::new(true);
        for check in 0..60 * 20 {
            streak = streak.after(check % 20 != 0, TWO);
            assert!(streak.is_healthy, "drained at check {check}");
        }
    }

    #[test]
    fn one_good_answer_may_suffice() {
        let one = Thresholds { healthy: 1, unhealthy: 3 };
        assert!(Streak::new(false).after(true, one).is_healthy);
        let bad = |streak: Streak| streak.after(false, one);
        let twice = bad(bad(Streak::new(true)));
        assert!(twice.is_healthy && !bad(twice).is_healthy);
    }
}
