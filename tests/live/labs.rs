//! The labs that come with kswitch, with the manifests of their kind unchanged.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fetch, fresh_name};

pub(crate) const TESTS: &[Test] = &[
    ("the bookshop lets through just the calls of its policies", &[], bookshop),
    ("the guestbook's visitors and followers are served", &[], guestbook),
];

/// A lab of `config/labs` under another name.
pub(crate) fn shipped(lab: &str) -> Result<Lab, Failed> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/labs");
    let text = std::fs::read_to_string(directory.join(format!("{lab}.toml")))?;
    let name = fresh_name();
    let manifests = directory.join(lab);
    let text = text
        .replace(&format!("name = \"{lab}\""), &format!("name = \"{name}\""))
        .replace(&format!("\"{lab}/"), &format!("\"{}/", manifests.display()));
    Lab::start(&name, &text)
}

/// The namespaces, within the lab, of the pods that are labelled so.
fn pods(lab: &Lab, namespace: &str, label: (&str, &str)) -> Result<Vec<String>, Failed> {
    let list: Value =
        serde_json::from_str(&lab.ask(&["get", "pods", "-n", namespace, "-o", "json"])?)?;
    let pods = list["items"].as_array().ok_or("no list")?.iter();
    Ok(pods
        .filter(|pod| pod["metadata"]["labels"][label.0] == label.1)
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .map(|name| format!("{namespace}.{name}"))
        .collect())
}

/// The addresses of a Service, cluster IPs first, then the load balancer's.
fn addresses(lab: &Lab, namespace: &str, service: &str) -> Result<Vec<String>, Failed> {
    let object = lab.ask(&["get", "services", service, "-n", namespace, "-o", "json"])?;
    let object: Value = serde_json::from_str(&object)?;
    let assigned = object["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let ingress = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let addresses = assigned.chain(ingress.map(|ingress| &ingress["ip"])).filter_map(Value::as_str);
    let bracketed = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Ok(addresses.map(bracketed).collect())
}

fn bookshop() -> Result<(), Failed> {
    let lab = shipped("bookshop")?;
    let web = pods(&lab, "bookshop", ("app", "web"))?;
    let served = addresses(&lab, "bookshop", "web-external")?;
    assert_eq!(served.len(), 4, "{served:?}");
    for balancer in &served[2..] {
        let mut answered = BTreeSet::new();
        for _ in 0..60 {
            answered.insert(lab.fetch("ext.visitor", &format!("{balancer}:80"), "/hostname")?);
        }
        assert_eq!(answered.len(), web.len(), "{balancer}: {answered:?}");
    }
    // who may call whom, as the policies have it
    let callers = [&web[0], &pods(&lab, "bookshop", ("app", "checkout"))?[0]];
    for (service, port, allowed) in [
        ("basket", 7070, [true, true]),
        ("advice", 8080, [true, false]),
        ("mail", 8080, [false, true]),
    ] {
        for address in addresses(&lab, "bookshop", service)? {
            for (caller, allowed) in callers.iter().zip(allowed) {
                let target = format!("{address}:{port}");
                let answer = lab.inside(caller, || fetch(&target, "/hostname"))?;
                match answer {
                    Ok(name) if allowed => assert!(name.starts_with(service), "{name}"),
                    Ok(name) => return Err(format!("{caller} got through to {name}").into()),
                    Err(error) if allowed => {
                        return Err(format!("{caller} to {target}: {error:?}").into());
                    }
                    Err(_) => {}
                }
            }
        }
    }
    Ok(())
}

fn guestbook() -> Result<(), Failed> {
    let lab = shipped("guestbook")?;
    let frontend = pods(&lab, "default", ("tier", "frontend"))?;
    let balancer = format!("{}:80", addresses(&lab, "default", "frontend")?[1]);
    // Local traffic policy: the pod sees the visitor itself
    let seen = lab.fetch("ext.visitor", &balancer, "/clientip")?;
    assert!(seen.starts_with("198.51.100.7:"), "{seen}");
    let follower = addresses(&lab, "default", "redis-follower")?.remove(0);
    for pod in &frontend {
        let name = || lab.fetch(pod, &format!("{follower}:6379"), "/hostname");
        let first = name()?;
        assert!(first.starts_with("redis-follower-"), "{first}");
        for _ in 0..5 {
            assert_eq!(name()?, first, "the client sticks to its follower");
        }
    }
    Ok(())
}
