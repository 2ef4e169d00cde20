//! Load balancers of Services: those that are proxies, connections that drain, and checks in IPv6.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fresh_name, until};
use crate::network::{echoes, health, started, through};

pub(crate) const TESTS: &[Test] = &[
    ("proxied: nodes do not take over what is a proxy's", &[], proxied),
    ("proxied: who is not admitted gets nothing", &[], not_admitted),
    ("draining: connections go on for its time, and no longer", &[], draining),
    ("IPv6: nodes and pods are checked, and leave", &["python3"], v6),
];

/// How long connections drain here.
const PATIENCE: Duration = Duration::from_secs(4);

fn lab(more: &str) -> Result<Lab, Failed> {
    let text = format!(
        r#"
[[pod]]
metadata = {{ name = "inner" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "web-b", labels = {{ app = "web" }} }}
spec.nodeName = "node-b"
{more}"#
    );
    started(PATIENCE.as_secs(), &text)
}

/// Two Services alike but for the mode of their addresses.
const MODES: &str = r#"
[[service]]
metadata = { name = "taken", annotations = {} }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.1"
externalTrafficPolicy = "Local"
selector = { app = "web" }
ports = [{ name = "http", port = 80, targetPort = 8080 }]
[[service]]
metadata = { name = "left", annotations = { "kswitch.dev/load-balancer-ip-mode" = "Proxy" } }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.2"
externalTrafficPolicy = "Local"
selector = { app = "web" }
ports = [
    { name = "http", port = 80, targetPort = 8080 },
    { name = "echo", port = 7, targetPort = 8081 },
    { name = "say", port = 7, targetPort = 8081, protocol = "UDP" },
]
"#;

fn proxied() -> Result<(), Failed> {
    let lab = lab(MODES)?;
    // nodes are asked at the Service's own port, and only one of them has an endpoint
    until("the nodes are checked", || {
        Ok(health(&lab, "left-80-proxy-tcp", "node-b")? == "HEALTHY"
            && health(&lab, "left-80-proxy-tcp", "node-a")? == "UNHEALTHY")
    })?;
    // who is inside is known where nodes take over, and is the proxy where they do not
    let inner = lab.pod_ip("inner", true)?;
    let seen_by = |vip: &str| lab.fetch("default.inner", vip, "/clientip");
    assert!(seen_by("203.0.113.1:80")?.starts_with(&format!("{inner}:")));
    assert!(seen_by("203.0.113.2:80")?.starts_with("35.191."), "the proxy is another client");
    // under a Local policy only the node with the endpoint may be tried, whoever asks
    for _ in 0..10 {
        assert_eq!(lab.fetch("node.node-a", "203.0.113.2:80", "/hostname")?, "web-b");
        assert_eq!(lab.fetch("ext.client", "203.0.113.2:80", "/hostname")?, "web-b");
    }
    let said = lab.inside("default.inner", || exchange("203.0.113.2:7", b"hello"))??;
    assert_eq!(said, b"hello");

    let services = lab.get("services")?;
    let left = services.iter().find(|it| it["metadata"]["name"] == "left").ok_or("none")?;
    assert_eq!(left["status"]["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
    let trace = lab.ask(&["trace", "--from", "inner", "--to", "203.0.113.2:80"])?;
    for word in ["ipMode Proxy", "Service default/left", "not taken over", "lb-203-0-113-2"] {
        assert!(trace.contains(word), "no {word} in\n{trace}");
    }
    assert!(!trace.contains("backends"), "{trace}");
    let trace = lab.ask(&["trace", "--from", "inner", "--to", "203.0.113.1:80"])?;
    assert!(trace.contains("web-b") && !trace.contains("Proxy"), "{trace}");
    let said = lab.ask(&["describe", "service", "left"])?;
    assert!(said.contains("203.0.113.2:80/TCP, a proxy") && said.contains("node-b: HEALTHY"));
    let rules = lab.ask(&["get", "forwardingrules"])?;
    assert!(rules.contains("TargetTcpProxy") && rules.contains("TargetUdpProxy"), "{rules}");
    Ok(())
}

const GUARDED: &str = r#"
[[external]]
name = "other"
address = "192.0.2.7/24"
[[service]]
metadata = { name = "left", annotations = { "kswitch.dev/load-balancer-ip-mode" = "Proxy" } }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.2"
loadBalancerSourceRanges = ["198.51.100.0/24"]
selector = { app = "web" }
ports = [
    { name = "http", port = 80, targetPort = 8080 },
    { name = "say", port = 7, targetPort = 8081, protocol = "UDP" },
]
"#;

fn not_admitted() -> Result<(), Failed> {
    let lab = lab(GUARDED)?;
    let ask = |host: &str| lab.fetch(host, "203.0.113.2:80", "/hostname");
    until("it serves", || Ok(ask("ext.client").is_ok()))?;
    assert_eq!(lab.inside("ext.client", || exchange("203.0.113.2:7", b"hello"))??, b"hello");
    assert!(ask("ext.other").is_err(), "what the ranges leave out is refused by the proxy itself");
    assert!(lab.inside("ext.other", || exchange("203.0.113.2:7", b"hello"))?.is_err());
    Ok(())
}

const PASSED: &str = r#"
[[pod]]
metadata = { name = "web-a", labels = { app = "web" } }
spec.nodeName = "node-a"
[[service]]
metadata = { name = "wide" }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.1"
selector = { app = "web" }
ports = [{ name = "echo", port = 7, targetPort = 8081 }]
[[service]]
metadata = { name = "left", annotations = { "kswitch.dev/load-balancer-ip-mode" = "Proxy" } }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "203.0.113.2"
selector = { app = "web" }
ports = [{ name = "echo", port = 7, targetPort = 8081 }]
"#;

fn draining() -> Result<(), Failed> {
    let lab = lab(PASSED)?;
    until("both are healthy", || {
        Ok(health(&lab, "wide", "node-a")? == "HEALTHY"
            && health(&lab, "left-7-proxy-tcp", "node-a")? == "HEALTHY")
    })?;
    let open = |vip: &'static str| {
        lab.inside("ext.client", || {
            let open = |_| TcpStream::connect_timeout(&vip.parse().unwrap(), EXCHANGE);
            (0..16).map(open).collect::<Result<Vec<_>, _>>()
        })
    };
    let mut passed = open("203.0.113.1:7")??;
    let mut ended_there = open("203.0.113.2:7")??;
    for stream in passed.iter_mut().chain(&mut ended_there) {
        assert!(echoes(stream, EXCHANGE));
    }
    let is_through = through(&lab, &passed, "node-a")?;
    let count = is_through.iter().filter(|it| **it).count();
    assert!(count > 0 && count < passed.len(), "{is_through:?}");

    let begun = Instant::now();
    lab.ask(&[
        "label",
        "node/node-a",
        "node.kubernetes.io/exclude-from-external-load-balancers=true",
    ])?;
    until("it has left", || Ok(health(&lab, "wide", "node-a")? == "gone"))?;
    // what ends must not do so before its time; what began elsewhere must not end at all
    let (mut dead, mut ended) = (0, 0);
    until("what was through it has ended", || {
        (dead, ended) = (0, 0);
        for (stream, is_through) in passed.iter_mut().zip(&is_through) {
            if !echoes(stream, Duration::from_millis(200)) {
                assert!(*is_through, "a connection through another node ended");
                assert!(begun.elapsed() >= PATIENCE, "ended after {:?}", begun.elapsed());
                dead += 1;
            }
        }
        for stream in &mut ended_there {
            if !echoes(stream, EXCHANGE) {
                assert!(begun.elapsed() >= PATIENCE, "ended after {:?}", begun.elapsed());
                ended += 1;
            }
        }
        Ok(dead == count && ended > 0)
    })?;
    assert!(ended < ended_there.len(), "the proxy's connections through the other node go on");
    Ok(())
}

/// A lab in IPv6 alone: a Service whose pod ends when it is told to, and an Ingress in front of it.
fn v6_lab() -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        r#"
[lab]
name = "{name}"
[cluster]
pod-cidrs = ["fd00:4::/48"]
service-cidrs = ["fd00:8::/112"]
node-cidrs = ["fd00:1::/64"]
load-balancer-pools = ["2001:db8:1::/124"]
[load-balancers]
node-check = {{ interval = "200ms", timeout = "1s", unhealthy = 2 }}
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[external]]
name = "client"
address = "2001:db8:2::7/64"
[[pod]]
metadata = {{ name = "web-a", labels = {{ app = "web" }} }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "web-b", labels = {{ app = "web" }} }}
[pod.spec]
nodeName = "node-b"
restartPolicy = "Never"
[[pod.spec.containers]]
name = "web"
ports = [{{ containerPort = 8080 }}]
command = ["python3", "-c", """
import http.server, os, socket
checked = ''
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        global checked
        if self.path == '/exit':
            os._exit(1)
        if self.headers.get('user-agent') == 'GoogleHC/1.0':
            checked = self.client_address[0]
        said = (checked if self.path == '/checked' else 'web-b').encode()
        self.send_response(200)
        self.send_header('content-length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *arguments):
        pass
Server(('::', 8080), Handler).serve_forever()
"""]
readinessProbe = {{ httpGet = {{ path = "/", port = 8080 }}, periodSeconds = 1 }}
[[service]]
metadata = {{ name = "local" }}
[service.spec]
type = "LoadBalancer"
externalTrafficPolicy = "Local"
selector = {{ app = "web" }}
ports = [{{ name = "http", port = 80, targetPort = 8080 }}]
[[ingress]]
metadata = {{ name = "front" }}
spec.defaultBackend.service = {{ name = "local", port = {{ number = 80 }} }}
"#
    );
    Lab::start(&name, &text)
}

fn v6() -> Result<(), Failed> {
    let lab = v6_lab()?;
    until("nodes are checked", || {
        Ok(health(&lab, "local", "node-a")? == "HEALTHY"
            && health(&lab, "local", "node-b")? == "HEALTHY")
    })?;
    until("pods are checked", || {
        Ok(health(&lab, "local-80", "default/web-a")? == "HEALTHY"
            && health(&lab, "local-80", "default/web-b")? == "HEALTHY")
    })?;
    let address = |kind: &str| -> Result<String, Failed> {
        let objects = lab.get(kind)?;
        let ours = objects.iter().find(|at| at["metadata"]["namespace"] == "default");
        let found = objects.iter().find_map(|at| {
            at["status"]["loadBalancer"]["ingress"][0]["ip"].as_str().map(str::to_owned)
        });
        Ok(found.ok_or_else(|| format!("no address: {ours:?}"))?)
    };
    let (vip, front) = (address("services")?, address("ingresses")?);
    let (vip, front) = (format!("[{vip}]:80"), format!("[{front}]:80"));
    // from the ranges that checks come from
    let pod = format!("[{}]:8080", lab.pod_ip("web-b", false)?);
    let checked = lab.fetch("node.node-b", &pod, "/checked")?;
    assert!(checked.starts_with("2600:2d00:1:b029:"), "{checked}");
    let names = |target: &str| {
        lab.inside("ext.client", || {
            let ask = || crate::lab::fetch(target, "/hostname").ok();
            (0..20).map_while(|_| ask()).collect::<Vec<String>>()
        })
    };
    for target in [&vip, &front] {
        let names = names(target)?;
        assert!(names.contains(&"web-a".to_owned()) && names.contains(&"web-b".to_owned()));
    }
    let _ = lab.inside("node.node-b", || {
        let mut stream = TcpStream::connect_timeout(&pod.parse().unwrap(), EXCHANGE)?;
        write!(stream, "GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")?;
        stream.read(&mut [0; 1])
    })?;
    until("its node is not healthy", || Ok(health(&lab, "local", "node-b")? == "UNHEALTHY"))?;
    for target in [&vip, &front] {
        until("the other serves all", || {
            let names = names(target)?;
            Ok(names.len() == 20 && names.iter().all(|name| name == "web-a"))
        })?;
    }
    Ok(())
}
