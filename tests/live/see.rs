//! What is told of a running lab is what happens in it.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fetch, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("a trace says what befalls a connection", &[], trace_is_right),
    ("a monitor tells of flows and refusals", &[], monitor_tells),
    ("tshark reads what was captured", &["tshark"], tshark_reads),
];

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

/// What a command says that ends by itself once it has seen enough of what happens meanwhile.
fn watch(
    lab: &Lab,
    arguments: &[&str],
    meanwhile: impl Fn() -> Result<(), Failed>,
) -> Result<Output, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.args(["--lab", lab.name()]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let end = Instant::now() + Duration::from_mins(1);
    // it does not say when it has begun: so it happens again and again
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            return Err(format!("{arguments:?} sees nothing").into());
        }
        meanwhile()?;
    }
    Ok(child.wait_with_output()?)
}

fn monitor_tells() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &format!("{}{MORE}", quickstart(&name)))?;
    let closed = format!("{}:8080", lab.pod_ip("closed", true)?);
    let arguments = ["monitor", "--of", "client", "--count", "6", "-o", "json"];
    let output = watch(&lab, &arguments, || {
        lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
        let met = lab.inside("default.client", || try_fetch(&closed))?;
        assert!(matches!(met, Err(Failure::Silent)), "{met:?}");
        Ok(())
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let lines = lines?;
    assert_eq!(lines.len(), 6, "{text}");
    let one = |event: &str| lines.iter().find(|line| line["event"] == event);
    let (opened, refused) = (one("new").ok_or("no new flow")?, one("refused").ok_or("no refusal")?);
    assert_eq!(
        (&opened["service"], &opened["target"]),
        (&"default/frontend".into(), &"10.8.0.80:80".into())
    );
    assert_eq!(refused["reason"], "policy_ingress");
    let meaning = refused["meaning"].as_str().unwrap_or_default();
    assert!(meaning.contains("rule 1 of default/closed allows 9999, not 8080"), "{meaning}");
    Ok(())
}

fn tshark_reads() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("client.pcapng");
    let file = path.to_str().ok_or("no path")?;
    let arguments = ["capture", "any", "tcp and host 10.4.0.3", "--count", "60", "-w", file];
    let output = watch(&lab, &arguments, || {
        lab.fetch("default.client", "10.8.0.80:80", "/hostname").map(|_| ())
    })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("60 frames"), "{said}");
    let fields =
        ["frame.interface_name", "frame.comment", "ip.dst", "tcp.dstport", "_ws.malformed"];
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", file, "-T", "fields"]);
    fields.iter().for_each(|field| {
        tshark.args(["-e", field]);
    });
    let output = tshark.output()?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaints}");
    let complaints: Vec<_> =
        complaints.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 60, "{text}");
    // a frame for the service, and the same after rewriting
    let is_pair = |pair: &&[Vec<&str>]| {
        let [came, sent] = pair else { return false };
        let flow = |row: &[&str]| row[1].split("; ").nth(1).map(str::to_owned);
        (came[0], came[2], came[3]) == ("default/client", "10.8.0.80", "80")
            && sent[3] == "8080"
            && flow(came) == flow(sent)
    };
    assert!(rows.windows(2).any(|pair| is_pair(&pair)), "{text}");
    assert!(rows.iter().all(|row| row.get(4).is_none_or(|broken| broken.is_empty())), "{text}");
    Ok(())
}
