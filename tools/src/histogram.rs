//! How long things took: a histogram of fixed size, and percentiles of it.

/// Buckets of each power of two: values are told apart to one in sixteen.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Durations, nanoseconds, in buckets that grow with the value.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    most: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS * 61], count: 0, most: 0 }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    let value = value.max(1);
    let power = value.ilog2();
    if power < STEP_BITS {
        return usize::try_from(value).unwrap_or(0);
    }
    let step = value >> (power - STEP_BITS);
    let row = usize::try_from(power - STEP_BITS).unwrap_or(0);
    row * STEPS + usize::try_from(step).unwrap_or(0)
}

/// The least value of a bucket.
fn least(bucket: usize) -> u64 {
    if bucket < 2 * STEPS {
        return bucket as u64;
    }
    let (row, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step) as u64) << row
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(value)) {
            *count += 1;
        }
        self.count += 1;
        self.most = self.most.max(value);
    }

    /// Counts all values of another one, too.
    pub fn absorb(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The largest value.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// The value that so many of a thousand are not above, to one in sixteen.
    pub fn permille(&self, part: u64) -> u64 {
        let wanted = (self.count * part).div_ceil(1000).max(1);
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return least(number);
            }
        }
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_near_it() {
        for value in (1..2000).chain([12_345, 1 << 20, (1 << 40) + 7, u64::MAX >> 4]) {
            let found = least(bucket(value));
            assert!(found <= value && value - found <= value / 16, "{value} {found}");
        }
    }

    #[test]
    fn percentiles_are_of_what_was_counted() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.add(value * 100));
        assert_eq!(histogram.count(), 1000);
        assert!((46_000..=50_000).contains(&histogram.permille(500)));
        assert!((92_000..=99_000).contains(&histogram.permille(990)));
        assert_eq!(histogram.most(), 100_000);
        assert_eq!(Histogram::default().permille(500), 0);
    }
}
