//! Segments of up to 64 KB that the kernel leaves to be cut: they pass translation, masquerade,
//! policy and a proxy as one frame, and whoever takes none gets them cut, with right checksums.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("large segments arrive whole by every way", &["tshark"], by_every_way),
    ("large segments pass the proxy whole", &["curl", "python3"], by_the_proxy),
];

const OCTETS: usize = 4_000_000;

/// The server and the host outside take no offloads: what comes to them was finished by the switch.
const LAB: &str = r#"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
load-balancer-pools = ["203.0.113.0/28"]
[switch]
metrics = "off"
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = { name = "client", labels = { app = "client" } }
spec.nodeName = "a"
[[pod]]
metadata = { name = "server", labels = { app = "server" }, annotations = { "kswitch/offloads" = "false" } }
spec.nodeName = "b"
[[service]]
metadata = { name = "server" }
spec = { clusterIPs = ["10.8.0.80", "fd00:8::80"], ipFamilyPolicy = "RequireDualStack", selector = { app = "server" }, ports = [{ name = "data", port = 90, targetPort = 9000 }] }
[[service]]
metadata = { name = "web" }
spec = { selector = { app = "web" }, ports = [{ name = "http", port = 80, targetPort = 8080 }] }
[[network-policy]]
metadata = { name = "server" }
spec = { podSelector = { matchLabels = { app = "server" } }, ingress = [{ from = [{ podSelector = { matchLabels = { app = "client" } } }], ports = [{ port = 9000 }] }] }
[[ingress]]
metadata = { name = "web" }
spec = { defaultBackend = { service = { name = "web", port = { number = 80 } } } }
[[external]]
name = "internet"
address = "198.51.100.7/24"
"#;

fn lab(more: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    Lab::start(&name, &format!("[lab]\nname = \"{name}\"\n{LAB}{more}"))
}

fn payload() -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    let octets = (0..OCTETS).map(|_| {
        state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        state.to_be_bytes()[0]
    });
    octets.collect()
}

fn hash(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    octets.hash(&mut hasher);
    hasher.finish()
}

/// Looks at the frames of a machine's interface until it is asked for what it saw.
struct Look {
    tshark: Child,
    file: tempfile::NamedTempFile,
}

impl Look {
    fn at(lab: &Lab, machine: &str) -> Result<Self, Failed> {
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().display().to_string();
        let namespace = format!("{}.{machine}", lab.name());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, "tshark", "-q", "-i", "eth0", "-f", "tcp"]);
        command.args(["-B", "64", "-w", &path]).stdin(Stdio::null()).stdout(Stdio::null());
        let tshark = command.stderr(Stdio::null()).spawn()?;
        let look = Self { tshark, file };
        // it has begun once the head of the file is there
        until("tshark looks", || Ok(std::fs::metadata(look.file.path())?.len() > 0))?;
        Ok(look)
    }

    /// Of the frames that came from `source`: octets, and whether the checksums of IP and TCP are
    /// right.
    fn seen(mut self, source: &str) -> Result<Vec<(usize, bool)>, Failed> {
        // what is still on its way from the kernel to the file
        thread::sleep(std::time::Duration::from_millis(300));
        kill(Pid::from_raw(i32::try_from(self.tshark.id())?), Signal::SIGINT)?;
        self.tshark.wait()?;
        let field = if source.contains(':') { "ipv6.src" } else { "ip.src" };
        let filter = format!("{field} == {source}");
        let mut command = Command::new("tshark");
        command.arg("-r").arg(self.file.path()).args(["-n", "-Y", &filter, "-T", "fields"]);
        command.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
        command.args(["-e", "frame.len", "-e", "tcp.checksum.status", "-e", "ip.checksum.status"]);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let frames = text.lines().map(|line| {
            let mut words = line.split('\t');
            let octets = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            // IPv6 has no checksum of its own
            (octets, words.all(|status| status == "1" || status.is_empty()))
        });
        Ok(frames.collect())
    }
}

/// Sends the payload to `target` and has it hashed by a listener in `machine`; answers whom it saw.
fn send(lab: &Lab, machine: &str, port: u16, target: &str) -> Result<String, Failed> {
    let any = if target.starts_with('[') { "[::]" } else { "0.0.0.0" };
    let listener = lab.inside(machine, || TcpListener::bind(format!("{any}:{port}")))??;
    let server = thread::spawn(move || -> std::io::Result<(u64, String)> {
        let (mut stream, from) = listener.accept()?;
        stream.set_read_timeout(Some(EXCHANGE * 10))?;
        let mut data = Vec::new();
        stream.read_to_end(&mut data)?;
        Ok((hash(&data), from.ip().to_string()))
    });
    let payload = payload();
    let mut client = lab.inside("default.client", || TcpStream::connect(target))??;
    client.write_all(&payload)?;
    client.shutdown(Shutdown::Write)?;
    let (heard, from) = server.join().map_err(|_| "the server panicked")??;
    assert_eq!(heard, hash(&payload), "to {target}");
    Ok(from)
}

fn by_every_way() -> Result<(), Failed> {
    let lab = lab("")?;
    for is_v4 in [true, false] {
        let client = lab.pod_ip("client", is_v4)?;
        let vip = if is_v4 { "10.8.0.80:90" } else { "[fd00:8::80]:90" };
        let (near, far) = (Look::at(&lab, "default.client")?, Look::at(&lab, "default.server")?);
        // through a Service and past a policy
        assert_eq!(send(&lab, "default.server", 9000, vip)?, client);
        let (sent, came) = (near.seen(&client)?, far.seen(&client)?);
        assert!(sent.iter().any(|(octets, _)| *octets > 10_000), "no large segment was sent");
        assert!(came.len() > OCTETS / 1_500, "{} frames came", came.len());
        assert!(came.iter().all(|(octets, _)| *octets <= 1_514), "a frame was not cut");
        let wrong = came.iter().filter(|(_, is_right)| !is_right).count();
        assert_eq!(wrong, 0, "of {} frames", came.len());
    }
    // past a masquerade
    assert_eq!(send(&lab, "ext.internet", 9000, "198.51.100.7:9000")?, "10.128.0.2");
    Ok(())
}

fn by_the_proxy() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("payload"), payload())?;
    let web = format!(
        r#"
[[pod]]
metadata = {{ name = "web", labels = {{ app = "web" }} }}
spec.nodeName = "b"
[[pod.spec.containers]]
name = "web"
command = ["python3", "-m", "http.server", "8080"]
workingDir = "{}"
ports = [{{ containerPort = 8080 }}]
"#,
        directory.path().display()
    );
    let lab = lab(&web)?;
    let mut address = String::new();
    until("the ingress has an address", || {
        let object = lab.get("ingresses")?;
        let ip = object[0]["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        ip.unwrap_or_default().clone_into(&mut address);
        Ok(!address.is_empty())
    })?;
    let back = tempfile::NamedTempFile::new()?;
    let near = Look::at(&lab, "default.web")?;
    until("the backend is well", || {
        let status = Command::new("ip")
            .args(["netns", "exec", &format!("{}.ext.internet", lab.name())])
            .args(["curl", "-s", "-f", "--max-time", "20", "-o"])
            .arg(back.path())
            .arg(format!("http://{address}/payload"))
            .status()?;
        Ok(status.success())
    })?;
    assert_eq!(hash(&std::fs::read(back.path())?), hash(&payload()));
    let sent = near.seen(&lab.pod_ip("web", true)?)?;
    assert!(sent.iter().any(|(octets, _)| *octets > 10_000), "no large segment was sent");
    Ok(())
}
