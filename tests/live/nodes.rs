//! Nodes as those on them and those outside see them: node ports, host ports, health checks.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fetch, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("a process on a node reaches node ports at its own node", &[], own_node_ports),
    ("a process on a node reaches host ports at its own node", &[], own_host_ports),
    ("a server on a node is reached in the node port range", &[], unclaimed),
    ("localhost offers node ports only where asked to", &[], localhost),
    ("a health check follows the endpoints of the node", &[], health_check),
];

const NODE: &str = "node.node-a";
const ADDRESSES: [&str; 2] = ["10.128.0.2", "[fd00:128::2]"];

/// Node ports for HTTP, for datagrams, and for nobody.
const SERVICES: &str = r#"
[[service]]
metadata = { name = "web" }
[service.spec]
type = "NodePort"
ipFamilyPolicy = "PreferDualStack"
selector = { app = "frontend" }
ports = [{ port = 80, targetPort = 8080, nodePort = 30080 }]

[[service]]
metadata = { name = "talk" }
[service.spec]
type = "NodePort"
ipFamilyPolicy = "PreferDualStack"
selector = { app = "client" }
ports = [{ port = 81, targetPort = 8081, protocol = "UDP", nodePort = 30081 }]

[[service]]
metadata = { name = "nobody" }
spec = { type = "NodePort", selector = { app = "nobody" }, ports = [{ port = 80, nodePort = 30082 }] }
"#;

/// A pod with host ports, outside the range of node ports.
const HOST_PORTS: &str = r#"
[[pod]]
metadata = { name = "hosted" }
[pod.spec]
nodeName = "node-a"
containers = [{ name = "all", ports = [
    { containerPort = 8080, hostPort = 8088 },
    { containerPort = 8081, hostPort = 8089, protocol = "UDP" },
] }]
"#;

/// A server on the node itself, in the range of node ports.
const HOST_NETWORK: &str = r#"
[[pod]]
metadata = { name = "own" }
[pod.spec]
nodeName = "node-a"
hostNetwork = true
containers = [{ name = "all", ports = [
    { containerPort = 30500 },
    { containerPort = 30501, protocol = "UDP" },
] }]
"#;

fn start(more: &[&str]) -> Result<Lab, Failed> {
    let name = fresh_name();
    Lab::start(&name, &(quickstart(&name) + &more.concat()))
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).trim().to_owned()
}

fn own_node_ports() -> Result<(), Failed> {
    let lab = start(&[SERVICES])?;
    for address in ADDRESSES {
        let web = format!("{address}:30080");
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(lab.fetch(NODE, &web, "/hostname")?);
        }
        assert_eq!(seen.len(), 2, "at {web}: {seen:?}");
        let client = lab.fetch(NODE, &web, "/clientip")?;
        assert!(client.starts_with(&format!("{address}:")), "{client}");

        // a connected socket takes an answer only from where it asked
        let talk = format!("{address}:30081");
        let answer = lab.inside(NODE, || exchange(&talk, b"hostname"))??;
        assert_eq!(text(&answer), "client");
    }
    for other in ["10.128.0.3", "[fd00:128::3]"] {
        lab.fetch(NODE, &format!("{other}:30080"), "/hostname")?;
    }
    let refused = lab.inside(NODE, || {
        let address = SocketAddr::from(([10, 128, 0, 2], 30_082));
        TcpStream::connect_timeout(&address, EXCHANGE).map(drop).map_err(|error| error.kind())
    })?;
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "without endpoints");
    Ok(())
}

fn own_host_ports() -> Result<(), Failed> {
    let lab = start(&[])?;
    let before = std::fs::read_to_string(&lab.config)?;
    let fails = |lab: &Lab| {
        ADDRESSES.iter().all(|at| lab.fetch(NODE, &format!("{at}:8088"), "/hostname").is_err())
    };
    assert!(fails(&lab), "before there is such a pod");
    // comes and goes in a running lab: rules follow
    for _ in 0..2 {
        std::fs::write(&lab.config, format!("{before}{HOST_PORTS}"))?;
        lab.ask(&["reload"])?;
        for address in ADDRESSES {
            assert_eq!(lab.fetch(NODE, &format!("{address}:8088"), "/hostname")?, "hosted");
            let talk = format!("{address}:8089");
            let answer = lab.inside(NODE, || exchange(&talk, b"hostname"))??;
            assert_eq!(text(&answer), "hosted");
        }
        std::fs::write(&lab.config, &before)?;
        lab.ask(&["reload"])?;
        assert!(fails(&lab), "after the pod has gone");
    }
    Ok(())
}

fn unclaimed() -> Result<(), Failed> {
    let lab = start(&[SERVICES, HOST_NETWORK])?;
    for machine in [NODE, "node.node-b", "ext.internet", "default.client"] {
        for address in ADDRESSES {
            let web = format!("{address}:30500");
            assert_eq!(lab.fetch(machine, &web, "/hostname")?, "own", "{machine} at {web}");
            let talk = format!("{address}:30501");
            let answer = lab.inside(machine, || exchange(&talk, b"hostname"))??;
            assert_eq!(text(&answer), "own", "{machine} at {talk}");
        }
    }
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(lab.fetch(NODE, &format!("{address}:30500"), "/hostname")?, "own");
    }
    // nobody listens: refused at once, not after a time
    for address in ADDRESSES {
        let address: SocketAddr = format!("{address}:30502").parse()?;
        let refused = lab.inside(NODE, || {
            TcpStream::connect_timeout(&address, EXCHANGE).map(drop).map_err(|error| error.kind())
        })?;
        assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "{address}");
    }
    Ok(())
}

fn localhost() -> Result<(), Failed> {
    let lab = start(&[SERVICES])?;
    assert!(lab.fetch(NODE, "127.0.0.1:30080", "/hostname").is_err(), "without being asked to");
    let text = std::fs::read_to_string(&lab.config)?;
    let asked = text.replace("[cluster]\n", "[cluster]\nlocalhost-node-ports = true\n");
    assert_ne!(asked, text);
    std::fs::write(&lab.config, &asked)?;
    lab.ask(&["reload"])?;
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(lab.fetch(NODE, "127.0.0.1:30080", "/hostname")?);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let client = lab.fetch(NODE, "127.0.0.1:30080", "/clientip")?;
    assert!(client.starts_with("10.128.0.2:"), "{client}");
    assert!(lab.fetch(NODE, "[::1]:30080", "/hostname").is_err(), "over IPv6");
    assert!(lab.fetch(NODE, "127.0.0.1:30082", "/hostname").is_err(), "without endpoints");
    std::fs::write(&lab.config, &text)?;
    lab.ask(&["reload"])?;
    assert!(lab.fetch(NODE, "127.0.0.1:30080", "/hostname").is_err(), "asked no more");
    Ok(())
}

/// Status and `localEndpoints` of an answer on a connection that stays open.
fn ask_health(stream: &mut TcpStream) -> Result<(u16, u64), Failed> {
    write!(stream, "GET / HTTP/1.1\r\nHost: node\r\n\r\n")?;
    let (mut answer, mut octet) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet)?;
        answer.push(octet[0]);
    }
    let head = String::from_utf8(answer)?.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = field("content-length:").ok_or("no length")?.parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    assert_eq!(body["service"]["name"], "balanced");
    let endpoints = body["localEndpoints"].as_u64().ok_or("no count")?;
    assert_eq!(field("x-load-balancing-endpoint-weight:"), Some(&*endpoints.to_string()));
    Ok((head.split(' ').nth(1).ok_or("no status")?.parse()?, endpoints))
}

fn health_check() -> Result<(), Failed> {
    const BALANCED: &str = r#"
[[service]]
metadata = { name = "balanced" }
[service.spec]
type = "LoadBalancer"
externalTrafficPolicy = "Local"
healthCheckNodePort = 30376
selector = { app = "late" }
ports = [{ port = 80, targetPort = 8080 }]
"#;
    const LATE: &str = r#"
[[pod]]
metadata = { name = "late", labels = { app = "late" } }
spec.nodeName = "node-a"
"#;
    let lab = start(&[BALANCED])?;
    let text = std::fs::read_to_string(&lab.config)?;
    let connect = |machine: &str, address: &str| -> Result<TcpStream, Failed> {
        let address: SocketAddr = format!("{address}:30376").parse()?;
        let stream = lab.inside(machine, || TcpStream::connect_timeout(&address, EXCHANGE))??;
        stream.set_read_timeout(Some(EXCHANGE))?;
        Ok(stream)
    };
    let mut here = Vec::new();
    for machine in ["ext.internet", NODE, "node.node-b", "default.client"] {
        for address in ADDRESSES {
            here.push(connect(machine, address)?);
        }
    }
    here.push(connect(NODE, "127.0.0.1")?);
    let mut there = connect("ext.internet", "10.128.0.3")?;
    for (more, expected) in [("", (503, 0)), (LATE, (200, 1)), ("", (503, 0))] {
        std::fs::write(&lab.config, format!("{text}{more}"))?;
        lab.ask(&["reload"])?;
        for stream in &mut here {
            assert_eq!(ask_health(stream)?, expected);
        }
        assert_eq!(ask_health(&mut there)?, (503, 0), "the other node");
    }
    let without = text.replace(BALANCED, "");
    assert_ne!(without, text);
    std::fs::write(&lab.config, without)?;
    lab.ask(&["reload"])?;
    let gone = lab.inside("ext.internet", || fetch("10.128.0.2:30376", "/"))?;
    assert!(gone.is_err(), "answers for a Service that is gone");
    Ok(())
}
