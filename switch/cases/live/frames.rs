//! Frames by hand on real TAPs.

use std::collections::BTreeMap;
use std::io;

use kswitch_config::{PlannedPort, PortKind};
use kswitch_tables::{Address, MacAddress, PortId};

use super::super::stage::Bench;
use super::super::topology::{Broken, Lab};
use super::super::wire::Wire;
use super::packet::PacketSocket;
use super::site::Site;
use crate::control::INTERFACE;
use crate::dataplane::frame::ETHERNET_HEADER;
use crate::lab;
use crate::port::VNET_HEADER;

/// What the machines themselves do about frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// What their kernel does.
    Answer,
    /// Nothing at all.
    Silent,
}

/// A lab at which frames are sent and received by hand.
/// Sockets go before the site: a namespace does not go as long as a socket holds it.
#[derive(Debug)]
pub struct Frames {
    /// By machine, its port when the socket was opened.
    ends: BTreeMap<PortKind, (PlannedPort, PacketSocket)>,
    /// Frames that each port has to have received, counted from the start.
    sent: BTreeMap<PortId, u64>,
    hosts: Hosts,
    pub(super) site: Site,
}

impl Frames {
    /// Takes hold of every machine's interface.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(site: Site, hosts: Hosts) -> Result<Self, Broken> {
        let mut frames = Self { ends: BTreeMap::new(), sent: BTreeMap::new(), hosts, site };
        frames.keep()?;
        Ok(frames)
    }

    /// Takes hold of the interfaces there are now.
    fn keep(&mut self) -> Result<(), Broken> {
        let site = &self.site;
        self.ends.retain(|kind, (port, _)| site.port(kind) == Some(&*port));
        let ports = site.ports().filter(|port| !self.ends.contains_key(&port.kind));
        let missing: Vec<PlannedPort> = ports.cloned().collect();
        for port in missing {
            let broken = |error: io::Error| Broken(format!("{}: {error}", port.kind));
            if self.hosts == Hosts::Silent {
                lab::silence::silence(&port.namespace)
                    .map_err(|error| super::site::broken(&error))?;
            }
            let opened = self.site.inside(&port.kind, || PacketSocket::open(INTERFACE));
            let socket = opened.map_err(broken)?;
            self.ends.insert(port.kind.clone(), (port, socket));
        }
        Ok(())
    }
}

impl Bench for Frames {
    fn change(&mut self, lab: &Lab) -> Result<(), Broken> {
        self.site.change(lab)?;
        self.sent.clear();
        self.keep()
    }

    fn enter_at(&mut self, node: &str) -> Result<(), Broken> {
        self.site.enter_at(node)
    }

    fn pass(&mut self, seconds: u32) {
        self.site.pass(seconds);
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        self.site.drops()
    }
}

impl Wire for Frames {
    fn machines(&self) -> Vec<PortKind> {
        self.ends.keys().cloned().collect()
    }

    fn port(&self, machine: &PortKind) -> Option<PlannedPort> {
        self.site.port(machine).cloned()
    }

    fn next_mac(&self, machine: &PortKind, target: Address) -> Option<MacAddress> {
        self.site.next_mac(machine, target)
    }

    fn send(&mut self, machine: &PortKind, frame: &[u8]) {
        let Some((port, socket)) = self.ends.get_mut(machine) else { return };
        let id = port.id;
        let received = self.site.received(id);
        match socket.send(frame.get(VNET_HEADER..).unwrap_or(&[])) {
            Ok(()) => {
                let count = self.sent.entry(id).or_insert(0);
                *count = received.max(*count) + 1;
            }
            Err(error) => tracing::warn!("{machine} cannot send: {error}"),
        }
    }

    fn take(&mut self) -> Vec<(PortKind, Vec<u8>)> {
        self.site.settle(&self.sent);
        let mut frames = Vec::new();
        for (kind, (port, socket)) in &mut self.ends {
            // an interface that went is one without frames
            while let Ok(Some(frame)) = socket.receive() {
                // what the machine itself sent is seen as well
                let is_own = frame.get(6..ETHERNET_HEADER - 2) == Some(&port.mac.0);
                if !is_own {
                    let mut buffer = vec![0; VNET_HEADER];
                    buffer.extend(frame);
                    frames.push((kind.clone(), buffer));
                }
            }
        }
        frames
    }
}
