//! Load balancers on real TAPs: the lab's own, asked by a real client outside.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kswitch_config::PortKind;

use super::super::l7::Edge;
use super::super::topology::{Broken, Lab};
use super::site::Site;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A lab whose load balancers are asked by its first host outside.
#[derive(Debug)]
pub struct Balancers {
    client: PortKind,
    site: Site,
}

impl Balancers {
    /// Load balancers of a lab just made.
    ///
    /// # Errors
    /// Nobody is outside.
    pub(super) fn new(site: Site, lab: &Lab) -> Result<Self, Broken> {
        let cluster = lab.cluster();
        let is_proxy = |name: &str| cluster.proxies.iter().any(|proxy| proxy.name == name);
        let client = cluster.externals.iter().find(|host| !is_proxy(&host.name));
        let client = client.ok_or_else(|| Broken("the case has no external".to_owned()))?;
        Ok(Self { client: PortKind::External { name: client.name.clone() }, site })
    }
}

impl Edge for Balancers {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        self.site.change(lab)
    }

    fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.site.block_on(work)
    }

    fn connect(&self, to: SocketAddr) -> io::Result<std::net::TcpStream> {
        self.site.inside(&self.client, || std::net::TcpStream::connect_timeout(&to, PATIENCE))
    }

    fn associate(&self, to: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.site.inside(&self.client, || {
            let socket = std::net::UdpSocket::bind(any)?;
            socket.connect(to)?;
            Ok(socket)
        })
    }

    fn arrived(&self) -> Option<Vec<serde_json::Value>> {
        // the echo servers answer, and keep nothing
        None
    }

    fn forget(&self) {}
}
