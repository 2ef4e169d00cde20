//! A machine with a stack of its own on a port of the world: smoltcp, on the world's clock.

use std::collections::VecDeque;

use kswitch_config::PlannedPort;
use kswitch_tables::Tick;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress,
    Icmpv6Message, Icmpv6Packet, IpAddress, IpCidr, IpEndpoint, IpProtocol, Ipv6Packet,
};

use crate::port::VNET_HEADER;
use crate::port::memory::Peer;

/// What a link does to frames, out of a thousand each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Impairment {
    /// Lost.
    pub loss: u32,
    /// Sent twice.
    pub duplication: u32,
    /// Sent after the next one.
    pub reordering: u32,
}

/// Octets that a socket buffers, each way.
const SOCKET_OCTETS: usize = 65_535;

/// How often a machine is told of its neighbours again. smoltcp (0.14) forgets them after a minute
/// however much they have answered, and a fast retransmission that falls into the search for one is
/// not sent, nor its timer set again: the connection stands still for good.
const REMINDER: Tick = Tick::from_secs(20);

/// A machine.
pub struct Host {
    interface: Interface,
    sockets: SocketSet<'static>,
    link: Link,
    /// When it was last told of its neighbours.
    reminded: Tick,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("link", &self.link).finish_non_exhaustive()
    }
}

/// The machine's end of its link.
#[derive(Debug)]
struct Link {
    peer: Peer,
    impairment: Impairment,
    random: u64,
    delayed: VecDeque<Vec<u8>>,
    mtu: usize,
    /// What neighbours have said of themselves, one frame each.
    answers: Vec<Vec<u8>>,
    /// How many of these are to be received again.
    reminders: usize,
}

impl Link {
    /// Whether something that happens to so many of a thousand frames happens now.
    const fn happens(&mut self, of_thousand: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < of_thousand as u64
    }

    fn send(&mut self, frame: Vec<u8>) {
        if self.happens(self.impairment.loss) {
            return;
        }
        if self.happens(self.impairment.reordering) {
            self.delayed.push_back(frame);
            return;
        }
        if self.happens(self.impairment.duplication) {
            self.peer.send(&frame);
        }
        self.peer.send(&frame);
        if let Some(late) = self.delayed.pop_front() {
            self.peer.send(&late);
        }
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        if let Some(next) = self.reminders.checked_sub(1) {
            self.reminders = next;
            return self.answers.get(next).cloned();
        }
        loop {
            let frame = self.peer.receive()?;
            if !self.happens(self.impairment.loss) {
                let frame = frame.get(VNET_HEADER..)?.to_vec();
                if tells_of_neighbour(&frame) && !self.answers.contains(&frame) {
                    self.answers.push(frame.clone());
                }
                return Some(frame);
            }
        }
    }
}

/// Whether a frame is an answer of ARP or a neighbour advertisement.
fn tells_of_neighbour(frame: &[u8]) -> bool {
    let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return false };
    match ethernet.ethertype() {
        EthernetProtocol::Arp => ArpPacket::new_checked(ethernet.payload())
            .is_ok_and(|arp| arp.operation() == ArpOperation::Reply),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(ethernet.payload()).is_ok_and(|packet| {
            packet.next_header() == IpProtocol::Icmpv6
                && Icmpv6Packet::new_checked(packet.payload())
                    .is_ok_and(|icmp| icmp.msg_type() == Icmpv6Message::NeighborAdvert)
        }),
        _ => false,
    }
}

/// A frame received.
#[derive(Debug)]
pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, consume: F) -> R {
        consume(&self.0)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct Sending<'l>(&'l mut Link);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; VNET_HEADER + length];
        let result = fill(frame.get_mut(VNET_HEADER..).unwrap_or(&mut []));
        self.0.send(frame);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = Self::receive(self)?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

fn instant(now: Tick) -> Instant {
    Instant::from_millis(i64::from(now.0) * i64::from(1000 / Tick::PER_SECOND))
}

impl Host {
    /// The machine on a port; `seed` decides what befalls its frames.
    pub fn new(
        port: &PlannedPort,
        peer: Peer,
        impairment: Impairment,
        seed: u64,
        now: Tick,
    ) -> Self {
        let random = seed | 1;
        let mtu = usize::from(port.mtu) + 14;
        let delayed = VecDeque::new();
        let mut link =
            Link { peer, impairment, random, delayed, mtu, answers: Vec::new(), reminders: 0 };
        let mac = HardwareAddress::Ethernet(EthernetAddress(port.mac.0));
        let mut config = Config::new(mac);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut link, instant(now));
        interface.update_ip_addrs(|addresses| {
            for net in &port.addresses {
                // a machine has few addresses; smoltcp has room for them
                let _ = addresses.push(IpCidr::new(net.addr().into(), net.prefix_len()));
            }
        });
        for gateway in &port.gateways {
            let routes = interface.routes_mut();
            let added = match gateway.address.into() {
                IpAddress::Ipv4(address) => routes.add_default_ipv4_route(address),
                IpAddress::Ipv6(address) => routes.add_default_ipv6_route(address),
            };
            debug_assert!(added.is_ok(), "two default routes are few");
        }
        Self { interface, sockets: SocketSet::new(Vec::new()), link, reminded: now }
    }

    /// Lets the stack work at this moment.
    pub fn poll(&mut self, now: Tick) {
        if now.since(self.reminded) >= REMINDER.0 {
            self.reminded = now;
            self.link.reminders = self.link.answers.len();
        }
        self.interface.poll(instant(now), &mut self.link, &mut self.sockets);
    }

    fn socket(&mut self) -> SocketHandle {
        let room = || tcp::SocketBuffer::new(vec![0; SOCKET_OCTETS]);
        self.sockets.add(tcp::Socket::new(room(), room()))
    }

    /// Listens on a TCP port.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.socket();
        let listening = self.sockets.get_mut::<tcp::Socket<'_>>(handle).listen(port);
        debug_assert!(listening.is_ok(), "a fresh socket may listen");
        handle
    }

    /// Connects to a TCP endpoint from a port of its own.
    pub fn connect(&mut self, to: IpEndpoint, from: u16) -> SocketHandle {
        let handle = self.socket();
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        let connecting = socket.connect(context, to, from);
        debug_assert!(connecting.is_ok(), "a fresh socket may connect");
        handle
    }

    /// A TCP socket.
    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}
