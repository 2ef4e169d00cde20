//! Names of addresses: `10.0.8.10.in-addr.arpa` and its like in IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::service::Own;
use super::{Data, Found, Name, Zones};

/// Above the names of IPv4 and IPv6 addresses.
///
/// Source: RFC 1035 §3.5; RFC 3596 §2.5.
const V4: [&[u8]; 2] = [b"in-addr", b"arpa"];
const V6: [&[u8]; 2] = [b"ip6", b"arpa"];

/// What a name in one of the two trees says of an address.
#[derive(Clone, Copy, Debug)]
struct Beginning {
    /// The address, as far as it is said; the rest is zero.
    address: IpAddr,
    /// Bits that are said, whole octets or nibbles.
    bits: u8,
    /// Bits of a label.
    step: u8,
    /// Whether labels follow that are no part of an address.
    is_odd: bool,
}

impl Beginning {
    /// What a name says; `None` if it is in neither tree.
    fn of(name: &Name) -> Option<Self> {
        let labels: Vec<&[u8]> = name.labels().collect();
        let (rest, tree) = labels.split_at_checked(labels.len().checked_sub(2)?)?;
        let (is_v4, step, bits_max) = match tree {
            tree if *tree == V4 => (true, 8_u8, 32_u8),
            tree if *tree == V6 => (false, 4, 128),
            _ => return None,
        };
        let (mut value, mut bits, mut is_odd) = (0_u128, 0_u8, false);
        for label in rest.iter().rev() {
            match part(label, is_v4).filter(|_| bits < bits_max) {
                Some(part) => {
                    bits += step;
                    value |= u128::from(part) << (bits_max - bits);
                }
                None => {
                    is_odd = true;
                    break;
                }
            }
        }
        let address = if is_v4 {
            Ipv4Addr::from_bits(u32::try_from(value).ok()?).into()
        } else {
            Ipv6Addr::from_bits(value).into()
        };
        Some(Self { address, bits, step, is_odd })
    }

    /// The zone of a range in which this is, if it is in one: ranges are cut at whole labels, into
    /// several zones where they have to be.
    fn zone(&self, range: &IpNet) -> Option<Name> {
        let bits = range.prefix_len().div_ceil(self.step) * self.step;
        let is_in = self.bits >= bits && range.contains(&self.address);
        let zone = IpNet::new(self.address, bits).ok()?.trunc();
        let labels = usize::from(bits / self.step);
        is_in.then(|| name_of(zone.addr(), labels)).flatten()
    }

    /// The addresses whose names are below.
    fn range(&self) -> Option<IpNet> {
        IpNet::new(self.address, self.bits).ok()
    }

    fn is_whole(&self) -> bool {
        !self.is_odd && self.bits == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// An octet or a nibble.
fn part(label: &[u8], is_v4: bool) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    if is_v4 {
        // as it is written without need: no sign, no leading zero
        let octet: u8 = text.parse().ok()?;
        (octet.to_string() == text).then_some(octet)
    } else {
        let is_one = text.len() == 1 && label.first().is_some_and(u8::is_ascii_hexdigit);
        is_one.then(|| u8::from_str_radix(text, 16).ok()).flatten()
    }
}

/// The name of the first so many octets or nibbles of an address.
pub(super) fn name_of(address: IpAddr, count: usize) -> Option<Name> {
    let (parts, tree): (Vec<String>, _) = match address {
        IpAddr::V4(address) => (address.octets().iter().map(u8::to_string).collect(), V4),
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            (nibbles.map(|nibble| format!("{nibble:x}")).collect(), V6)
        }
    };
    let first: Vec<&[u8]> = parts.iter().take(count).map(String::as_bytes).collect();
    Name::of(first.into_iter().rev().chain(tree))
}

/// Whether the names of a range's addresses are below a name.
pub(super) fn is_above(name: &Name, range: &IpNet) -> bool {
    match Beginning::of(name) {
        Some(beginning) => {
            let above = beginning.range().filter(|_| !beginning.is_odd);
            above.is_some_and(|above| above.contains(range) || range.contains(&above))
        }
        None => name_of(range.addr(), 0).is_some_and(|tree| tree.within(name).is_some()),
    }
}

/// The name by which the name of an address is asked for.
#[cfg(test)]
pub(super) fn name_of_address(address: IpAddr) -> Name {
    name_of(address, 32).unwrap_or_default()
}

impl Zones {
    /// What there is at a name of one of the zones of addresses, and the zone.
    pub(super) fn in_reverse(&self, name: &Name) -> Option<(Name, Found)> {
        let beginning = Beginning::of(name)?;
        let zone = self.reverse_zones().iter().find_map(|range| beginning.zone(range))?;
        if zone == *name {
            let own = vec![self.soa(), Data::Ns(self.server().clone())];
            return Some((zone, Found::Records(own)));
        }
        let found = if beginning.is_odd {
            Found::Nothing
        } else if beginning.is_whole() {
            let records = self.names_of(beginning.address);
            Found::if_exists(!records.is_empty(), records)
        } else {
            let range = beginning.range()?;
            Found::if_exists(self.has_names_in(&range), Vec::new())
        };
        Some((zone, found))
    }

    /// The names of an address: of the Service it is the cluster IP of, else of the endpoints.
    fn names_of(&self, address: IpAddr) -> Vec<Data> {
        let mut names = Vec::new();
        for (own, records) in self.services_at(address) {
            let Some(service) = self.in_services(&own) else { continue };
            if let Own::Addresses(addresses) = &records.own
                && addresses.contains(&address)
            {
                return vec![Data::Ptr(service)];
            }
            names.extend(records.labels_at(address).filter_map(|label| service.child(label)));
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Data::Ptr).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, range: &str) -> Option<String> {
        let beginning = Beginning::of(&Name::parse(name)?)?;
        beginning.zone(&range.parse().unwrap()).map(|zone| zone.to_string())
    }

    #[test]
    fn zones_are_cut_at_whole_labels() {
        let some = |zone: &str| Some(zone.to_owned());
        assert_eq!(zone("100.0.0.10.in-addr.arpa", "10.0.0.0/16"), some("0.10.in-addr.arpa."));
        assert_eq!(zone("x.0.10.in-addr.arpa", "10.0.0.0/16"), some("0.10.in-addr.arpa."));
        assert_eq!(zone("0.10.in-addr.arpa", "10.0.0.0/16"), some("0.10.in-addr.arpa."));
        assert_eq!(zone("10.in-addr.arpa", "10.0.0.0/16"), None);
        assert_eq!(zone("1.1.10.in-addr.arpa", "10.0.0.0/16"), None);
        // several zones
        assert_eq!(zone("1.15.8.10.in-addr.arpa", "10.8.0.0/20"), some("15.8.10.in-addr.arpa."));
        assert_eq!(zone("1.16.8.10.in-addr.arpa", "10.8.0.0/20"), None);
        assert_eq!(zone("8.10.in-addr.arpa", "10.8.0.0/20"), None);
        assert_eq!(zone("0.0.d.f.ip6.arpa", "fd00::/14"), some("0.0.d.f.ip6.arpa."));
        assert_eq!(zone("1.0.0.d.f.ip6.arpa", "fd00::/14"), some("0.0.d.f.ip6.arpa."));
        assert_eq!(zone("4.0.d.f.ip6.arpa", "fd00::/14"), None);
    }

    #[test]
    fn an_address_has_one_name() {
        let address = |name| Beginning::of(&Name::parse(name).unwrap());
        assert!(address("010.0.0.10.in-addr.arpa").unwrap().is_odd);
        assert!(address("+1.0.0.10.in-addr.arpa").unwrap().is_odd);
        assert!(address("1.2.3.4.5.in-addr.arpa").unwrap().is_odd);
        assert!(address("1.example.com").is_none());
        for text in ["10.0.0.7", "fd00:8::a"] {
            let address: IpAddr = text.parse().unwrap();
            let beginning = Beginning::of(&name_of_address(address)).unwrap();
            assert!(beginning.is_whole() && beginning.address == address);
        }
    }
}
