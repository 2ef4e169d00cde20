//! The sockets of one server, opened in the namespace the calling thread is in.

use std::io;
use std::net::{TcpListener, UdpSocket};

use socket2::{Protocol, Type};

use super::{EchoPort, Speaks};
use crate::agents::datagrams;
use crate::agents::listen::{both_families, everywhere, listen};
use crate::agents::namespace::Namespace;

/// Sockets of one server, inside its namespace and not yet answered on.
#[derive(Debug)]
pub struct Sockets {
    pub(super) listeners: Vec<(Speaks, TcpListener)>,
    pub(super) datagrams: Vec<UdpSocket>,
    pub(super) namespace: Namespace,
    pub(super) unsupported: Vec<EchoPort>,
}

impl Sockets {
    /// Opens the ports on all addresses, of both families where the kernel has IPv6, in the
    /// network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// A port cannot be opened: the message names it. All of them are closed again.
    pub fn open(ports: &[EchoPort]) -> io::Result<Self> {
        let namespace = Namespace::current()?;
        let mut sockets =
            Self { listeners: vec![], datagrams: vec![], namespace, unsupported: vec![] };
        for &port in ports {
            sockets
                .open_port(port)
                .map_err(|error| io::Error::new(error.kind(), format!("{port}: {error}")))?;
        }
        Ok(sockets)
    }

    /// Ports of a protocol that this kernel does not have, which are therefore not open.
    pub fn unsupported(&self) -> &[EchoPort] {
        &self.unsupported
    }

    fn open_port(&mut self, port: EchoPort) -> io::Result<()> {
        match port.speaks {
            Speaks::Http | Speaks::Text | Speaks::HttpOrText => {
                self.listeners.push((port.speaks, everywhere(port.number)?));
            }
            Speaks::Sctp => match both_families(Type::STREAM, Protocol::SCTP, port.number) {
                Ok((socket, address)) => {
                    self.listeners.push((port.speaks, listen(socket, address)?));
                }
                Err(error) if is_unsupported(&error) => self.unsupported.push(port),
                Err(error) => return Err(error),
            },
            Speaks::Datagrams => self.datagrams.push(datagrams::open(port.number)?),
        }
        Ok(())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let absent = [nix::libc::EPROTONOSUPPORT, nix::libc::ESOCKTNOSUPPORT];
    error.raw_os_error().is_some_and(|code| absent.contains(&code))
}
