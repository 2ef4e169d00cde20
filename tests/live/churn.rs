//! Pods that come and go while they are in use.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;

use super::Test;
use super::lab::{Lab, fetch, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("churn: a rollout under requests loses none", &[], rollout),
    ("churn: pods end in peace, others come for them", &[], endings),
];

/// Pause between requests of one client: four of them make about two hundred a second.
const PAUSE: Duration = Duration::from_millis(20);

fn lab(replicas: u32, grace: u32) -> Result<Lab, Failed> {
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
[[service]]
metadata = {{ name = "web" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "web" }}
spec.ports = [{{ port = 80, targetPort = 8080 }}]
[[deployment]]
metadata = {{ name = "web" }}
[deployment.spec]
replicas = {replicas}
selector.matchLabels = {{ app = "web" }}
template.metadata.labels = {{ app = "web" }}
template.spec.terminationGracePeriodSeconds = {grace}
template.spec.containers = [{{ name = "c", ports = [{{ containerPort = 8080 }}] }}]
"#
    );
    Lab::start(&name, &text)
}

/// The pods behind the Service by name: those that stay, and those that end.
fn pods(lab: &Lab) -> Result<(BTreeSet<String>, BTreeSet<String>), Failed> {
    let (mut stay, mut end) = (BTreeSet::new(), BTreeSet::new());
    for pod in lab.own_pods()? {
        let name = pod["metadata"]["name"].as_str().ok_or("no name")?.to_owned();
        if name.starts_with("web") {
            let ends = !pod["metadata"]["deletionTimestamp"].is_null();
            if ends {
                end.insert(name)
            } else {
                stay.insert(name)
            };
        }
    }
    Ok((stay, end))
}

fn rollout() -> Result<(), Failed> {
    let lab = lab(10, 2)?;
    let (before, _) = pods(&lab)?;
    assert_eq!(before.len(), 10);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = || {
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = fetch("10.8.0.80:80", "/hostname") {
                lost.push(format!("{error:?}"));
            }
            asked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
        lost
    };
    let lost = std::thread::scope(|scope| -> Result<Vec<String>, Failed> {
        let clients: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| lab.inside("default.client", ask).unwrap_or_default()))
            .collect();
        let roll = || -> Result<(), Failed> {
            until("requests are made", || Ok(asked.load(Ordering::Relaxed) > 50))?;
            lab.ask(&["restart", "deployment/web"])?;
            until("the old ones are gone", || Ok(pods(&lab)?.1.is_empty()))?;
            let now = asked.load(Ordering::Relaxed);
            until("more are made", || Ok(asked.load(Ordering::Relaxed) > now + 50))
        };
        let rolled = roll();
        stop.store(true, Ordering::Relaxed);
        let lost = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        rolled.map(|()| lost)
    })?;
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), asked.load(Ordering::Relaxed));
    let (after, _) = pods(&lab)?;
    assert!(after.len() == 10 && after.is_disjoint(&before), "{after:?}");
    Ok(())
}

fn endings() -> Result<(), Failed> {
    let lab = lab(2, 30)?;
    let (before, _) = pods(&lab)?;
    let victim = before.first().ok_or("no pod")?;
    // the last that is left serves while it ends, since nothing else does
    lab.ask(&["scale", "deployment/web", "--replicas", "0"])?;
    assert_eq!(pods(&lab)?, (BTreeSet::new(), before.clone()));
    let who = lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
    assert!(before.contains(&who), "{who}");
    lab.ask(&["scale", "deployment/web", "--replicas", "2"])?;
    let (stay, _) = pods(&lab)?;
    assert!(stay.len() == 2 && stay.is_disjoint(&before), "{stay:?}");
    for _ in 0..8 {
        let who = lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
        assert!(stay.contains(&who), "{who} of {before:?}");
    }
    let one = stay.first().ok_or("no pod")?;
    lab.ask(&["delete", "pod", one, "--grace-period", "0"])?;
    until("it is gone", || Ok(!pods(&lab)?.1.contains(one)))?;
    let (stay, end) = pods(&lab)?;
    assert!(stay.len() == 2 && !stay.contains(one) && end.contains(victim), "{stay:?} {end:?}");
    assert!(lab.ask(&["get", "pods"])?.contains("Terminating"));
    lab.ask(&["drain", "node-a", "--grace-period", "0"])?;
    until("node-a is empty", || {
        let here = |pod: &serde_json::Value| pod["spec"]["nodeName"] == "node-a";
        Ok(!lab.get("pods")?.iter().any(here))
    })?;
    assert_eq!(pods(&lab)?.0.len(), 2);
    lab.ask(&["uncordon", "node-a"])?;
    Ok(())
}
