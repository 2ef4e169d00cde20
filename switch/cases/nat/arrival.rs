//! What must come of a packet, and what came of it.

use std::net::IpAddr;

use kswitch_config::PortKind;
use kswitch_tables::Protocol;

use super::super::findings::Findings;
use super::super::format::nat::{Expect, Icmp, Send};
use super::super::format::{HostRef, PodName};
use super::super::names::{Quoted, icmp_name, icmp_type};
use super::super::topology::{Broken, Lab, Machine};
use super::{Saved, craft};
use crate::sim::icmp::quoted_ends;
use crate::sim::read::Received;

/// What came of a packet, about to be judged.
pub(super) struct Judge<'j> {
    pub(super) lab: &'j Lab,
    pub(super) saved: &'j mut Saved,
    pub(super) from: &'j Machine,
    pub(super) arrivals: Vec<(PortKind, Received)>,
    pub(super) drops: Vec<&'static str>,
}

impl Judge<'_> {
    pub(super) fn judge(
        &mut self,
        send: &Send,
        target: IpAddr,
        findings: &mut Findings,
    ) -> Result<(), Broken> {
        let Expect { any, nothing_within, not_at, arrives_at, arrives_at_one_of, .. } =
            &send.expect;
        if *any {
            return Ok(());
        }
        let is_v4 = target.is_ipv4();
        if nothing_within.is_some() {
            // whoever has the address that it was sent to may well get it
            let is_elsewhere = |(at, received): &&(PortKind, Received)| {
                let is_untouched = received.packet.flow.target.address.to_ip() == target;
                !(is_untouched && matches!(at, PortKind::Node { .. }))
            };
            if self.arrivals.iter().any(|arrival| is_elsewhere(&arrival)) {
                findings.differs("nothing arrives", "something does", self.story());
            }
        }
        if let Some(host) = not_at {
            let machine = self.machine(host, is_v4)?;
            if self.arrivals.iter().any(|(at, _)| *at == machine.kind) {
                let expected = format!("nothing at {machine}");
                findings.differs(expected, "something arrives there", self.story());
            }
        }
        let places: Vec<&HostRef> = arrives_at.iter().chain(arrives_at_one_of).collect();
        if places.is_empty() {
            return Ok(());
        }
        let machines = places.into_iter().map(|host| self.machine(host, is_v4));
        let machines: Vec<Machine> = machines.collect::<Result<_, _>>()?;
        self.arrived(send, &machines, findings)
    }

    /// Judges what arrived at one of these machines.
    fn arrived(
        &mut self,
        send: &Send,
        machines: &[Machine],
        findings: &mut Findings,
    ) -> Result<(), Broken> {
        let expect = &send.expect;
        let protocol = craft::protocol(send.protocol, self.from.address.is_ipv4());
        let is_it = |(at, received): &&(PortKind, Received)| {
            received.packet.flow.protocol == protocol
                && machines.iter().any(|machine| machine.kind == *at)
        };
        let there: Vec<(PortKind, Received)> =
            self.arrivals.iter().filter(is_it).cloned().collect();
        let names: Vec<String> = machines.iter().map(ToString::to_string).collect();
        let names = names.join(" or ");
        let Some((at, received)) = there.first() else {
            let expected = format!("{protocol} arrives at {names}");
            findings.differs(expected, "it does not", self.story());
            return Ok(());
        };
        if let Some(count) = expect.count.filter(|count| *count != there.len()) {
            let expected = format!("{count} times at {names}");
            findings.differs(expected, format!("{} times", there.len()), self.story());
        }
        let differences = self.differences(send, received)?;
        for (expected, got) in differences {
            findings.differs(expected, got, self.story());
        }
        if let Some(name) = &expect.save_source_as {
            self.saved.sources.insert(name.clone(), received.packet.flow.source);
        }
        if let Some(saved) = &expect.save_backend_as {
            let PortKind::Pod { namespace, name } = at.clone() else {
                return Err(Broken(format!("{at} is no pod to be saved")));
            };
            self.saved.pods.insert(saved.clone(), PodName { namespace, name });
        }
        Ok(())
    }

    /// What is otherwise about a packet that arrived: expected and got.
    fn differences(
        &self,
        send: &Send,
        received: &Received,
    ) -> Result<Vec<(String, String)>, Broken> {
        let mut found = Vec::new();
        let mut differs = |what: &str, expected: String, got: String| {
            found.push((format!("{what} {expected}"), format!("{what} {got}")));
        };
        let Expect { port, source, source_ip, source_port, icmp, payload_octets, .. } =
            &send.expect;
        let (from, to) = received.ends();
        if !received.is_intact {
            differs("checksum", "right".to_owned(), "wrong".to_owned());
        }
        if let Some(port) = port.as_ref().filter(|port| !port.holds(to.port)) {
            differs("port", port.to_string(), to.port.to_string());
        }
        if let Some(text) = source {
            let (ip, port) = self.saved.end(text)?;
            if from.address.to_ip() != ip || port.is_some_and(|port| port != from.port) {
                differs("source", text.clone(), from.to_string());
            }
        }
        if let Some(text) = source_ip {
            let allowed = self.source_addresses(text)?;
            if !allowed.contains(&from.address.to_ip()) {
                differs("source address", format!("{text} {allowed:?}"), from.address.to_string());
            }
        }
        if let Some(port) = source_port.as_ref().filter(|port| !port.holds(from.port)) {
            differs("source port", port.to_string(), from.port.to_string());
        }
        let octets = received.data().len();
        if let Some(expected) = payload_octets.filter(|expected| *expected != octets) {
            differs("payload octets", expected.to_string(), octets.to_string());
        }
        if let Some(icmp) = icmp {
            self.message(icmp, received, &mut differs)?;
        }
        Ok(found)
    }

    fn message(
        &self,
        expected: &Icmp,
        received: &Received,
        differs: &mut impl FnMut(&str, String, String),
    ) -> Result<(), Broken> {
        let is_v4 = received.packet.is_v4();
        let Icmp { kind, code, id, seq, mtu, quotes } = expected;
        let (got_kind, got_code) = received.icmp().unwrap_or_default();
        if let Some(name) = kind
            && icmp_type(name, is_v4)? != got_kind
        {
            differs("type", name.clone(), icmp_name(got_kind, is_v4));
        }
        if let Some(code) = code.filter(|code| *code != got_code) {
            differs("code", code.to_string(), got_code.to_string());
        }
        let word = |at: usize| {
            let octets = received.upper().get(at..).and_then(<[u8]>::first_chunk);
            octets.map_or(0, |octets| u16::from_be_bytes(*octets))
        };
        if let Some(id) = id {
            let expected = craft::identifier(&id.0, self.saved)?;
            if expected != word(4) {
                differs("identifier", expected.to_string(), word(4).to_string());
            }
        }
        if let Some(seq) = seq.filter(|seq| *seq != word(6)) {
            differs("sequence number", seq.to_string(), word(6).to_string());
        }
        let got_mtu =
            if is_v4 { u32::from(word(6)) } else { u32::from(word(4)) << 16 | u32::from(word(6)) };
        if let Some(mtu) = mtu.filter(|mtu| *mtu != got_mtu) {
            differs("mtu", mtu.to_string(), got_mtu.to_string());
        }
        if let Some(text) = quotes {
            let quoted = Quoted::read(text, |end| self.saved.end(end))?;
            let got = received.upper().get(8..).and_then(quoted_ends);
            if got != Some((quoted.protocol, quoted.source, quoted.target)) {
                let got = got.map_or_else(
                    || "nothing that can be read".to_owned(),
                    |(protocol, source, target)| Quoted { protocol, source, target }.to_string(),
                );
                differs("quotes", quoted.to_string(), got);
            }
        }
        Ok(())
    }

    /// The addresses that `node`, `$name` or an address stand for.
    fn source_addresses(&self, text: &str) -> Result<Vec<IpAddr>, Broken> {
        if text != "node" {
            return Ok(vec![self.saved.end(text)?.0]);
        }
        let own = self.lab.node_of(&self.from.kind);
        let nodes = self.lab.cluster().nodes.iter();
        let is_it = |name: &str| own.as_deref().is_none_or(|own| own == name);
        let nodes = nodes.filter(|node| is_it(&node.name));
        Ok(nodes.flat_map(|node| node.addresses.clone()).collect())
    }

    fn machine(&self, host: &HostRef, is_v4: bool) -> Result<Machine, Broken> {
        self.lab.machine(&self.saved.host(host)?, is_v4)
    }

    fn story(&self) -> Vec<String> {
        let mut story = story(&self.arrivals);
        story.extend(self.drops.iter().map(|reason| format!("dropped: {reason}")));
        story
    }
}

/// Where packets arrived and what they were, a line each.
pub(super) fn story(arrivals: &[(PortKind, Received)]) -> Vec<String> {
    let line = |(at, received): &(PortKind, Received)| {
        let flow = received.packet.flow;
        let what = match received.icmp() {
            Some((kind, code)) => {
                let name = icmp_name(kind, flow.protocol == Protocol::ICMP);
                format!(" {name} code {code}")
            }
            None => String::new(),
        };
        format!("arrived at {at}: {flow}{what}")
    };
    arrivals.iter().map(line).collect()
}
