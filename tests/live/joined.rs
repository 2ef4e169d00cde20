//! Datagrams of a flow that wait together come to the receiver's kernel as one frame, and to its
//! sockets as they were sent.

use std::net::UdpSocket;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fresh_name};

pub(crate) const TESTS: &[Test] =
    &[("datagrams that wait together go as one frame, and arrive as they were", &[], together)];

const LAB: &str = r#"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
[dns]
enabled = false
[switch]
metrics = "off"
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = { name = "client" }
spec.nodeName = "a"
[[pod]]
metadata = { name = "server", labels = { app = "server" } }
spec.nodeName = "b"
[[pod]]
metadata = { name = "plain", labels = { app = "plain" }, annotations = { "kswitch/offloads" = "false" } }
spec.nodeName = "b"
[[service]]
metadata = { name = "server" }
spec = { clusterIPs = ["10.8.0.80", "fd00:8::80"], ipFamilyPolicy = "RequireDualStack", selector = { app = "server" }, ports = [{ port = 90, targetPort = 9000, protocol = "UDP" }] }
[[service]]
metadata = { name = "plain" }
spec = { clusterIPs = ["10.8.0.81", "fd00:8::81"], ipFamilyPolicy = "RequireDualStack", selector = { app = "plain" }, ports = [{ port = 90, targetPort = 9000, protocol = "UDP" }] }
"#;

/// Datagrams that wait together; every tenth is shorter than the others.
const DATAGRAMS: u8 = 60;

fn datagram(number: u8) -> Vec<u8> {
    vec![number; if number % 10 == 9 { 60 } else { 100 }]
}

/// Frames that a pod's interface has received so far.
fn frames(lab: &Lab, pod: &str) -> Result<usize, Failed> {
    let text = lab.inside(&format!("default.{pod}"), || {
        std::fs::read_to_string("/proc/thread-self/net/dev")
    })??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).ok_or("no interface")?)
}

/// Has a flow's datagrams wait for the switch; answers in how many frames they came.
fn wait(lab: &Lab, pod: &str, is_v4: bool) -> Result<usize, Failed> {
    let any = if is_v4 { "0.0.0.0:9000" } else { "[::]:9000" };
    let server = lab.inside(&format!("default.{pod}"), || UdpSocket::bind(any))??;
    server.set_read_timeout(Some(EXCHANGE))?;
    let address = lab.cluster_ip(pod, is_v4)?;
    let target = if is_v4 { format!("{address}:90") } else { format!("[{address}]:90") };
    let client = lab.inside("default.client", || UdpSocket::bind(any.replace("9000", "0")))??;
    client.connect(target)?;
    let mut room = [0; 200];
    let mut receive = || -> Result<Vec<u8>, Failed> {
        let octets = server.recv(&mut room)?;
        Ok(room[..octets].to_vec())
    };
    // neighbours are known and the flow is there from here on
    client.send(b"first")?;
    assert_eq!(receive()?, b"first");
    let before = frames(lab, pod)?;
    let switch = Pid::from_raw(lab.pid());
    kill(switch, Signal::SIGSTOP)?;
    let sent = (0..DATAGRAMS).try_for_each(|number| client.send(&datagram(number)).map(drop));
    kill(switch, Signal::SIGCONT)?;
    sent?;
    for number in 0..DATAGRAMS {
        assert_eq!(receive()?, datagram(number), "to {pod}");
    }
    Ok(frames(lab, pod)? - before)
}

fn together() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &format!("[lab]\nname = \"{name}\"\n{LAB}"))?;
    for is_v4 in [true, false] {
        let joined = wait(&lab, "server", is_v4)?;
        assert!(joined < usize::from(DATAGRAMS) / 2, "{joined} frames");
        // whoever takes no offloads gets each by itself
        let alone = wait(&lab, "plain", is_v4)?;
        assert!(alone >= usize::from(DATAGRAMS), "{alone} frames");
    }
    Ok(())
}
