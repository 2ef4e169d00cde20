//! The switch is killed, upgraded and panics, and what runs over it goes on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use kswitch::lab::process::processes_in;
use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{Lab, fresh_name, leftovers, until};

pub(crate) const TESTS: &[Test] = &[
    ("connections outlive kills of the switch", &[], connections_outlive_kills),
    ("gateways are not forgotten while the switch is away", &["ip"], gateways_are_kept),
    ("programs of pods outlive a kill of the switch", &[], programs_outlive_a_kill),
    ("what was applied outlives a kill of the switch", &[], changes_outlive_a_kill),
    ("a switch goes on as another program", &[], upgraded),
    ("a panic of a worker is survived", &[], panicked),
    ("what a killed switch left is cleaned up", &[], cleaned_up),
];

const LAB: &str = r#"
[switch]
metrics = "off"
conntrack-flows = 16384

[[node]]
name = "node-a"

[[node]]
name = "node-b"

[[pod]]
metadata = { name = "client" }
spec.nodeName = "node-a"

[[pod]]
metadata = { name = "server-a", labels = { app = "server" } }
spec.nodeName = "node-a"

[[pod]]
metadata = { name = "server-b", labels = { app = "server" } }
spec.nodeName = "node-b"

[[service]]
metadata = { name = "server" }
spec = { selector = { app = "server" }, ports = [{ port = 80, targetPort = 5000 }] }
"#;

pub(crate) fn lab(name: &str, more: &str) -> String {
    format!("[lab]\nname = \"{name}\"\n{LAB}{more}")
}

/// How long a connection may be silent: restarts on a busy machine take their time.
const SILENCE: Duration = Duration::from_secs(30);

/// Connections through the Service, which do not end with the lab's process: their sockets are this
/// one's.
pub(crate) struct Connections(Vec<(TcpStream, u64)>);

impl Connections {
    pub(crate) fn open(lab: &Lab, count: usize) -> Result<Self, Failed> {
        for pod in ["server-a", "server-b"] {
            let listener =
                lab.inside(&format!("default.{pod}"), || TcpListener::bind("[::]:5000"))??;
            thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    thread::spawn(move || {
                        let mut room = [0; 8];
                        while stream
                            .read_exact(&mut room)
                            .and_then(|()| stream.write_all(&room))
                            .is_ok()
                        {}
                    });
                }
            });
        }
        let target: SocketAddr = format!("{}:80", lab.cluster_ip("server", true)?).parse()?;
        let connect = || TcpStream::connect_timeout(&target, SILENCE);
        let streams = (0..count).map(|_| {
            let stream = lab.inside("default.client", connect)??;
            stream.set_read_timeout(Some(SILENCE))?;
            Ok((stream, 0))
        });
        Ok(Self(streams.collect::<Result<_, Failed>>()?))
    }

    /// Each says something and hears it back.
    pub(crate) fn talk(&mut self) -> Result<(), Failed> {
        for (at, (stream, said)) in self.0.iter_mut().enumerate() {
            *said += 1;
            let word = (*said * 1_000 + at as u64).to_be_bytes();
            let mut heard = [0; 8];
            stream.write_all(&word)?;
            stream
                .read_exact(&mut heard)
                .map_err(|error| format!("connection {at}, word {said}: {error}"))?;
            assert_eq!(heard, word);
        }
        Ok(())
    }
}

fn connections_outlive_kills() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, ""))?;
    let mut connections = Connections::open(&lab, 10)?;
    connections.talk()?;
    for _ in 0..3 {
        lab.kill()?;
        // what is said now is lost, and said again
        for (stream, _) in &mut connections.0 {
            stream.set_nodelay(true)?;
        }
        lab = Lab::start(&name, &self::lab(&name, ""))?;
        connections.talk()?;
        connections.talk()?;
    }
    let stats = lab.ask(&["conntrack", "list"])?;
    assert!(stats.matches("ESTABLISHED").count() >= 10, "{stats}");
    // new ones are made, too
    Connections::open(&lab, 1).err().ok_or("the servers' port was free")?;
    let target = format!("{}:8080", lab.pod_ip("server-b", true)?);
    assert_eq!(lab.fetch("default.client", &target, "/hostname")?, "server-b");
    connections.talk()?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

/// What a pod's kernel knows of its gateways, as long as it has not given them up.
fn known_gateways(namespace: &str) -> Result<Vec<String>, Failed> {
    let shown =
        Command::new("ip").args(["-n", namespace, "neigh", "show", "dev", "eth0"]).output()?;
    let shown = String::from_utf8(shown.stdout)?;
    let known = shown.lines().filter(|line| line.contains(" lladdr "));
    let mut known: Vec<_> = known
        .filter_map(|line| line.split(' ').next())
        .filter(|address| address.ends_with(".1") || address.ends_with("::1"))
        .map(str::to_owned)
        .collect();
    known.sort();
    Ok(known)
}

fn gateways_are_kept() -> Result<(), Failed> {
    let more = r#"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
"#;
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, more))?;
    let namespace = format!("{name}.default.client");
    let target = |lab: &Lab, is_v4| lab.pod_ip("server-b", is_v4);
    let targets =
        [format!("{}:8080", target(&lab, true)?), format!("[{}]:8080", target(&lab, false)?)];
    let ask = |lab: &Lab| -> Result<(), Failed> {
        for target in &targets {
            assert_eq!(lab.fetch("default.client", target, "/hostname")?, "server-b");
        }
        Ok(())
    };
    ask(&lab)?;
    let before = known_gateways(&namespace)?;
    assert_eq!(before.len(), 2, "{before:?}");
    lab.kill()?;
    // its TAPs have no carrier, which is when a kernel forgets who was there
    until("the carrier is lost", || {
        let shown = Command::new("ip").args(["-n", &namespace, "link", "show", "eth0"]).output()?;
        Ok(!String::from_utf8(shown.stdout)?.contains("LOWER_UP"))
    })?;
    assert_eq!(known_gateways(&namespace)?, before);
    lab = Lab::start(&name, &self::lab(&name, more))?;
    ask(&lab)?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn programs_outlive_a_kill() -> Result<(), Failed> {
    let more = r#"
[[pod]]
metadata = { name = "talker" }
spec.nodeName = "node-a"
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.05; done"]
"#;
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, more))?;
    let says = |lab: &Lab| lab.ask(&["logs", "talker"]);
    until("the program talks", || Ok(says(&lab)?.contains("tick 3\n")))?;
    let namespace = format!("{name}.default.talker");
    let shell = || -> Result<BTreeSet<u32>, Failed> {
        let all = processes_in(&namespace)?.into_iter();
        let is_shell = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sh\n")
        };
        Ok(all.filter(is_shell).collect())
    };
    let before = shell()?;
    assert_eq!(before.len(), 1);
    lab.kill()?;
    assert_eq!(shell()?, before);
    lab = Lab::start(&name, &self::lab(&name, more))?;
    // it counts on, and is heard
    until("the program is heard again", || Ok(says(&lab)?.contains("tick")))?;
    assert!(!says(&lab)?.contains("tick 1\n"));
    assert_eq!(shell()?, before);
    let pods = lab.get("pods")?;
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "talker").ok_or("no pod")?;
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    // one that ends is started again, as ever
    let process = nix::unistd::Pid::from_raw(i32::try_from(*before.first().ok_or("none")?)?);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL)?;
    until("the program is started again", || {
        Ok(shell()?.iter().any(|process| !before.contains(process)))
    })?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn changes_outlive_a_kill() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, ""))?;
    let directory = tempfile::tempdir()?;
    let manifest = directory.path().join("more.yaml");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: late, labels: {app: late}}\n\
        spec: {nodeName: node-b}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: late}\n\
        spec: {selector: {app: late}, ports: [{port: 80, targetPort: 8080}]}\n";
    std::fs::write(&manifest, text)?;
    lab.ask(&["apply", "-f", manifest.to_str().ok_or("no text")?])?;
    lab.ask(&["delete", "pod", "server-a", "--grace-period", "0"])?;
    until("the pod is gone", || Ok(lab.pod_ip("server-a", true).is_err()))?;
    let address = (lab.cluster_ip("late", true)?, lab.pod_ip("late", true)?);
    lab.kill()?;
    lab = Lab::start(&name, &self::lab(&name, ""))?;
    assert_eq!((lab.cluster_ip("late", true)?, lab.pod_ip("late", true)?), address);
    assert!(lab.pod_ip("server-a", true).is_err());
    assert_eq!(lab.fetch("default.client", &format!("{}:80", address.0), "/hostname")?, "late");
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn upgraded() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, ""))?;
    let mut connections = Connections::open(&lab, 4)?;
    connections.talk()?;
    let refused = lab.client(&["upgrade", "/bin/false"])?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    connections.talk()?;
    // a copy, to be told from the program that runs
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("kswitch-next");
    std::fs::copy(env!("CARGO_BIN_EXE_kswitch"), &copy)?;
    lab.ask(&["upgrade", copy.to_str().ok_or("no text")?])?;
    let program = format!("/proc/{}/exe", lab.pid());
    until("the other program runs", || Ok(std::fs::read_link(&program)? == copy))?;
    until("it answers", || Ok(lab.ask(&["conntrack", "stats"]).is_ok()))?;
    connections.talk()?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}

fn panicked() -> Result<(), Failed> {
    let name = fresh_name();
    let faulty = [("KSWITCH_FAULTS", "1")];
    let mut lab = Lab::start_with(&name, &lab(&name, ""), &faulty)?;
    let mut connections = Connections::open(&lab, 4)?;
    connections.talk()?;
    let generation = |lab: &Lab| lab.ask(&["reload"]);
    generation(&lab)?;
    lab.ask(&["fault", "0"])?;
    until("it answers again", || Ok(lab.ask(&["conntrack", "stats"]).is_ok()))?;
    connections.talk()?;
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    // nobody else's switch fails on demand
    let lab = Lab::quickstart()?;
    assert!(!lab.client(&["fault", "0"])?.status.success());
    Ok(())
}

fn cleaned_up() -> Result<(), Failed> {
    let name = fresh_name();
    let mut lab = Lab::start(&name, &lab(&name, ""))?;
    let clean = || Command::new(env!("CARGO_BIN_EXE_kswitch")).args(["clean", &name]).output();
    let said = clean()?;
    assert!(String::from_utf8_lossy(&said.stdout).contains("left alone"), "{said:?}");
    let target = format!("{}:8080", lab.pod_ip("server-b", true)?);
    lab.fetch("default.client", &target, "/hostname")?;
    lab.kill()?;
    assert!(!leftovers(&name).is_empty());
    let said = clean()?;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(leftovers(&name), [] as [&str; 0]);
    Ok(())
}
