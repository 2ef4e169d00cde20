//! One pod that floods and what others notice, and flows that a change does not concern.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fetch, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("floods: SYNs and datagrams of one pod leave others their flows", &["ip"], half_open),
    ("floods: reloads lose nothing of a flow they do not concern", &[], reloads),
];

/// Flows that nobody answers, of one pod.
const LIMIT: usize = 64;

fn lab(name: &str, more: &str) -> String {
    format!(
        r#"
[lab]
name = "{name}"
[dns]
enabled = false
[switch]
metrics = "off"
limits = {{ half-open-flows = {LIMIT} }}
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "flood" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "server", labels = {{ app = "server" }} }}
spec.nodeName = "node-b"
[[pod]]
metadata = {{ name = "silent", labels = {{ app = "silent" }} }}
spec.nodeName = "node-b"
[[service]]
metadata = {{ name = "echo" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "server" }}
spec.ports = [{{ port = 7, targetPort = 8081, protocol = "UDP" }}]
{more}"#
    )
}

fn half_open() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &lab(&name, ""))?;
    let (silent, server) = (lab.pod_ip("silent", true)?, lab.pod_ip("server", true)?);
    // one that was there before, and that goes on
    let known = lab.inside("default.flood", || UdpSocket::bind("0.0.0.0:0"))??;
    known.set_read_timeout(Some(EXCHANGE))?;
    known.connect(format!("{server}:8081"))?;
    let still_answers = || -> Result<(), Failed> {
        let mut room = [0; 64];
        known.send(b"still here")?;
        assert_eq!(known.recv(&mut room)?, 10);
        Ok(())
    };
    still_answers()?;
    // whatever comes to it, no answer finds a way
    lab.ask(&["exec", "silent", "--", "ip", "route", "replace", "blackhole", "default"])?;
    let owned = silent.clone();
    lab.inside("default.flood", move || {
        for port in 1..=200 {
            let target = SocketAddr::new(owned.parse().unwrap(), port);
            // nobody answers within so short a time, or ever
            let _ = TcpStream::connect_timeout(&target, Duration::from_millis(1));
        }
        let spray = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 1..=1000 {
            let _ = spray.send_to(b"spray", (owned.as_str(), port));
        }
    })?;
    until("the last of the flood is judged", || {
        let flows = lab.ask(&["conntrack", "list"])?;
        let of_flood = flows.lines().filter(|line| line.contains(&silent)).count();
        assert!(of_flood <= LIMIT, "{of_flood} flows");
        Ok(of_flood == LIMIT)
    })?;
    let refused = lab.inside("default.flood", || exchange(&format!("{server}:8081"), b"?"));
    assert!(refused?.is_err(), "a new flow of the pod that floods");
    still_answers()?;
    // others begin flows, to the flooded pod's node and with the same service
    for _ in 0..3 {
        assert_eq!(lab.fetch("default.client", &format!("{server}:8080"), "/hostname")?, "server");
        let answer = lab.inside("default.client", || exchange("10.8.0.80:7", b"hello"))??;
        assert_eq!(answer, b"hello");
    }
    // who is told to forget them has room again
    lab.ask(&["conntrack", "flush"])?;
    let name = lab.inside("default.flood", || fetch(&format!("{server}:8080"), "/hostname"))??;
    assert_eq!(name, "server");
    Ok(())
}

fn reloads() -> Result<(), Failed> {
    let name = fresh_name();
    let running = Lab::start(&name, &lab(&name, ""))?;
    let stop = AtomicBool::new(false);
    let talk = || -> Result<u32, Failed> {
        let socket = running.inside("default.client", || UdpSocket::bind("0.0.0.0:0"))??;
        socket.set_read_timeout(Some(EXCHANGE))?;
        socket.connect("10.8.0.80:7")?;
        let (mut sequence, mut room) = (0_u32, [0; 64]);
        while !stop.load(Ordering::Relaxed) {
            socket.send(&sequence.to_be_bytes())?;
            let length = socket.recv(&mut room).map_err(|e| format!("{sequence}: {e}"))?;
            assert_eq!(room[..length], sequence.to_be_bytes(), "another's, or late");
            sequence += 1;
        }
        Ok(sequence)
    };
    let more = |step: u32| {
        let closed = r#"
[[network-policy]]
metadata = { name = "closed" }
spec = { podSelector = { matchLabels = { app = "silent" } }, policyTypes = ["Ingress"] }
"#;
        let guest = format!(
            "[[pod]]\nmetadata = {{ name = \"guest-{step}\", labels = {{ app = \"silent\" }} }}\n\
             spec.nodeName = \"node-b\"\n"
        );
        if step.is_multiple_of(2) { closed.to_owned() } else { guest }
    };
    std::thread::scope(|scope| {
        let talk = scope.spawn(talk);
        let changed = (0..20).try_for_each(|step| {
            std::fs::write(&running.config, lab(&name, &more(step)))?;
            running.ask(&["reload"])?;
            std::thread::sleep(Duration::from_millis(50));
            Ok::<_, Failed>(())
        });
        stop.store(true, Ordering::Relaxed);
        let answered = talk.join().unwrap()?;
        changed?;
        // some between each two changes
        assert!(answered > 100, "{answered} answers");
        Ok(())
    })
}
