//! Nodes that lose their power and get it back, come and go.

use libtest_mimic::Failed;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("power: a node falls silent, is noticed, is left by its pods, and comes back", &[], silence),
    ("power: nodes come and go while the lab runs", &[], nodes),
];

fn lab() -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        r#"
[lab]
name = "{name}"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "node-a"
[[pod]]
metadata = {{ name = "program" }}
[pod.spec]
nodeName = "node-b"
tolerations = [{{ key = "node.kubernetes.io/unreachable", operator = "Exists" }}]
containers = [{{ name = "c", command = ["sleep", "1000"] }}]
[[service]]
metadata = {{ name = "web" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "web" }}
spec.ports = [
    {{ name = "http", port = 80, targetPort = 8080 }},
    {{ name = "udp", port = 53, targetPort = 8080, protocol = "UDP" }},
]
[[deployment]]
metadata = {{ name = "web" }}
[deployment.spec]
replicas = 2
selector.matchLabels = {{ app = "web" }}
template.metadata.labels = {{ app = "web" }}
[[deployment.spec.template.spec.containers]]
name = "c"
ports = [{{ containerPort = 8080 }}, {{ containerPort = 8080, protocol = "UDP" }}]
"#
    );
    Lab::start(&name, &text)
}

fn named(objects: Vec<Value>, name: &str) -> Result<Value, Failed> {
    let found = objects.into_iter().find(|object| object["metadata"]["name"] == name);
    found.ok_or_else(|| format!("no {name}").into())
}

/// A condition `Ready`, as it is written.
fn ready(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready.and_then(|it| it["status"].as_str()).unwrap_or_default().to_owned()
}

/// The pods of the Deployment: their name, node, and whether they end.
fn web(lab: &Lab) -> Result<Vec<(String, String, bool)>, Failed> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = lab.own_pods()?.into_iter().map(|pod| {
        let ends = !pod["metadata"]["deletionTimestamp"].is_null();
        (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]), ends)
    });
    Ok(pods.filter(|(name, ..)| name.starts_with("web")).collect())
}

/// How many of so many requests are answered.
fn answered(lab: &Lab, requests: usize) -> Result<usize, Failed> {
    lab.inside("default.client", || {
        // all at once, so that a patient deadline costs but once
        std::thread::scope(|scope| {
            let ask = |_| scope.spawn(|| exchange_soon("10.8.0.80:53"));
            let asked: Vec<_> = (0..requests).map(ask).collect();
            asked.into_iter().filter_map(|asked| asked.join().ok()).filter(|is| *is).count()
        })
    })
}

/// Whether a datagram is answered at once.
fn exchange_soon(target: &str) -> bool {
    let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0") else { return false };
    let soon = std::time::Duration::from_secs(2);
    socket.set_read_timeout(Some(soon)).is_ok()
        && socket.connect(target).is_ok()
        && socket.send(b"who").is_ok()
        && socket.recv(&mut [0; 512]).is_ok()
}

fn silence() -> Result<(), Failed> {
    let lab = lab()?;
    let before = web(&lab)?;
    let (old, _, _) = before.iter().find(|(_, node, _)| node == "node-b").ok_or("not spread")?;
    until("the program runs", || Ok(ready(&named(lab.own_pods()?, "program")?) == "True"))?;
    assert_eq!(answered(&lab, 20)?, 20);
    let said = lab.ask(&["node", "down", "node-b", "--grace-period", "3", "--toleration", "2"])?;
    assert!(said.contains("node/node-b down"), "{said}");
    // nobody has noticed yet, and half of all is lost
    let some = answered(&lab, 20)?;
    assert!((1..20).contains(&some), "{some} of 20 answered");
    assert_eq!(ready(&named(lab.get("nodes")?, "node-b")?), "True");
    assert_eq!(ready(&named(lab.own_pods()?, old)?), "True");
    let trace = lab.ask(&["trace", "--from", "client", "--to", old, "-o", "json"])?;
    assert!(trace.contains("node_down"), "{trace}");

    until("it is noticed", || Ok(ready(&named(lab.get("nodes")?, "node-b")?) == "Unknown"))?;
    assert!(lab.ask(&["get", "nodes"])?.contains("NotReady"));
    for pod in [old.as_str(), "program"] {
        assert_eq!(ready(&named(lab.own_pods()?, pod)?), "False", "{pod}");
    }
    let slices = lab.get("endpointslices")?;
    let endpoints: Vec<_> = slices
        .iter()
        .filter_map(|slice| slice["endpoints"].as_array().cloned())
        .flatten()
        .collect();
    let gone = endpoints.iter().find(|it| it["targetRef"]["name"] == **old).ok_or("no endpoint")?;
    assert_eq!(
        (&gone["conditions"]["ready"], &gone["conditions"]["serving"]),
        (&false.into(), &false.into())
    );
    assert_eq!(answered(&lab, 20)?, 20);

    until("another came for the pod", || {
        let pods = web(&lab)?;
        let stay: Vec<_> = pods.iter().filter(|(.., ends)| !ends).collect();
        let ends = pods.iter().any(|(name, _, ends)| name == old && *ends);
        Ok(ends && stay.len() == 2 && stay.iter().all(|(_, node, _)| node == "node-a"))
    })?;
    // who tolerates it stays, and who ends cannot say so
    assert!(named(lab.own_pods()?, "program")?["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(web(&lab)?.len(), 3);

    assert!(lab.ask(&["node", "up", "node-b"])?.contains("node/node-b up"));
    assert_eq!(ready(&named(lab.get("nodes")?, "node-b")?), "True");
    until("the pod is gone", || Ok(web(&lab)?.len() == 2))?;
    until("the program runs again", || Ok(ready(&named(lab.own_pods()?, "program")?) == "True"))?;
    assert_eq!(answered(&lab, 20)?, 20);
    assert!(lab.ask(&["node", "up", "node-b"])?.contains("already"));
    assert!(!lab.client(&["node", "down", "node-z"])?.status.success());
    Ok(())
}

fn nodes() -> Result<(), Failed> {
    let lab = lab()?;
    lab.ask(&["node", "add", "node-c", "--zone", "zone-3"])?;
    let node = named(lab.get("nodes")?, "node-c")?;
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "zone-3");
    lab.ask(&["scale", "deployment/web", "--replicas", "4"])?;
    let pods = web(&lab)?;
    let (there, ..) = pods.iter().find(|(_, node, _)| node == "node-c").ok_or("none on node-c")?;
    let address = lab.pod_ip(there, true)?;
    let who = lab.fetch("default.client", &format!("{address}:8080"), "/hostname")?;
    assert_eq!(who, *there);

    lab.ask(&["node", "remove", "node-c"])?;
    assert_eq!(lab.get("nodes")?.len(), 2);
    let after = web(&lab)?;
    assert!(after.len() == 4 && after.iter().all(|(name, ..)| name != there), "{after:?}");
    assert!(!lab.leftovers().iter().any(|path| path.contains("node-c")));
    assert_eq!(answered(&lab, 20)?, 20);

    // by the file, too
    let text = std::fs::read_to_string(&lab.config)?;
    std::fs::write(&lab.config, format!("{text}[[node]]\nname = \"node-d\"\n"))?;
    lab.ask(&["reload"])?;
    assert_eq!(lab.get("nodes")?.len(), 3);
    lab.ask(&["scale", "deployment/web", "--replicas", "6"])?;
    assert!(web(&lab)?.iter().any(|(_, node, _)| node == "node-d"));
    std::fs::write(&lab.config, text)?;
    lab.ask(&["reload"])?;
    assert_eq!(lab.get("nodes")?.len(), 2);
    assert_eq!(answered(&lab, 20)?, 20);
    Ok(())
}
