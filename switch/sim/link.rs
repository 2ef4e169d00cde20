//! What a machine knows of its link.

use kswitch_config::PlannedPort;
use kswitch_tables::{Address, MacAddress, PortRole, Topology};

/// The Ethernet address to which the machine on `port` sends what is for `target`: a neighbour's
/// on its link, or its router's. `None` where nothing is attached to the port.
pub fn next_mac(topology: &Topology, port: &PlannedPort, target: Address) -> Option<MacAddress> {
    let own = topology.port(port.id)?;
    let on_link = port.addresses.iter().any(|net| net.contains(&target.to_ip()));
    let neighbour = topology.hosts.get(&target).and_then(|host| topology.port(host.port));
    let is_neighbour = on_link
        && matches!(own.role, PortRole::Bridged(_))
        && neighbour.is_some_and(|neighbour| neighbour.role == own.role);
    let neighbour = neighbour.filter(|_| is_neighbour);
    Some(neighbour.map_or(own.router_mac, |neighbour| neighbour.mac))
}
