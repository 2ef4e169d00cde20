//! Judging policies: who may talk to whom.

use std::net::{IpAddr, SocketAddr};

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
        if !step.changes.is_empty() {
            lab.change(&step.changes)?;
            stage.change(lab)?;
        }
        let mut judge = Judge { lab, stage, findings };
        for probe in &step.probes {
            judge.probe(probe)?;
        }
        for flow in &step.flows {
            judge.flow(flow)?;
        }
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

impl<S: Stage> Judge<'_, S> {
    /// Tries every cell of a table.
    fn probe(&mut self, probe: &Probe) -> Result<(), Broken> {
        let Probe { protocol, port, table, .. } = probe;
        for (from, cells) in &table.rows {
            for (to, cell) in table.columns.iter().zip(cells) {
                let expect = match cell {
                    Cell::Any => continue,
                    Cell::Allow => Expect::Allow,
                    Cell::Deny => Expect::Deny,
                };
                self.findings.item(format!("{from} -> {to} {protocol}/{port}"));
                let host = |name: &PodName| HostRef { host: Host::Pod(name.clone()), ip: None };
                self.between(&host(from), &host(to), (*protocol, *port), None, expect)?;
            }
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) -> Result<(), Broken> {
        let Flow { from, to, protocol, port, expect, at, name, .. } = flow;
        match to {
            Receiver::Host(host) => {
                self.findings.item(titled(name, format!("{from} -> {host} {protocol}/{port}")));
                self.between(from, host, (*protocol, *port), at.as_deref(), *expect)
            }
            Receiver::Service(service) => {
                self.findings.item(titled(name, format!("{from} -> {service} {protocol}/{port}")));
                let ip = self.cluster_ip(service)?;
                let attempt =
                    self.call(from, SocketAddr::new(ip, *port), *protocol, at.as_deref())?;
                self.judge(*expect, None, &attempt);
                Ok(())
            }
        }
    }

    /// Tries a connection from one machine to the address of another.
    fn between(
        &mut self,
        from: &HostRef,
        to: &HostRef,
        (protocol, port): (Transport, u16),
        at: Option<&str>,
        expect: Expect,
    ) -> Result<(), Broken> {
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
        let attempt = self.call(from, to, protocol, at.as_deref())?;
        self.judge(expect, Some(to), &attempt);
        Ok(())
    }

    fn call(
        &mut self,
        from: &HostRef,
        to: SocketAddr,
        transport: Transport,
        at: Option<&str>,
    ) -> Result<Attempt, Broken> {
        let from = self.lab.machine(from, to.is_ipv4())?;
        if self.lab.node_of(&from.kind).is_none() {
            let first = self.lab.cluster().nodes.first().map(|node| node.name.as_str());
            let node = at.or(first).ok_or_else(|| Broken("there is no node".to_owned()))?;
            self.stage.enter_at(node)?;
        }
        Ok(self.stage.call(&Call { from, source_port: None, to, transport }))
    }

    fn judge(&mut self, expect: Expect, to: Option<SocketAddr>, attempt: &Attempt) {
        let works = match &attempt.outcome {
            Outcome::Served(witness) => to.is_none_or(|to| witness.at == to),
            Outcome::Refused(_) | Outcome::Silent => false,
        };
        if works != (expect == Expect::Allow) {
            let expected = if works { "it must not work" } else { "it works" };
            self.findings.differs_by(expected, attempt);
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
