//! Datagrams: each is answered from the address it was sent to.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use nix::libc::{in_addr, in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::listen::both_families;

/// Octets of the largest UDP datagram, rounded up.
const LARGEST_DATAGRAM: usize = 65_536;

/// Octets of datagrams that may wait at a socket, with what the kernel adds to each: a few thousand
/// questions for names, a tenth of a second at 20,000 a second.
const ROOM: usize = 4 * 1_024 * 1_024;

/// Datagrams answered before other tasks have their turn.
const BURST: usize = 32;

thread_local! {
    /// One buffer for each thread of the runtime, as a datagram never outlives its turn.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST_DATAGRAM]);
}

/// Hands datagrams over until the task is aborted; what `answer` answers goes back at once.
pub(crate) async fn answer_all(
    socket: &UdpSocket,
    mut answer: impl FnMut(&[u8], &Sender) -> Option<Vec<u8>>,
) {
    let descriptor = socket.as_raw_fd();
    while socket.readable().await.is_ok() {
        for _ in 0..BURST {
            let answered = socket.try_io(Interest::READABLE, || {
                BUFFER.with_borrow_mut(|buffer| answer_one(descriptor, buffer, &mut answer))
            });
            // An error other than "nothing there" is about one datagram; it has been taken off.
            if answered.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Receives one datagram and sends the answer, which is lost where there is no room for it.
fn answer_one(
    socket: RawFd,
    buffer: &mut [u8],
    answer: &mut impl FnMut(&[u8], &Sender) -> Option<Vec<u8>>,
) -> io::Result<()> {
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let (length, client, asked) = {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket,
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let asked = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Asked::V4(info.ipi_addr)),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Asked::V6(info)),
            _ => None,
        });
        (message.bytes, message.address, asked)
    };
    let (Some(client), Some(asked)) = (client, asked) else { return Ok(()) };
    let (Some(address), Some(datagram)) = (std_address(&client), buffer.get(..length)) else {
        return Ok(());
    };
    let sender = Sender { address: canonical(address), client, asked };
    if let Some(answer) = answer(datagram, &sender) {
        send(socket, &answer, &sender.client, sender.asked);
    }
    Ok(())
}

/// Opens a UDP port on all addresses, of both families where the kernel has IPv6, in the network
/// namespace of the calling thread.
///
/// # Errors
///
/// The port is taken, or what else the system says.
pub(crate) fn open(port: u16) -> io::Result<std::net::UdpSocket> {
    let (socket, address) = both_families(Type::DGRAM, Protocol::UDP, port)?;
    // A host has several addresses: the answer leaves from the one that was asked.
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    // what the system lets everybody have is too little for a moment without processor time
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &ROOM)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Who sent a datagram, and to which address of ours.
#[derive(Clone)]
pub(crate) struct Sender {
    /// The address, IPv4 as such.
    pub(crate) address: SocketAddr,
    client: SockaddrStorage,
    asked: Asked,
}

impl Sender {
    /// The address of ours that it was sent to.
    pub(crate) fn asked(&self) -> IpAddr {
        match self.asked {
            Asked::V4(address) => Ipv4Addr::from_bits(u32::from_be(address.s_addr)).into(),
            Asked::V6(info) => IpAddr::from(info.ipi6_addr.s6_addr).to_canonical(),
        }
    }

    /// Sends this back; it is lost where there is no room for it.
    pub(crate) fn answer(&self, socket: &UdpSocket, answer: &[u8]) {
        send(socket.as_raw_fd(), answer, &self.client, self.asked);
    }
}

/// IPv4 addresses as themselves, though they come by a socket for both families.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

/// The address a datagram was sent to.
#[derive(Clone, Copy)]
enum Asked {
    V4(in_addr),
    V6(in6_pktinfo),
}

fn send(socket: RawFd, answer: &[u8], client: &SockaddrStorage, asked: Asked) {
    let parts = [IoSlice::new(answer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    // The interface is left to routing, but for link-local addresses, which exist once on each.
    let _lost_if_err = match asked {
        Asked::V4(address) => {
            let info = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address,
                ipi_addr: in_addr { s_addr: 0 },
            };
            sendmsg(socket, &parts, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(client))
        }
        Asked::V6(mut info) => {
            if !is_link_local(&info) {
                info.ipi6_ifindex = 0;
            }
            sendmsg(socket, &parts, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(client))
        }
    };
}

fn is_link_local(info: &in6_pktinfo) -> bool {
    matches!(
        IpAddr::from(info.ipi6_addr.s6_addr),
        IpAddr::V6(address) if address.is_unicast_link_local()
    )
}

fn std_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v6 = address.as_sockaddr_in6().map(|&v6: &SockaddrIn6| SocketAddrV6::from(v6).into());
    v6.or_else(|| address.as_sockaddr_in().map(|v4: &SockaddrIn| (v4.ip(), v4.port()).into()))
}
