//! Addresses, ranges of them, and ranges of ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Refused;

/// A range of addresses: `10.4.0.0/14`, without bits beyond the prefix.
pub(crate) fn cidr(text: &str) -> Result<IpNet, Refused> {
    let range: IpNet = match text.parse() {
        Ok(range) => range,
        Err(_) => {
            return Err(Refused::new(format!("{text:?} is not a range of addresses"), hint(text)));
        }
    };
    if range.addr() == range.network() {
        Ok(range)
    } else {
        Err(Refused::new(
            format!("{text} has bits set beyond its prefix of {}", range.prefix_len()),
            format!("write {}", range.trunc()),
        ))
    }
}

/// What may have been meant by what is no range.
fn hint(text: &str) -> String {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    match (address.parse::<IpAddr>(), length.parse::<u32>()) {
        (Ok(address), Ok(_)) => {
            format!("a prefix of it is 0 to {} long", if address.is_ipv4() { 32 } else { 128 })
        }
        (Ok(address), Err(_)) if length.is_empty() => {
            let length = if address.is_ipv4() { 24 } else { 64 };
            format!("add the length of the prefix, as in {address}/{length}")
        }
        _ => {
            "write an address and the length of its prefix, as in 10.4.0.0/14 or fd00:4::/48".into()
        }
    }
}

/// An address: `10.4.0.1`, `fd00::1`.
pub(crate) fn address(text: &str) -> Result<IpAddr, Refused> {
    let parsed = text.parse::<IpAddr>();
    match parsed {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            let v4 = v6.to_canonical();
            Err(Refused::new(
                format!("{text} is an IPv4 address in an IPv6 dress"),
                format!("write {v4}"),
            ))
        }
        Ok(address) => Ok(address),
        Err(_) if text.parse::<IpNet>().is_ok() => Err(Refused::new(
            format!("{text:?} is a range, not an address"),
            format!("write it without the prefix: {}", text.split('/').next().unwrap_or("")),
        )),
        Err(_) => Err(Refused::new(
            format!("{text:?} is not an IP address"),
            "write an address as in 10.4.0.7 or fd00:4::7",
        )),
    }
}

/// A range of ports: `30000-32767`.
pub(crate) fn port_range(text: &str) -> Result<RangeInclusive<u16>, Refused> {
    let help = "write the first and the last port, as in \"30000-32767\"";
    let refused = || Refused::new(format!("{text:?} is not a range of ports"), help);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let (first, last) = port(first).zip(port(last)).ok_or_else(refused)?;
    if first > last {
        return Err(Refused::new(format!("{text:?} ends before it begins"), help));
    }
    Ok(first..=last)
}

/// The address so many after the first one of a range, if it is in the range.
pub(crate) fn nth_address(range: IpNet, nth: u128) -> Option<IpAddr> {
    let address = match range {
        IpNet::V4(range) => {
            let bits = u128::from(range.network().to_bits()).checked_add(nth)?;
            IpAddr::V4(u32::try_from(bits).ok()?.into())
        }
        IpNet::V6(range) => IpAddr::V6(range.network().to_bits().checked_add(nth)?.into()),
    };
    range.contains(&address).then_some(address)
}

/// How many addresses after the first one of a range the last one for a machine is.
///
/// The last address of an IPv4 range is its broadcast address.
pub(crate) fn last_address(range: IpNet) -> u128 {
    match range {
        IpNet::V4(range) => (1_u128 << (32 - range.prefix_len())).saturating_sub(2),
        IpNet::V6(range) => match range.prefix_len() {
            0 => u128::MAX,
            length => (1_u128 << (128 - length)) - 1,
        },
    }
}

/// The address of this number of every range that has it.
pub(crate) fn first_addresses(ranges: &[IpNet], nth: u128) -> Vec<IpAddr> {
    ranges.iter().filter_map(|range| nth_address(*range, nth)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(refused: Result<impl std::fmt::Debug, Refused>) -> String {
        refused.unwrap_err().help
    }

    #[test]
    fn ranges_are_exact() {
        assert_eq!(cidr("10.4.0.0/14").unwrap().to_string(), "10.4.0.0/14");
        assert_eq!(help(cidr("10.4.0.1/14")), "write 10.4.0.0/14");
        assert_eq!(help(cidr("fd00::1/64")), "write fd00::/64");
        assert_eq!(help(cidr("10.4.0.0/33")), "a prefix of it is 0 to 32 long");
        assert!(help(cidr("10.4.0.0")).contains("10.4.0.0/24"));
        assert!(help(cidr("10.4/14")).contains("10.4.0.0/14"));
    }

    #[test]
    fn addresses_are_single() {
        assert!(address("10.4.0.1").is_ok() && address("fd00::1").is_ok());
        assert!(help(address("10.4.0.0/24")).ends_with("10.4.0.0"));
        assert_eq!(help(address("::ffff:10.0.0.1")), "write 10.0.0.1");
        assert!(address("10.4.0.256").is_err() && address("010.4.0.1").is_err());
    }

    #[test]
    fn ports_have_an_order() {
        assert_eq!(port_range("30000-32767"), Ok(30_000..=32_767));
        assert_eq!(port_range("80"), Ok(80..=80));
        assert!(port_range("0-10").is_err() && port_range("10-9").is_err());
        assert!(port_range("1-65536").is_err() && port_range("").is_err());
    }

    #[test]
    fn addresses_are_counted_within_their_range() {
        let nth =
            |range: &str, nth| nth_address(range.parse().unwrap(), nth).map(|at| at.to_string());
        assert_eq!(nth("10.4.0.0/24", 1).as_deref(), Some("10.4.0.1"));
        assert_eq!(nth("10.4.0.0/24", 256), None);
        assert_eq!(nth("255.255.255.0/24", 256), None);
        assert_eq!(nth("fd00::/64", 0x1_0000).as_deref(), Some("fd00::1:0"));
        assert_eq!(
            nth("::/0", u128::MAX).as_deref(),
            Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
        );
        let last = |range: &str| last_address(range.parse().unwrap());
        assert_eq!((last("10.0.0.0/24"), last("10.0.0.0/31"), last("10.0.0.0/32")), (254, 0, 0));
        assert_eq!((last("fd00::/120"), last("::/0")), (255, u128::MAX));
    }
}
