//! The HTTP(S) load balancer with what real clients and servers send: large bodies, WebSocket,
//! certificates of the lab's own authority, policies, and a log of it all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("large bodies come through whole both ways", &["curl", "python3"], large),
    ("a web socket lives through silence, but not through too much", &["python3"], socket),
    ("the lab's authority is trusted outside, and policies hold", &["curl", "python3"], trusted),
];

/// A server that takes and sends any number of octets, says what it took, and echoes web sockets.
const SERVER: &str = r#"
import base64, hashlib, http.server, socketserver, struct
PIECE = bytes(range(256)) * 256
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_PUT(self):
        left, seen = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            piece = self.rfile.read(min(left, 65536))
            seen.update(piece)
            left -= len(piece)
        self.say(seen.hexdigest().encode())
    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.chat()
        if not self.path.startswith("/octets/"):
            return self.say(self.headers.get("X-Goog-Authenticated-User-Email", "nobody").encode())
        pieces = int(self.path.rsplit("/", 1)[1])
        self.send_response(200)
        self.send_header("Content-Length", str(pieces * len(PIECE)))
        self.end_headers()
        for _ in range(pieces):
            self.wfile.write(PIECE)
    def chat(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2: break
            length = head[1] & 127
            mask, data = self.rfile.read(4), self.rfile.read(length)
            data = bytes(octet ^ mask[at % 4] for at, octet in enumerate(data))
            self.wfile.write(bytes([head[0], length]) + data)
            self.wfile.flush()
        self.close_connection = True
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
Server(("", 8080), Handler).serve_forever()
"#;

/// Octets of one piece of what the server sends.
const PIECE: usize = 256 * 256;

/// A lab with one such server behind an Ingress, and what a test adds.
fn lab(more: &str) -> Result<(Lab, String, tempfile::TempDir), Failed> {
    let directory = tempfile::tempdir()?;
    let server = directory.path().join("server.py");
    std::fs::write(&server, SERVER)?;
    let name = fresh_name();
    let server = server.display();
    let text = format!(
        r#"
[lab]
name = "{name}"

[switch]
metrics = "off"

[cluster]
load-balancer-pools = ["203.0.113.0/28"]

[[node]]
name = "node-a"

[[pod]]
metadata = {{ name = "web", labels = {{ app = "web" }} }}
[[pod.spec.containers]]
name = "web"
command = ["python3", "{server}"]
ports = [{{ containerPort = 8080 }}]
readinessProbe = {{ tcpSocket = {{ port = 8080 }}, periodSeconds = 1 }}

[[service]]
spec = {{ selector = {{ app = "web" }}, ports = [{{ port = 80, targetPort = 8080 }}] }}
[service.metadata]
name = "web"
annotations = {{ "cloud.google.com/backend-config" = '{{"default": "web"}}' }}

[[ingress]]
spec = {{ defaultBackend = {{ service = {{ name = "web", port = {{ number = 80 }} }} }} }}
[ingress.metadata]
name = "web"
annotations = {{ "networking.gke.io/managed-certificates" = "shop" }}

[[managed-certificate]]
metadata = {{ name = "shop" }}
spec = {{ domains = ["shop.example", "www.shop.example"] }}

[[external]]
name = "internet"
address = "198.51.100.7/24"
{more}
"#
    );
    let lab = Lab::start(&name, &text)?;
    let object: Value = serde_json::from_str(&lab.ask(&["get", "ingress", "web", "-o", "json"])?)?;
    let address = object["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
    let address = address.ok_or("the Ingress has no address")?.to_owned();
    until("the server answers", || {
        let backends = lab.get("backendservices")?;
        Ok(backends.iter().any(|at| at["backends"].as_array().is_some_and(|all| !all.is_empty())))
    })?;
    Ok((lab, address, directory))
}

/// What curl says outside, with the files that processes there have.
fn outside(lab: &Lab, arguments: &[&str]) -> Result<String, Failed> {
    let common = ["exec", "ext/internet", "--", "curl", "-sS", "--max-time", "60"];
    lab.ask(&[&common[..], arguments].concat())
}

fn timeout(seconds: u32) -> String {
    format!(
        "\n[[backend-config]]\nmetadata = {{ name = \"web\" }}\nspec = {{ timeoutSec = {seconds} }}\n"
    )
}

fn large() -> Result<(), Failed> {
    const PIECES: usize = 1_024;
    let (lab, address, directory) = lab(&timeout(30))?;
    let file = directory.path().join("octets");
    let file = file.display().to_string();
    let piece: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(256);
    for (flag, scheme, port) in [("--http1.1", "http", 80), ("--http2", "https", 443)] {
        let host = format!("shop.example:{port}:{address}");
        let url = format!("{scheme}://shop.example/octets/{PIECES}");
        outside(&lab, &[flag, "--resolve", &host, "-o", &file, &url])?;
        let got = std::fs::read(&file)?;
        assert_eq!(got.len(), PIECES * PIECE, "{flag}");
        assert!(got.chunks(PIECE).all(|at| at == piece), "{flag}: octets were changed");
        let sum = Command::new("sha256sum").arg(&file).output()?;
        let sum = String::from_utf8(sum.stdout)?;
        let url = format!("{scheme}://shop.example/taken");
        let said = outside(&lab, &[flag, "--resolve", &host, "-T", &file, &url])?;
        assert_eq!(Some(said.trim()), sum.split_whitespace().next(), "{flag}");
    }
    Ok(())
}

/// A text frame as a client sends it.
fn frame(text: &str) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
    frame.extend(mask);
    frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    frame
}

fn socket() -> Result<(), Failed> {
    let (lab, address, _directory) = lab(&timeout(4))?;
    let connect = || TcpStream::connect((address.as_str(), 80));
    let mut stream = lab.inside("ext.internet", connect)??;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    let ask = "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\n\
               Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(ask.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.extend(octet);
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    // the answer to the key that RFC 6455 has as its example
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let mut say = |text: &str| -> Result<(), Failed> {
        stream.write_all(&frame(text))?;
        let mut echo = vec![0; text.len() + 2];
        stream.read_exact(&mut echo)?;
        assert_eq!(&echo[2..], text.as_bytes());
        Ok(())
    };
    say("hello")?;
    // silent for a while, though for less than the timeout
    std::thread::sleep(Duration::from_secs(1));
    say("still there")?;
    let last = Instant::now();
    let mut rest = Vec::new();
    // a reset is an end as well
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    assert!(last.elapsed() > Duration::from_secs(3), "ended after {:?}", last.elapsed());
    Ok(())
}

const GATED: &str = r#"
[[backend-config]]
metadata = { name = "web" }
spec = { securityPolicy = { name = "gate" }, iap = { enabled = true } }

[[security-policy]]
metadata = { name = "gate" }
[[security-policy.spec.rule]]
action = "deny(403)"
priority = 1
match = { versionedExpr = "SRC_IPS_V1", config = { srcIpRanges = ["192.0.2.0/24"] } }

[[external]]
name = "refused"
address = "192.0.2.9/24"
"#;

fn trusted() -> Result<(), Failed> {
    let (lab, address, directory) = lab(GATED)?;
    let own = lab.ask(&["get", "ca"])?;
    assert!(own.contains("BEGIN CERTIFICATE"), "{own}");
    let jar = directory.path().join("cookies").display().to_string();
    for host in ["shop.example", "www.shop.example"] {
        let resolve = format!("{host}:443:{address}");
        let url = format!("https://{host}/orders");
        // nothing but what processes of that host trust anyway
        let code = ["-o", "/dev/null", "-w", "%{http_code}", "--resolve", &resolve, &url];
        assert_eq!(outside(&lab, &code)?, "302");
        let login = format!("https://{host}/_gcp_iap/login?email=ada@lab.example&continue=/orders");
        let follow = ["-L", "-c", &jar, "-b", &jar, "--resolve", &resolve, &login];
        assert_eq!(outside(&lab, &follow)?, "accounts.google.com:ada@lab.example");
    }
    let url = format!("http://{address}/orders");
    let code = lab.ask(&[
        "exec",
        "ext/refused",
        "--",
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ])?;
    assert_eq!(code, "403");
    let log = lab.ask(&["logs", "ingress/web"])?;
    let lines: Result<Vec<Value>, _> = log.lines().map(serde_json::from_str).collect();
    let lines = lines?;
    let refused = lines.iter().find(|line| line["httpRequest"]["status"] == 403);
    let refused = refused.ok_or("the refusal is not in the log")?;
    assert_eq!(refused["httpRequest"]["remoteIp"], "192.0.2.9", "{refused}");
    assert_eq!(refused["enforcedSecurityPolicy"]["name"], "gate", "{refused}");
    assert!(lines.iter().any(|line| line["authenticatedUser"] == "ada@lab.example"), "{log}");
    Ok(())
}
