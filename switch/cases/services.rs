//! Judging Services: who serves a connection, and as whom the caller is seen.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kswitch_config::PortKind;

use super::explain::explain;
use super::findings::Findings;
use super::format::services::{
    Event, Exchange, Expect, Flow, Http, HttpAction, HttpExpect, Sequence, Step,
};
use super::format::{Change, File, HostRef, Transport};
use super::stage::{Attempt, Call, Fetched, Outcome, Stage, Witness};
use super::topology::{self, Broken, Lab};

/// Reasons of drops which say that an address was taken for a Service's. That an address of the
/// service range is nobody's (`no_service`) says the contrary.
const SERVICE_DROPS: [&str; 4] =
    ["no_service_port", "no_endpoints", "no_local_endpoints", "source_range"];

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        let flows = self.flows.iter().map(|flow| &flow.from);
        let sequences = self.sequences.iter().map(|sequence| &sequence.from);
        let http = self.http.iter().map(|http| &http.from);
        let exchanges = self.exchanges.iter().filter_map(|exchange| exchange.from.as_ref());
        flows.chain(sequences).chain(http).chain(exchanges).collect()
    }
}

/// Carries a case out and judges it.
///
/// # Errors
/// It cannot be carried out.
pub fn judge(
    case: &File<Step>,
    lab: &mut Lab,
    stage: &mut impl Stage,
    findings: &mut Findings,
) -> Result<(), Broken> {
    for step in &case.steps {
        findings.step(&step.name);
        lab.step(&step.changes, |lab| stage.change(lab))?;
        let mut judge = Judge { lab, stage, findings };
        for flow in &step.flows {
            judge.flow(flow)?;
        }
        for sequence in &step.sequences {
            judge.sequence(sequence)?;
        }
        for http in &step.http {
            judge.http(http)?;
        }
        for exchange in &step.exchanges {
            judge.exchange(exchange)?;
        }
    }
    Ok(())
}

struct Judge<'j, S> {
    lab: &'j Lab,
    stage: &'j mut S,
    findings: &'j mut Findings,
}

/// A call with the node that handles it.
struct Handled {
    call: Call,
    node: String,
}

impl<S: Stage> Judge<'_, S> {
    fn flow(&mut self, flow: &Flow) -> Result<(), Broken> {
        self.findings.item(&flow.name);
        let handled = self.handled(&flow.from, flow.at.as_deref(), flow.to, flow.protocol)?;
        let Expect::Served { backends, masquerade } = &flow.expect else {
            let attempt = self.stage.call(&handled.call);
            self.unserved(&handled, &flow.expect, &attempt);
            return Ok(());
        };
        let mut missing: BTreeSet<SocketAddr> = backends.iter().copied().collect();
        for _ in 0..self.stage.tries(backends.len()) {
            let attempt = self.stage.call(&handled.call);
            match self.served(&handled, backends, *masquerade, &attempt) {
                Some(at) => missing.remove(&at),
                None => return Ok(()),
            };
        }
        if !missing.is_empty() {
            let (tries, all) = (self.stage.tries(backends.len()), listed(backends));
            let (expected, got) = (format!("each of {all}"), listed(&missing));
            self.findings.differs(expected, format!("never {got} in {tries} tries"), Vec::new());
        }
        Ok(())
    }

    fn sequence(&mut self, sequence: &Sequence) -> Result<(), Broken> {
        self.findings.item(&sequence.name);
        let Sequence { from, at, to, protocol, connections, pause_seconds, expect, .. } = sequence;
        let handled = self.handled(from, at.as_deref(), *to, *protocol)?;
        let mut met = BTreeSet::new();
        for number in 0..*connections {
            if number > 0 && *pause_seconds > 0 {
                self.stage.pass(*pause_seconds);
            }
            let attempt = self.stage.call(&handled.call);
            match self.served(&handled, &expect.among, None, &attempt) {
                Some(at) => met.insert(at),
                None => return Ok(()),
            };
        }
        let least = expect.distinct_min.unwrap_or(1);
        let most = expect.distinct_max.unwrap_or(usize::MAX);
        if !(least..=most).contains(&met.len()) {
            let bound = if most == usize::MAX { String::new() } else { format!(" to {most}") };
            let expected = format!("{least}{bound} different backends");
            self.findings.differs(expected, format!("{}: {}", met.len(), listed(&met)), Vec::new());
        }
        Ok(())
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<(), Broken> {
        let Exchange { event, flow, from, at, source_port, to, protocol, expect } = exchange;
        self.findings.item(format!("{event:?} {flow}").to_lowercase());
        let missing = |name: &str| Broken(format!("exchange {flow}: `{name}` is missing"));
        let (handled, attempt) = if *event == Event::Exchange {
            (None, self.stage.exchange(flow)?)
        } else {
            let transport = match event {
                Event::Datagram => Transport::Udp,
                Event::Connect | Event::Exchange => Transport::Tcp,
            };
            let from = from.as_ref().ok_or_else(|| missing("from"))?;
            let to = to.ok_or_else(|| missing("to"))?;
            let transport = protocol.unwrap_or(transport);
            let mut handled = self.handled(from, at.as_deref(), to, transport)?;
            handled.call.source_port = *source_port;
            let attempt = self.stage.open(flow, &handled.call);
            (Some(handled), attempt)
        };
        match (expect, handled) {
            (Expect::Served { backends, masquerade }, Some(handled)) => {
                self.served(&handled, backends, *masquerade, &attempt);
            }
            (Expect::Served { backends, .. }, None) => {
                self.witness(None, backends, &attempt);
            }
            (expect, Some(handled)) => self.unserved(&handled, expect, &attempt),
            (Expect::Reject, None) if matches!(attempt.outcome, Outcome::Refused(_)) => {}
            (Expect::Drop, None) if attempt.outcome == Outcome::Silent => {}
            (Expect::NotServed | Expect::NotAService, None)
                if !matches!(attempt.outcome, Outcome::Served(_)) => {}
            (expect, None) => self.findings.differs_by(word(expect), &attempt),
        }
        Ok(())
    }

    fn http(&mut self, http: &Http) -> Result<(), Broken> {
        self.findings.item(&http.name);
        let (to, path) = split_url(&http.url)?;
        let handled = self.handled(&http.from, http.at.as_deref(), to, Transport::Tcp)?;
        let fetched = self.stage.fetch(&handled.call.from, to, path);
        let HttpExpect { action, status, json, headers } = &http.expect;
        match (fetched, action) {
            (Fetched::Nobody(Outcome::Refused(_)), Some(HttpAction::Refused)) => {}
            (Fetched::Nobody(outcome), Some(HttpAction::Refused)) => {
                self.findings.differs("refused", outcome.to_string(), Vec::new());
            }
            (Fetched::Answer { status, .. }, Some(HttpAction::Refused)) => {
                self.findings.differs("refused", format!("status {status}"), Vec::new());
            }
            (Fetched::Nobody(outcome), None) => {
                let expected =
                    status.map_or_else(|| "an answer".into(), |at| format!("status {at}"));
                self.findings.differs(expected, outcome.to_string(), Vec::new());
            }
            (Fetched::Answer { status: got, headers: have, json: body }, None) => {
                if let Some(expected) = status.filter(|expected| *expected != got) {
                    let (expected, got) = (format!("status {expected}"), format!("status {got}"));
                    self.findings.differs(expected, got, Vec::new());
                }
                for (name, expected) in headers {
                    let is_it = |(have, _): &&(String, String)| have.eq_ignore_ascii_case(name);
                    let got = have.iter().find(is_it).map_or("(none)", |(_, value)| value);
                    // a media type may have parameters
                    if got != expected && got.split(';').next() != Some(expected) {
                        let (expected, got) =
                            (format!("{name}: {expected}"), format!("{name}: {got}"));
                        self.findings.differs(expected, got, Vec::new());
                    }
                }
                for (key, expected) in json.iter().filter_map(|json| json.as_object()).flatten() {
                    let got = body.as_ref().and_then(|body| body.get(key));
                    if got != Some(expected) {
                        let got = got.map_or_else(|| "(none)".into(), ToString::to_string);
                        let (expected, got) =
                            (format!("{key}: {expected}"), format!("{key}: {got}"));
                        self.findings.differs(expected, got, Vec::new());
                    }
                }
            }
        }
        Ok(())
    }

    /// The call that is meant, as the node at which it arrives sees it.
    fn handled(
        &mut self,
        from: &HostRef,
        at: Option<&str>,
        to: SocketAddr,
        transport: Transport,
    ) -> Result<Handled, Broken> {
        let from = self.lab.machine(from, to.is_ipv4())?;
        let node = match (self.lab.node_of(&from.kind), at) {
            (Some(node), _) => node,
            (None, Some(node)) => node.to_owned(),
            (None, None) => {
                let first = self.lab.cluster().nodes.first();
                first.ok_or_else(|| Broken("there is no node".to_owned()))?.name.clone()
            }
        };
        if self.lab.cluster().node(&node).is_none() {
            return Err(Broken(format!("there is no node {node}")));
        }
        if self.lab.node_of(&from.kind).is_none() {
            self.stage.enter_at(&node)?;
        }
        Ok(Handled { call: Call { from, source_port: None, to, transport }, node })
    }

    /// The backend that served, if everything about it is as it must be.
    fn served(
        &mut self,
        handled: &Handled,
        backends: &[SocketAddr],
        masquerade: Option<bool>,
        attempt: &Attempt,
    ) -> Option<SocketAddr> {
        let witness = self.witness(Some(handled), backends, attempt)?;
        let own = handled.call.from.address;
        // a pod that is balanced to itself is always masqueraded
        let is_pod = matches!(handled.call.from.kind, PortKind::Pod { .. });
        let is_itself = is_pod && witness.at.ip() == own;
        let masquerade = if is_itself { Some(true) } else { masquerade };
        let client = witness.client.ip();
        // a node port is handled by the node whose address it was asked for
        let asked = handled.call.to.ip();
        let mut nodes = self.lab.cluster().nodes.iter();
        let asked = nodes.find(|node| node.addresses.contains(&asked));
        let node = asked.map_or(handled.node.as_str(), |node| node.name.as_str());
        let addresses = self.stage.addresses_of(node);
        let is_right = match masquerade {
            None => true,
            Some(true) => addresses.contains(&client),
            Some(false) => client == own,
        };
        if is_right {
            return Some(witness.at);
        }
        let expected = if masquerade == Some(true) {
            format!("the backend sees an address of {node}: {}", listed(&addresses))
        } else {
            format!("the backend sees the client's address {own}")
        };
        self.differs(handled, expected, attempt);
        None
    }

    /// A call came out otherwise.
    fn differs(&mut self, handled: &Handled, expected: impl Into<String>, attempt: &Attempt) {
        self.findings.differs_by(expected, attempt);
        self.findings.because(explain(self.lab, &handled.node, &handled.call));
    }

    /// The listener's report, if it is one of those that may serve.
    fn witness(
        &mut self,
        handled: Option<&Handled>,
        backends: &[SocketAddr],
        attempt: &Attempt,
    ) -> Option<Witness> {
        match &attempt.outcome {
            Outcome::Served(witness) if backends.contains(&witness.at) => Some(witness.clone()),
            _ => {
                let expected = format!("served by {}", one_of(backends));
                match handled {
                    Some(handled) => self.differs(handled, expected, attempt),
                    None => self.findings.differs_by(expected, attempt),
                }
                None
            }
        }
    }

    /// Judges a connection that no backend may serve.
    fn unserved(&mut self, handled: &Handled, expect: &Expect, attempt: &Attempt) {
        let call = &handled.call;
        let translated = attempt.arrivals.iter().any(|at| at.target != call.to);
        let masqueraded = attempt.arrivals.iter().any(|at| at.source.ip() != call.from.address);
        let is_own =
            |witness: &Witness| witness.at == call.to && witness.client.ip() == call.from.address;
        let is_untouched = !translated
            && !masqueraded
            && !attempt.drops.iter().any(|reason| SERVICE_DROPS.contains(reason));
        let is_right = match (expect, &attempt.outcome) {
            (Expect::Reject, Outcome::Refused(_)) | (Expect::Drop, Outcome::Silent) => {
                attempt.arrivals.is_empty()
            }
            (Expect::NotAService, Outcome::Served(witness)) => is_untouched && is_own(witness),
            (Expect::NotAService, _) => is_untouched,
            (Expect::NotServed, Outcome::Served(witness)) => !translated && is_own(witness),
            (Expect::NotServed, _) => !translated,
            _ => false,
        };
        if !is_right {
            self.differs(handled, word(expect), attempt);
        }
    }
}

/// What a case asks for, in words.
const fn word(expect: &Expect) -> &'static str {
    match expect {
        Expect::Served { .. } => "served",
        Expect::Reject => "refused at once by the switch",
        Expect::Drop => "no answer",
        Expect::NotAService => "not touched: whoever owns the address answers",
        Expect::NotServed => "no backend is reached",
    }
}

fn one_of(backends: &[SocketAddr]) -> String {
    match backends {
        [only] => only.to_string(),
        all => format!("one of {}", listed(all)),
    }
}

fn listed<'i, T: std::fmt::Display + 'i>(items: impl IntoIterator<Item = &'i T>) -> String {
    let all: Vec<String> = items.into_iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// Address and path of `http://address:port/path`.
fn split_url(url: &str) -> Result<(SocketAddr, &str), Broken> {
    let broken = || Broken(format!("{url:?} is not http://address:port/path"));
    let rest = url.strip_prefix("http://").ok_or_else(broken)?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (to, path) = rest.split_at(at);
    let path = if path.is_empty() { "/" } else { path };
    let to = to.parse().or_else(|_| to.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 80)));
    Ok((to.map_err(|_| broken())?, path))
}
