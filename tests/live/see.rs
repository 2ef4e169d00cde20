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
    ("every example of --help works as printed", &["curl", "tshark"], examples_work),
    ("the page shows the lab and traces in it", &[], page_shows),
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

/// Every example of every `--help`, as it is printed.
fn examples() -> Result<Vec<String>, Failed> {
    let help = |arguments: &[&str]| -> Result<String, Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
        let output = command.args(arguments).arg("--help").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let first = help(&[])?;
    let listed = first.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands = listed.take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    let mut texts = vec![first.clone()];
    for command in commands {
        texts.push(help(&[&command])?);
    }
    let examples = texts
        .iter()
        .flat_map(|text| text.lines().skip_while(|line| !line.starts_with("Example")).skip(1));
    let examples = examples.map(str::trim).filter(|line| line.starts_with("kswitch "));
    Ok(examples.map(str::to_owned).collect())
}

fn examples_work() -> Result<(), Failed> {
    // the only lab of its own /run/kswitch would be chosen; beside those of other tests it is named
    let name = fresh_name();
    let text = format!("{}{MORE}{PROGRAMS}", quickstart(&name));
    let pools = "[cluster]\nload-balancer-pools = [\"203.0.113.0/28\"]\n";
    let lab = Lab::start(&name, &text.replace("[cluster]\n", pools))?;
    let directory = tempfile::tempdir()?;
    let within = |path: &str| directory.path().join(path);
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/config"), within("config"))?;
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"), within("tests"))?;
    std::fs::create_dir_all(within("target/release"))?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kswitch"), within("target/release/kswitch"))?;
    std::fs::write(within("lab.toml"), quickstart(&fresh_name()))?;
    std::fs::write(within("shop.yaml"), POLICY)?;
    // what names no lab means this one
    let program = format!(
        "#!/bin/sh\ncase \"$*\" in *--config*|*--lab*|test*|completions*|man*) exec {0} \"$@\";; esac\n\
         exec {0} --lab {name} \"$@\"\n",
        env!("CARGO_BIN_EXE_kswitch")
    );
    std::fs::create_dir(within("bin"))?;
    std::fs::write(within("bin/kswitch"), program)?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(within("bin/kswitch"), executable)?;
    let path = format!("{}:{}", within("bin").display(), std::env::var("PATH")?);
    let examples = examples()?;
    assert!(examples.len() > 20, "{examples:?}");
    for example in examples {
        // some go on until they are interrupted; cases end by themselves
        let patience = if example.starts_with("kswitch test") { "120" } else { "2" };
        let mut shell = Command::new("timeout");
        shell.args(["--signal=INT", "--kill-after=20", patience, "sh", "-c", &example]);
        let output = shell.current_dir(directory.path()).env("PATH", &path).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_fine = matches!(output.status.code(), Some(0 | 124));
        let wants_a_terminal = said.contains("is no terminal");
        assert!(is_fine || wants_a_terminal, "{example}: {:?}\n{said}", output.status);
        assert!(!said.contains("panicked"), "{example}: {said}");
    }
    drop(lab);
    Ok(())
}

/// What examples name beside those of the quickstart lab.
const PROGRAMS: &str = r#"
[[ingress]]
metadata = { name = "web" }
spec.defaultBackend.service = { name = "frontend", port = { number = 80 } }

[[pod]]
metadata = { name = "worker" }
spec = { nodeName = "node-a", containers = [{ name = "main", command = ["sleep", "1000"] }] }

[[pod]]
metadata = { name = "web-0" }
spec = { nodeName = "node-a" }

[[deployment]]
metadata = { name = "web" }
spec = { selector = { matchLabels = { app = "web" } }, template = { metadata = { labels = { app = "web" } } } }

[[deployment]]
metadata = { name = "web", namespace = "shop" }
spec = { selector = { matchLabels = { app = "web" } }, template = { metadata = { labels = { app = "web" } } } }

[[pod]]
metadata = { name = "web-0", namespace = "shop" }
spec = { nodeName = "node-a", containers = [{ name = "proxy", command = ["sleep", "1000"] }] }
"#;

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: example }
spec: { podSelector: { matchLabels: { app: nobody } } }
";

fn page_shows() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let map: Value = serde_json::from_str(&get(&lab, "/lab.json")?)?;
    let names = |of: &str, pointer: &str| -> Vec<String> {
        let all = map[of].as_array().into_iter().flatten();
        all.filter_map(|item| Some(item.pointer(pointer)?.as_str()?.to_owned())).collect()
    };
    assert_eq!(names("nodes", "/metadata/name"), ["node-a", "node-b"]);
    assert!(names("services", "/metadata/name").contains(&"frontend".to_owned()));
    assert_eq!(names("externals", "/name"), ["ext/internet"]);
    let report: Value = serde_json::from_str(&get(&lab, "/trace?from=client&to=frontend")?)?;
    assert_eq!(report["verdict"], "forward");
    let wrong: Value = serde_json::from_str(&get(&lab, "/trace?from=nobody&to=frontend")?)?;
    assert_eq!(wrong["error"], "no pod nobody in namespace default");
    assert!(get(&lab, "/")?.contains("<title>kswitch</title>"));
    Ok(())
}

/// What the lab's page says, over a socket of this machine's own network.
fn get(lab: &Lab, path: &str) -> Result<String, Failed> {
    let metrics = lab.metrics().ok_or("no metrics address")?;
    fetch(&metrics, path)
}
