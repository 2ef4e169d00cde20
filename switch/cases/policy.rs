//! Judging policies: who may talk to whom.

use std::net::{IpAddr, SocketAddr};

use super::explain::explain;
use super::findings::Findings;
use super::format::policy::{Cell, Expect, Flow, Load, LoadExpect, Probe, Receiver, Step};
use super::format::{Change, File, Host, HostRef, PodName, Transport};
use super::stage::{Attempt, Call, Outcome, Stage};
use super::topology::{self, Broken, Lab};

impl topology::Step for Step {
    fn changes(&self) -> &[Change] {
        &self.changes
    }

    fn hosts(&self) -> Vec<&HostRef> {
        let mut hosts = Vec::new();
        for flow in &self.flows {
            hosts.push(&flow.from);
            if let Receiver::Host(host) = &flow.to {
                hosts.push(host);
            }
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
    stage: &mut impl Stage,
    findings: &mut Findings,
) -> Result<(), Broken> {
    judge_loads(&case.loads, lab, findings);
    for step in &case.steps {
        findings.step(&step.name);
        lab.step(&step.changes, |lab| stage.change(lab))?;
        Judge { lab, stage, findings }.step(step)?;
    }
    Ok(())
}

fn judge_loads(loads: &[Load], lab: &Lab, findings: &mut Findings) {
    for Load { name, object, expect, .. } in loads {
        findings.item(name);
        match (expect, lab.try_load(object)) {
            (LoadExpect::Accept, Ok(())) | (LoadExpect::Reject, Err(_)) => {}
            (LoadExpect::Accept, Err(Broken(why))) => {
                findings.differs("it is taken", format!("it is refused: {why}"), Vec::new());
            }
            (LoadExpect::Reject, Ok(())) => {
                findings.differs("it is refused", "it is taken", Vec::new());
            }
        }
    }
}

struct Judge<'j, S> {
    lab: &'j Lab,
    stage: &'j mut S,
    findings: &'j mut Findings,
}

/// A connection to be tried, and what must come of it.
struct Asked {
    item: String,
    call: Call,
    /// The node at which it enters, of a connection from outside.
    entry: Option<String>,
    /// Who has to be reached; `None` where that is left to a Service.
    to: Option<SocketAddr>,
    expect: Expect,
}

impl<S: Stage> Judge<'_, S> {
    /// Tries all connections of a step and judges them, as many at a time as enter alike.
    fn step(&mut self, step: &Step) -> Result<(), Broken> {
        let mut asked = Vec::new();
        for probe in &step.probes {
            self.probe(probe, &mut asked)?;
        }
        for flow in &step.flows {
            asked.push(self.flow(flow)?);
        }
        let mut rest = asked.as_slice();
        while let Some(entry) = rest.iter().find_map(|asked| asked.entry.as_deref()) {
            let enters_alike = |asked: &Asked| asked.entry.as_deref().is_none_or(|at| at == entry);
            let count = rest.iter().take_while(|asked| enters_alike(asked)).count();
            let (now, later) = rest.split_at(count);
            self.stage.enter_at(entry)?;
            self.try_all(now);
            rest = later;
        }
        self.try_all(rest);
        Ok(())
    }

    fn try_all(&mut self, asked: &[Asked]) {
        let calls: Vec<Call> = asked.iter().map(|asked| asked.call.clone()).collect();
        let attempts = self.stage.call_all(&calls);
        for (asked, attempt) in asked.iter().zip(attempts) {
            self.findings.item(&asked.item);
            self.judge(asked, &attempt);
        }
    }

    /// Every cell of a table.
    fn probe(&self, probe: &Probe, asked: &mut Vec<Asked>) -> Result<(), Broken> {
        let Probe { protocol, port, table, .. } = probe;
        for (from, cells) in &table.rows {
            for (to, cell) in table.columns.iter().zip(cells) {
                let expect = match cell {
                    Cell::Any => continue,
                    Cell::Allow => Expect::Allow,
                    Cell::Deny => Expect::Deny,
                };
                let item = format!("{from} -> {to} {protocol}/{port}");
                let host = |name: &PodName| HostRef { host: Host::Pod(name.clone()), ip: None };
                let ends = (&host(from), &host(to));
                asked.push(self.between(item, ends, (*protocol, *port), None, expect)?);
            }
        }
        Ok(())
    }

    fn flow(&self, flow: &Flow) -> Result<Asked, Broken> {
        let Flow { from, to, protocol, port, expect, at, name, .. } = flow;
        let (transport, expect) = (*protocol, *expect);
        match to {
            Receiver::Host(host) => {
                let item = titled(name, format!("{from} -> {host} {protocol}/{port}"));
                self.between(item, (from, host), (transport, *port), at.as_deref(), expect)
            }
            Receiver::Service(service) => {
                let item = titled(name, format!("{from} -> {service} {protocol}/{port}"));
                let to = SocketAddr::new(self.cluster_ip(service)?, *port);
                let (call, entry) = self.call(from, to, transport, at.as_deref())?;
                Ok(Asked { item, call, entry, to: None, expect })
            }
        }
    }

    /// A connection from one machine to the address of another.
    fn between(
        &self,
        item: String,
        (from, to): (&HostRef, &HostRef),
        (transport, port): (Transport, u16),
        at: Option<&str>,
        expect: Expect,
    ) -> Result<Asked, Broken> {
        let has = |is_v4| {
            self.lab
                .machine(from, is_v4)
                .is_ok()
                .then(|| self.lab.machine(to, is_v4).ok())
                .flatten()
        };
        let target = has(true).or_else(|| has(false));
        let target = target.ok_or_else(|| Broken(format!("{from} and {to} share no family")))?;
        let node = self.lab.node_of(&target.kind);
        let at = at.map(str::to_owned).or(node);
        let to = SocketAddr::new(target.address, port);
        let (call, entry) = self.call(from, to, transport, at.as_deref())?;
        Ok(Asked { item, call, entry, to: Some(to), expect })
    }

    /// A call, and the node at which it enters if it comes from outside.
    fn call(
        &self,
        from: &HostRef,
        to: SocketAddr,
        transport: Transport,
        at: Option<&str>,
    ) -> Result<(Call, Option<String>), Broken> {
        let from = self.lab.machine(from, to.is_ipv4())?;
        let entry = if self.lab.node_of(&from.kind).is_none() {
            let first = self.lab.cluster().nodes.first().map(|node| node.name.as_str());
            let node = at.or(first).ok_or_else(|| Broken("there is no node".to_owned()))?;
            Some(node.to_owned())
        } else {
            None
        };
        Ok((Call { from, source_port: None, to, transport }, entry))
    }

    fn judge(&mut self, asked: &Asked, attempt: &Attempt) {
        let Asked { to, expect, .. } = asked;
        let works = match &attempt.outcome {
            Outcome::Served(witness) => to.is_none_or(|to| witness.at == to),
            Outcome::Refused(_) | Outcome::Silent => false,
        };
        if works != (*expect == Expect::Allow) {
            let expected = if works { "it must not work" } else { "it works" };
            self.findings.differs_by(expected, attempt);
            let entry = asked.entry.as_deref().unwrap_or_default();
            self.findings.because(explain(self.lab, entry, &asked.call));
        }
    }

    fn cluster_ip(&self, name: &PodName) -> Result<IpAddr, Broken> {
        let service = self.lab.cluster().service(&name.namespace, &name.name);
        let service = service.ok_or_else(|| Broken(format!("there is no Service {name}")))?;
        let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref());
        let ip = ip.and_then(|ip| ip.parse().ok());
        ip.ok_or_else(|| Broken(format!("Service {name} has no cluster IP")))
    }
}

fn titled(name: &str, words: String) -> String {
    if name.is_empty() { words } else { format!("{name}: {words}") }
}
