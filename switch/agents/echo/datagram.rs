//! The UDP side: each datagram is answered at once, from the address it was sent to.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc::{in_addr, in_pktinfo, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::{Ends, Host, text};

/// Octets of the largest UDP datagram, rounded up.
const LARGEST_DATAGRAM: usize = 65_536;

/// Datagrams answered before other tasks have their turn.
const BURST: usize = 32;

thread_local! {
    /// One buffer for each thread of the runtime, as a datagram never outlives its turn.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST_DATAGRAM]);
}

/// Answers until the task is aborted.
pub(super) async fn answer_all(socket: UdpSocket, host: Arc<Host>) {
    let descriptor = socket.as_raw_fd();
    let Ok(port) = socket.local_addr().map(|address| address.port()) else { return };
    let mut ration = Ration::default();
    while socket.readable().await.is_ok() {
        for _ in 0..BURST {
            let answered = socket.try_io(Interest::READABLE, || {
                BUFFER.with_borrow_mut(|buffer| {
                    answer_one((descriptor, port), buffer, &host, &mut ration)
                })
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
    (socket, port): (RawFd, u16),
    buffer: &mut [u8],
    host: &Host,
    ration: &mut Ration,
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
    if host.is_echoing(address.port()) && !ration.take(Instant::now()) {
        return Ok(());
    }
    let ends = Ends::new(address, SocketAddr::new(asked.address(), port));
    let answer = text::answer(datagram, &host.identity, ends);
    send(socket, &answer, &client, asked);
    Ok(())
}

/// Answers that a socket has for clients which may be servers that will answer in turn.
///
/// A client's port may well be one of theirs by chance, so it is answered, but not for ever.
#[derive(Debug, Default)]
struct Ration {
    since: Option<Instant>,
    taken: u32,
}

impl Ration {
    /// Answers in [`Ration::PERIOD`] at most.
    const SIZE: u32 = 10;

    /// How long a ration lasts.
    const PERIOD: Duration = Duration::from_secs(1);

    /// Takes one, if there is one left.
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Self::PERIOD) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken += 1;
        self.taken <= Self::SIZE
    }
}

/// The address a datagram was sent to.
#[derive(Clone, Copy)]
enum Asked {
    V4(in_addr),
    V6(in6_pktinfo),
}

impl Asked {
    fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => Ipv4Addr::from_bits(u32::from_be(address.s_addr)).into(),
            Self::V6(info) => IpAddr::from(info.ipi6_addr.s6_addr),
        }
    }
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
