//! Rules by which a host asks the switch for certain ports of its own addresses.
//!
//! A kernel delivers what its processes send to its own addresses without ever showing it to the
//! link, where the switch could translate it. So such packets, and only those that start here, are
//! looked up in a table that sends them out. What comes back in is delivered as ever, even if the
//! switch turned it around untouched.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};
use rtnetlink::{RouteMessageBuilder, RuleAddRequest};

use super::link::{Netlink, speak};
use super::{Error, sysctl};

/// The table of the ways out.
const OUT: u32 = 100;

/// Where the rules for it are: before the table of the kernel's own addresses.
const OUT_PRIORITY: u32 = 100;

/// Where the rule for the kernel's own addresses is from then on; it was at 0, before all others.
const LOCAL_PRIORITY: u32 = 200;

/// The table of the kernel's own addresses. Source: `RT_TABLE_LOCAL` of Linux.
const LOCAL: u32 = 255;

/// Ports that a host asks the switch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// IP protocol number.
    pub protocol: u8,
    /// The first port, host order.
    pub first: u16,
    /// The last port, host order.
    pub last: u16,
}

/// What a host asks the switch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diversion {
    /// The interface towards the switch.
    pub interface: String,
    /// The host's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The switch's router, once per family.
    pub gateways: Vec<IpAddr>,
    /// The ports.
    pub ports: BTreeSet<Ports>,
}

/// Diverts ports in the namespace of the calling thread, where those of `before` are so already.
///
/// What is there is left alone, so that a call that failed may be made again.
///
/// # Errors
/// The first thing that the system refused.
pub fn divert(
    namespace: &str,
    before: Option<&Diversion>,
    wanted: &Diversion,
) -> Result<(), Error> {
    let find = || format!("find interface {} in namespace {namespace}", wanted.interface);
    let index = if_nametoindex(wanted.interface.as_str()).map_err(Error::failed(find))?;
    if before.is_none() {
        // answers come back with a source that the kernel takes for its own
        sysctl::accept_own_addresses(namespace)?;
    }
    let empty = BTreeSet::new();
    let old = before.map_or(&empty, |before| &before.ports);
    speak(namespace, async |netlink| {
        for family in families(wanted) {
            if before.is_none() {
                local_comes_later(&netlink, family).await?;
            }
            let coming = wanted.ports.difference(old);
            for rule in coming.flat_map(|ports| ports_rules(family, *ports)) {
                add_rule(&netlink, rule).await?;
            }
            let going = old.difference(&wanted.ports);
            for rule in going.flat_map(|ports| ports_rules(family, *ports)) {
                remove_rule(&netlink, rule).await?;
            }
        }
        if before.is_none_or(|before| before.addresses != wanted.addresses) {
            for route in routes(wanted, index) {
                let request = netlink.handle.route().add(route).execute();
                netlink.ask_unless(io::ErrorKind::AlreadyExists, "add a way out", request).await?;
            }
        }
        Ok(())
    })
}

/// The families in which there is a way out.
fn families(wanted: &Diversion) -> impl Iterator<Item = AddressFamily> {
    wanted.gateways.iter().map(|gateway| match gateway {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    })
}

/// Makes room before the rule for the kernel's own addresses; at no time is there none.
async fn local_comes_later(netlink: &Netlink<'_>, family: AddressFamily) -> Result<(), Error> {
    add_rule(netlink, rule(family, LOCAL, LOCAL_PRIORITY)).await?;
    remove_rule(netlink, rule(family, LOCAL, 0)).await
}

async fn add_rule(netlink: &Netlink<'_>, rule: RuleMessage) -> Result<(), Error> {
    let mut request: RuleAddRequest = netlink.handle.rule().add();
    *request.message_mut() = rule;
    netlink.ask_unless(io::ErrorKind::AlreadyExists, "add a rule", request.execute()).await
}

async fn remove_rule(netlink: &Netlink<'_>, rule: RuleMessage) -> Result<(), Error> {
    let request = netlink.handle.rule().del(rule).execute();
    netlink.ask_unless(io::ErrorKind::NotFound, "remove a rule", request).await
}

fn rule(family: AddressFamily, table: u32, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![RuleAttribute::Table(table), RuleAttribute::Priority(priority)];
    rule
}

/// The rules for packets that start here, to these ports and back from them.
///
/// A server of the host may listen at one of the ports. Its answers take the way of the questions,
/// lest the switch see half of a connection, which it would not let pass.
fn ports_rules(family: AddressFamily, ports: Ports) -> [RuleMessage; 2] {
    let range = RulePortRange { start: ports.first, end: ports.last };
    [RuleAttribute::DestinationPortRange(range), RuleAttribute::SourcePortRange(range)].map(
        |range| {
            let mut rule = rule(family, OUT, OUT_PRIORITY);
            rule.attributes.extend([
                // the kernel's word for "from a process of this namespace"
                RuleAttribute::Iifname("lo".to_owned()),
                RuleAttribute::IpProtocol(IpProtocol::from(i32::from(ports.protocol))),
                range,
            ]);
            rule
        },
    )
}

/// The way out to each of the host's addresses, from that address as it would be without.
///
/// Addresses of others are not in the table; their packets go on to the next rule.
fn routes(wanted: &Diversion, index: u32) -> Vec<RouteMessage> {
    let v4_gateway = wanted.gateways.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let v6_gateway = wanted.gateways.iter().find_map(|ip| match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(*ip),
    });
    let route = |address: &IpAddr| match *address {
        IpAddr::V4(address) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .pref_source(address)
                .gateway(v4_gateway?);
            Some(route.output_interface(index).onlink().table_id(OUT).build())
        }
        IpAddr::V6(address) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .pref_source(address)
                .gateway(v6_gateway?);
            Some(route.output_interface(index).onlink().table_id(OUT).build())
        }
    };
    wanted.addresses.iter().filter_map(route).collect()
}
