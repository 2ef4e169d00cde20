//! What is handed out: addresses of ranges, ports.
//!
//! Everything is handed out in order, so that the same lab has the same addresses each time. Nothing
//! is given back within one validation, so each pool is walked once.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::syntax::{last_address, nth_address};

/// A stretch of a range of addresses.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    range: IpNet,
    /// The next one to try, counted from the first of the range.
    next: u128,
    last: u128,
}

impl Addresses {
    /// From the address of this number to the last one for a machine.
    pub(crate) fn from(range: IpNet, first: u128) -> Self {
        Self { range, next: first, last: last_address(range) }
    }

    /// The numbers from `first` to `last`, as far as there are such.
    fn between(range: IpNet, first: u128, last: u128) -> Self {
        Self { range, next: first, last: last.min(last_address(range)) }
    }

    /// How many there were at most.
    pub(crate) fn size(range: IpNet, first: u128) -> u128 {
        (last_address(range) + 1).saturating_sub(first)
    }

    /// The next one that is free.
    pub(crate) fn take(&mut self, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        while self.next <= self.last {
            let address = nth_address(self.range, self.next)?;
            self.next += 1;
            if is_free(address) {
                return Some(address);
            }
        }
        None
    }
}

/// The two bands of a Service range: the upper one is handed out first, so that the lower one stays
/// free for addresses that are asked for.
///
/// Source: KEP-3070.
#[derive(Clone, Debug)]
pub(crate) struct ServiceAddresses {
    pub(crate) range: IpNet,
    bands: [Addresses; 2],
}

impl ServiceAddresses {
    pub(crate) fn new(range: IpNet) -> Self {
        let size = match range {
            IpNet::V4(range) => 1_u128 << (32 - range.prefix_len()),
            IpNet::V6(range) => {
                1_u128.checked_shl(128 - u32::from(range.prefix_len())).unwrap_or(u128::MAX)
            }
        };
        let offset = static_band(size, 16, 256);
        let upper = Addresses::from(range, offset.max(1));
        Self { range, bands: [upper, Addresses::between(range, 1, offset.saturating_sub(1))] }
    }

    pub(crate) fn take(&mut self, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        self.bands.iter_mut().find_map(|band| band.take(&is_free))
    }
}

/// Length of the band that is handed out last: a part of the whole, within bounds.
fn static_band(size: u128, part: u128, most: u128) -> u128 {
    const LEAST: u128 = 16;
    if size <= LEAST { 0 } else { (size / part).clamp(LEAST, most) }
}

/// Node ports, in two bands as [`ServiceAddresses`].
///
/// Source: KEP-3668.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    upper: RangeInclusive<u16>,
    lower: RangeInclusive<u16>,
    used: Vec<bool>,
}

impl Ports {
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Self {
        let (first, last) = (*range.start(), *range.end());
        let size = u128::from(last - first) + 1;
        let band = u16::try_from(static_band(size, 32, 128)).unwrap_or(0);
        let start = first.saturating_add(band);
        #[expect(clippy::reversed_empty_ranges, reason = "an empty band")]
        let lower = if band == 0 { 1..=0 } else { first..=start - 1 };
        Self { upper: start..=last, lower, used: vec![false; 1 << 16] }
    }

    /// Marks a port as used.
    pub(crate) fn reserve(&mut self, port: u16) {
        if let Some(used) = self.used.get_mut(usize::from(port)) {
            *used = true;
        }
    }

    /// The next port that is not used, which then is.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let Self { upper, lower, used } = self;
        let is_free = |port: &u16| !used.get(usize::from(*port)).copied().unwrap_or(true);
        let port = upper.find(is_free).or_else(|| lower.find(is_free))?;
        self.reserve(port);
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(range: &str) -> String {
        let mut addresses = ServiceAddresses::new(range.parse().unwrap());
        addresses.take(|_| true).unwrap().to_string()
    }

    #[test]
    fn cluster_ips_leave_the_lower_band_to_those_who_ask() {
        assert_eq!(first("192.168.0.0/16"), "192.168.1.0");
        assert_eq!(first("10.8.0.0/20"), "10.8.1.0");
        assert_eq!(first("10.8.0.0/24"), "10.8.0.16");
        assert_eq!(first("10.8.0.0/28"), "10.8.0.1");
        assert_eq!(first("fd00:8::/112"), "fd00:8::100");
        assert_eq!(first("fd00:8::/64"), "fd00:8::100");
    }

    #[test]
    fn every_address_of_both_bands_is_handed_out_once() {
        let mut addresses = ServiceAddresses::new("10.8.0.0/24".parse().unwrap());
        let reserved: IpAddr = "10.8.0.10".parse().unwrap();
        let mut taken: Vec<_> =
            std::iter::from_fn(|| addresses.take(|address| address != reserved)).collect();
        assert_eq!(taken.len(), 253);
        assert_eq!(taken[239].to_string(), "10.8.0.1");
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 253);
    }

    #[test]
    fn node_ports_leave_86_to_those_who_ask() {
        let mut ports = Ports::new(&(30_000..=32_767));
        ports.reserve(30_086);
        assert_eq!(ports.take(), Some(30_087));
        let rest = std::iter::from_fn(|| ports.take()).count();
        assert_eq!(rest, 2768 - 2);
        assert_eq!(ports.take(), None);
        assert_eq!(Ports::new(&(80..=80)).take(), Some(80));
        assert_eq!(Ports::new(&(1..=65_535)).take(), Some(129));
    }

    #[test]
    fn pods_begin_after_the_gateway() {
        let mut addresses = Addresses::from("10.4.0.0/30".parse().unwrap(), 2);
        assert_eq!(addresses.take(|_| true).unwrap().to_string(), "10.4.0.2");
        assert_eq!(addresses.take(|_| true), None);
        assert_eq!(Addresses::size("10.4.0.0/24".parse().unwrap(), 2), 253);
    }
}
