//! Machines lose what they need, stop reading, or ask for more than there is: everybody else goes on.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kswitch::lab::namespace;
use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fetch, fresh_name, leftovers, until};
use crate::ports::{Namespace, ip};

pub(crate) const TESTS: &[Test] = &[
    ("faults: a pod whose interface was removed gets another", &["ip"], interface_removed),
    ("faults: a pod whose namespace was deleted gets another", &["ip"], namespace_deleted),
    ("faults: an interface that was handed over goes, and comes back", &["ip"], handed_over),
    ("faults: a pod that does not read harms nobody else", &[], not_reading),
    ("faults: who looks on and does not read harms nobody", &[], onlooker_not_reading),
    ("faults: no source port is left to masquerade with", &[], no_source_port),
];

fn lab(name: &str, more: &str) -> String {
    format!(
        r#"
[lab]
name = "{name}"
[switch]
workers = 2
conntrack-flows = 65536
[dns]
enabled = false
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "beside" }}
spec.nodeName = "node-b"
[[pod]]
metadata = {{ name = "victim" }}
spec.nodeName = "node-b"
[[pod]]
metadata = {{ name = "flooder" }}
spec.nodeName = "node-b"
{more}"#
    )
}

/// Pairs of others that talk all the while; each question that is not answered is told.
struct Others {
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Others {
    /// Does something while a client asks the pod beside, by UDP and on one connection; answers how many
    /// times it was answered.
    fn during(lab: &Lab, act: impl FnOnce(&Self) -> Result<(), Failed>) -> Result<u64, Failed> {
        let address = lab.pod_ip("beside", true)?;
        let (datagrams, stream) = (format!("{address}:8081"), format!("{address}:7001"));
        let listener = lab.inside("default.beside", || TcpListener::bind("0.0.0.0:7001"))??;
        thread::spawn(move || -> std::io::Result<()> {
            let (stream, _) = listener.accept()?;
            std::io::copy(&mut &stream, &mut &stream).map(drop)
        });
        let connection = lab.inside("default.client", || TcpStream::connect(&stream))??;
        connection.set_read_timeout(Some(EXCHANGE))?;
        let others = Self { answered: AtomicU64::new(0), is_over: AtomicBool::new(false) };
        let ask = || -> Result<(), Failed> {
            let mut lines = BufReader::new(&connection);
            while !others.is_over.load(Ordering::Relaxed) {
                let answer = exchange(&datagrams, b"hostname")?;
                assert_eq!(String::from_utf8_lossy(&answer).trim(), "beside");
                let mut line = String::new();
                lines.get_mut().write_all(b"still here\n")?;
                lines.read_line(&mut line)?;
                assert_eq!(line, "still here\n");
                others.answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let asked = scope.spawn(|| lab.inside("default.client", ask));
            let acted = others.go_on().and_then(|()| act(&others)).and_then(|()| others.go_on());
            others.is_over.store(true, Ordering::Relaxed);
            // who asks knows better what went wrong
            asked.join().map_err(|_| "the other client panicked")???;
            acted
        })?;
        Ok(others.answered.load(Ordering::Relaxed))
    }

    /// Waits until they have been answered some more.
    fn go_on(&self) -> Result<(), Failed> {
        let before = self.answered.load(Ordering::Relaxed);
        until("others are answered", || Ok(self.answered.load(Ordering::Relaxed) > before + 5))
    }
}

/// A value of the lab's metrics.
fn metric(lab: &Lab, name: &str) -> Result<u64, Failed> {
    let text = fetch(&lab.metrics().ok_or("no metrics")?, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.ok_or_else(|| format!("no {name}"))?.parse()?)
}

/// What a client command says line by line, until it is killed.
struct Says {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Says {
    fn start(lab: &Lab, arguments: &[&str]) -> Result<Self, Failed> {
        let mut child = unread(lab, arguments)?;
        let said = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn expect(&self, words: &[&str]) -> Result<(), Failed> {
        loop {
            let line = self.lines.recv_timeout(Duration::from_mins(1));
            let line = line.map_err(|_| format!("never told: {words:?}"))?;
            if words.iter().all(|word| line.contains(word)) {
                return Ok(());
            }
        }
    }
}

impl Drop for Says {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client command whose output nobody reads.
fn unread(lab: &Lab, arguments: &[&str]) -> Result<Child, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.args(["--lab", lab.name()]).args(arguments);
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?)
}

fn interface_removed() -> Result<(), Failed> {
    let name = fresh_name();
    repaired(&name, |lab| {
        let namespace = format!("{}.default.victim", lab.name());
        let removal = ["-n", &namespace, "link", "del", "eth0"];
        let output = Command::new("ip").args(removal).output()?;
        // it is inside meanwhile, and may be ended with the namespace before it has ended itself
        assert!(output.status.success() || output.status.signal().is_some(), "{output:?}");
        Ok(())
    })
}

fn namespace_deleted() -> Result<(), Failed> {
    let name = fresh_name();
    repaired(&name, |lab| ip(&format!("netns del {}.default.victim", lab.name())))
}

/// What is taken from a pod under traffic comes back, is told of and counted, and nobody else minds.
fn repaired(name: &str, take: impl Fn(&Lab) -> Result<(), Failed>) -> Result<(), Failed> {
    let program = r#"
[[pod]]
metadata = { name = "talker" }
spec.nodeName = "node-a"
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "echo up; exec sleep 1000"]
"#;
    let mut lab = Lab::start(name, &lab(name, program))?;
    let victim = format!("{}:8081", lab.pod_ip("victim", true)?);
    let ask = || lab.inside("default.client", || exchange(&victim, b"hostname"));
    assert_eq!(ask()??, b"victim");
    let told = Says::start(&lab, &["monitor", "--event", "machine"])?;
    // whoever looks on is heard of only once that has begun
    thread::sleep(Duration::from_millis(300));
    let identity = namespace::identity(&format!("{name}.default.victim"))?;
    Others::during(&lab, |_| {
        take(&lab)?;
        told.expect(&["default/victim", "lost"])?;
        told.expect(&["default/victim", "made again"])?;
        until("the pod answers again", || Ok(ask()?.is_ok_and(|answer| answer == b"victim")))
    })?;
    assert_eq!(metric(&lab, "kswitch_machines_renewed_total")?, 1);
    assert_ne!(namespace::identity(&format!("{name}.default.victim"))?, identity);
    assert_eq!(lab.ask(&["logs", "talker"])?, "up\n", "others' programs run on");
    // the name servers' namespace and all others stay as they are: nothing is made twice
    thread::sleep(Duration::from_millis(300));
    assert_eq!(metric(&lab, "kswitch_machines_renewed_total")?, 1);
    assert_eq!(lab.stop()?, Some(0));
    assert_eq!(leftovers(name), [] as [&str; 0]);
    Ok(())
}

fn handed_over() -> Result<(), Failed> {
    const MAC: &str = "02:00:00:00:77:01";
    let name = fresh_name();
    let (machine, wan) =
        (Namespace::new(&format!("{name}-machine"))?, Namespace::new(&format!("{name}-wan"))?);
    let (inside, outside) = (&machine.0, &wan.0);
    ip(&format!("-n {inside} link set lo up"))?;
    let connect = || {
        ip(&format!("-n {inside} link add wan0 type veth peer name eth0 netns {outside}"))?;
        ip(&format!("-n {outside} link set eth0 address {MAC} up"))?;
        ip(&format!("-n {outside} addr add 198.51.100.9/24 dev eth0"))?;
        ip(&format!("-n {outside} route add default via 198.51.100.1"))
    };
    connect()?;
    let external = format!(
        "[[external]]\nname = \"wan\"\naddress = \"198.51.100.9/24\"\n\
         port = {{ kind = \"packet\", interface = \"wan0\", mac = \"{MAC}\" }}\n"
    );
    let text = lab(&name, &external);
    let mut lab = namespace::enter(inside, || Lab::start(&name, &text))??;
    let serve = || -> Result<(), Failed> {
        let server = namespace::enter(outside, || UdpSocket::bind("198.51.100.9:53"))??;
        thread::spawn(move || -> std::io::Result<()> {
            let mut room = [0; 64];
            loop {
                let (octets, from) = server.recv_from(&mut room)?;
                server.send_to(&room[..octets], from)?;
            }
        });
        Ok(())
    };
    let ask = || lab.inside("default.client", || exchange("198.51.100.9:53", b"there?"));
    serve()?;
    assert_eq!(ask()??, b"there?");
    let told = Says::start(&lab, &["monitor", "--event", "machine"])?;
    thread::sleep(Duration::from_millis(300));
    let address = lab.pod_ip("beside", true)?;
    let inside_answers = || -> Result<(), Failed> {
        let target = format!("{address}:8081");
        assert_eq!(lab.inside("default.client", || exchange(&target, b"hostname"))??, b"beside");
        Ok(())
    };
    ip(&format!("-n {inside} link del wan0"))?;
    told.expect(&["ext/wan", "waits"])?;
    inside_answers()?;
    // what is changed meanwhile is changed
    lab.ask(&["reload"])?;
    connect()?;
    told.expect(&["ext/wan", "made again"])?;
    until("the host outside answers again", || Ok(ask()?.is_ok_and(|answer| answer == b"there?")))?;
    inside_answers()?;
    assert_eq!(lab.stop()?, Some(0));
    Ok(())
}

/// A socket that nobody reads from overflows where it is, in the pod's own kernel; nothing of it comes
/// back to the switch, and nobody else waits.
fn not_reading() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &lab(&name, ""))?;
    let address = lab.pod_ip("victim", true)?;
    let (datagrams, stream) = (format!("{address}:7000"), format!("{address}:7000"));
    let _deaf = lab.inside("default.victim", || UdpSocket::bind("0.0.0.0:7000"))??;
    let listener = lab.inside("default.victim", || TcpListener::bind("0.0.0.0:7000"))??;
    Others::during(&lab, |_| {
        let flood = || -> std::io::Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(&datagrams)?;
            for _ in 0..5_000 {
                socket.send(&[0; 1_000])?;
            }
            Ok(())
        };
        lab.inside("default.flooder", flood)??;
        let mut full = lab.inside("default.client", || TcpStream::connect(&stream))??;
        let (_never_read, _) = listener.accept()?;
        full.set_nonblocking(true)?;
        until("its window is closed", || {
            loop {
                match full.write(&[0; 8_192]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error.into()),
                }
            }
        })
    })?;
    let lost = lab.inside("default.victim", || -> Result<u64, Failed> {
        // the second line of Udp is the numbers of the first one's names
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, numbers) = (lines.next().ok_or("none")?, lines.next().ok_or("none")?);
        let mut all = names.split(' ').zip(numbers.split(' '));
        let (_, number) = all.find(|(name, _)| *name == "RcvbufErrors").ok_or("none")?;
        Ok(number.parse()?)
    })??;
    assert!(lost > 0, "its kernel counts what it could not keep");
    Ok(())
}

/// Octets that the lab's process has for itself.
fn memory(lab: &Lab) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn onlooker_not_reading() -> Result<(), Failed> {
    // what waits for each of them is bounded; this is far more than that
    const ROUNDS: u16 = 40;
    let talker = r#"
[[pod]]
metadata = { name = "talker" }
spec.nodeName = "node-a"
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "while :; do echo all work and no play; done"]
"#;
    let name = fresh_name();
    let lab = Lab::start(&name, &lab(&name, talker))?;
    let target = format!("{}:9", lab.pod_ip("victim", true)?);
    let flows = || -> std::io::Result<()> {
        for _ in 0..1_000 {
            // nobody listens there: each is refused by the pod, and a flow of its own all the same
            UdpSocket::bind("0.0.0.0:0")?.send_to(&[0; 1_200], &target)?;
        }
        Ok(())
    };
    let commands: [&[&str]; 3] =
        [&["monitor", "-o", "json"], &["capture", "any", "-w", "-"], &["logs", "talker", "-f"]];
    let mut deaf =
        commands.into_iter().map(|command| unread(&lab, command)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(Duration::from_millis(300));
    lab.inside("default.flooder", flows)??;
    let before = memory(&lab)?;
    Others::during(&lab, |_| {
        for _ in 0..ROUNDS {
            lab.inside("default.flooder", flows)??;
        }
        Ok(())
    })?;
    let gained = memory(&lab)?.saturating_sub(before);
    assert!(gained < 96 << 20, "{} MiB more", gained >> 20);
    // events that found no room are told as soon as somebody reads
    let said = deaf[0].stdout.take().ok_or("no standard output")?;
    let lost = BufReader::new(said)
        .lines()
        .map_while(Result::ok)
        .take(ROUNDS as usize * 1_000)
        .any(|line| line.contains("\"lost\""));
    assert!(lost, "nobody was told that events were lost");
    for child in &mut deaf {
        child.kill()?;
        child.wait()?;
    }
    until("they are forgotten", || Ok(lab.ask(&["get", "nodes"]).is_ok()))
}

/// All ports that a privileged port may be given are taken by one pod: the other one's packet from such a
/// port to the same place is dropped and counted, and all else of its goes on.
fn no_source_port() -> Result<(), Failed> {
    const FAR: &str = "198.51.100.7:8081";
    let more = "[[external]]\nname = \"far\"\naddress = \"198.51.100.7/24\"\n\
                [[pod]]\nmetadata = { name = \"late\" }\nspec.nodeName = \"node-a\"\n";
    let name = fresh_name();
    let lab = Lab::start(&name, &lab(&name, more))?;
    let from = |pod: &str, port: u16| -> Result<Option<Vec<u8>>, Failed> {
        let answer = lab.inside(&format!("default.{pod}"), || -> std::io::Result<_> {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            socket.connect(FAR)?;
            socket.send(b"hostname")?;
            let mut room = [0; 64];
            Ok(socket.recv(&mut room).ok().map(|octets| room[..octets].to_vec()))
        })?;
        Ok(answer?)
    };
    let is_answered = |answer: Option<Vec<u8>>| answer.is_some_and(|name| name == b"far");
    for port in (600..1024).step_by(2) {
        assert!(is_answered(from("client", port)?), "port {port}");
    }
    let counter = "kswitch_drops_total{reason=\"no_source_port\"}";
    assert_eq!(metric(&lab, counter)?, 0);
    assert_eq!(from("late", 700)?, None);
    assert_eq!(metric(&lab, counter)?, 1);
    // of the other parity, and unprivileged ones, there are more
    let ports: BTreeSet<u16> = [701, 7_000, 7_001].into();
    for port in ports {
        assert!(is_answered(from("late", port)?), "port {port}");
    }
    // to another place the same port is free
    let answer = lab.inside("default.late", || fetch("198.51.100.7:8080", "/hostname"))??;
    assert_eq!(answer, "far");
    Ok(())
}
