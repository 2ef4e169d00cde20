//! Questions to the lab's name servers by real sockets.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use kswitch_config::PortKind;

use super::super::dns::NameServer;
use super::super::format::dns::Transport;
use super::super::format::{Host, HostRef};
use super::super::stage::Bench;
use super::super::topology::{Broken, Lab};
use super::Sockets;

/// The port of name servers, host order.
const PORT: u16 = 53;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Octets of the largest answer.
const LARGEST: usize = 65_535;

impl NameServer for Sockets {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        Bench::change(self, lab)
    }

    fn ask(
        &mut self,
        from: Option<&HostRef>,
        request: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let site = self.site();
        let settings = &site.running().cluster.settings.cluster;
        let server = SocketAddr::new(*settings.dns_addresses.first()?, PORT);
        let asked_from = |kind: &PortKind| match (from.map(|from| &from.host), kind) {
            (Some(Host::Pod(pod)), PortKind::Pod { namespace, name }) => {
                pod.namespace == *namespace && pod.name == *name
            }
            // who serves names asks nobody
            (_, PortKind::Pod { namespace, .. }) => namespace != "kube-system",
            _ => false,
        };
        let has_family = |port: &&kswitch_config::PlannedPort| {
            port.addresses.iter().any(|own| own.addr().is_ipv4() == server.is_ipv4())
        };
        let mut machines = site.ports().filter(has_family).filter(|port| asked_from(&port.kind));
        let machine = machines.next()?.kind.clone();
        let answered = site.inside(&machine, || match transport {
            Transport::Udp => by_udp(server, request),
            Transport::Tcp => by_tcp(server, request),
        });
        answered.inspect_err(|error| tracing::warn!("{machine} asks {server}: {error}")).ok()
    }
}

fn by_udp(server: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(request)?;
    let mut answer = vec![0; LARGEST];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn by_tcp(server: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), request].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
