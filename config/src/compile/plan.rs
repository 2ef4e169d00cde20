//! What the lab has to attach for a snapshot to make sense.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use kswitch_tables::{MacAddress, PortId, murmur3_x64_128};

use crate::Interface;

/// Every machine to attach, by port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes first, then externals, then pods, each in the order of the cluster.
    pub ports: Vec<PlannedPort>,
}

/// A machine to attach, and how its own network stack must be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPort {
    /// The port; the same for as long as the machine is there.
    pub id: PortId,
    /// What it is.
    pub kind: PortKind,
    /// Name of its network namespace.
    pub namespace: String,
    /// Ethernet address of its interface.
    pub mac: MacAddress,
    /// Largest IP packet on its link, octets.
    pub mtu: u16,
    /// Addresses of its interface, preferred first, with the prefixes on its link.
    pub addresses: Vec<IpNet>,
    /// Default routes, at most one per family.
    pub gateways: Vec<PlannedGateway>,
    /// Addresses that it has on its loopback interface.
    pub loopback: Vec<IpAddr>,
    /// The interface of this machine behind which it is; `None`: a TAP must be made.
    pub interface: Option<Interface>,
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedGateway {
    /// The next hop.
    pub address: IpAddr,
    /// Whether it is on the link although no address of the interface says so.
    pub on_link: bool,
}

impl PlannedGateway {
    /// The gateway of a machine with these addresses.
    pub(super) fn new(address: IpAddr, addresses: &[IpNet]) -> Self {
        Self { address, on_link: !addresses.iter().any(|net| net.contains(&address)) }
    }
}

/// What is attached to a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortKind {
    /// The own network of a node, with its pods of the host network.
    Node {
        /// Name of the node.
        name: String,
    },
    /// A host outside the cluster.
    External {
        /// Its name.
        name: String,
    },
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl PortKind {
    /// Name of the network namespace in the lab of this name.
    pub fn namespace(&self, lab: &str) -> String {
        match self {
            Self::Node { name } => format!("{lab}.node.{name}"),
            Self::External { name } => format!("{lab}.ext.{name}"),
            Self::Pod { namespace, name } => format!("{lab}.{namespace}.{name}"),
        }
    }
}

/// As commands write it: `node/name`, `ext/name`, `namespace/name`.
impl fmt::Display for PortKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { name } => write!(formatter, "node/{name}"),
            Self::External { name } => write!(formatter, "ext/{name}"),
            Self::Pod { namespace, name } => write!(formatter, "{namespace}/{name}"),
        }
    }
}

/// An Ethernet address that follows from a name: locally administered, the same at every start.
pub(super) fn mac(name: &str) -> MacAddress {
    let [_, octets @ .., _, _] = murmur3_x64_128(name.as_bytes(), 0).0.to_be_bytes();
    let [a, b, c, d, e] = octets;
    MacAddress([0x02, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_local_and_follow_the_name() {
        let [first, ..] = mac("lab/pod/default/a").0;
        assert_eq!(first, 0x02);
        assert_eq!(mac("lab/pod/default/a"), mac("lab/pod/default/a"));
        assert_ne!(mac("lab/pod/default/a"), mac("lab/pod/default/b"));
    }

    #[test]
    fn gateways_outside_of_every_prefix_are_on_the_link_all_the_same() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let addresses = [net("10.4.0.7/24"), net("fd00:4::7/64")];
        let gateway = |text: &str| PlannedGateway::new(text.parse().unwrap(), &addresses);
        assert!(!gateway("10.4.0.1").on_link && !gateway("fd00:4::1").on_link);
        assert!(gateway("169.254.1.1").on_link && gateway("fe80::1").on_link);
    }
}
