//! Beds: two machines in namespaces of their own, and something between them that is measured.
//!
//! Each makes its namespaces itself and removes them; nothing of the machine's own is touched.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab;
use crate::sink::Sink;

/// Port that is flooded; what comes there ends in a socket that nobody reads.
pub const FLOOD_PORT: u16 = 9999;

/// Services of each bed that has some: as many as rounds that need flows never seen before. Behind
/// each is another port of the server, from [`BACKEND_PORT`] on: behind the same one, flows of two
/// Services could only be told apart by other source ports, and how these are found is another thing.
pub const SERVICES: u8 = 32;

/// Port behind the first Service to which [`FLOOD_PORT`] is translated; the other Services' follow.
pub const BACKEND_PORT: u16 = 10_000;

/// The most that a bed takes to come up or go down.
const PATIENCE: Duration = Duration::from_secs(20);

const OVS_SCRIPT: &str = include_str!("../beds/ovs.sh");
const KERNEL_SCRIPT: &str = include_str!("../beds/kernel.sh");
const TC_SCRIPT: &str = include_str!("../beds/tc.sh");
const TC_PROGRAM: &str = include_str!("../beds/service.bpf.c");
const VDE_SCRIPT: &str = include_str!("../beds/vde.sh");

/// Two machines and what is between them.
#[derive(Debug)]
pub struct Bed {
    /// What it is called in tables.
    pub name: &'static str,
    /// The namespace that frames are sent from.
    pub client: String,
    /// The namespace that they arrive in.
    pub server: String,
    /// The server's address.
    pub direct: IpAddr,
    /// Whether there are Services in front of the server, at [`Bed::service`].
    pub has_services: bool,
    /// Where floods of the server end.
    sink: Option<Sink>,
    child: Option<Child>,
    undo: Option<(&'static str, String)>,
    directory: TempDir,
}

impl Bed {
    /// The address of a Service in front of the server, if there are any.
    pub fn service(&self, number: u8) -> Option<IpAddr> {
        self.has_services.then(|| Ipv4Addr::new(10, 96, 0, 10 + number % SERVICES).into())
    }

    /// Datagrams of floods that have come to the server so far, through a Service or not.
    ///
    /// # Errors
    /// What the system says.
    pub fn received(&self) -> io::Result<u64> {
        self.sink.as_ref().ok_or(io::ErrorKind::NotConnected)?.received()
    }

    /// With a sink in the server.
    fn with_sink(mut self) -> io::Result<Self> {
        let ports = (BACKEND_PORT..BACKEND_PORT + u16::from(SERVICES)).chain([FLOOD_PORT]);
        self.sink = Some(lab::inside(&self.server, || Sink::open(ports))?);
        Ok(self)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
        if let Some((text, prefix)) = &self.undo {
            // what is not there any more need not be removed
            let _ = script(text, &["down", prefix, &self.directory.path().to_string_lossy()]);
        }
    }
}

/// Asks a program to end, and waits until it has.
pub(crate) fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // one that has ended already needs no signal
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let start = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn script(text: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", text, "bed"])
        .args(arguments)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Whether every one of these programs is there.
pub fn has_programs(names: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    names
        .iter()
        .all(|name| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()))
}

/// A program of this build, beside the running one.
pub(crate) fn own(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::other(format!("{} is not built", path.display())))
}

/// Starts a program and waits until it prints a line that begins with `ready`.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
    let ready =
        BufReader::new(stdout).lines().map_while(Result::ok).any(|l| l.starts_with("ready"));
    if ready {
        return Ok(child);
    }
    let status = child.wait()?;
    Err(io::Error::other(format!("did not come up: {status}")))
}

/// How kswitch and the forwarder move frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// By io_uring.
    IoUring,
    /// By a call for each frame.
    ReadWrite,
}

impl Io {
    /// As the switch has it, whose choice is one of the two.
    pub const fn of(chosen: kswitch::port::batch::Io) -> Self {
        match chosen {
            kswitch::port::batch::Io::ReadWrite => Self::ReadWrite,
            _ => Self::IoUring,
        }
    }

    /// The one that this is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::IoUring => Self::ReadWrite,
            Self::ReadWrite => Self::IoUring,
        }
    }

    /// How lab files call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::IoUring => "io-uring",
            Self::ReadWrite => "read-write",
        }
    }
}

/// The forwarder without tables.
///
/// # Errors
/// Why it did not come up.
pub fn forwarder(name: &'static str, prefix: &str, io: Io) -> io::Result<Bed> {
    let child = start(Command::new(own("forwarder")?).args([prefix, io.word()]))?;
    let bed = Bed {
        name,
        client: format!("{prefix}.default.client"),
        server: format!("{prefix}.default.server"),
        sink: None,
        direct: Ipv4Addr::new(10, 207, 0, 3).into(),
        has_services: false,
        child: Some(child),
        undo: None,
        directory: tempfile::tempdir()?,
    };
    bed.with_sink()
}

/// What differs between one kswitch and another.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How it moves frames.
    pub io: Io,
    /// Whether it hands over datagrams of a flow as one frame.
    pub coalesces: bool,
    /// Services and policies that nobody here uses.
    pub unused: (usize, usize),
}

/// kswitch: two nodes, a client on one, a server on the other, Services in front of the server.
///
/// # Errors
/// Why it did not come up.
pub fn kswitch(name: &'static str, prefix: &str, manner: Manner) -> io::Result<Bed> {
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("lab.toml");
    fs::write(&config, lab_text(prefix, manner))?;
    fs::write(directory.path().join("others.yaml"), others(manner.unused))?;
    let child = start(Command::new(own("kswitch")?).arg("--config").arg(&config))?;
    let bed = Bed {
        name,
        client: format!("{prefix}.default.client"),
        server: format!("{prefix}.default.server"),
        sink: None,
        direct: Ipv4Addr::new(10, 4, 1, 2).into(),
        has_services: true,
        child: Some(child),
        undo: None,
        directory,
    };
    bed.with_sink()
}

fn lab_text(name: &str, manner: Manner) -> String {
    let Manner { io, coalesces, .. } = manner;
    let mut text = format!(
        "[lab]\nname = \"{name}\"\nmanifests = [\"others.yaml\"]\n\
         [cluster]\nservice-cidrs = [\"10.96.0.0/12\"]\n\
         [switch]\nworkers = 1\nmetrics = \"off\"\nio = \"{}\"\ncoalesce = {coalesces}\nconntrack-flows = 4194304\n\
         limits = {{ half-open-flows = 4194304 }}\n\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n",
        io.word()
    );
    // the first pod of each node has the first address of its range
    for (pod, node) in [("client", "a"), ("server", "b")] {
        text.push_str(&format!(
            "[[pod]]\nmetadata = {{ name = \"{pod}\", labels = {{ app = \"{pod}\" }} }}\n\
             spec.nodeName = \"{node}\"\n"
        ));
    }
    for number in 0..SERVICES {
        text.push_str(&format!(
            "[[service]]\nmetadata = {{ name = \"s{number}\" }}\n\
             spec = {{ clusterIP = \"10.96.0.{}\", selector = {{ app = \"server\" }}, ports = [\
             {{ name = \"flood\", port = {FLOOD_PORT}, targetPort = {}, protocol = \"UDP\" }}, \
             {{ name = \"stream\", port = 5001 }}, {{ name = \"connect\", port = 5002 }}, \
             {{ name = \"echo\", port = 5003, protocol = \"UDP\" }}] }}\n",
            10 + number,
            BACKEND_PORT + u16::from(number),
        ));
    }
    text
}

/// Services and policies that are there and not used.
fn others((services, policies): (usize, usize)) -> String {
    let mut text = String::from("apiVersion: v1\nkind: Namespace\nmetadata: {name: others}\n");
    for number in 0..services {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: o{number}, namespace: others}}\n\
             spec: {{selector: {{app: nobody}}, ports: [{{port: 80}}]}}\n"
        ));
    }
    for number in 0..policies {
        text.push_str(&format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: p{number}, namespace: others}}\n\
             spec: {{podSelector: {{matchLabels: {{app: a{number}}}}}, ingress: []}}\n"
        ));
    }
    text
}

/// A bed that a script makes and removes.
fn scripted(
    name: &'static str,
    prefix: &str,
    text: &'static str,
    direct: [u8; 4],
    has_services: bool,
) -> io::Result<Bed> {
    let directory = tempfile::tempdir()?;
    let bed = Bed {
        name,
        client: format!("{prefix}.client"),
        server: format!("{prefix}.server"),
        sink: None,
        direct: direct.into(),
        has_services,
        child: None,
        undo: Some((text, prefix.to_owned())),
        directory,
    };
    let path = bed.directory.path().to_path_buf();
    fs::write(path.join("service.bpf.c"), TC_PROGRAM)?;
    script(text, &["up", prefix, &path.to_string_lossy()])?;
    bed.with_sink()
}

/// The kernel: two nodes of veths and bridges, routed, with nftables rules of kube-proxy's shape.
///
/// # Errors
/// Why it did not come up.
pub fn kernel(prefix: &str) -> io::Result<Bed> {
    scripted("kernel nft", prefix, KERNEL_SCRIPT, [10, 204, 1, 2], true)
}

/// Open vSwitch's userspace datapath on TAPs, with conntrack and DNAT.
///
/// # Errors
/// Why it did not come up.
pub fn ovs(prefix: &str) -> io::Result<Bed> {
    scripted("OVS userspace", prefix, OVS_SCRIPT, [10, 206, 0, 3], true)
}

/// The kernel, with eBPF at tc in place of bridges, routes and rules: conntrack, DNAT and
/// `bpf_redirect_peer`, the shape of Cilium's path for Services.
///
/// # Errors
/// Why it did not come up.
pub fn tc(prefix: &str) -> io::Result<Bed> {
    scripted("tc eBPF", prefix, TC_SCRIPT, [10, 209, 0, 3], true)
}

/// `vde_switch`, which only switches.
///
/// # Errors
/// Why it did not come up.
pub fn vde(prefix: &str) -> io::Result<Bed> {
    scripted("vde_switch", prefix, VDE_SCRIPT, [10, 208, 0, 3], false)
}
