//! Judging single packets and the answers to them.

mod craft;
mod machine;
mod reply;

use std::net::IpAddr;

use kswitch_config::PortKind;

use super::findings::Findings;
use super::format::l3::{self, Expect, Step};
use super::format::{Change, File, HostRef};
use super::hosts::Hosts;
use super::stage::more_drops;
use super::topology::{self, Broken, Lab};
use super::wire::{Wire, whole};
use crate::sim::read::Received;
use craft::{Crafter, Probe};
use reply::Answer;

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        let mut hosts = Vec::new();
        for l3::Probe { send, expect, .. } in &self.probes {
            hosts.push(&send.from);
            hosts.extend(&expect.arrives_at);
        }
        hosts
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
    for step in &case.steps {
        findings.step(&step.name);
        lab.step(&step.changes, |lab| wire.change(lab))?;
        for probe in &step.probes {
            findings.item(&probe.name);
            judge_one(probe, lab, wire, findings)?;
        }
    }
    Ok(())
}

fn judge_one(
    probe: &l3::Probe,
    lab: &Lab,
    wire: &mut impl Wire,
    findings: &mut Findings,
) -> Result<(), Broken> {
    let l3::Probe { send, expect, .. } = probe;
    // the machine is looked for first: which family it speaks, the target says
    let any = lab.machine(&send.from, true).or_else(|_| lab.machine(&send.from, false))?;
    let port = wire.port(&any.kind);
    let port = port.ok_or_else(|| Broken(format!("{} is not attached", any.kind)))?;
    let (target, _) = craft::target(send, &port)?;
    let from = lab.machine(&send.from, target.is_ipv4())?;
    let next = wire.next_mac(&from.kind, craft::tables(target));
    let next = next.ok_or_else(|| Broken(format!("{} is not attached", from.kind)))?;
    let sent = Crafter { port: &port, own: from.address, next }.probe(send)?;
    let before = wire.drops();
    // what came unasked meanwhile is nobody's
    wire.take();
    wire.send(&from.kind, &sent.frame);
    let mut frames = wire.take();
    let mut hosts = Hosts::default();
    hosts.keep(lab, &[]);
    machine::answer_all(wire, &mut hosts, &from.kind, &frames);
    frames.extend(wire.take());
    let drops = more_drops(&before, &wire.drops());
    let seen = Seen { lab, wire, from: &from.kind, sent: &sent, frames, drops };
    seen.judge(expect, findings)
}

/// What came of a probe.
struct Seen<'s, W> {
    lab: &'s Lab,
    wire: &'s W,
    from: &'s PortKind,
    sent: &'s Probe,
    frames: Vec<(PortKind, Vec<u8>)>,
    drops: Vec<&'static str>,
}

impl<W: Wire> Seen<'_, W> {
    fn judge(&self, expect: &Expect, findings: &mut Findings) -> Result<(), Broken> {
        let answers = self.answers();
        if let Some(expected) = &expect.reply {
            let port = self.wire.port(self.from);
            let port = port.ok_or_else(|| Broken(format!("{} is not attached", self.from)))?;
            let macs = |name: &str| {
                let is_it =
                    |kind: &&PortKind| reply::bare_name(kind) == name || kind.to_string() == name;
                let machines = self.wire.machines();
                self.wire.port(machines.iter().find(is_it)?).map(|port| port.mac)
            };
            let judge =
                reply::Judge { reply: expected, probe: self.sent, port: &port, macs: &macs };
            match judge.best(&answers)? {
                None => {
                    let expected = format!("an answer: {:?}", expected.kind);
                    findings.differs(expected, "none", self.story());
                }
                Some(differences) => {
                    for (expected, got) in differences {
                        findings.differs(expected, got, self.story());
                    }
                }
            }
        }
        if expect.no_reply_within.is_some() && !answers.is_empty() {
            findings.differs("no answer", "an answer", self.story());
        }
        if expect.no_icmp_error_within.is_some() && answers.iter().any(Answer::is_error) {
            findings.differs("no ICMP error", "an ICMP error", self.story());
        }
        if expect.not_at_destination && self.is_at_destination() {
            findings.differs("not at its destination", "it is", self.story());
        }
        if expect.not_forwarded {
            let home = self.lab.node_of(self.from);
            let is_away = |(at, _): &&(PortKind, Vec<u8>)| self.lab.node_of(at) != home;
            if self.frames.iter().any(|frame| is_away(&frame)) {
                findings.differs("only on its own link", "elsewhere too", self.story());
            }
        }
        if let Some(host) = &expect.arrives_at {
            self.arrives(host, expect, findings)?;
        }
        Ok(())
    }

    fn arrives(
        &self,
        host: &HostRef,
        expect: &Expect,
        findings: &mut Findings,
    ) -> Result<(), Broken> {
        let machine = self.lab.machine(host, self.sent.target.is_ipv4())?;
        let here = self.frames.iter().filter(|(at, _)| *at == machine.kind);
        let pieces: Vec<(PortKind, Received)> =
            here.filter_map(|(at, frame)| Some((at.clone(), Received::read(frame)?))).collect();
        let fragments = pieces.iter().filter(|(_, piece)| piece.packet.fragment.is_some()).count();
        let arrived = whole(pieces);
        let is_it = |(_, received): &&(PortKind, Received)| {
            received.packet.flow.target.address.to_ip() == self.sent.target
                && received.packet.fragment.is_none()
        };
        let Some((_, received)) = arrived.iter().find(is_it) else {
            findings.differs(format!("it arrives at {machine}"), "it does not", self.story());
            return Ok(());
        };
        let mut differs = |expected: String, got: String| {
            findings.differs(expected, got, self.story());
        };
        for span in expect.ttl.iter().chain(&expect.hop_limit) {
            if !span.holds(received.packet.ttl) {
                differs(format!("ttl {span}"), format!("ttl {}", received.packet.ttl));
            }
        }
        if !received.is_intact {
            differs("checksum right".to_owned(), "checksum wrong".to_owned());
        }
        if expect.as_fragments && fragments < 2 {
            differs("in fragments".to_owned(), format!("{fragments} fragments"));
        }
        if expect.payload_whole && received.data() != self.sent.data {
            let got = format!("{} octets, or others", received.data().len());
            differs(format!("the {} octets that were sent", self.sent.data.len()), got);
        }
        Ok(())
    }

    /// What came back to the sender, as far as it can be an answer.
    fn answers(&self) -> Vec<Answer> {
        let here = self.frames.iter().filter(|(at, _)| at == self.from);
        here.filter_map(|(_, frame)| Answer::read(frame)).collect()
    }

    /// Whether anything at all came to the machine that has the target's address.
    fn is_at_destination(&self) -> bool {
        let has = |at: &PortKind, ip: IpAddr| {
            self.wire.port(at).is_some_and(|port| {
                port.addresses.iter().any(|net| net.addr() == ip) || port.loopback.contains(&ip)
            })
        };
        self.frames.iter().any(|(at, _)| at != self.from && has(at, self.sent.target))
    }

    fn story(&self) -> Vec<String> {
        let line = |(at, frame): &(PortKind, Vec<u8>)| {
            let what = Answer::read(frame).map(|answer| answer.words());
            let what = what.unwrap_or_else(|| format!("a frame of {} octets", frame.len()));
            format!("arrived at {at}: {what}")
        };
        let drops = self.drops.iter().map(|reason| format!("dropped: {reason}"));
        self.frames.iter().map(line).chain(drops).collect()
    }
}
