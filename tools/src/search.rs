//! The highest rate at which nothing is lost.
//!
//! Source: RFC 2544 §26.1 (throughput), by bisection.

/// What a trial at a rate found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Frames sent per second; may be less than was asked for.
    pub offered: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
}

impl Trial {
    /// Whether it lost at most so many of a million.
    fn holds(&self, tolerated_ppm: u64) -> bool {
        let lost = self.sent.saturating_sub(self.received);
        u128::from(lost) * 1_000_000 <= u128::from(self.sent) * u128::from(tolerated_ppm)
    }
}

/// How a search is done.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The highest rate to try, frames per second.
    pub most: u64,
    /// The search ends when the rate is known to one part in so many.
    pub precision: u64,
    /// Lost frames of a million that count as none.
    pub tolerated_ppm: u64,
}

/// Bisects; answers the best rate that was offered without loss, zero if there was none.
///
/// # Errors
/// Those of `trial`.
pub fn search<E>(
    bounds: &Bounds,
    mut trial: impl FnMut(u64) -> Result<Trial, E>,
) -> Result<u64, E> {
    let (mut good, mut bad, mut best) = (0, bounds.most.saturating_add(1), 0);
    let step = (bounds.most / bounds.precision.max(1)).max(1);
    let mut rate = bounds.most;
    while bad - good > step {
        let result = trial(rate)?;
        if result.holds(bounds.tolerated_ppm) {
            best = best.max(result.offered);
            good = rate;
        } else {
            // what could not even be offered need not be tried
            bad = rate.min(result.offered.max(good + 1));
        }
        rate = good + (bad - good) / 2;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that carries `limit` frames a second, and a generator that offers `most`.
    fn run(limit: u64, most: u64) -> (u64, u32) {
        let mut trials = 0;
        let bounds = Bounds { most: 4_000_000, precision: 200, tolerated_ppm: 0 };
        let found = search(&bounds, |rate| {
            trials += 1;
            let offered = rate.min(most);
            Ok::<_, ()>(Trial { offered, sent: offered, received: offered.min(limit) })
        });
        (found.unwrap(), trials)
    }

    #[test]
    fn the_limit_is_found() {
        for limit in [1_000, 150_000, 1_234_567, 3_999_999] {
            let (found, trials) = run(limit, 10_000_000);
            assert!(found <= limit && limit - found <= 40_000, "{limit} {found}");
            assert!(trials <= 12);
        }
    }

    #[test]
    fn a_generator_slower_than_the_device_is_the_limit() {
        let (found, _) = run(3_000_000, 900_000);
        assert_eq!(found, 900_000);
    }

    #[test]
    fn nothing_is_found_where_nothing_gets_through() {
        assert_eq!(run(0, 1_000_000).0, 0);
    }
}
