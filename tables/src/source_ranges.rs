//! Which sources may use a frontend.

use crate::{Address, Prefix, PrefixMap};

/// Index of a [`SourceRanges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRangesId(pub u32);

/// The sources admitted to a frontend; everyone else is refused.
#[derive(Clone, Debug, Default)]
pub struct SourceRanges(PrefixMap<()>);

impl SourceRanges {
    /// These ranges and no other.
    pub fn new(seed: u64, ranges: impl IntoIterator<Item = Prefix>) -> Self {
        let mut map = PrefixMap::new(seed);
        for range in ranges {
            map.insert(range, ());
        }
        Self(map)
    }

    /// Whether `source` is admitted. **Cost**: one probe per distinct prefix length.
    pub fn admits(&self, source: Address) -> bool {
        self.0.find(source).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn any_range_admits_and_none_admits_nobody() {
        let ranges = ["192.168.0.0", "203.0.113.0"].map(|text| Prefix::new(address(text), 25));
        let ranges = SourceRanges::new(1, ranges);
        assert!(ranges.admits(address("192.168.0.2")) && ranges.admits(address("203.0.113.2")));
        assert!(!ranges.admits(address("203.0.113.130")) && !ranges.admits(address("2001:db8::1")));
        assert!(!SourceRanges::default().admits(address("192.168.0.2")));
    }
}
