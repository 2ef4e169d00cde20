//! Links on which frames are lost, late, twice or other than they were, between real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("links are faulty as asked, and mended again", &[], links_are_faulty),
    ("a link of limited rate is slow, and bounded", &[], rates_are_kept),
    ("a router beyond a link that is cut is not heard", &["traceroute"], beyond_a_cut),
];

/// Datagrams from the client to a pod on another node, and what comes of them.
struct Pair {
    from: UdpSocket,
    to: UdpSocket,
    target: String,
}

impl Pair {
    fn new(lab: &Lab) -> Result<Self, Failed> {
        let open = || UdpSocket::bind("0.0.0.0:9000");
        let from = lab.inside("default.client", open)??;
        let to = lab.inside("default.frontend-b", open)??;
        let target = format!("{}:9000", lab.pod_ip("frontend-b", true)?);
        Ok(Self { from, to, target })
    }

    /// The numbers that have come of those that were sent, until it is silent for a while; sorted,
    /// as queues of several processors keep no order among them.
    fn send(&self, count: u32, silence: Duration) -> Result<Vec<u32>, Failed> {
        self.to.set_read_timeout(Some(silence))?;
        let mut come = thread::scope(|scope| -> Result<Vec<u32>, Failed> {
            // read at once, or the socket's own queue overflows
            let reader = scope.spawn(|| {
                let (mut come, mut octets) = (Vec::new(), [0; 64]);
                while let Ok(4) = self.to.recv(&mut octets) {
                    let number = octets.first_chunk().copied().unwrap_or_default();
                    come.push(u32::from_be_bytes(number));
                }
                come
            });
            for number in 0..count {
                self.from.send_to(&number.to_be_bytes(), &self.target)?;
                // nor are the TAP's queues endless
                if number % 50 == 49 {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            Ok(reader.join().map_err(|_| "the reader panicked")?)
        })?;
        come.sort_unstable();
        Ok(come)
    }
}

/// What was counted at a link, one way.
fn toll(lab: &Lab, link: &str, way: &str) -> Result<Value, Failed> {
    let object: Value = serde_json::from_str(&lab.ask(&["get", "links", link, "-o", "json"])?)?;
    Ok(object[way]["toll"].clone())
}

fn links_are_faulty() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let pair = Pair::new(&lab)?;
    let silence = Duration::from_secs(1);
    let all: Vec<u32> = (0..400).collect();
    assert_eq!(pair.send(400, silence)?, all);
    for (link, way) in [("client", "from"), ("node/node-a", "from"), ("frontend-b", "to")] {
        let ask = |faults: &[&str]| {
            lab.ask(&[&["link", link, "--direction", way, "--seed", "3"][..], faults].concat())
        };
        let count = |key: &str| -> Result<usize, Failed> {
            let count = toll(&lab, link, way)?[key].as_u64().ok_or("not counted")?;
            Ok(usize::try_from(count)?)
        };

        ask(&["--loss", "30%"])?;
        let come = pair.send(400, silence)?;
        assert_eq!(come.len(), 400 - count("lost")?, "{link}");
        assert!(come.len().abs_diff(280) < 60, "{link}: {}", come.len());

        ask(&["--duplicate", "20%"])?;
        let mut come = pair.send(400, silence)?;
        assert_eq!(come.len(), 400 + count("duplicated")?, "{link}");
        come.dedup();
        assert_eq!(come, all, "{link}");

        ask(&["--corrupt", "100%"])?;
        let come = pair.send(100, silence)?;
        assert!(come.len() < 10, "checksums find what was changed: {link}: {}", come.len());
        assert!(count("corrupted")? >= 100, "{link}");

        ask(&["--delay", "40ms"])?;
        let start = Instant::now();
        assert_eq!(pair.send(1, silence)?, [0], "{link}");
        let (late, most) = (start.elapsed().saturating_sub(silence), Duration::from_secs(20));
        assert!(late >= Duration::from_millis(40) && late < most, "{link}: {late:?}");

        ask(&["--delay", "40ms", "--reorder", "50%"])?;
        assert_eq!(pair.send(100, silence)?, all[..100], "{link}");
        assert!(count("reordered")?.abs_diff(50) < 25, "{link}");

        ask(&["--partition"])?;
        assert_eq!(pair.send(20, silence)?, [0; 0], "{link}");
        lab.ask(&["link", link, "--clear"])?;
        assert_eq!(pair.send(400, silence)?, all, "{link}");
    }
    let table = lab.ask(&["get", "links", "-o", "wide"])?;
    assert!(table.lines().any(|line| line.starts_with("node/node-a")), "{table}");
    let wrong = lab.client(&["link", "nobody", "--loss", "1%"])?;
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&wrong.stderr), "error: no link of nobody\n");
    Ok(())
}

fn rates_are_kept() -> Result<(), Failed> {
    let name = fresh_name();
    let slow = "[[link]]\nof = \"client\"\ndirection = \"from\"\nrate = \"20mbit\"\n";
    let lab = Lab::start(&name, &format!("{}{slow}", quickstart(&name)))?;
    let octets = 1_000_000;
    let transfer = || -> Result<Duration, Failed> {
        let listener = lab.inside("default.frontend-b", || TcpListener::bind("0.0.0.0:0"))??;
        let port = listener.local_addr()?.port();
        let target = format!("{}:{port}", lab.pod_ip("frontend-b", true)?);
        let mut out = lab.inside("default.client", || TcpStream::connect(&target))??;
        let (mut end, _) = listener.accept()?;
        let start = Instant::now();
        let sender = thread::spawn(move || out.write_all(&vec![0; octets]));
        let mut got = Vec::new();
        end.read_to_end(&mut got)?;
        sender.join().map_err(|_| "the sender panicked")??;
        assert_eq!(got.len(), octets);
        Ok(start.elapsed())
    };
    // 8 million bits; what the queue lets wait at the end is still part of it
    let took = transfer()?;
    assert!(took >= Duration::from_millis(390), "{took:?}");
    lab.ask(&["link", "client", "--clear"])?;
    lab.ask(&["link", "client", "--direction", "from", "--reset"])?;
    assert!(toll(&lab, "client", "from")?["frames"].is_u64(), "the file says so again");
    lab.ask(&["link", "client", "--clear"])?;
    assert!(toll(&lab, "client", "from")?.is_null());
    Ok(())
}

fn beyond_a_cut() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let far = lab.pod_ip("frontend-b", true)?;
    let hops = || -> Result<usize, Failed> {
        let arguments = ["exec", "client", "--", "traceroute", "-n", "-q1", "-w1", "-m3", &far];
        Ok(lab.ask(&arguments)?.lines().skip(1).filter(|line| !line.contains('*')).count())
    };
    assert_eq!(hops()?, 3);
    lab.ask(&["link", "node/node-b", "--partition"])?;
    assert_eq!(hops()?, 1);
    lab.ask(&["link", "node/node-b", "--clear"])?;
    assert_eq!(hops()?, 3);
    Ok(())
}
