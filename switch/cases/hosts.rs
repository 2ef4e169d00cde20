//! Machines in memory behave like machines: who listens answers, who does not refuses.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use kswitch_config::{HealthCheck, PortKind};
use kswitch_tables::{Endpoint, Flow, Protocol};

use super::format::Transport;
use super::stage::Witness;
use super::topology::Lab;
use crate::dataplane::Kind;
use crate::dataplane::frame::{TCP_ACK, TCP_RST, TCP_SYN};
use crate::sim::craft::{Body, Craft};
use crate::sim::icmp;
use crate::sim::read::Received;
use crate::sim::sctp::{self, Chunk};

/// The flag by which TCP hands over data at once.
pub const TCP_PSH: u8 = 0x08;

/// First sequence number of servers.
const SERVER_SEQUENCE: u32 = 5_000;

/// The tag by which SCTP servers are addressed.
const SERVER_TAG: u32 = 0x5e4f_e401;

/// Who a node's health check server says it is.
pub const HEALTH_CHECK: &str = "health-check";

/// Machines and their open connections.
#[derive(Debug, Default)]
pub struct Hosts {
    listeners: BTreeMap<(PortKind, Transport, u16), String>,
    connections: HashMap<(PortKind, Flow), Connection>,
}

/// The server's side of a TCP connection.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// The next sequence number to send.
    send: u32,
    /// The next one expected.
    receive: u32,
}

impl Hosts {
    /// Has those listen who are to, and nobody else. Connections stay.
    pub fn keep(&mut self, lab: &Lab, checks: &[HealthCheck]) {
        self.listeners.clear();
        for (name, pod) in lab.pods() {
            let kind = if pod.host_network {
                PortKind::Node { name: pod.node.clone() }
            } else {
                let (namespace, name) = (name.namespace.clone(), name.name.clone());
                PortKind::Pod { namespace, name }
            };
            for port in &pod.ports {
                let key = (kind.clone(), port.protocol, port.port);
                self.listeners.insert(key, name.to_string());
            }
        }
        for check in checks {
            for node in &lab.cluster().nodes {
                let kind = PortKind::Node { name: node.name.clone() };
                let key = (kind, Transport::Tcp, check.port);
                self.listeners.entry(key).or_insert_with(|| HEALTH_CHECK.to_owned());
            }
        }
    }

    /// Forgets the connections of machines that are no more.
    pub fn forget(&mut self, is_there: impl Fn(&PortKind) -> bool) {
        self.connections.retain(|(kind, _), _| is_there(kind));
    }

    /// What a machine answers a packet that was sent to it.
    pub fn answer(&mut self, machine: &PortKind, packet: &Received) -> Vec<Craft> {
        let flow = packet.packet.flow;
        match packet.packet.kind {
            Kind::Tcp(flags) => self.tcp(machine, packet, flags).into_iter().collect(),
            Kind::Udp => vec![match self.witness(machine, &flow) {
                Some(witness) => Craft::udp(flow.target, flow.source, witness.to_text().as_bytes()),
                None => {
                    icmp::port_unreachable(flow.target.address, flow.source.address, &packet.ip)
                }
            }],
            Kind::Sctp(_) => self.sctp(machine, packet).into_iter().collect(),
            Kind::EchoRequest => vec![echo_reply(packet)],
            _ => Vec::new(),
        }
    }

    /// What the listener of a flow reports of it.
    fn witness(&self, machine: &PortKind, flow: &Flow) -> Option<Witness> {
        let transport = Transport::of(flow.protocol)?;
        let key = (machine.clone(), transport, flow.target.port);
        let who = match machine {
            // hosts outside listen everywhere
            PortKind::External { name } => format!("ext/{name}"),
            _ => self.listeners.get(&key)?.clone(),
        };
        Some(Witness { who, at: socket(flow.target), client: socket(flow.source) })
    }

    fn tcp(&mut self, machine: &PortKind, packet: &Received, flags: u8) -> Option<Craft> {
        let flow = packet.packet.flow;
        let (sequence, acknowledged) = tcp_numbers(packet);
        let key = (machine.clone(), flow);
        if flags & TCP_RST != 0 {
            self.connections.remove(&key);
            return None;
        }
        let answer = |flags| Craft::tcp(flow.target, flow.source, flags);
        let witness = self.witness(machine, &flow);
        if flags & (TCP_SYN | TCP_ACK) == TCP_SYN {
            if witness.is_none() {
                let reset = answer(TCP_RST | TCP_ACK).numbered(0, sequence.wrapping_add(1));
                return Some(reset);
            }
            let receive = sequence.wrapping_add(1);
            self.connections.insert(key, Connection { send: SERVER_SEQUENCE + 1, receive });
            return Some(answer(TCP_SYN | TCP_ACK).numbered(SERVER_SEQUENCE, receive));
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            return Some(answer(TCP_RST).numbered(acknowledged, 0));
        };
        let data = packet.data();
        if data.is_empty() || sequence != connection.receive {
            return None;
        }
        connection.receive = advance(sequence, data);
        // a listener that was stopped still serves what it has open
        let at = Witness {
            who: machine.to_string(),
            at: socket(flow.target),
            client: socket(flow.source),
        };
        let text = witness.unwrap_or(at).to_text();
        let sent = connection.send;
        connection.send = advance(sent, text.as_bytes());
        Some(with_data(
            answer(TCP_PSH | TCP_ACK).numbered(sent, connection.receive),
            text.as_bytes(),
        ))
    }

    fn sctp(&self, machine: &PortKind, packet: &Received) -> Option<Craft> {
        let flow = packet.packet.flow;
        let chunk = Chunk::read(packet)?;
        let answer =
            |tag, kind, value: &[u8]| sctp::packet(flow.target, flow.source, tag, kind, value);
        match chunk.kind {
            sctp::INIT => {
                let tag = chunk.tag()?;
                Some(match self.witness(machine, &flow) {
                    Some(witness) => {
                        let value = sctp::init(SERVER_TAG, witness.to_text().as_bytes());
                        answer(tag, sctp::INIT_ACK, &value)
                    }
                    None => answer(tag, sctp::ABORT, &[]),
                })
            }
            // the caller's tag is not kept: that of the packet does for a single answer
            sctp::COOKIE_ECHO => Some(answer(SERVER_TAG, sctp::COOKIE_ACK, &[])),
            _ => None,
        }
    }
}

/// Sequence and acknowledgement numbers of a TCP segment.
pub fn tcp_numbers(packet: &Received) -> (u32, u32) {
    let number = |at: usize| {
        let octets = packet.upper().get(at..).and_then(<[u8]>::first_chunk);
        octets.map_or(0, |octets| u32::from_be_bytes(*octets))
    };
    (number(4), number(8))
}

/// The sequence number after so much data.
pub fn advance(sequence: u32, data: &[u8]) -> u32 {
    sequence.wrapping_add(u32::try_from(data.len()).unwrap_or(0))
}

/// The same segment with data.
pub fn with_data(mut segment: Craft, octets: &[u8]) -> Craft {
    if let Body::Tcp { data, .. } = &mut segment.body {
        *data = octets.to_vec();
    }
    segment
}

/// An endpoint as sockets have it.
pub fn socket(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address.to_ip(), endpoint.port)
}

/// An endpoint as tables have it.
pub fn endpoint(ip: IpAddr, port: u16) -> Endpoint {
    Endpoint::new(ip.into(), port)
}

fn echo_reply(packet: &Received) -> Craft {
    let Flow { protocol, source, target } = packet.packet.flow;
    let kind = if protocol == Protocol::ICMPV6 { 129 } else { 0 };
    let rest = packet.upper().get(4..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; 4]);
    icmp::message(target.address, source.address, (kind, 0), rest, packet.data())
}
