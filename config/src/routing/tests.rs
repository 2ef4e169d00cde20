//! Objects to rules, and rules to requests.

mod calls;
mod policies;
mod services;
mod standard;

use std::borrow::Cow;
use std::sync::Arc;

use super::{Headers, Request, Routing, Serve, Socket, SocketKind, TargetBackend, route};
use crate::{Cluster, Draft, Observed, Settings};

const BASE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-a}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {nodeName: node-a, containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
";

fn draft() -> Draft {
    let mut settings = Settings::default();
    settings.cluster.load_balancer_pools = vec!["203.0.113.0/28".parse().unwrap()];
    Draft::new(settings)
}

fn cluster(manifest: &str) -> Cluster {
    let mut draft = draft();
    draft.apply_text("a.yaml", &format!("{BASE}{manifest}")).unwrap();
    draft.validate(None).unwrap()
}

fn routed(manifest: &str) -> Routing {
    route(&cluster(manifest), &Observed::default())
}

struct Nothing;

impl Headers for Nothing {
    fn value(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// The rule for a request, by its name.
fn rule(socket: &Socket, host: &str, path: &str) -> Option<String> {
    let Serve::Http(table) = &socket.listener(host)?.serve else { return None };
    let request = Request { host, method: "GET", path, query: None, headers: &Nothing };
    table.find(&request).map(|found| found.rule.name.clone())
}

fn reasons(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
) -> Vec<String> {
    let told = conditions.iter().map(|at| format!("{}={}:{}", at.type_, at.status, at.reason));
    told.collect()
}

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: kswitch, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
";

#[test]
fn a_gateway_has_an_address_of_the_pool_and_keeps_it() {
    let mut draft = draft();
    draft.apply_text("a.yaml", &format!("{BASE}{GATEWAY}")).unwrap();
    let first = draft.validate(None).unwrap();
    let address = |cluster: &Cluster| {
        let gateway = cluster.gateway_api.gateways.iter();
        let mut edge = gateway.filter(|at| at.metadata.name.as_deref() == Some("edge"));
        edge.next().unwrap().status.clone().unwrap().addresses[0].value.clone()
    };
    assert_eq!(address(&first), "203.0.113.1");
    assert_eq!(first.proxies[0].sources, ["35.191.113.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(first.externals.iter().any(|host| host.name == "lb-203-0-113-1"));
    // one that is written before it, and a Service, take others
    let other = GATEWAY.replace("edge", "another");
    let balanced = "apiVersion: v1\nkind: Service\nmetadata: {name: lb}\n\
                    spec: {type: LoadBalancer, ports: [{port: 80}]}\n---\n";
    draft.apply_text("b.yaml", &format!("{other}{balanced}")).unwrap();
    let second = draft.validate(Some(&first)).unwrap();
    assert_eq!(address(&second), "203.0.113.1");
    assert_eq!(second.proxies.len(), 2);
    let service = second.service("default", "lb").unwrap().status.clone().unwrap();
    let ip = service.load_balancer.unwrap().ingress.unwrap()[0].ip.clone().unwrap();
    assert!(!["203.0.113.1", "203.0.113.2"].contains(&ip.as_str()), "{ip}");
}

#[test]
fn what_a_route_cannot_use_is_told_in_its_status() {
    let routes = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}, {name: edge, sectionName: other}, {name: unknown}]
  rules: [{backendRefs: [{name: web, port: 80}, {name: missing, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: far, namespace: kube-system}
spec:
  parentRefs: [{name: edge, namespace: default}]
  rules: [{backendRefs: [{name: web, namespace: default, port: 80}]}]
";
    let routing = routed(&format!("{GATEWAY}{routes}"));
    let status = |at: usize| routing.http_routes[at].status.clone().unwrap().parents;
    let parents = status(0);
    assert_eq!(parents.len(), 2, "what others serve is left to them");
    assert_eq!(
        reasons(&parents[0].conditions),
        ["Accepted=True:Accepted", "ResolvedRefs=False:BackendNotFound"]
    );
    assert_eq!(reasons(&parents[1].conditions)[0], "Accepted=False:NoMatchingParent");
    assert_eq!(
        reasons(&status(1)[0].conditions),
        ["Accepted=False:NotAllowedByListeners", "ResolvedRefs=False:RefNotPermitted"]
    );
    let gateway = routing.gateways[0].status.clone().unwrap();
    assert_eq!(gateway.listeners[0].attached_routes, 1);
    assert_eq!(
        reasons(&gateway.conditions),
        ["Accepted=True:Accepted", "Programmed=True:Programmed"]
    );
}

#[test]
fn listeners_that_cannot_be_told_apart_or_lack_a_certificate_are_not_served() {
    let gateway = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: kswitch
  listeners:
    - {name: a, port: 80, protocol: HTTP, hostname: a.example}
    - {name: b, port: 80, protocol: HTTP, hostname: a.example}
    - {name: c, port: 80, protocol: HTTP}
    - {name: d, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: missing}]}}
";
    let routing = routed(gateway);
    assert_eq!(routing.sockets.len(), 1);
    assert_eq!(routing.sockets[0].listeners.len(), 1);
    let status = routing.gateways[0].status.clone().unwrap();
    let told: Vec<_> = status.listeners.iter().map(|at| reasons(&at.conditions)).collect();
    assert!(told[0].contains(&"Conflicted=True:HostnameConflict".to_owned()), "{told:?}");
    assert!(told[2].contains(&"Programmed=True:Programmed".to_owned()), "{told:?}");
    assert!(told[3].contains(&"ResolvedRefs=False:InvalidCertificateRef".to_owned()), "{told:?}");
    assert_eq!(reasons(&status.conditions)[0], "Accepted=True:ListenersNotValid");
}

#[test]
fn an_ingress_of_an_older_version_says_the_same() {
    let ingress = "
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: old}
spec:
  backend: {serviceName: empty, servicePort: 80}
  rules:
    - host: shop.example
      http:
        paths:
          - {path: /*, backend: {serviceName: web, servicePort: http}}
          - {path: /exact, backend: {serviceName: web, servicePort: 80}}
          - {path: /below/*, backend: {serviceName: missing, servicePort: 80}}
";
    let routing = routed(ingress);
    let [socket] = routing.sockets.as_slice() else { panic!("{:?}", routing.sockets) };
    assert_eq!((socket.port, socket.kind), (80, SocketKind::Http));
    let rows = [
        ("shop.example", "/", "shop.example/*"),
        ("shop.example", "/exact", "shop.example/exact"),
        ("shop.example", "/exact/", "shop.example/*"),
        ("shop.example", "/below", "shop.example/*"),
        ("shop.example", "/below/", "shop.example/below/*"),
        ("other.example", "/", "default backend"),
    ];
    for (host, path, expected) in rows {
        let expected = format!("Ingress default/old, {expected}");
        assert_eq!(rule(socket, host, path), Some(expected), "{host}{path}");
    }
    assert_eq!(routing.remarks.len(), 1, "{:?}", routing.remarks);
    let web = routing.backends.values().find(|at| at.key.service == "web").unwrap();
    assert_eq!(web.places[0].pod.as_deref(), Some("default/web-1"));
    assert_eq!(web.places[0].address.port(), 8080);
}

#[test]
fn instance_groups_are_node_ports() {
    let manifest = "
apiVersion: v1
kind: Service
metadata: {name: grouped, annotations: {cloud.google.com/neg: '{\"ingress\": false}'}}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {defaultBackend: {service: {name: grouped, port: {number: 80}}}}
";
    let routing = routed(manifest);
    let backend: Vec<_> = routing.backends.values().cloned().collect();
    assert!(!backend[0].is_neg);
    assert_eq!(backend[0].places[0].address, "10.128.0.2:30080".parse().unwrap());
    let Serve::Http(table) = &routing.sockets[0].listeners[0].serve else { panic!() };
    let target = &table.fallback().unwrap().targets[0].backend;
    assert!(matches!(target, TargetBackend::Service(at) if Arc::ptr_eq(at, &backend[0])));
}

#[test]
fn the_mistakes_of_routes_are_told_with_their_place() {
    let mut draft = draft();
    let manifest = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}]
  hostnames: [192.0.2.1]
  rules:
    - matches: [{path: {type: Prefix, value: /}, method: get}]
      filters: [{type: RequestRedirect}]
      timeouts: {request: soon}
      backendRefs: [{name: web}]
";
    let errors = draft.apply_text("r.yaml", manifest).unwrap_err();
    let told: Vec<_> = errors.problems.iter().filter_map(|at| at.field.clone()).collect();
    for field in [
        "spec.hostnames[0]",
        "spec.rules[0].matches[0].method",
        "spec.rules[0].matches[0].path.type",
        "spec.rules[0].filters[0].requestRedirect",
        "spec.rules[0].timeouts.request",
        "spec.rules[0].backendRefs[0].port",
    ] {
        assert!(told.iter().any(|at| at == field), "{field}: {told:?}");
    }
}
