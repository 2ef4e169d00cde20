//! Which of the live flows are meant.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kswitch_tables::Address;
use kswitch_tables::conntrack::Connection;
use serde::{Deserialize, Serialize};

use super::running::Running;

/// What a flow must have to be meant; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// `tcp`, `udp`, `sctp`, `icmp` or `icmpv6`.
    pub protocol: Option<String>,
    /// Its state, as `established`.
    pub state: Option<String>,
    /// An address at one end, before or after rewriting.
    pub address: Option<IpAddr>,
    /// A port at one end, before or after rewriting, host order.
    pub port: Option<u16>,
    /// A machine at one end: `[namespace/]pod`, `node/NAME` or `ext/NAME`.
    pub machine: Option<String>,
}

/// A filter whose names are resolved.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    filter: FlowFilter,
    /// The addresses of the machine that is meant.
    addresses: Option<BTreeSet<Address>>,
}

impl Meant {
    /// Resolves a filter.
    ///
    /// # Errors
    /// There is no such machine.
    pub(super) fn new(running: &Running, filter: FlowFilter) -> Result<Self, String> {
        let addresses = filter.machine.as_ref().map(|wanted| {
            let full =
                if wanted.contains('/') { wanted.clone() } else { format!("default/{wanted}") };
            let mut ports = running.ports().filter(|port| port.kind.to_string() == full);
            let port = ports.next().ok_or_else(|| format!("no pod, node or host {wanted}"))?;
            let own = port.addresses.iter().map(ipnet::IpNet::addr);
            Ok::<_, String>(own.chain(port.loopback.iter().copied()).map(Address::from).collect())
        });
        Ok(Self { addresses: addresses.transpose()?, filter })
    }

    /// Whether a connection is meant.
    pub(super) fn takes(&self, connection: &Connection) -> bool {
        let FlowFilter { protocol, state, address, port, machine: _ } = &self.filter;
        let Connection { original, forward, life, .. } = connection;
        let ends = [original.source, original.target, forward.source, forward.target];
        let is_called = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        is_called(protocol, &original.protocol.to_string())
            && is_called(state, life.state.name())
            && address.is_none_or(|wanted| ends.iter().any(|end| end.address.to_ip() == wanted))
            && port.is_none_or(|wanted| ends.iter().any(|end| end.port == wanted))
            && self
                .addresses
                .as_ref()
                .is_none_or(|own| ends.iter().any(|end| own.contains(&end.address)))
    }
}
