//! Workloads that change over, and programs that are killed, while they are in use.

use std::collections::BTreeSet;
use std::time::Instant;

use kswitch::lab::process;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, until};
use super::load::{Outcome, say, under_load};

pub(crate) const TESTS: &[Test] = &[
    ("rollouts: ten programs change over under 200 requests/s and lose none", &["python3"], paced),
    ("rollouts: who is killed loses only what was in flight", &["python3"], killed),
    ("rollouts: members keep their names and change over in order", &[], members),
];

/// Requests a second.
const RATE: u32 = 200;

/// A server that takes its time for an answer, and ends in peace: what has come is answered.
const SERVER: &str = r#"
import http.server, signal, socket, threading, time
class Server(http.server.ThreadingHTTPServer):
    request_queue_size, daemon_threads, block_on_close = 128, False, True
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path != "/ready":
            time.sleep(0.03)
        text = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words):
        pass
server = Server(("0.0.0.0", 8080), Handler)
def end(*_):
    threading.Thread(target=lambda: (time.sleep(0.5), server.shutdown())).start()
signal.signal(signal.SIGTERM, end)
server.serve_forever()
server.server_close()
"#;

/// Ten programs behind a Service, and a client.
fn programs(directory: &std::path::Path) -> Result<Lab, Failed> {
    let (name, file) = (fresh_name(), directory.join("server.py"));
    std::fs::write(&file, SERVER)?;
    let text = format!(
        r#"
[lab]
name = "{name}"
[dns]
enabled = false
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
[[service]]
metadata = {{ name = "web" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "web" }}
spec.ports = [{{ port = 80, targetPort = 8080 }}]
[[deployment]]
metadata = {{ name = "web" }}
[deployment.spec]
replicas = 10
selector.matchLabels = {{ app = "web" }}
strategy.rollingUpdate = {{ maxSurge = 3, maxUnavailable = 2 }}
template.metadata.labels = {{ app = "web" }}
[[deployment.spec.template.spec.containers]]
name = "c"
command = ["python3", "{}"]
readinessProbe = {{ httpGet = {{ path = "/ready", port = 8080 }}, periodSeconds = 1, timeoutSeconds = 10 }}
"#,
        file.display()
    );
    let lab = Lab::start(&name, &text)?;
    until("all serve", || Ok(serving(&lab)?.len() == 10))?;
    Ok(lab)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The pods that the Service leads to, by name.
fn serving(lab: &Lab) -> Result<BTreeSet<String>, Failed> {
    let slices = lab.get("endpointslices")?;
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let own = endpoints.filter(|endpoint| endpoint["targetRef"]["namespace"] == "default");
    let ready = own.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    Ok(ready.map(|endpoint| text(&endpoint["targetRef"]["name"])).collect())
}

/// The pods of a workload by name, and whether they end.
fn pods(lab: &Lab, workload: &str) -> Result<Vec<(String, bool)>, Failed> {
    let all = lab.own_pods()?;
    let own = all.iter().map(|pod| {
        (text(&pod["metadata"]["name"]), !pod["metadata"]["deletionTimestamp"].is_null())
    });
    Ok(own.filter(|(name, _)| name.starts_with(workload)).collect())
}

fn paced() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let lab = programs(directory.path())?;
    let before = serving(&lab)?;
    let (mut most, mut least) = (0, 10);
    let Outcome { asked, rate, lost } = under_load(&lab, ("10.8.0.80:80", "/"), RATE, || {
        lab.ask(&["restart", "deployment/web"])?;
        until("all are new", || {
            let stay = pods(&lab, "web")?.into_iter().filter(|(_, ends)| !ends).count();
            let ready = serving(&lab)?;
            (most, least) = (most.max(stay), least.min(ready.len()));
            Ok(stay == 10 && ready.len() == 10 && ready.is_disjoint(&before))
        })?;
        until("the old ones are gone", || Ok(pods(&lab, "web")?.len() == 10))
    })?;
    let told =
        format!("{asked} requests, {rate:.0}/s, {} lost; {least} to {most} pods", lost.len());
    say(&told);
    assert!(lost.is_empty(), "{} of {asked} at {rate:.0}/s: {lost:?}", lost.len());
    assert!(most <= 13 && least >= 8, "{least} to {most} pods");
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let lab = programs(directory.path())?;
    let victim = serving(&lab)?.into_iter().next().ok_or("no pod")?;
    let namespace = format!("{}.default.{victim}", lab.name);
    let (mut at, mut noticed) = (None, None);
    let Outcome { asked, rate, lost } = under_load(&lab, ("10.8.0.80:80", "/"), RATE, || {
        let pids = process::processes_in(&namespace)?;
        assert!(!pids.is_empty());
        at = Some(Instant::now());
        for pid in pids {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
        }
        until("that is noticed", || Ok(!serving(&lab)?.contains(&victim)))?;
        noticed = Some(Instant::now());
        until("it serves again", || Ok(serving(&lab)?.contains(&victim)))
    })?;
    let (at, noticed) = (at.ok_or("not killed")?, noticed.ok_or("not noticed")?);
    let time = noticed.duration_since(at);
    say(&format!("{asked} requests, {rate:.0}/s, {} lost; noticed within {time:?}", lost.len()));
    // who asked after it was noticed was served by others, and by itself once it was back
    let later: Vec<_> = lost.iter().filter(|(start, _)| *start > noticed).collect();
    assert!(later.is_empty(), "{later:?}");
    let ended =
        |why: &str| why.contains("reset") || why.contains("refused") || why.contains("no body");
    assert!(lost.iter().all(|(_, why)| ended(why)), "{lost:?}");
    Ok(())
}

fn members() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(
        &name,
        &format!(
            r#"
[lab]
name = "{name}"
[[node]]
name = "node-a"
[[pod]]
metadata = {{ name = "client" }}
[[service]]
metadata = {{ name = "db" }}
spec.clusterIP = "None"
spec.selector = {{ app = "db" }}
spec.ports = [{{ port = 80 }}]
[[stateful-set]]
metadata = {{ name = "db" }}
[stateful-set.spec]
replicas = 3
serviceName = "db"
minReadySeconds = 1
selector.matchLabels = {{ app = "db" }}
template.metadata.labels = {{ app = "db" }}
template.spec.containers = [{{ name = "c", command = ["sh", "-c", "sleep 0.2; touch /tmp/{name}-$HOSTNAME; trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done"], readinessProbe = {{ exec = {{ command = ["sh", "-c", "test -e /tmp/{name}-$HOSTNAME"] }}, periodSeconds = 1 }} }}]
"#
        ),
    )?;
    let names = || -> Result<Vec<String>, Failed> {
        Ok(pods(&lab, "db")?.into_iter().map(|(name, _)| name).collect())
    };
    assert_eq!(names()?, ["db-0"], "the others wait for the first");
    until("all have come", || Ok(names()?.len() == 3))?;
    until("all are ready", || Ok(serving(&lab)?.len() == 3))?;
    let old = lab.pod_ip("db-2", true)?;
    lab.ask(&["restart", "statefulset/db"])?;
    let mut order = Vec::new();
    until("all have changed over", || {
        for (name, ends) in pods(&lab, "db")? {
            if ends && !order.contains(&name) {
                order.push(name);
            }
        }
        let annotated = lab
            .own_pods()?
            .iter()
            .filter(|pod| {
                !pod["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_null()
            })
            .count();
        Ok(annotated == 3 && serving(&lab)?.len() == 3)
    })?;
    assert_eq!(order, ["db-2", "db-1", "db-0"]);
    assert_ne!(lab.pod_ip("db-2", true)?, old, "a new pod has a new address");
    lab.ask(&["scale", "statefulset/db", "--replicas", "1"])?;
    until("the others are gone", || Ok(names()? == ["db-0"]))?;
    for ordinal in 0..3 {
        let _ = std::fs::remove_file(format!("/tmp/{name}-db-{ordinal}"));
    }
    Ok(())
}
