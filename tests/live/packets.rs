//! Random packets in random labs: what a trace says of each is what it meets on real TAPs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kswitch::control::request::{Request, Response};
use kswitch::control::socket;
use kswitch::dataplane::Kind;
use kswitch::dataplane::frame::{TCP_ACK, TCP_RST, TCP_SYN};
use kswitch::port::VNET_HEADER;
use kswitch::sim::read::Received;
use kswitch::trace::probe::first;
use kswitch::trace::{Query, Report};
use kswitch_config::{Cluster, Compiled, Draft, Observed, PlannedPort, PortKind, compile};
use kswitch_tables::{Endpoint, Flow, Generation, MacAddress, Protocol};
use libtest_mimic::Failed;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Socket, Type};

use crate::Test;
use crate::lab::{Lab, fresh_name};
use crate::random_labs::{self, Random};

pub(crate) const TESTS: &[Test] =
    &[("random packets meet what a trace said", &[], random_packets_meet_it)];

const LABS: u64 = 20;
const PACKETS: usize = 25;

/// Every packet, for sockets that look on, in network order.
///
/// Source: linux `if_ether.h`, `ETH_P_ALL`.
const ALL: u16 = 3_u16.to_be();

/// Packets that leave, as sockets that look on see them.
///
/// Source: linux `if_packet.h`, `PACKET_OUTGOING`.
const OUTGOING: u8 = 4;

/// A machine, and what comes to it.
struct Machine<'l> {
    port: &'l PlannedPort,
    namespace: String,
    sniffer: Socket,
}

/// What befell a packet.
#[derive(Debug, Default)]
struct Befell {
    arrived: Option<(PortKind, Endpoint, Endpoint, u8)>,
    is_told: bool,
    drops: Vec<String>,
}

struct World<'l> {
    lab: &'l Lab,
    machines: Vec<Machine<'l>>,
}

impl<'l> World<'l> {
    fn new(lab: &'l Lab, compiled: &'l Compiled) -> Result<Self, Failed> {
        let machine = |port: &'l PlannedPort| -> Result<Machine<'l>, Failed> {
            let whole = port.kind.namespace(lab.name());
            let namespace = whole.split_once('.').ok_or("no namespace")?.1.to_owned();
            let open = || Socket::new(Domain::PACKET, Type::RAW, Some(i32::from(ALL).into()));
            let sniffer = lab.inside(&namespace, open)??;
            sniffer.set_nonblocking(true)?;
            Ok(Machine { port, namespace, sniffer })
        };
        let machines = compiled.plan.ports.iter().map(machine).collect::<Result<_, _>>()?;
        Ok(Self { lab, machines })
    }

    fn ask(&self, request: &Request) -> Result<serde_json::Value, Failed> {
        let mut answers = socket::ask(Path::new(socket::DIRECTORY), self.lab.name(), request)?;
        match answers.next().ok_or("no answer")?? {
            Response::Objects { mut items } => Ok(items.pop().ok_or("nothing")?),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn trace(&self, query: &Query) -> Result<Report, Failed> {
        Ok(serde_json::from_value(self.ask(&Request::Trace { query: query.clone() })?)?)
    }

    fn drops(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let mut counters = self.ask(&Request::Counters)?;
        Ok(serde_json::from_value(counters["drops"].take())
            .map(|drops: Vec<(String, u64)>| drops.into_iter().collect())?)
    }

    /// What came to any machine since the last look.
    fn take(&self) -> Vec<(&PortKind, Received)> {
        let mut taken = Vec::new();
        let mut room = vec![0; VNET_HEADER + 65_600];
        for machine in &self.machines {
            let fd = machine.sniffer.as_raw_fd();
            loop {
                let frame = &mut room[VNET_HEADER..];
                let got = recvfrom::<LinkAddr>(fd, frame);
                let Ok((length, Some(from))) = got else { break };
                if from.pkttype() == OUTGOING || from.ifindex() == 1 {
                    continue;
                }
                let frame = Received::read(&room[..VNET_HEADER + length]);
                taken.extend(frame.map(|frame| (&machine.port.kind, frame)));
            }
        }
        taken
    }

    /// Sends a packet by the machine's own stack, from where it comes in the switch as any other.
    fn send(&self, from: &PlannedPort, flow: &Flow) -> Result<(), Failed> {
        let frame = first(flow).frame(MacAddress([0; 6]), MacAddress([0; 6]));
        let source = flow.source.address.to_ip();
        let header = if source.is_ipv4() { 20 } else { 40 };
        let segment = &frame[VNET_HEADER + 14 + header..];
        let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let machine = self.machines.iter().find(|machine| machine.port.kind == from.kind);
        let machine = machine.ok_or("no machine")?;
        let number = i32::from(flow.protocol.0);
        let sent = self.lab.inside(&machine.namespace, || {
            let socket = Socket::new(domain, Type::RAW, Some(number.into()))?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            let target: IpAddr = flow.target.address.to_ip();
            socket.send_to(segment, &SocketAddr::new(target, 0).into())
        })?;
        sent.map(|_| ()).map_err(|error| format!("{flow}: {error}").into())
    }

    /// Sends a packet and waits for what befalls it.
    fn befall(&self, from: &PlannedPort, flow: &Flow, report: &Report) -> Result<Befell, Failed> {
        let before = self.drops()?;
        self.take();
        self.send(from, flow)?;
        let reasons = report.candidates.iter().filter_map(|other| other.reason.as_ref());
        let reasons: Vec<&String> = reasons.chain(&report.reason).collect();
        let end = Instant::now() + Duration::from_secs(20);
        let mut befell = Befell::default();
        loop {
            // what was told may have been read before what arrived: so once more
            let is_last = befell.is_told;
            for (machine, packet) in self.take() {
                look(&mut befell, machine, &packet, from, flow);
            }
            let after = self.drops()?;
            let moved = after.iter().filter(|(key, count)| before.get(*key) < Some(*count));
            befell.drops = moved.map(|(key, _)| key.clone()).collect();
            let is_dropped = befell.drops.iter().any(|moved| reasons.contains(&moved));
            if befell.arrived.is_some() || is_last {
                return Ok(befell);
            }
            if is_dropped && report.verdict != "reject" && !befell.is_told {
                return Ok(befell);
            }
            if Instant::now() > end {
                return Err(format!("{flow}: {befell:?}, but {report:#?}").into());
            }
        }
    }
}

/// Takes note of a packet that came to a machine.
fn look(
    befell: &mut Befell,
    machine: &PortKind,
    packet: &Received,
    from: &PlannedPort,
    flow: &Flow,
) {
    let (source, target) = packet.ends();
    // load balancers ask nodes how they are meanwhile
    let asks = |range: &str| {
        range.parse().is_ok_and(|range: IpNet| range.contains(&source.address.to_ip()))
    };
    if ["35.191.0.0/16", "130.211.0.0/22", "2600:2d00:1:b029::/64"].into_iter().any(asks) {
        return;
    }
    let is_error = packet.packet.kind == Kind::IcmpError;
    let is_own = *machine == from.kind && (is_error || target == flow.source);
    if is_own && (is_error || packet.packet.flow.protocol == flow.protocol) {
        befell.is_told = true;
        return;
    }
    let is_it = packet.packet.flow.protocol == flow.protocol
        && match packet.packet.kind {
            Kind::Tcp(flags) => flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN,
            Kind::IcmpError => false,
            _ => match packet.icmp() {
                Some((kind, _)) => matches!(kind, 8 | 128),
                None => true,
            },
        };
    if is_it && !is_own && befell.arrived.is_none() {
        befell.arrived = Some((machine.clone(), source, target, packet.packet.ttl));
    }
}

fn compare(world: &World<'_>, from: &PlannedPort, flow: &Flow) -> Result<String, Failed> {
    let bare = |end: &Endpoint| end.address.to_string();
    let has_ports = flow.protocol.has_ports();
    let protocol = match flow.protocol {
        Protocol::TCP => "tcp",
        Protocol::UDP => "udp",
        Protocol::SCTP => "sctp",
        _ => "icmp",
    };
    let query = Query {
        from: bare(&flow.source),
        to: if has_ports { flow.target.to_string() } else { bare(&flow.target) },
        protocol: Some(protocol.into()),
        source_port: Some(flow.source.port),
        ..Query::default()
    };
    let mut report = world.trace(&query)?;
    // each backend that may be chosen, before anything is
    let mut others = BTreeMap::new();
    for candidate in &report.candidates {
        let backend: SocketAddr = candidate.endpoint.parse().map_err(|_| "no endpoint")?;
        let asked = Query { backend: Some(backend), ..query.clone() };
        others.insert(candidate.endpoint.clone(), world.trace(&asked)?);
    }
    let befell = world.befall(from, flow, &report)?;
    let chosen = match &befell.arrived {
        Some((_, _, target, _)) => others.remove(&target.to_string()),
        None if report.verdict == "forward" && !befell.drops.is_empty() => {
            let is_it = |other: &Report| {
                other.reason.as_ref().is_some_and(|reason| befell.drops.contains(reason))
            };
            others.into_values().find(is_it)
        }
        None => None,
    };
    report = chosen.unwrap_or(report);
    let context = format!("{flow} from {}: {befell:?}\n{report:#?}", from.kind);
    match &befell.arrived {
        Some((machine, source, target, ttl)) => {
            assert_eq!(report.verdict, "forward", "{context}");
            assert_eq!(report.endpoint_name, Some(machine.to_string()), "{context}");
            assert_eq!(report.endpoint, Some(target.to_string()), "{context}");
            assert_eq!(report.rewritten_source, Some(source.to_string()), "{context}");
            assert_eq!(report.rewritten_target, Some(target.to_string()), "{context}");
            assert_eq!(report.ttl_spent, Some(64 - ttl), "{context}");
        }
        None if report.reason.is_none() => {
            assert_eq!((report.verdict.as_str(), befell.is_told), ("forward", true), "{context}");
        }
        None => {
            let verdict = if befell.is_told { "reject" } else { "drop" };
            assert_eq!(report.verdict, verdict, "{context}");
            assert!(
                report.reason.as_ref().is_some_and(|it| befell.drops.contains(it)),
                "{context}"
            );
        }
    }
    Ok(report.reason.unwrap_or(report.verdict))
}

/// Whether a packet is for an address of the sender's own link that no machine has.
fn is_missing_neighbour(from: &PlannedPort, ports: &[PlannedPort], flow: &Flow) -> bool {
    let target = flow.target.address.to_ip();
    let has = |port: &PlannedPort| port.addresses.iter().any(|net| net.addr() == target);
    from.addresses.iter().any(|net| net.contains(&target)) && !ports.iter().any(has)
}

fn in_one_lab(seed: u64, seen: &mut BTreeMap<String, usize>) -> Result<(), Failed> {
    let mut random = Random::new(100 + seed);
    let name = fresh_name();
    let text =
        random_labs::lab(&mut random).replace("name = \"random\"", &format!("name = \"{name}\""));
    let text = format!("{text}[dns]\nenabled = false\n[switch]\nmetrics = \"off\"\n");
    let lab = Lab::start(&name, &text)?;
    let draft = Draft::read(&lab.config).with_addons();
    let cluster: Cluster = draft.validate(None).map_err(|errors| errors.to_string())?;
    let compiled = compile(&cluster, &Observed::default(), Generation(1), 7);
    let world = World::new(&lab, &compiled)?;
    let ports = &compiled.plan.ports;
    let mut done = 0;
    while done < PACKETS {
        let from = &ports[random.below(ports.len())];
        let number = u16::try_from(20_000 + done)?;
        let flow = random_labs::flow(&mut random, &cluster, from, number);
        // a neighbour that does not answer is sent nothing
        let Some(flow) = flow.filter(|flow| !is_missing_neighbour(from, ports, flow)) else {
            continue;
        };
        *seen.entry(compare(&world, from, &flow)?).or_default() += 1;
        done += 1;
    }
    Ok(())
}

fn random_packets_meet_it() -> Result<(), Failed> {
    let mut seen = BTreeMap::new();
    for seed in 0..LABS {
        in_one_lab(seed, &mut seen)
            .map_err(|failed| format!("lab {seed}: {}", failed.message().unwrap_or("failed")))?;
    }
    assert_eq!(seen.values().sum::<usize>(), 500);
    for outcome in ["forward", "policy_ingress", "no_service", "no_endpoints", "source_range"] {
        assert!(seen.contains_key(outcome), "{outcome} never: {seen:?}");
    }
    Ok(())
}
