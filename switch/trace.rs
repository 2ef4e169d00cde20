//! What would become of a packet, and why: `kswitch trace`.
//!
//! The packet is tried by the workers' own pipeline ([`probe`]) over the tables of one generation:
//! those of a running lab, or of a file that nobody runs. Nothing is sent, and nothing is
//! remembered. What the pipeline decided is then told in the words of the cluster (`hops`).

mod changes;
mod hops;
mod links;
mod name;
pub mod probe;
pub mod report;
mod verdict;

use kswitch_config::{Cluster, Compiled, Draft, Names, PlannedPort};
use kswitch_tables::affinity::Affinities;
use kswitch_tables::{Address, Endpoint, Flow, PortId, Protocol, Snapshot, Tick};

pub use changes::{Changes, Pair, Side, changes};
pub use links::Faulty;
pub use report::{Candidate, Hop, Query, Reply, Report};

use crate::dataplane::decision::Decision;
use name::{Asked, Whither};
use probe::{Probe, Tried, answer, first};
use verdict::Fate;

/// Port from which a packet is tried, unless another is asked for.
const SOURCE_PORT: u16 = 40_000;

/// What is traced on: the tables of one generation, and what is known of them.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'t> {
    /// What is wanted.
    pub cluster: &'t Cluster,
    /// What it was compiled to.
    pub snapshot: &'t Snapshot,
    /// What the numbers in it are called.
    pub names: &'t Names,
    /// The machines there are.
    pub ports: &'t [PlannedPort],
    /// Where it all is written.
    pub draft: &'t Draft,
    /// Which clients stick to which backends, and the moment it is, in a running lab.
    pub affinity: Option<(&'t Affinities, Tick)>,
    /// What is wrong with links in a running lab; `None`: what the lab file says.
    pub faults: Option<&'t Faulty>,
}

impl<'t> Tables<'t> {
    /// The tables of a lab that does not run.
    pub fn of(compiled: &'t Compiled, cluster: &'t Cluster, draft: &'t Draft) -> Self {
        let Compiled { snapshot, plan, names, health_checks: _, balancers: _, zones: _ } = compiled;
        Self { cluster, snapshot, names, ports: &plan.ports, draft, affinity: None, faults: None }
    }

    /// The machine on a port.
    fn port(&self, id: PortId) -> Option<&'t PlannedPort> {
        self.ports.iter().find(|port| port.id == id)
    }

    /// What the machine at an address is called.
    fn machine(&self, address: Address) -> Option<String> {
        let port = self.snapshot.topology.owner(address)?;
        self.names.port(port).map(ToString::to_string)
    }
}

/// Tries the packet that is asked about.
///
/// # Errors
/// Why there is no such packet: nobody is called so, or the two have no family in common.
pub fn trace(tables: &Tables<'_>, query: &Query) -> Result<Report, String> {
    let Asked { from, to, flow } = name::resolve(tables, query)?;
    let mut report = Report {
        from: from.kind.to_string(),
        to: to.name.clone(),
        protocol: flow.protocol.to_string(),
        source: flow.source.to_string(),
        target: flow.target.to_string(),
        ..Report::default()
    };
    if name::stays_home(tables.snapshot, from, &flow) {
        report.verdict = "forward".into();
        report.meaning = Some("a machine reaches its own addresses without the switch".into());
        report.endpoint = Some(flow.target.to_string());
        report.endpoint_name = Some(from.kind.to_string());
        return Ok(report);
    }
    let mut probe = Probe::new(tables.snapshot, query.seed);
    let packet = first(&flow);
    let choice = query.backend.map(|backend| Endpoint::new(backend.ip().into(), backend.port()));
    let nothing = || format!("nothing is attached for {}", from.kind);
    let mut tried = probe.send(from, &packet, choice).ok_or_else(nothing)?;
    if remember(tables, &probe, &flow, &tried) {
        // the client was served before: it is served the same way again
        probe.forget();
        remember(tables, &probe, &flow, &tried);
        tried = probe.send(from, &packet, choice).ok_or_else(nothing)?;
    }
    let fate = verdict::fate(tables, from, &tried);
    report.hops = hops::forth(tables, from, &flow, &tried, &fate);
    let routers = links::routers(tables, from, &tried);
    let fate = links::forth(tables, from, &routers, &mut report.hops, fate);
    fate.tell(&mut report);
    report.candidates = candidates(tables, from, &flow, &tried);
    if let Fate::Arrives { port, received, .. } = &fate
        && let Some(end) = tables.port(*port)
    {
        let (source, target) = received.ends();
        report.rewritten_source = Some(source.to_string());
        report.rewritten_target = Some(target.to_string());
        report.ttl_spent = Some(64_u8.saturating_sub(received.packet.ttl));
        let back = answer(received);
        let tried = probe.send(end, &back, None).ok_or_else(nothing)?;
        let fate = verdict::fate(tables, end, &tried);
        let ends = (end, from);
        let mut reply = hops::back(tables, ends, (&back, flow.protocol), &tried, &fate);
        links::back(tables, ends, &routers, &mut reply);
        report.reply = Some(reply);
    }
    Ok(report)
}

/// Gives the probe what the running lab remembers of the client; `false` if that is nothing.
fn remember(tables: &Tables<'_>, probe: &Probe<'_>, flow: &Flow, tried: &Tried) -> bool {
    let Some((affinities, now)) = tables.affinity else { return false };
    let mut found = false;
    for decision in &tried.decisions {
        let Decision::Frontend { router, frontend } = decision else { continue };
        let frontend = tables.snapshot.served_at(*router).frontends.get(*frontend);
        let Some(affinity) = frontend.and_then(|frontend| frontend.affinity) else { continue };
        let timeout = Tick::from_secs(affinity.timeout_seconds).0;
        let client = flow.source;
        if let Some(backend) = affinities.find(client.address, affinity.group, now, timeout) {
            probe.remember(&client, affinity.group, backend);
            found = true;
        }
    }
    found
}

/// Every backend among which one was chosen, and what becomes of the packet with it.
fn candidates(
    tables: &Tables<'_>,
    from: &PlannedPort,
    flow: &Flow,
    tried: &Tried,
) -> Vec<Candidate> {
    let chosen = tried.decisions.iter().find_map(|decision| match decision {
        Decision::Chosen { router, set, .. } => Some((*router, *set)),
        _ => None,
    });
    let Some((router, set)) = chosen else { return Vec::new() };
    let mut probe = Probe::new(tables.snapshot, 1);
    let members = tables.snapshot.served_at(router).backends.members(set).iter();
    members
        .filter_map(|backend| {
            probe.forget();
            let tried = probe.send(from, &first(flow), Some(backend.endpoint))?;
            let mut report = Report::default();
            verdict::fate(tables, from, &tried).tell(&mut report);
            let Report { verdict, reason, explanation, .. } = report;
            Some(Candidate {
                endpoint: backend.endpoint.to_string(),
                name: tables.machine(backend.endpoint.address),
                verdict,
                reason,
                explanation,
            })
        })
        .collect()
}

/// The flow of a packet from `source` to `to`.
fn flow(protocol: Protocol, source: Address, source_port: Option<u16>, to: &Whither) -> Flow {
    let port = source_port.unwrap_or(SOURCE_PORT);
    let target = if protocol.has_ports() { to.port } else { port };
    Flow {
        protocol,
        source: Endpoint::new(source, port),
        target: Endpoint::new(to.address, target),
    }
}
