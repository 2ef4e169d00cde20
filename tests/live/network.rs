//! Network load balancers with real sockets: nodes and processes that die, and checks that fail now
//! and then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fetch, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("network: a node dies, and only what went through it notices", &[], node_dies),
    ("network: a process dies, and its node gets no more", &["python3"], process_dies),
    ("network: a check that fails now and then drains nothing", &["python3"], flaky),
    ("network: addresses, rules, checks and who may", &["curl"], shown),
    ("network: a gated pod is ready once a load balancer has checked it", &["python3"], gated),
    (
        "network: an internal load balancer is inside, and comes from its own subnet",
        &["curl"],
        inside,
    ),
];

/// A lab of two nodes and a client outside, in which checks are fast and connections drain for so many
/// seconds.
pub(crate) fn started(draining: u64, more: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        r#"
[lab]
name = "{name}"
[cluster]
load-balancer-pools = ["203.0.113.0/28"]
[load-balancers]
node-check = {{ interval = "200ms", timeout = "1s", unhealthy = 2 }}
connection-draining = "{draining}s"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[external]]
name = "client"
address = "198.51.100.7/24"
{more}"#
    );
    Lab::start(&name, &text)
}

/// Three nodes of which the last has no endpoint.
fn lab(more: &str) -> Result<Lab, Failed> {
    let text = format!(
        r#"
[[node]]
name = "node-c"
[[external]]
name = "vm"
address = "10.128.9.9/32"
network = "vpc"
[[service]]
metadata = {{ name = "wide" }}
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.1"
selector = {{ app = "web" }}
ports = [
    {{ name = "http", port = 80, targetPort = 8080 }},
    {{ name = "echo", port = 7, targetPort = 8081 }},
]
[[service]]
metadata = {{ name = "local" }}
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.2"
externalTrafficPolicy = "Local"
selector = {{ app = "web" }}
ports = [{{ name = "http", port = 80, targetPort = 8080 }}]
[[pod]]
metadata = {{ name = "web-a", labels = {{ app = "web" }} }}
spec.nodeName = "node-a"
{more}"#
    );
    started(2, &text)
}

const WEB_B: &str = r#"
[[pod]]
metadata = { name = "web-b", labels = { app = "web" } }
spec.nodeName = "node-b"
"#;

/// The health of a node or a pod, as a load balancer sees it behind this backend service.
pub(crate) fn health(lab: &Lab, backend: &str, place: &str) -> Result<String, Failed> {
    let all = lab.get("backendservices")?;
    let found = all.iter().find(|at| at["metadata"]["name"] == backend).ok_or("no such")?;
    let places = found["backends"].as_array().ok_or("no places")?;
    let place = places.iter().find(|at| at["node"] == place || at["pod"] == place);
    Ok(place.and_then(|place| place["health"].as_str()).unwrap_or("gone").to_owned())
}

/// Waits until so many requests in a row, each over a connection of its own, are answered; answers
/// by whom.
fn all_answered(lab: &Lab, target: &str, count: usize) -> Result<Vec<String>, Failed> {
    let mut names = Vec::new();
    until("every request is answered", || {
        names = lab.inside("ext.client", || {
            let ask = || fetch_soon(target);
            (0..count).map_while(|_| ask()).collect::<Vec<String>>()
        })?;
        Ok(names.len() == count)
    })?;
    Ok(names)
}

/// The name of who answers, at once.
fn fetch_soon(target: &str) -> Option<String> {
    let soon = Duration::from_millis(300);
    let mut stream = TcpStream::connect_timeout(&target.parse().ok()?, soon).ok()?;
    stream.set_read_timeout(Some(EXCHANGE)).ok()?;
    write!(stream, "GET /hostname HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.trim().to_owned())
}

/// Whether a connection to the echo server still is one.
pub(crate) fn echoes(stream: &mut TcpStream, patience: Duration) -> bool {
    let mut room = [0; 5];
    stream.set_read_timeout(Some(patience)).is_ok()
        && stream.write_all(b"hello").is_ok()
        && stream.read_exact(&mut room).is_ok()
        && &room == b"hello"
}

/// Which of some connections are through a node, whose address stands for the client: the second hop.
pub(crate) fn through(lab: &Lab, streams: &[TcpStream], node: &str) -> Result<Vec<bool>, Failed> {
    let flows: Value = serde_json::from_str(&lab.ask(&["conntrack", "list", "-o", "json"])?)?;
    let flows = flows["items"].as_array().or(flows.as_array()).ok_or("no flows")?;
    let nodes = lab.get("nodes")?;
    let node = nodes.iter().find(|at| at["metadata"]["name"] == node).ok_or("no node")?;
    let node = node["status"]["addresses"][0]["address"].as_str().ok_or("no address")?;
    let is_through = |stream: &TcpStream| -> Result<bool, Failed> {
        let own = stream.local_addr()?.to_string();
        let flow = flows.iter().find(|flow| flow["source"] == own).ok_or("no flow")?;
        let seen = flow["replyTarget"].as_str().ok_or("no reply target")?;
        Ok(seen.starts_with(&format!("{node}:")))
    };
    streams.iter().map(is_through).collect()
}

fn node_dies() -> Result<(), Failed> {
    let lab = lab(WEB_B)?;
    until("all are found healthy", || {
        let all = ["node-a", "node-b", "node-c"].map(|node| health(&lab, "wide", node));
        Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.iter().all(|it| it == "HEALTHY"))
    })?;
    let mut streams = lab.inside("ext.client", || {
        let open = |_| TcpStream::connect_timeout(&"203.0.113.1:7".parse().unwrap(), EXCHANGE);
        (0..24).map(open).collect::<Result<Vec<_>, _>>()
    })??;
    assert!(streams.iter_mut().all(|stream| echoes(stream, EXCHANGE)));
    let is_through = through(&lab, &streams, "node-c")?;
    let (there, others) =
        (is_through.iter().filter(|it| **it).count(), is_through.iter().filter(|it| !**it).count());
    assert!(there > 0 && others > 0, "{is_through:?}");

    lab.ask(&["node", "down", "node-c"])?;
    let names = all_answered(&lab, "203.0.113.1:80", 30)?;
    assert!(names.iter().any(|name| name == "web-a") && names.iter().any(|name| name == "web-b"));
    until("it is seen", || Ok(health(&lab, "wide", "node-c")? == "UNHEALTHY"))?;
    for (stream, is_through) in streams.iter_mut().zip(&is_through) {
        if *is_through {
            assert!(!echoes(stream, Duration::from_millis(100)), "a dead node carries");
        } else {
            assert!(echoes(stream, EXCHANGE), "a flow elsewhere was touched");
        }
    }
    lab.ask(&["node", "up", "node-c"])?;
    until("it is healthy again", || Ok(health(&lab, "wide", "node-c")? == "HEALTHY"))?;
    Ok(())
}

/// A server that ends when it is told to.
const MORTAL: &str = r#"
[[pod]]
metadata = { name = "web-b", labels = { app = "web" } }
[pod.spec]
nodeName = "node-b"
restartPolicy = "Never"
[[pod.spec.containers]]
name = "web"
ports = [{ containerPort = 8080 }]
command = ["python3", "-c", """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/exit':
            os._exit(1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'web-b')
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
"""]
readinessProbe = { httpGet = { path = "/", port = 8080 }, periodSeconds = 1 }
"#;

fn process_dies() -> Result<(), Failed> {
    let lab = lab(MORTAL)?;
    until("both nodes are healthy", || {
        Ok(health(&lab, "local", "node-b")? == "HEALTHY"
            && health(&lab, "local", "node-a")? == "HEALTHY"
            && health(&lab, "local", "node-c")? == "UNHEALTHY")
    })?;
    let names = all_answered(&lab, "203.0.113.2:80", 30)?;
    assert!(names.iter().any(|name| name == "web-a") && names.iter().any(|name| name == "web-b"));
    let mut held = lab.inside("ext.client", || {
        let open = |_| TcpStream::connect_timeout(&"203.0.113.1:7".parse().unwrap(), EXCHANGE);
        let all = (0..12).flat_map(open);
        all.filter_map(|mut stream| echoes(&mut stream, EXCHANGE).then_some(stream)).collect()
    })?;
    let held: &mut Vec<TcpStream> = &mut held;
    assert!(!held.is_empty(), "the echo server has some of them");

    let pod = lab.pod_ip("web-b", true)?;
    let _ = lab.inside("node.node-b", || fetch(&format!("{pod}:8080"), "/exit"))?;
    let names = all_answered(&lab, "203.0.113.2:80", 30)?;
    assert!(names.iter().all(|name| name == "web-a"), "{names:?}");
    until("its node is not healthy", || Ok(health(&lab, "local", "node-b")? == "UNHEALTHY"))?;
    assert_eq!(health(&lab, "wide", "node-b")?, "HEALTHY", "the node itself is well");
    assert!(held.iter_mut().all(|stream| echoes(stream, EXCHANGE)), "flows elsewhere go on");
    Ok(())
}

/// A server one in five of whose answers to checks is bad.
const FLAKY: &str = r#"
[[pod]]
metadata = { name = "flaky", labels = { app = "flaky" } }
[pod.spec]
nodeName = "node-b"
[[pod.spec.containers]]
name = "web"
ports = [{ containerPort = 8080 }]
command = ["python3", "-c", """
import http.server
checks = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        global checks
        status = 200
        if self.headers.get('user-agent') == 'GoogleHC/1.0':
            checks += 1
            status = 503 if checks % 4 == 0 else 200
        body = str(checks).encode()
        self.send_response(status)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
"""]
readinessProbe = { httpGet = { path = "/healthz", port = 8080 }, periodSeconds = 1 }
[[service]]
metadata = { name = "flaky" }
spec = { selector = { app = "flaky" }, ports = [{ port = 80, targetPort = 8080 }] }
[[ingress]]
metadata = { name = "flaky", annotations = { "kubernetes.io/ingress.global-static-ip-name" = "203.0.113.9" } }
spec.defaultBackend.service = { name = "flaky", port = { number = 80 } }
"#;

fn flaky() -> Result<(), Failed> {
    let lab = lab(FLAKY)?;
    let ask = || lab.fetch("ext.client", "203.0.113.9:80", "/");
    until("it serves", || Ok(ask().is_ok()))?;
    // until two of its checks have failed
    let mut checks = 0;
    while checks < 9 {
        checks = ask()?.parse::<u32>()?;
        let backends = lab.get("backendservices")?;
        let flaky = backends.iter().find(|at| at["service"] == "flaky").ok_or("no backend")?;
        assert_ne!(flaky["backends"][0]["health"], "UNHEALTHY", "after {checks} checks");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

const INNER: &str = r#"
[[pod]]
metadata = { name = "web-b", labels = { app = "web" } }
spec.nodeName = "node-b"
[[service]]
metadata = { name = "inner", annotations = { "networking.gke.io/load-balancer-type" = "Internal" } }
[service.spec]
type = "LoadBalancer"
selector = { app = "web" }
ports = [{ name = "http", port = 80, targetPort = 8080 }]
"#;

fn shown() -> Result<(), Failed> {
    let lab = lab(INNER)?;
    let services = lab.get("services")?;
    let inner = services.iter().find(|it| it["metadata"]["name"] == "inner").ok_or("none")?;
    let address = inner["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().ok_or("none")?;
    assert!(address.starts_with("10.128."), "{address} is not of the nodes' network");
    let url = format!("http://{address}/hostname");
    let curl = ["curl", "-sS", "-m", "2", url.as_str()];
    let from = |host: &str| lab.client(&[&["exec", host, "--"], curl.as_slice()].concat());
    assert!(from("ext/vm")?.status.success());
    assert!(!from("ext/client")?.status.success());
    let trace = lab.ask(&["trace", "--from", "ext/client", "--to", &format!("{address}:80")])?;
    assert!(trace.contains("not for sources outside"), "{trace}");
    let trace = lab.ask(&["trace", "--from", "ext/client", "--to", "203.0.113.1:80"])?;
    for word in ["forwarding-rules", "Service default/wide", "among 3 nodes", "target stays"] {
        assert!(trace.contains(word), "no {word} in\n{trace}");
    }
    for (kind, words) in [
        ("forwardingrules", vec!["203.0.113.1", "80,7/TCP", "TARGET_POOL", "INSTANCE_GROUP"]),
        ("healthchecks", vec!["k8s-shared-l4", "/healthz", "10256", "1 good, 2 bad"]),
        ("firewallrules", vec!["k8s-fw-default-wide", "130.211.0.0/22,35.191.0.0/16", "0.0.0.0/0"]),
    ] {
        let text = lab.ask(&["get", kind])?;
        for word in words {
            assert!(text.contains(word), "no {word} in\n{text}");
        }
    }
    let said = lab.ask(&["describe", "backendservice", "wide"])?;
    assert!(said.contains("node-c") && said.contains("Health"), "{said}");
    // what nodes answer to whoever asks
    let nodes = lab.get("nodes")?;
    let node = nodes[0]["status"]["addresses"][0]["address"].as_str().ok_or("no address")?;
    let health = lab.fetch("ext.health-checks", &format!("{node}:10256"), "/healthz")?;
    assert_eq!(serde_json::from_str::<Value>(&health)?["nodeEligible"], true);
    Ok(())
}

/// A pod that answers its check only once it is told to, behind a gate.
const GATED: &str = r#"
[[pod]]
metadata = { name = "gated", labels = { app = "gated" } }
[pod.spec]
nodeName = "node-b"
readinessGates = [{ conditionType = "cloud.google.com/load-balancer-neg-ready" }]
[[pod.spec.containers]]
name = "web"
ports = [{ containerPort = 8080 }]
command = ["python3", "-c", """
import http.server
warm = False
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global warm
        warm = warm or self.path == '/warm'
        checked = self.headers.get('user-agent') == 'GoogleHC/1.0'
        self.send_response(200 if warm or not checked else 503)
        self.end_headers()
        self.wfile.write(b'gated')
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
"""]
readinessProbe = { httpGet = { path = "/healthz", port = 8080 }, periodSeconds = 1 }
[[pod]]
metadata = { name = "lonely" }
[pod.spec]
nodeName = "node-b"
readinessGates = [{ conditionType = "cloud.google.com/load-balancer-neg-ready" }]
[[service]]
metadata = { name = "gated" }
spec = { selector = { app = "gated" }, ports = [{ port = 80, targetPort = 8080 }] }
[[ingress]]
metadata = { name = "gated", annotations = { "kubernetes.io/ingress.global-static-ip-name" = "203.0.113.9" } }
spec.defaultBackend.service = { name = "gated", port = { number = 80 } }
"#;

/// The conditions of a pod: containers ready, gate open, ready.
fn conditions(lab: &Lab, pod: &str) -> Result<[bool; 3], Failed> {
    let pods = lab.get("pods")?;
    let pod = pods.iter().find(|it| it["metadata"]["name"] == pod).ok_or("no pod")?;
    let all = pod["status"]["conditions"].as_array().ok_or("no conditions")?;
    let is = |name: &str| all.iter().any(|it| it["type"] == name && it["status"] == "True");
    Ok(["ContainersReady", "cloud.google.com/load-balancer-neg-ready", "Ready"].map(is))
}

fn gated() -> Result<(), Failed> {
    let lab = lab(GATED)?;
    until("its containers are ready", || Ok(conditions(&lab, "gated")?[0]))?;
    let checked = |wanted: &str| -> Result<bool, Failed> {
        let backends = lab.get("backendservices")?;
        let gated = backends.iter().find(|at| at["service"] == "gated");
        Ok(gated.is_some_and(|at| at["backends"][0]["health"] == wanted))
    };
    until("it is checked and ill", || checked("UNHEALTHY"))?;
    assert_eq!(conditions(&lab, "gated")?, [true, false, false]);
    let refused = lab.fetch("ext.client", "203.0.113.9:80", "/");
    assert!(refused.is_err(), "{refused:?}");
    let pod = lab.pod_ip("gated", true)?;
    let _ = lab.inside("node.node-b", || fetch(&format!("{pod}:8080"), "/warm"))?;
    until("the gate opens", || Ok(conditions(&lab, "gated")? == [true, true, true]))?;
    until("it is served", || Ok(lab.fetch("ext.client", "203.0.113.9:80", "/").is_ok()))?;
    assert_eq!(conditions(&lab, "lonely")?, [true, false, false], "no load balancer asks for it");
    Ok(())
}

const INSIDE: &str = r#"
[[pod]]
metadata = { name = "web-b", labels = { app = "web" } }
spec.nodeName = "node-b"
[[service]]
metadata = { name = "plain" }
spec = { selector = { app = "web" }, ports = [{ port = 80, targetPort = 8080 }] }
[[ingress]]
metadata = { name = "inside", annotations = { "kubernetes.io/ingress.class" = "gce-internal" } }
spec.defaultBackend.service = { name = "plain", port = { number = 80 } }
"#;

fn inside() -> Result<(), Failed> {
    let lab = lab(INSIDE)?;
    let ingresses = lab.get("ingresses")?;
    let address = ingresses[0]["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
    let address = address.ok_or("no address")?;
    assert!(address.starts_with("10.128."), "{address} is not of the nodes' network");
    let url = format!("http://{address}/clientip");
    let curl = ["curl", "-sS", "-m", "2", url.as_str()];
    let from = |host: &str| lab.client(&[&["exec", host, "--"], curl.as_slice()].concat());
    let seen = String::from_utf8(from("ext/vm")?.stdout)?;
    assert!(seen.starts_with("10.129."), "{seen} is not of the subnet of proxies");
    assert!(from("web-a")?.status.success(), "pods are inside, too");
    assert!(!from("ext/client")?.status.success());
    Ok(())
}
