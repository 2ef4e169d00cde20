//! Pod ranges of nodes: those that are written, and those carved from the cluster's.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::workloads::Planned;
use crate::settings::{ClusterSettings, RangeSizes};
use crate::syntax::last_address;

/// Longest pod CIDR that still is cut into ranges of [`RangeSizes::v6`].
const V6_CUT: u8 = 56;
/// Octets by which shorter ones are cut instead.
const V6_SMALL: u8 = 112;

/// The length of the prefix of ranges cut from a pod CIDR.
pub(super) fn range_size(cidr: IpNet, sizes: RangeSizes) -> u8 {
    let is_default = sizes.v6 == RangeSizes::default().v6;
    match cidr {
        IpNet::V4(_) => sizes.v4,
        IpNet::V6(range) if !is_default || range.prefix_len() <= V6_CUT => sizes.v6,
        IpNet::V6(range) if range.prefix_len() < V6_SMALL => V6_SMALL,
        IpNet::V6(range) => (range.prefix_len() + 8).min(126),
    }
}

/// Ranges cut from the pod CIDRs, one after another.
#[derive(Debug)]
pub(super) struct Carver {
    cidrs: Vec<Cidr>,
    /// Every range that some node has, by family and first address; they do not overlap.
    taken: BTreeMap<IpNet, Arc<str>>,
    /// By range, the node whose pods have written addresses in it; `None` for several.
    written: HashMap<IpNet, Option<Arc<str>>, ahash::RandomState>,
}

#[derive(Debug)]
struct Cidr {
    range: IpNet,
    size: u8,
    /// The next cut to try.
    next: u128,
}

impl Carver {
    /// Prepares to cut around the addresses that pods have written.
    pub(super) fn new(settings: &ClusterSettings, pods: &[Planned]) -> Self {
        let cidr = |range: &IpNet| Cidr {
            range: *range,
            size: range_size(*range, settings.node_range_sizes),
            next: 0,
        };
        let cidrs: Vec<_> = settings.pod_cidrs.iter().map(cidr).collect();
        let mut written: HashMap<_, Option<Arc<str>>, _> = HashMap::default();
        for pod in pods {
            for address in pod.written_addresses() {
                for cidr in cidrs.iter().filter(|cidr| cidr.range.contains(&address)) {
                    let Ok(cut) = IpNet::new(address, cidr.size) else { continue };
                    let cut = cut.trunc();
                    let node = pod.node_name().filter(|_| is_for_pods(cut, address));
                    let node: Option<Arc<str>> = node.map(Arc::from);
                    let entry = written.entry(cut).or_insert_with(|| node.clone());
                    if *entry != node {
                        *entry = None;
                    }
                }
            }
        }
        Self { cidrs, taken: BTreeMap::new(), written }
    }

    /// Takes a range for a node; answers with the range that it overlaps, and whose that is.
    pub(super) fn claim(&mut self, range: IpNet, node: &Arc<str>) -> Result<(), (IpNet, Arc<str>)> {
        if let Some((other, owner)) = self.overlapping(range) {
            return Err((other, owner.clone()));
        }
        self.taken.insert(range, node.clone());
        Ok(())
    }

    /// A range of this family for a node, if one is left.
    ///
    /// The range in which the node's own pods have written addresses comes first; ranges with
    /// addresses of others are left out.
    pub(super) fn carve(&mut self, is_v4: bool, node: &Arc<str>) -> Option<IpNet> {
        let own = self.written.iter().filter(|(range, owner)| {
            range.addr().is_ipv4() == is_v4
                && owner.as_ref() == Some(node)
                && self.overlapping(**range).is_none()
        });
        if let Some(range) = own.map(|(range, _)| *range).min() {
            self.taken.insert(range, node.clone());
            return Some(range);
        }
        for index in 0..self.cidrs.len() {
            while let Some(range) = self.cidrs.get_mut(index).and_then(|cidr| cidr.cut(is_v4)) {
                if self.overlapping(range).is_none() && !self.written.contains_key(&range) {
                    self.taken.insert(range, node.clone());
                    return Some(range);
                }
            }
        }
        None
    }

    fn overlapping(&self, range: IpNet) -> Option<(IpNet, &Arc<str>)> {
        // ranges are ordered by their first address: what overlaps is a neighbour
        let before = self.taken.range(..=range).next_back();
        let after = self.taken.range(range..).next();
        before
            .into_iter()
            .chain(after)
            .find(|(other, _)| super::ranges::overlap(**other, range))
            .map(|(other, owner)| (*other, owner))
    }
}

impl Cidr {
    fn cut(&mut self, is_v4: bool) -> Option<IpNet> {
        let Self { range, size, next } = self;
        if range.addr().is_ipv4() != is_v4 || *size < range.prefix_len() {
            return None;
        }
        let count = 1_u128.checked_shl(u32::from(*size - range.prefix_len())).unwrap_or(u128::MAX);
        if *next >= count {
            return None;
        }
        let step = *next << (range.max_prefix_len() - *size);
        let first = crate::syntax::nth_address(*range, step)?;
        *next += 1;
        IpNet::new(first, *size).ok()
    }
}

/// Whether a pod may have an address of the range: not the gateway's, nor the ends.
pub(super) fn is_for_pods(range: IpNet, address: IpAddr) -> bool {
    (2..=last_address(range)).contains(&offset(range, address))
}

fn offset(range: IpNet, address: IpAddr) -> u128 {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    bits(address).wrapping_sub(bits(range.network()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carver(pod_cidrs: &[&str]) -> Carver {
        let pod_cidrs = pod_cidrs.iter().map(|range| range.parse().unwrap()).collect();
        Carver::new(&ClusterSettings { pod_cidrs, ..ClusterSettings::default() }, &[])
    }

    fn carve(carver: &mut Carver, is_v4: bool) -> Option<String> {
        carver.carve(is_v4, &Arc::from("n")).map(|range| range.to_string())
    }

    #[test]
    fn ranges_are_cut_in_order_around_those_taken() {
        let mut carver = carver(&["10.4.0.0/22", "10.9.0.0/24", "fd00:4::/48"]);
        let node = Arc::from("m");
        carver.claim("10.4.1.128/25".parse().unwrap(), &node).unwrap();
        assert!(carver.claim("10.4.0.0/16".parse().unwrap(), &node).is_err());
        assert!(carver.claim("10.4.1.0/24".parse().unwrap(), &node).is_err());
        assert!(carver.claim("10.4.1.192/26".parse().unwrap(), &node).is_err());
        let cut: Vec<_> = std::iter::from_fn(|| carve(&mut carver, true)).collect();
        assert_eq!(cut, ["10.4.0.0/24", "10.4.2.0/24", "10.4.3.0/24", "10.9.0.0/24"]);
        assert_eq!(carve(&mut carver, false).as_deref(), Some("fd00:4::/64"));
        assert_eq!(carve(&mut carver, false).as_deref(), Some("fd00:4:0:1::/64"));
    }

    #[test]
    fn small_ranges_are_cut_smaller() {
        let size = |range: &str| range_size(range.parse().unwrap(), RangeSizes::default());
        assert_eq!(size("10.0.0.0/8"), 24);
        assert_eq!(size("fd00::/48"), 64);
        assert_eq!(size("fd00::/64"), 112);
        assert_eq!(size("fd00::/112"), 120);
        assert_eq!(carve(&mut carver(&["10.4.0.0/25"]), true), None);
    }

    #[test]
    fn gateways_and_ends_are_not_for_pods() {
        let range = "10.4.0.0/24".parse().unwrap();
        let is = |address: &str| is_for_pods(range, address.parse().unwrap());
        assert!(is("10.4.0.2") && is("10.4.0.254"));
        assert!(!is("10.4.0.0") && !is("10.4.0.1") && !is("10.4.0.255") && !is("10.4.1.2"));
    }
}
