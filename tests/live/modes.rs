//! The other ways to lay a cluster out: routes that are written down, and pods without a bridge.

use std::net::TcpStream;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("only routes that are written down lead to pods", &["ping"], routes_based),
    ("pods without a bridge are one hop from each other", &["ping"], routed),
];

/// What `ping` says of three echoes.
fn ping(lab: &Lab, from: &str, target: &str) -> Result<String, Failed> {
    let arguments = ["exec", from, "--", "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", target];
    Ok(String::from_utf8_lossy(&lab.client(&arguments)?.stdout).into_owned())
}

fn routes_based() -> Result<(), Failed> {
    let name = fresh_name();
    let text = |routes: &str| {
        let mode = format!("[cluster]\nmode = \"routes-based\"\nroutes = [{routes}]\n");
        let text = quickstart(&name);
        assert!(text.contains("[cluster]\n"), "the lab is written otherwise");
        text.replacen("[cluster]\n", &mode, 1)
    };
    let (a, b) = (
        "{ to = \"10.4.0.0/24\", node = \"node-a\" }",
        "{ to = \"10.4.1.0/24\", node = \"node-b\" }",
    );
    let lab = Lab::start(&name, &text(&format!("{a}, {b}")))?;
    let far = lab.pod_ip("frontend-b", true)?;
    assert!(ping(&lab, "client", &far)?.contains("ttl=62"));
    assert_eq!(lab.fetch("default.client", &format!("{far}:8080"), "/hostname")?, "frontend-b");
    // without the route nothing passes, and nobody says why
    std::fs::write(&lab.config, text(a))?;
    lab.ask(&["reload"])?;
    let said = ping(&lab, "client", &far)?;
    assert!(said.contains(" 100% packet loss") && !said.contains("nreachable"), "{said}");
    let near = lab.pod_ip("frontend-a", true)?;
    assert_eq!(lab.fetch("default.client", &format!("{near}:8080"), "/hostname")?, "frontend-a");
    let outside = lab.fetch("default.client", "198.51.100.7:8080", "/hostname")?;
    assert_eq!(outside, "internet");
    let shown = lab.ask(&["get", "routes"])?;
    assert!(shown.lines().any(|line| line.contains("blackhole")), "{shown}");
    Ok(())
}

fn routed() -> Result<(), Failed> {
    let name = fresh_name();
    let text = quickstart(&name).replacen("[cluster]\n", "[cluster]\npod-link = \"routed\"\n", 1);
    let lab = Lab::start(&name, &text)?;
    for is_v4 in [true, false] {
        for (pod, ttl) in [("frontend-a", "ttl=63"), ("frontend-b", "ttl=62")] {
            let said = ping(&lab, "client", &lab.pod_ip(pod, is_v4)?)?;
            assert!(said.contains(ttl) && said.contains(" 0% packet loss"), "{pod}: {said}");
        }
        let gateway = if is_v4 { "169.254.1.1" } else { "fe80::1%eth0" };
        let said = ping(&lab, "client", gateway)?;
        assert!(said.contains(" 0% packet loss"), "{said}");
        let ip = lab.cluster_ip("frontend", is_v4)?;
        let target = if is_v4 { format!("{ip}:80") } else { format!("[{ip}]:80") };
        let answers: Result<std::collections::BTreeSet<String>, Failed> =
            (0..30).map(|_| lab.fetch("default.client", &target, "/hostname")).collect();
        assert_eq!(answers?.len(), 2, "both endpoints answer");
    }
    // the whole of the node's range is elsewhere, also what nobody has
    let gone = lab.inside("default.client", || {
        TcpStream::connect_timeout(&"10.4.0.200:80".parse().unwrap(), EXCHANGE).map(|_| ())
    })?;
    let gone = gone.unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::HostUnreachable, "{gone}");
    Ok(())
}
