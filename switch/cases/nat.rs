//! Judging address translation by events on the wire.

mod arrival;
mod craft;

use std::collections::BTreeMap;
use std::net::IpAddr;

use kswitch_config::PortKind;
use serde_json::Value;

use super::findings::Findings;
use super::format::nat::{Event, Send, Step, To};
use super::format::{Change, File, Host, HostRef, PodName, Word};
use super::hosts::{advance, endpoint, tcp_numbers};
use super::names;
use super::stage::more_drops;
use super::topology::{self, Broken, Lab, Machine};
use super::wire::{Wire, whole};
use crate::dataplane::Kind;
use crate::dataplane::frame::{TCP_ACK, TCP_FIN, TCP_SYN};
use crate::sim::craft::Craft;
use crate::sim::read::Received;
use kswitch_tables::{Endpoint, Flow};

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        self.events.iter().flat_map(hosts).collect()
    }

    fn objects(&self) -> Vec<&Value> {
        let mut objects: Vec<&Value> = Vec::new();
        for change in &self.changes {
            if let Change::Apply(object) = change {
                objects.push(object);
            }
        }
        for event in &self.events {
            if let Event::Apply(applied) = event {
                objects.extend(applied);
            }
        }
        objects
    }
}

fn hosts(event: &Event) -> Vec<&HostRef> {
    match event {
        Event::Send(send) => {
            let expect = &send.expect;
            let one = [Some(&send.from), expect.arrives_at.as_ref(), expect.not_at.as_ref()];
            one.into_iter().flatten().chain(&expect.arrives_at_one_of).collect()
        }
        Event::RepeatUntil { event, .. } => hosts(event),
        _ => Vec::new(),
    }
}

/// Carries a case out and judges it.
///
/// # Errors
/// It cannot be carried out.
pub fn judge(
    case: &File<Step>,
    lab: &mut Lab,
    wire: &mut impl Wire,
    findings: &mut Findings,
) -> Result<(), Broken> {
    let mut judge =
        Judge { lab, wire, saved: Saved::default(), heard: BTreeMap::new(), opening: None };
    for step in &case.steps {
        findings.step(&step.name);
        judge.lab.step(&step.changes, |lab| judge.wire.change(lab))?;
        for (at, event) in step.events.iter().enumerate() {
            findings.item(format!("event {}: {}", at + 1, words(event)));
            judge.event(event, findings)?;
        }
    }
    Ok(())
}

/// What was given a name.
#[derive(Debug, Default)]
struct Saved {
    sources: BTreeMap<String, Endpoint>,
    pods: BTreeMap<String, PodName>,
}

struct Judge<'j, W> {
    lab: &'j mut Lab,
    wire: &'j mut W,
    saved: Saved,
    /// By machine and the flow it sends, the sequence number it expects next.
    heard: BTreeMap<(PortKind, String), u32>,
    /// The last SYN that arrived.
    opening: Option<Opening>,
}

/// A connection of which the SYN has arrived.
#[derive(Clone, Debug)]
struct Opening {
    client: PortKind,
    /// As the client sent it.
    sent: Flow,
    server: PortKind,
    /// As it arrived at the server.
    arrived: Flow,
}

impl<W: Wire> Judge<'_, W> {
    fn event(&mut self, event: &Event, findings: &mut Findings) -> Result<(), Broken> {
        match event {
            Event::Send(send) => self.send(send, findings),
            Event::Wait { seconds } => {
                self.wire.pass(*seconds);
                Ok(())
            }
            Event::Compare { equal, different } => self.compare(equal, different, findings),
            Event::CompleteHandshake { client_seq, server_seq } => {
                self.complete(*client_seq, *server_seq, findings)
            }
            Event::Apply(objects) => {
                self.lab.apply_all(objects)?;
                self.wire.change(self.lab)
            }
            Event::Delete { kind, namespace, name } => {
                let (kind, name) = (kind.clone(), name.clone());
                let delete = Change::Delete { kind, namespace: namespace.clone(), name };
                self.lab.change(&[delete])?;
                self.wire.change(self.lab)
            }
            Event::RepeatUntil { seconds, event } => {
                for second in 0..=*seconds {
                    let mut tried = findings.clone();
                    self.event(event, &mut tried)?;
                    if tried.differences.len() == findings.differences.len() || second == *seconds {
                        *findings = tried;
                        break;
                    }
                    self.wire.pass(1);
                }
                Ok(())
            }
        }
    }

    fn send(&mut self, send: &Send, findings: &mut Findings) -> Result<(), Broken> {
        let (target, port) = self.target(&send.to)?;
        let from = self.machine(&send.from, target.is_ipv4())?;
        let before = self.wire.drops();
        // what came unasked meanwhile is nobody's
        self.wire.take();
        let acknowledged = self.heard.get(&(from.kind.clone(), key(send, &from, target, port)));
        let packet =
            craft::packet(send, &from, (target, port), acknowledged.copied(), &self.saved)?;
        let arrivals = self.transmit(&from, &packet, send)?;
        self.note_opening(&from, &packet, &arrivals);
        self.note_numbers(&arrivals);
        let drops = more_drops(&before, &self.wire.drops());
        let mut arrived =
            arrival::Judge { lab: self.lab, saved: &mut self.saved, from: &from, arrivals, drops };
        arrived.judge(send, target, findings)
    }

    /// Sends a packet, in fragments if that is asked for, and gathers what comes of it.
    fn transmit(
        &mut self,
        from: &Machine,
        packet: &Craft,
        send: &Send,
    ) -> Result<Vec<(PortKind, Received)>, Broken> {
        let target = packet.target.address;
        for piece in craft::pieces(packet, send)? {
            if !self.wire.send_ip(&from.kind, target, &piece) {
                return Err(Broken(format!("{} cannot send", from.kind)));
            }
        }
        Ok(whole(self.wire.packets()))
    }

    /// Remembers the connection that a SYN opens.
    fn note_opening(&mut self, from: &Machine, packet: &Craft, arrivals: &[(PortKind, Received)]) {
        let is_syn = |received: &Received| matches!(received.packet.kind, Kind::Tcp(flags) if flags & (TCP_SYN | TCP_ACK) == TCP_SYN);
        let Some((server, received)) = arrivals.iter().find(|(_, received)| is_syn(received))
        else {
            return;
        };
        let arrived = received.packet.flow;
        let sent = Flow { source: packet.source, target: packet.target, ..arrived };
        let (client, server) = (from.kind.clone(), server.clone());
        self.opening = Some(Opening { client, sent, server, arrived });
    }

    /// Remembers what each machine has to acknowledge.
    fn note_numbers(&mut self, arrivals: &[(PortKind, Received)]) {
        for (at, received) in arrivals {
            let Kind::Tcp(flags) = received.packet.kind else { continue };
            let (sequence, _) = tcp_numbers(received);
            let next = advance(sequence, received.data());
            let next = next.wrapping_add(u32::from(flags & (TCP_SYN | TCP_FIN) != 0));
            let answer = received.packet.flow.reversed().to_string();
            self.heard.insert((at.clone(), answer), next);
        }
    }

    /// Sends the second and the third packet of a handshake.
    fn complete(
        &mut self,
        client_seq: u32,
        server_seq: u32,
        findings: &mut Findings,
    ) -> Result<(), Broken> {
        let opening = self.opening.clone();
        let Opening { client, sent, server, arrived } =
            opening.ok_or_else(|| Broken("no SYN has arrived before".to_owned()))?;
        let next = server_seq.wrapping_add(1);
        let back = Craft::tcp(arrived.target, arrived.source, TCP_SYN | TCP_ACK);
        let there = Craft::tcp(sent.source, sent.target, TCP_ACK);
        let packets = [
            (&server, back.numbered(server_seq, client_seq), &client, sent.reversed()),
            (&client, there.numbered(client_seq, next), &server, arrived),
        ];
        for (from, packet, to, expected) in packets {
            let before = self.wire.drops();
            self.wire.take();
            let octets = packet.packet();
            self.wire.send_ip(from, packet.target.address, &octets);
            let arrivals = self.wire.packets();
            let is_it = |(at, received): &&(PortKind, Received)| {
                at == to && received.packet.flow == expected && received.is_intact
            };
            if arrivals.iter().find(is_it).is_none() {
                let mut why = arrival::story(&arrivals);
                let drops = more_drops(&before, &self.wire.drops());
                why.extend(drops.into_iter().map(|reason| format!("dropped: {reason}")));
                findings.differs(format!("{expected} at {to}"), "nothing of the kind", why);
            }
            self.note_numbers(&arrivals);
        }
        Ok(())
    }

    fn compare(
        &self,
        equal: &[Word],
        different: &[Word],
        findings: &mut Findings,
    ) -> Result<(), Broken> {
        let found = |words: &[Word]| {
            words.iter().map(|word| self.saved.source(&word.0)).collect::<Result<Vec<_>, _>>()
        };
        let text = |ends: &[Endpoint]| {
            ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
        };
        let ends = found(equal)?;
        if ends.windows(2).any(|pair| pair.first() != pair.last()) {
            findings.differs("all the same", text(&ends), Vec::new());
        }
        let ends = found(different)?;
        if ends.iter().enumerate().any(|(at, end)| ends.iter().skip(at + 1).any(|b| b == end)) {
            findings.differs("all different", text(&ends), Vec::new());
        }
        Ok(())
    }

    fn target(&self, to: &To) -> Result<(IpAddr, Option<u16>), Broken> {
        match to {
            To::End(end) => Ok((end.ip, end.port)),
            To::Saved(name, port) => {
                let saved = self.saved.source(name)?;
                Ok((saved.address.to_ip(), Some(port.unwrap_or(saved.port))))
            }
        }
    }

    fn machine(&self, host: &HostRef, is_v4: bool) -> Result<Machine, Broken> {
        self.lab.machine(&self.saved.host(host)?, is_v4)
    }
}

impl Saved {
    /// The source that was saved under a name, `$` in front of it or not.
    fn source(&self, name: &str) -> Result<Endpoint, Broken> {
        let name = name.trim_start_matches('$');
        let saved = self.sources.get(name).copied();
        saved.ok_or_else(|| Broken(format!("nothing was saved as {name}")))
    }

    /// The reference with the name of the pod that was saved.
    fn host(&self, host: &HostRef) -> Result<HostRef, Broken> {
        let Host::SavedPod(name) = &host.host else { return Ok(host.clone()) };
        let pod = self.pods.get(name);
        let pod = pod.ok_or_else(|| Broken(format!("no pod was saved as {name}")))?;
        Ok(HostRef { host: Host::Pod(pod.clone()), ip: host.ip })
    }

    /// An address with or without a port, or a saved source.
    fn end(&self, text: &str) -> Result<(IpAddr, Option<u16>), Broken> {
        if text.starts_with('$') {
            let saved = self.source(text)?;
            return Ok((saved.address.to_ip(), Some(saved.port)));
        }
        names::end(text)
    }
}

/// What a machine's acknowledgement numbers are kept by: the flow that it sends.
fn key(send: &Send, from: &Machine, target: IpAddr, port: Option<u16>) -> String {
    let source = endpoint(from.address, craft::source_port(send));
    let target = endpoint(target, port.unwrap_or(0));
    let protocol = craft::protocol(send.protocol, from.address.is_ipv4());
    Flow { protocol, source, target }.to_string()
}

/// An event in a few words.
fn words(event: &Event) -> String {
    match event {
        Event::Send(send) => format!("{:?} from {}", send.protocol, send.from),
        Event::Wait { seconds } => format!("wait {seconds} s"),
        Event::Compare { .. } => "compare".to_owned(),
        Event::CompleteHandshake { .. } => "complete the handshake".to_owned(),
        Event::Apply(_) => "apply".to_owned(),
        Event::Delete { kind, name, .. } => format!("delete {kind} {name}"),
        Event::RepeatUntil { event, .. } => format!("repeat {}", words(event)),
    }
}
