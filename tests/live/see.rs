//! What is told of a running lab is what happens in it.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fetch, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] =
    &[("a trace says what befalls a connection", &[], trace_is_right)];

/// Policies that let frontend-a be reached by nobody, an empty Service, and a node port.
const MORE: &str = r#"
[[service]]
metadata = { name = "empty" }
spec = { clusterIP = "10.8.0.81", selector = { app = "nobody" }, ports = [{ port = 80 }] }

[[service]]
metadata = { name = "outside" }
spec = { type = "NodePort", clusterIP = "10.8.0.82", selector = { app = "frontend" }, ports = [{ port = 80, targetPort = "http", nodePort = 30080 }] }

[[pod]]
metadata = { name = "closed", labels = { app = "closed" } }
spec.nodeName = "node-b"

[[network-policy]]
metadata = { name = "closed" }
spec.podSelector = { matchLabels = { app = "closed" } }
spec.ingress = [{ ports = [{ port = 9999 }] }]
"#;

fn trace_is_right() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &format!("{}{MORE}", quickstart(&name)))?;
    for (from, machine, to) in [
        ("client", "default.client", "frontend"),
        ("client", "default.client", "frontend-b:8080"),
        ("client", "default.client", "empty"),
        ("client", "default.client", "10.8.0.80:81"),
        ("client", "default.client", "closed:8080"),
        ("client", "default.client", "ext/internet:8080"),
        ("ext/internet", "ext.internet", "node/node-b:30080"),
        ("ext/internet", "ext.internet", "frontend-a:8080"),
        ("node/node-a", "node.node-a", "closed:8080"),
        ("node/node-b", "node.node-b", "closed:8080"),
    ] {
        let text = lab.ask(&["trace", "--from", from, "--to", to, "-o", "json"])?;
        let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let target = report["target"].as_str().ok_or("no target")?.to_owned();
        let met = lab.inside(machine, || try_fetch(&target))?;
        let said = report["verdict"].as_str().ok_or("no verdict")?;
        match (said, met) {
            ("forward", Ok(hostname)) => {
                let ends = report["endpoints"].as_array().ok_or("no endpoints")?;
                let ends = ends.iter().chain([&report]);
                let named = |end: &Value| {
                    let name = end.get("endpointName").or_else(|| end.get("name"));
                    let name = name.and_then(Value::as_str).unwrap_or_default();
                    name.rsplit('/').next() == Some(&hostname)
                };
                assert!(ends.into_iter().any(named), "{hostname} is not told of: {text}");
            }
            ("reject", Err(Failure::Refused)) | ("drop", Err(Failure::Silent)) => {}
            (_, met) => return Err(format!("{from} -> {to}: {met:?}, but {text}").into()),
        }
    }
    Ok(())
}

/// How a connection failed.
#[derive(Debug)]
enum Failure {
    Refused,
    Silent,
}

fn try_fetch(target: &str) -> Result<String, Failure> {
    let address = target.parse().map_err(|_| Failure::Refused)?;
    // what answers does so at once; long enough for a machine that is busy with other things
    match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => fetch(target, "/hostname").map_err(|_| Failure::Silent),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(Failure::Silent),
        Err(_) => Err(Failure::Refused),
    }
}
