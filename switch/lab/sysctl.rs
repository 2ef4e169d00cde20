//! Kernel settings of a host's namespace.
//!
//! A namespace inherits IPv4 settings from the machine, whatever its owner set them to; so what
//! matters is set here. They are written before the host's interface exists: an interface
//! takes its own from `default` when it is made.
//!
//! What remains of IPv6's noise: some four multicast listener reports (MLD, to `ff02::16`) in the
//! first second, for the groups that the addresses join. The kernel has no setting against them.

use std::fs;
use std::io;
use std::path::Path;

use super::Error;

/// Where settings of the calling thread's namespace are.
const DIRECTORY: &str = "/proc/sys/net";

/// Settings that a host cannot do without.
const NEEDS: [(&str, &str); 3] = [
    // hosts do not forward, but for those that `forward` is called for: it is the switch's work
    ("ipv4/ip_forward", "0"),
    // the switch judges sources; a host's own filter would drop what asymmetric routes bring
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// Settings that a host with IPv6 cannot do without, on a machine that switched it off.
const IPV6_NEEDS: [(&str, &str); 2] =
    [("ipv6/conf/all/disable_ipv6", "0"), ("ipv6/conf/default/disable_ipv6", "0")];

/// Settings that make life easier. Not every container and user namespace lets us have them.
const COMFORTS: [(&str, &str); 3] = [
    // anyone may ping without rights, and bind any port, as in a container
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    // A switch that is killed takes the carrier with it until the next one is there. A gateway that
    // is forgotten with it is asked for into the void, and again only after a second. (Linux 5.16)
    ("ipv4/conf/all/arp_evict_nocarrier", "0"),
];

/// The same for IPv6: it says nothing that it was not asked.
const IPV6_COMFORTS: [(&str, &str); 5] = [
    ("ipv6/conf/all/ndisc_evict_nocarrier", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/autoconf", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];

/// Settings of a host that shares addresses with the switch's router, which sends it packets,
/// ICMP errors for one, from addresses that the host takes for its own.
const SHARED_ADDRESSES: (&str, &str) = ("ipv4/conf/all/accept_local", "1");

/// Whether the kernel has IPv6.
pub(super) fn has_ipv6() -> bool {
    Path::new(DIRECTORY).join("ipv6").exists()
}

/// Settles the calling thread's namespace.
pub(super) fn settle(namespace: &str, shares_addresses: SharesAddresses) -> Result<(), Error> {
    let shared = match shares_addresses {
        SharesAddresses::No => None,
        SharesAddresses::WithRouter => Some(SHARED_ADDRESSES),
    };
    // without IPv6 in the kernel, adding an IPv6 address fails and says so
    let (ipv6_needs, ipv6_comforts) = if has_ipv6() {
        (IPV6_NEEDS.as_slice(), IPV6_COMFORTS.as_slice())
    } else {
        (&[][..], &[][..])
    };
    for (name, value) in NEEDS.iter().chain(ipv6_needs).chain(&shared) {
        set(name, value)
            .map_err(Error::failed(|| format!("set {name} = {value} in namespace {namespace}")))?;
    }
    for (name, value) in COMFORTS.iter().chain(ipv6_comforts) {
        if let Err(error) = set(name, value) {
            tracing::debug!("cannot set {name} = {value} in namespace {namespace}: {error}");
        }
    }
    Ok(())
}

/// Lets packets in whose source is one of the namespace's own addresses.
pub(super) fn accept_own_addresses(namespace: &str) -> Result<(), Error> {
    let (name, value) = SHARED_ADDRESSES;
    set(name, value)
        .map_err(Error::failed(|| format!("set {name} = {value} in namespace {namespace}")))
}

/// Makes a router of the calling thread's namespace.
pub(super) fn forward(namespace: &str) -> Result<(), Error> {
    let ipv6 = has_ipv6().then_some("ipv6/conf/all/forwarding");
    for name in std::iter::once("ipv4/ip_forward").chain(ipv6) {
        set(name, "1")
            .map_err(Error::failed(|| format!("set {name} = 1 in namespace {namespace}")))?;
    }
    Ok(())
}

/// Takes IPv6 from every interface of the calling thread's namespace.
pub(super) fn switch_off_ipv6(namespace: &str) -> Result<(), Error> {
    const NAME: &str = "ipv6/conf/all/disable_ipv6";
    if !has_ipv6() {
        return Ok(());
    }
    set(NAME, "1").map_err(Error::failed(|| format!("set {NAME} = 1 in namespace {namespace}")))
}

/// Changes a setting unless it is so already: some writes wait for all other work on links.
fn set(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new(DIRECTORY).join(name);
    let now = fs::read_to_string(&path)?;
    if now.split_whitespace().eq(value.split_whitespace()) {
        return Ok(());
    }
    fs::write(&path, value)
}

/// Whether a host shares addresses with the switch's router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharesAddresses {
    /// Its addresses are its own.
    No,
    /// The router answers for some of them, too.
    WithRouter,
}
