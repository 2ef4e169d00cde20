//! Every kind of object, by every way to see it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use kswitch::control::request::Kind;
use libtest_mimic::Failed;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, quickstart, until};

pub(crate) const TESTS: &[Test] =
    &[("kinds: all are listed, described and watched in Kubernetes' form", &[], all)];

/// One at least of what the quickstart lab has none of.
const MORE: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: some}
spec:
  replicas: 0
  selector: {matchLabels: {app: some}}
  template: {metadata: {labels: {app: some}}, spec: {containers: [{name: c}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 0
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template: {metadata: {labels: {app: each}}, spec: {containers: [{name: c}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: nobody}}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 0
  subject: {namespaces: {matchLabels: {team: nobody}}}
  egress: [{name: none, action: Deny, to: [{networks: [192.0.2.0/24]}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, annotations: {networking.gke.io/managed-certificates: web}}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.gke.io/v1
kind: ManagedCertificate
metadata: {name: web}
spec: {domains: [web.example]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: own}
spec: {controllerName: kswitch.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: kswitch
  listeners:
  - {name: http, protocol: HTTP, port: 80}
  - {name: tls, protocol: TLS, port: 8443, tls: {mode: Passthrough}}
  - {name: tcp, protocol: TCP, port: 9000}
  - {name: udp, protocol: UDP, port: 9000}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more}
spec:
  parentRef: {name: edge}
  listeners: [{name: more, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: http}
spec: {parentRefs: [{name: edge, sectionName: http}], hostnames: [http.example], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec: {parentRefs: [{name: edge, sectionName: http}], hostnames: [grpc.example], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: tls}
spec: {parentRefs: [{name: edge, sectionName: tls}], hostnames: [tls.example], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: tcp}
spec: {parentRefs: [{name: edge, sectionName: tcp}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: udp}
spec: {parentRefs: [{name: edge, sectionName: udp}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: '', kind: Service, name: other}]
  validation: {hostname: web.example, wellKnownCACertificates: System}
";

/// The quickstart lab with all of it, and a neighbour outside that nobody wrote down.
fn lab() -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = quickstart(&name)
        .replace("[cluster]\n", "[cluster]\nload-balancer-pools = [\"203.0.113.0/24\"]\n");
    assert!(text.contains("load-balancer-pools"), "the lab is written another way");
    let lab = Lab::start(&name, &text)?;
    let file = lab.config.with_file_name("more.yaml");
    std::fs::write(&file, MORE)?;
    lab.ask(&["apply", "-f", &file.display().to_string()])?;
    // whoever is not there is asked for, and listed so
    let socket = lab.inside("default.client", || std::net::UdpSocket::bind("0.0.0.0:0"))??;
    socket.send_to(b"x", "198.51.100.99:9")?;
    Ok(lab)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The first line that a watch says.
fn watched(lab: &Lab, plural: &str, format: &[&str]) -> Result<String, Failed> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kswitch"))
        .args(["--lab", lab.name(), "get", plural, "--watch"])
        .args(format)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let mut line = String::new();
    let read = said.read_line(&mut line);
    child.kill()?;
    child.wait()?;
    read?;
    Ok(line)
}

fn all() -> Result<(), Failed> {
    let lab = lab()?;
    until("a neighbour is asked for", || Ok(!lab.get("neighbours")?.is_empty()))?;
    until("health is seen", || Ok(!lab.get("healthchecks")?.is_empty()))?;
    for kind in Kind::ALL {
        let plural = kind.plural();
        let ask = |arguments: &[&str]| lab.ask(&[&["get", plural], arguments].concat());
        let items = lab.get(plural)?;
        let first = items.first().ok_or_else(|| format!("no {plural}"))?;
        for item in &items {
            for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
                assert!(!text(item, pointer).is_empty(), "{plural}: no {pointer} in {item}");
            }
        }
        // what is listed in one form is listed in the other
        let yaml = ask(&["-o", "yaml"])?;
        let name = text(first, "/metadata/name");
        assert!(yaml.starts_with("apiVersion: v1\nkind: List\nitems:\n"), "{plural}: {yaml}");
        let kinds = yaml.lines().filter(|line| line.trim_start().starts_with("kind: ")).count();
        assert!(kinds > items.len() && yaml.contains(name), "{plural}: {yaml}");
        let (usual, wide) = (ask(&[])?, ask(&["-o", "wide"])?);
        // one certificate is a text and no row
        if kind != Kind::Authorities {
            assert_eq!(usual.lines().count(), items.len() + 1, "{plural}: {usual}");
            assert!(wide.lines().count() == items.len() + 1, "{plural}: {wide}");
            assert!(wide.len() >= usual.len(), "{plural}");
        }
        let full = match (text(first, "/metadata/namespace"), kind.is_namespaced()) {
            (namespace, true) if !namespace.is_empty() => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        };
        let named: Value = serde_json::from_str(&ask(&[&full, "-o", "json"])?)?;
        let found = named["items"].as_array().map_or(1, Vec::len);
        assert!(found >= 1 && named.to_string().contains(name), "{plural} {full}: {named}");
        let described = lab.ask(&["describe", plural, &full])?;
        assert!(described.contains(name), "{plural} {full}: {described}");
        let line = watched(&lab, plural, &["-o", "json"])?;
        let object: Value = serde_json::from_str(&line)?;
        assert!(!text(&object, "/kind").is_empty(), "{plural}: {line}");
        assert!(watched(&lab, plural, &["-o", "yaml"])?.starts_with("---"), "{plural}");
        let heading = watched(&lab, plural, &["-o", "wide"])?;
        assert_eq!(heading, heading.to_uppercase(), "{plural}");
        for command in ["get", "describe"] {
            let output = lab.client(&[command, plural, "nobody"])?;
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            assert_eq!((code, said.lines().count()), (Some(1), 1), "{command} {plural}: {said}");
        }
    }
    Ok(())
}
