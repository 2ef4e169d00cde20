//! Nodes that hear of endpoints later than others, and what rolling updates are then.

use libtest_mimic::Failed;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, until};
use super::load::{Outcome, say, under_load};

pub(crate) const TESTS: &[Test] = &[
    ("lags: a node goes by what it last heard, and catches up", &[], apart),
    ("lags: who ends at once loses requests of a node that lags", &["python3"], abrupt),
    ("lags: who waits before it ends loses none", &["python3"], patient),
];

/// Requests a second.
const RATE: u32 = 100;

/// Who ends is gone by the next request.
const SERVER: &str = "
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        text = socket.gethostname().encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words):
        pass
Server(('0.0.0.0', 8080), Handler).serve_forever()
";

fn lab(lag: &str, deployment: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        r#"
[lab]
name = "{name}"
[dns]
enabled = false
[[node]]
name = "node-a"
endpoint-lag = "{lag}"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "other" }}
spec.nodeName = "node-b"
[[service]]
metadata = {{ name = "web" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "web" }}
spec.ports = [{{ port = 80, targetPort = 8080 }}]
[[deployment]]
metadata = {{ name = "web" }}
[deployment.spec]
selector.matchLabels = {{ app = "web" }}
strategy.rollingUpdate = {{ maxSurge = "100%", maxUnavailable = 0 }}
template.metadata.labels = {{ app = "web" }}
{deployment}"#
    );
    Lab::start(&name, &text)
}

/// The ready endpoints, by pod.
fn serving(lab: &Lab) -> Result<Vec<String>, Failed> {
    let slices = lab.get("endpointslices")?;
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let name = |endpoint: &Value| endpoint["targetRef"]["name"].as_str().map(str::to_owned);
    Ok(ready.filter_map(name).collect())
}

fn apart() -> Result<(), Failed> {
    let lab = lab("1h", "replicas = 1\n")?;
    let fetch = |from: &str| lab.fetch(from, "10.8.0.80:80", "/hostname");
    let old = fetch("default.client")?;
    assert_eq!(fetch("default.other")?, old);
    assert!(lab.ask(&["get", "nodes", "-o", "wide"])?.contains(" 1h "));
    let described = lab.ask(&["describe", "node", "node-a"])?;
    assert!(described.contains("Hears of endpoints: 3600s later, of 0 changes yet"), "{described}");
    lab.ask(&["delete", "pod", &old, "--grace-period", "0"])?;
    until("another serves", || Ok(fetch("default.other").is_ok_and(|who| who != old)))?;
    until("the old one is gone", || {
        Ok(lab.own_pods()?.iter().all(|pod| pod["metadata"]["name"] != old))
    })?;
    // its address is nobody's
    assert!(fetch("default.client").is_err());
    let said = lab.ask(&["trace", "--from", "client", "--to", "web"])?;
    assert!(said.contains("as the node last heard"), "{said}");
    let said = lab.ask(&["trace", "--from", "other", "--to", "web"])?;
    assert!(!said.contains("last heard") && said.contains("forward to default/web-"), "{said}");
    lab.ask(&["node", "lag", "node-a", "0s"])?;
    assert_eq!(fetch("default.client")?, fetch("default.other")?);
    // a lag that has passed changes nothing but the time
    lab.ask(&["node", "lag", "node-a", "200ms"])?;
    lab.ask(&["scale", "deployment/web", "--replicas", "0"])?;
    until("it has caught up", || {
        let described = lab.ask(&["describe", "node", "node-a"])?;
        Ok(described.contains("200ms later, of 0 changes yet"))
    })?;
    let said = lab.ask(&["trace", "--from", "client", "--to", "web"])?;
    assert!(!said.contains("last heard"), "{said}");
    let refused = lab.client(&["node", "lag", "node-c", "1s"])?;
    assert_eq!(refused.status.code(), Some(1));
    Ok(())
}

/// Four programs that change over under load, of which `lifecycle` is the way to end.
fn change_over(lifecycle: &str) -> Result<Outcome, Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("server.py");
    std::fs::write(&file, SERVER)?;
    let containers = format!(
        r#"replicas = 4
[[deployment.spec.template.spec.containers]]
name = "c"
command = ["python3", "{}"]
readinessProbe = {{ tcpSocket = {{ port = 8080 }}, periodSeconds = 1, timeoutSeconds = 10 }}
{lifecycle}
"#,
        file.display()
    );
    let lab = lab("1s", &containers)?;
    until("all serve", || Ok(serving(&lab)?.len() == 4))?;
    // the client's node has to hear of that, too
    until("it has caught up", || {
        Ok(lab.ask(&["describe", "node", "node-a"])?.contains("of 0 changes yet"))
    })?;
    let before = serving(&lab)?;
    let outcome = under_load(&lab, ("10.8.0.80:80", "/"), RATE, || {
        lab.ask(&["restart", "deployment/web"])?;
        until("all are new", || {
            let now = serving(&lab)?;
            Ok(now.len() == 4 && now.iter().all(|name| !before.contains(name)))
        })?;
        until("the old ones are gone", || {
            Ok(lab.own_pods()?.len() == 6
                && lab.ask(&["describe", "node", "node-a"])?.contains("of 0 changes yet"))
        })
    })?;
    say(&format!("{} requests, {:.0}/s, {} lost", outcome.asked, outcome.rate, outcome.lost.len()));
    Ok(outcome)
}

fn abrupt() -> Result<(), Failed> {
    let Outcome { asked, lost, .. } = change_over("")?;
    assert!(!lost.is_empty(), "they were gone before the node knew");
    assert!(lost.len() < asked / 2, "{} of {asked}, the first {:?}", lost.len(), lost[0]);
    Ok(())
}

fn patient() -> Result<(), Failed> {
    let Outcome { asked, lost, .. } = change_over("lifecycle.preStop.sleep.seconds = 3")?;
    assert!(lost.is_empty(), "{} of {asked}, the first {:?}", lost.len(), lost.first());
    Ok(())
}
