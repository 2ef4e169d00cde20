//! Links, addresses and routes of a host, by netlink.
//!
//! Some 0.3 ms a host, nearly all of it the kernel's own work: sending all requests in one message
//! and without an asynchronous connection was measured and won nothing.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteFlags, RouteMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::runtime;

use super::{Error, HostSpec, sysctl};

/// Frames that may wait in a TAP for a worker: more costs cache misses, fewer drops bursts.
const QUEUE_FRAMES: u32 = 500;

/// The index of the loopback interface, in every namespace.
///
/// Source: `LOOPBACK_IFINDEX` of Linux.
const LOOPBACK: u32 = 1;

/// Brings up loopback and interface of a host in the calling thread's namespace.
pub(super) fn configure(spec: &HostSpec) -> Result<(), Error> {
    let HostSpec { namespace, interface, .. } = spec;
    let find = || format!("find interface {interface} in namespace {namespace}");
    let index = if_nametoindex(interface.as_str()).map_err(Error::failed(find))?;
    speak(namespace, async |netlink| netlink.configure(spec, index).await)
}

/// Brings an interface of the calling thread's namespace up.
pub(super) fn take_over(interface: &str) -> Result<(), Error> {
    let find = || format!("find interface {interface}");
    let index = if_nametoindex(interface).map_err(Error::failed(find))?;
    speak("of the machine", async |netlink| {
        netlink.up(interface, LinkUnspec::new_with_index(index)).await
    })
}

/// Does something over a connection to the kernel in the calling thread's namespace, whose name
/// errors shall tell.
pub(super) fn speak<T>(
    namespace: &str,
    work: impl AsyncFnOnce(Netlink<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let connect = || format!("speak netlink in namespace {namespace}");
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(Error::failed(connect))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::failed(connect))?;
        // ends with the runtime
        tokio::spawn(connection);
        work(Netlink { name: namespace, handle }).await
    })
}

/// A connection to the kernel's side of a namespace.
pub(super) struct Netlink<'a> {
    name: &'a str,
    pub(super) handle: Handle,
}

impl Netlink<'_> {
    /// Everything a host needs, in an order in which it works.
    async fn configure(&self, spec: &HostSpec, index: u32) -> Result<(), Error> {
        let HostSpec { interface, mac, mtu, addresses, gateways, loopback, .. } = spec;
        self.up("lo", LinkUnspec::new_with_index(LOOPBACK)).await?;
        for address in loopback {
            self.add_address("lo", LOOPBACK, *address, host_prefix(*address)).await?;
        }
        // the link goes up in a request of its own: the kernel would make addresses first
        self.keep_from_making_addresses(interface, index).await?;
        let link = LinkUnspec::new_with_index(index)
            .address(mac.to_vec())
            .mtu(u32::from(*mtu))
            .txqueuelen(QUEUE_FRAMES);
        self.up(interface, link).await?;
        for (address, len) in addresses.iter().chain(&link_local(*mac, addresses)) {
            self.add_address(interface, index, *address, *len).await?;
        }
        for gateway in gateways {
            let route = default_route(index, *gateway, addresses);
            let request = self.handle.route().add(route).execute();
            self.ask(&format!("add a default route by {gateway}"), request).await?;
        }
        Ok(())
    }

    async fn up(&self, name: &str, link: LinkMessageBuilder<LinkUnspec>) -> Result<(), Error> {
        let request = self.handle.link().set(link.up().build()).execute();
        self.ask(&format!("bring up {name}"), request).await
    }

    /// Keeps the kernel from giving an interface a link-local address by itself, and from asking
    /// around for routers. A kernel without IPv6 knows no such setting and needs none.
    async fn keep_from_making_addresses(&self, name: &str, index: u32) -> Result<(), Error> {
        if !sysctl::has_ipv6() {
            return Ok(());
        }
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let none = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        let link = LinkUnspec::new_with_index(index).append_extra_attribute(none).build();
        let request = self.handle.link().set(link).execute();
        self.ask(&format!("keep {name} from making addresses"), request).await
    }

    async fn add_address(
        &self,
        name: &str,
        index: u32,
        address: IpAddr,
        len: u8,
    ) -> Result<(), Error> {
        let mut request = self.handle.address().add(index, address, len);
        // nobody else is on the link, so nobody need be asked whether the address is free
        request.message_mut().header.flags = AddressHeaderFlags::Nodad;
        self.ask(&format!("add address {address}/{len} to {name}"), request.execute()).await
    }

    /// Waits for the kernel's answer; `task` reads after "cannot".
    async fn ask(
        &self,
        task: &str,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), Error> {
        let task = || format!("{task} in namespace {}", self.name);
        request.await.map_err(system_error).map_err(Error::failed(task))
    }

    /// As [`Self::ask`], but content with an answer of this kind, too.
    pub(super) async fn ask_unless(
        &self,
        fine: io::ErrorKind,
        task: &str,
        request: impl Future<Output = Result<(), rtnetlink::Error>>,
    ) -> Result<(), Error> {
        let task = || format!("{task} in namespace {}", self.name);
        match request.await.map_err(system_error) {
            Err(error) if error.kind() != fine => Err(Error::failed(task)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// What the kernel said, in its own words.
fn system_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn default_route(index: u32, gateway: IpAddr, addresses: &[(IpAddr, u8)]) -> RouteMessage {
    let mut route = match gateway {
        IpAddr::V4(gateway) => {
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build()
        }
        IpAddr::V6(gateway) => {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(index).build()
        }
    };
    if !addresses.iter().any(|(address, len)| covers(*address, *len, gateway)) {
        route.header.flags |= RouteFlags::Onlink;
    }
    route
}

/// The link-local address of a host that has IPv6 and none of its own.
///
/// Neighbour discovery probes from it; without it the kernel forgets its gateway now and then.
///
/// Source: RFC 4291 appendix A, the modified EUI-64.
fn link_local(mac: [u8; 6], addresses: &[(IpAddr, u8)]) -> Option<(IpAddr, u8)> {
    let has_ipv6 = addresses.iter().any(|(address, _)| address.is_ipv6());
    if !has_ipv6 || addresses.iter().any(|(address, _)| is_link_local(*address)) {
        return None;
    }
    let [oui0, oui1, oui2, nic0, nic1, nic2] = mac;
    let interface = [oui0 ^ 2, oui1, oui2, 0xff, 0xfe, nic0, nic1, nic2];
    let bits = 0xfe80 << 112 | u128::from(u64::from_be_bytes(interface));
    let address = Ipv6Addr::from_bits(bits);
    Some((address.into(), 64))
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

const fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether the prefix of this length around `address` has `other` in it.
fn covers(address: IpAddr, len: u8, other: IpAddr) -> bool {
    ipnet::IpNet::new(address, len).is_ok_and(|prefix| prefix.contains(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_hosts_get_a_link_local_address_of_their_mac() {
        let mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
        let global = ("fd00:4::5".parse().unwrap(), 64);
        let expect = ("fe80::11:22ff:fe33:4455".parse().unwrap(), 64);
        assert_eq!(link_local(mac, &[global]), Some(expect));
        assert_eq!(link_local(mac, &[("10.4.0.5".parse().unwrap(), 24)]), None);
        assert_eq!(link_local(mac, &[global, ("fe80::7".parse().unwrap(), 64)]), None);
    }

    #[test]
    fn a_gateway_outside_every_prefix_is_on_the_link() {
        let onlink = |gateway: &str, address: &str, len: u8| {
            let addresses = [(address.parse().unwrap(), len)];
            let route = default_route(2, gateway.parse().unwrap(), &addresses);
            route.header.flags.contains(RouteFlags::Onlink)
        };
        assert!(!onlink("10.4.0.1", "10.4.0.5", 24));
        assert!(onlink("169.254.1.1", "10.4.0.5", 32));
        assert!(!onlink("fd00:4::1", "fd00:4::5", 64));
        assert!(onlink("fe80::1", "fd00:4::5", 128));
        assert!(onlink("fd00:4::1", "10.4.0.5", 24));
    }
}
