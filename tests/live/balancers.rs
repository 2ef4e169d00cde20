//! Ingresses and Gateways, asked by curl from the outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, fetch, fresh_name, until};
use crate::labs::shipped;

pub(crate) const TESTS: &[Test] = &[
    ("an ingress and a gateway serve two names in tls", &["curl"], two_names),
    ("a gateway follows its routes while it serves", &["curl"], follows),
    ("a backend that falls ill is passed over", &["curl"], ill),
    ("policies that shut checks out make backends ill", &[], shut_out),
];

/// The address of an Ingress or a Gateway.
fn address(lab: &Lab, kind: &str, name: &str) -> Result<String, Failed> {
    let object: Value = serde_json::from_str(&lab.ask(&["get", kind, name, "-o", "json"])?)?;
    let status = &object["status"];
    let address = match kind {
        "ingress" => &status["loadBalancer"]["ingress"][0]["ip"],
        _ => &status["addresses"][0]["value"],
    };
    Ok(address.as_str().ok_or(format!("{kind} {name} has no address: {status}"))?.to_owned())
}

/// The certificate of a Secret of the lab, for curl to trust.
fn certificate(directory: &Path, name: &str) -> Result<String, Failed> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/labs/ingress/secrets.yaml");
    let text = std::fs::read_to_string(manifest)?;
    let part = text.split("\n---\n").find(|part| part.contains(&format!("name: {name}-tls")));
    let part = part.ok_or("no such secret")?;
    let mut pem = String::new();
    let mut is_inside = false;
    for line in part.lines().map(str::trim) {
        is_inside |= line.starts_with("-----BEGIN CERTIFICATE");
        if is_inside {
            pem.push_str(line);
            pem.push('\n');
        }
        is_inside &= !line.starts_with("-----END CERTIFICATE");
    }
    let path = directory.join(format!("{name}.pem"));
    std::fs::write(&path, pem)?;
    Ok(path.display().to_string())
}

/// What curl says from the host outside; it must succeed.
fn curl(lab: &Lab, arguments: &[&str]) -> Result<String, Failed> {
    let run = || Command::new("curl").args(["-sS", "--max-time", "10"]).args(arguments).output();
    let output = lab.inside("ext.internet", run)??;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("curl {arguments:?}: {complaint}").into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn two_names() -> Result<(), Failed> {
    let lab = shipped("ingress")?;
    let directory = tempfile::tempdir()?;
    for (kind, name) in [("ingress", "web"), ("gateway", "edge")] {
        let at = address(&lab, kind, name)?;
        for (host, pods) in [("shop", &["shop-1", "shop-2", "next"][..]), ("api", &["api"])] {
            let trusted = certificate(directory.path(), host)?;
            let resolve = format!("{host}.example:443:{at}");
            let url = format!("https://{host}.example/hostname");
            for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
                let told = curl(
                    &lab,
                    &[
                        flag,
                        "--cacert",
                        &trusted,
                        "--resolve",
                        &resolve,
                        "-w",
                        " %{http_version} %{http_code}",
                        &url,
                    ],
                )?;
                let words: Vec<_> = told.split_whitespace().collect();
                assert_eq!(words[1..], [version, "200"], "{kind} {host}: {told}");
                assert!(pods.contains(&words[0]), "{kind} {host}: {told}");
            }
        }
        // without TLS, and HTTP/2 without being asked for it
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            let url = format!("http://{at}/hostname");
            let told = curl(&lab, &[flag, "-H", "Host: shop.example", &url])?;
            assert!(["shop-1", "shop-2", "next"].contains(&told.trim()), "{told}");
        }
    }
    // what the backend sees, and that the outside reaches no pod by itself
    let at = address(&lab, "gateway", "edge")?;
    let url = format!("http://{at}/api/seen");
    let told: Value = serde_json::from_str(&curl(&lab, &["-H", "Host: shop.example", &url])?)?;
    assert_eq!(told["path"], "/seen", "{told}");
    assert_eq!(told["headers"]["x-forwarded-for"], format!("198.51.100.7,{at}"), "{told}");
    let pod = lab.pod_ip("shop-1", true)?;
    assert!(lab.inside("ext.internet", || fetch(&format!("{pod}:8080"), "/hostname"))?.is_err());
    let chain = lab.ask(&["describe", "ingress", "web"])?;
    for word in ["TargetHttpsProxy", "backend service default/shop-80", "default/shop-1 on node-a"]
    {
        assert!(chain.contains(word), "no {word} in\n{chain}");
    }
    Ok(())
}

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: shop-next, port: 80}]}]
";

fn follows() -> Result<(), Failed> {
    let lab = shipped("ingress")?;
    let at = address(&lab, "gateway", "edge")?;
    let url = format!("http://{at}/hostname");
    let ask = || curl(&lab, &["-H", "Host: shop.example", &url]);
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(ask()?);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("route.yaml");
    std::fs::write(&file, ROUTE)?;
    lab.ask(&["apply", "-f", &file.display().to_string()])?;
    for _ in 0..10 {
        assert_eq!(ask()?.trim(), "next");
    }
    lab.ask(&["delete", "-f", &file.display().to_string()])?;
    let status =
        curl(&lab, &["-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: shop.example", &url])?;
    assert_eq!(status, "404");
    assert_eq!(address(&lab, "gateway", "edge")?, at, "the address stays");
    Ok(())
}

const PROBED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: shop-2, labels: {app: shop}}
spec:
  nodeName: node-b
  containers:
    - name: shop
      ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: shop-1, labels: {app: shop}}
spec:
  nodeName: node-a
  containers:
    - name: shop
      ports: [{containerPort: 8080}]
      readinessProbe: {httpGet: {path: /exit, port: 8080}, periodSeconds: 1, timeoutSeconds: 1}
";

/// How long a health check with a period of a second may take to notice.
const NOTICED: Duration = Duration::from_secs(30);

fn ill() -> Result<(), Failed> {
    let lab = shipped("ingress")?;
    let at = address(&lab, "ingress", "web")?;
    let url = format!("http://{at}/hostname");
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pods.yaml");
    std::fs::write(&file, PROBED)?;
    // the probe's path is the check's, and nobody answers it with 200: none is healthy
    lab.ask(&["apply", "-f", &file.display().to_string()])?;
    let end = Instant::now() + NOTICED;
    loop {
        let code = curl(&lab, &["-o", "/dev/null", "-w", "%{http_code}", &url])?;
        if code == "503" {
            break;
        }
        assert!(Instant::now() < end, "still {code}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let backends = lab.get("backendservices")?;
    let shop = backends.iter().find(|at| at["service"] == "shop").ok_or("no backend service")?;
    let health: Vec<_> = shop["backends"].as_array().into_iter().flatten().collect();
    assert!(health.iter().all(|place| place["health"] == "UNHEALTHY"), "{shop}");
    Ok(())
}

/// Two policies: nobody may ask, and whoever checks backends may.
const SHUT: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
";
const OPEN: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: checks}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{ipBlock: {cidr: 35.191.0.0/16}}, {ipBlock: {cidr: 130.211.0.0/22}}]}]
";

fn shut_out() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(
        &name,
        &format!(
            r#"
[lab]
name = "{name}"
[cluster]
load-balancer-pools = ["203.0.113.0/28"]
[[node]]
name = "node-a"
[[external]]
name = "client"
address = "198.51.100.7/24"
[[pod]]
metadata = {{ name = "web", labels = {{ app = "web" }} }}
[[service]]
metadata = {{ name = "web", annotations = {{ "cloud.google.com/backend-config" = '{{"default": "web"}}' }} }}
spec = {{ selector = {{ app = "web" }}, ports = [{{ port = 80, targetPort = 8080 }}] }}
[[backend-config]]
metadata = {{ name = "web" }}
spec.healthCheck = {{ checkIntervalSec = 1, timeoutSec = 1, healthyThreshold = 1, unhealthyThreshold = 2, requestPath = "/healthz", type = "HTTP" }}
[[ingress]]
metadata = {{ name = "front", annotations = {{ "kubernetes.io/ingress.global-static-ip-name" = "203.0.113.9" }} }}
spec.defaultBackend.service = {{ name = "web", port = {{ number = 80 }} }}
"#
        ),
    )?;
    let is = |wanted: &str| -> Result<bool, Failed> {
        let backends = lab.get("backendservices")?;
        Ok(backends.iter().any(|at| at["backends"][0]["health"] == wanted))
    };
    let ask = || lab.fetch("ext.client", "203.0.113.9:80", "/hostname");
    let apply = |text: &str| -> Result<(), Failed> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("policy.yaml");
        std::fs::write(&path, text)?;
        lab.ask(&["apply", "-f", &path.display().to_string()])?;
        Ok(())
    };
    until("it is healthy", || is("HEALTHY"))?;
    until("it serves", || Ok(ask().is_ok()))?;
    apply(SHUT)?;
    until("no check gets through", || is("UNHEALTHY"))?;
    let refused = ask().err().map(|error| format!("{error:?}")).ok_or("it serves")?;
    assert!(refused.contains("503"), "{refused}");
    // requests come from where checks do
    apply(OPEN)?;
    until("checks get through", || is("HEALTHY"))?;
    until("it serves again", || Ok(ask().is_ok()))?;
    Ok(())
}
