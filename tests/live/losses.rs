//! What clients of an HTTP(S) load balancer see when a backend is ill, is killed, or goes with its
//! node: new requests are answered within the thresholds of the checks, and what is under way
//! elsewhere goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fresh_name, until};
use crate::load::{Outcome, say, under_load_from};

pub(crate) const TESTS: &[Test] =
    &[("an ill, a killed and a lost backend are passed over", &["python3"], backends)];

/// Requests a second.
const RATE: u32 = 40;

/// How long it is asked on after something has been noticed.
const AFTER: Duration = Duration::from_millis(1_500);

/// Says who it is, counts slowly, and is ill while a file is there.
const SERVER: &str = r#"
import http.server, os, socketserver, sys, time
name = sys.argv[1] + "/" + os.environ["NAME"]
open(name + ".pid", "w").write(str(os.getpid()))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        if self.path == "/count":
            self.send_response(200)
            self.send_header("Content-Length", "60")
            self.end_headers()
            for _ in range(60):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)
            return
        is_ill = self.path == "/healthz" and os.path.exists(name + ".ill")
        body = os.environ["NAME"].encode()
        self.send_response(503 if is_ill else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True
Server(("", 8080), Handler).serve_forever()
"#;

fn lab(directory: &Path) -> Result<(Lab, String), Failed> {
    let name = fresh_name();
    let server = directory.join("server.py");
    std::fs::write(&server, SERVER)?;
    let (server, directory) = (server.display(), directory.display());
    let mut text = format!(
        r#"
[lab]
name = "{name}"

[switch]
metrics = "off"

[cluster]
load-balancer-pools = ["203.0.113.0/28"]

[[service]]
spec = {{ selector = {{ app = "web" }}, ports = [{{ port = 80, targetPort = 8080 }}] }}
[service.metadata]
name = "web"
annotations = {{ "cloud.google.com/backend-config" = '{{"default": "web"}}' }}

[[backend-config]]
metadata = {{ name = "web" }}
[backend-config.spec.healthCheck]
type = "HTTP"
requestPath = "/healthz"
checkIntervalSec = 1
timeoutSec = 1
healthyThreshold = 1
unhealthyThreshold = 2

[[ingress]]
metadata = {{ name = "web" }}
spec = {{ defaultBackend = {{ service = {{ name = "web", port = {{ number = 80 }} }} }} }}

[[external]]
name = "internet"
address = "198.51.100.7/24"
"#
    );
    for at in ["a", "b", "c"] {
        text.push_str(&format!(
            r#"
[[node]]
name = "node-{at}"

[[pod]]
metadata = {{ name = "web-{at}", labels = {{ app = "web" }} }}
[pod.spec]
nodeName = "node-{at}"
[[pod.spec.containers]]
name = "web"
command = ["python3", "{server}", "{directory}"]
env = [{{ name = "NAME", value = "web-{at}" }}]
ports = [{{ containerPort = 8080 }}]
readinessProbe = {{ tcpSocket = {{ port = 8080 }}, periodSeconds = 1 }}
"#
        ));
    }
    let lab = Lab::start(&name, &text)?;
    let object: Value = serde_json::from_str(&lab.ask(&["get", "ingress", "web", "-o", "json"])?)?;
    let address = object["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
    let address = address.ok_or("the Ingress has no address")?;
    Ok((lab, format!("{address}:80")))
}

/// The places of the backend that are in a state.
fn count(lab: &Lab, health: &str) -> Result<usize, Failed> {
    let backends = lab.get("backendservices")?;
    let places = backends.iter().flat_map(|at| at["backends"].as_array().into_iter().flatten());
    Ok(places.filter(|place| place["health"] == health).count())
}

/// A slow answer under way.
struct Slow {
    stream: TcpStream,
    body: Vec<u8>,
}

impl Slow {
    fn begin(lab: &Lab, target: &str) -> Result<Self, Failed> {
        let mut stream = lab.inside("ext.internet", || TcpStream::connect(target))??;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(stream, "GET /count HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet)?;
            body.extend(octet);
        }
        Ok(Self { stream, body: Vec::new() })
    }

    /// Whether all of it comes.
    fn comes_whole(mut self) -> bool {
        self.stream.read_to_end(&mut self.body).is_ok() && self.body == [b'.'; 60]
    }
}

/// Requests while something befalls one of three backends, until it is noticed and after that: none
/// may be lost that was made later.
fn befalls(
    lab: &Lab,
    target: &str,
    what: &str,
    disaster: impl FnOnce() -> Result<(), Failed>,
    is_noticed: impl FnMut() -> Result<bool, Failed>,
) -> Result<(), Failed> {
    // one after the other at each of the backends, two of which are not concerned
    let slow: Result<Vec<Slow>, Failed> = (0..3).map(|_| Slow::begin(lab, target)).collect();
    let slow = slow?;
    let mut noticed = Instant::now();
    let outcome = under_load_from(lab, "ext.internet", (target, "/"), RATE, || {
        disaster()?;
        until("it is noticed", is_noticed)?;
        noticed = Instant::now();
        std::thread::sleep(AFTER);
        Ok(())
    })?;
    let Outcome { asked, rate, lost } = outcome;
    say(&format!("{what}: {} of {asked} requests lost at {rate:.0} a second", lost.len()));
    let late: Vec<_> = lost.iter().filter(|(at, _)| *at > noticed).collect();
    assert!(late.is_empty(), "{what}: {late:?}");
    assert!(lost.len() * 2 < asked, "{what}: {} of {asked} lost", lost.len());
    // one of the three was under way at the one concerned
    let whole = slow.into_iter().map(Slow::comes_whole).filter(|comes| *comes).count();
    assert!(whole >= 2, "{what}: {whole} of 3 slow answers came whole");
    Ok(())
}

fn backends() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (lab, target) = lab(directory.path())?;
    let target = target.as_str();
    let all = |health: usize| until("health is seen", || Ok(count(&lab, "HEALTHY")? == health));
    all(3)?;
    let file = |name: &str| directory.path().join(name);

    let ill = || Ok(count(&lab, "UNHEALTHY")? == 1);
    befalls(&lab, target, "ill", || Ok(std::fs::write(file("web-a.ill"), "")?), ill)?;
    for _ in 0..20 {
        assert_ne!(lab.fetch("ext.internet", target, "/")?, "web-a");
    }
    std::fs::remove_file(file("web-a.ill"))?;
    all(3)?;

    // killed, and started again: connections to it are refused meanwhile, and others asked instead
    let pid = || std::fs::read_to_string(file("web-b.pid"));
    let first = pid()?;
    let killed = || Ok(kill(Pid::from_raw(first.trim().parse()?), Signal::SIGKILL)?);
    befalls(&lab, target, "killed", killed, || Ok(pid()? != first))?;
    all(3)?;

    let down = || lab.ask(&["node", "down", "node-c"]).map(|_| ());
    befalls(&lab, target, "lost with its node", down, ill)
}
