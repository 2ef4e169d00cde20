//! Load balancers of Services that are proxies.

use super::*;
use crate::routing::BackendPart;

const PROXIED: &str = "
apiVersion: v1
kind: Service
metadata: {name: lb, annotations: {kswitch.dev/load-balancer-ip-mode: Proxy}}
spec:
  type: LoadBalancer
  selector: {app: web}
  loadBalancerSourceRanges: [198.51.100.0/24]
  ports:
    - {name: a, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: b, port: 80, protocol: UDP, targetPort: 8081, nodePort: 30081}
---
";

fn places(routing: &Routing, part: BackendPart) -> Vec<String> {
    let mut backends = routing.backends.values();
    let backend = backends.find(|backend| backend.key.part == part).unwrap();
    backend.places.iter().map(|place| place.address.to_string()).collect()
}

#[test]
fn a_proxy_has_the_address_and_sends_to_node_ports() {
    let cluster = cluster(PROXIED);
    let service = cluster.service("default", "lb").unwrap().status.clone().unwrap();
    let ingress = service.load_balancer.unwrap().ingress.unwrap();
    assert_eq!(ingress[0].ip_mode.as_deref(), Some("Proxy"));
    let address = ingress[0].ip.clone().unwrap();
    assert!(cluster.externals.iter().any(|host| host.addresses[0].addr().to_string() == address));
    let routing = route(&cluster, &Observed::default());
    let sockets: Vec<_> = routing.sockets.iter().map(|at| (at.place(), at.kind)).collect();
    let place = format!("{address}:80").parse().unwrap();
    assert_eq!(sockets, [(place, SocketKind::Tcp), (place, SocketKind::Udp)]);
    // one number, two protocols, two node ports
    let node = cluster.nodes[0].addresses[0];
    assert_eq!(places(&routing, BackendPart::OwnConnections), [format!("{node}:30080")]);
    assert_eq!(places(&routing, BackendPart::OwnDatagrams), [format!("{node}:30081")]);
    let listener = &routing.sockets[0].listeners[0];
    assert!(listener.admits("198.51.100.9".parse().unwrap()));
    assert!(!listener.admits("192.0.2.9".parse().unwrap()));
}

#[test]
fn without_node_ports_it_sends_to_pods() {
    let manifest = PROXIED
        .replace("type: LoadBalancer", "type: LoadBalancer\n  allocateLoadBalancerNodePorts: false")
        .replace(", nodePort: 30080", "")
        .replace(", nodePort: 30081", "");
    let cluster = cluster(&manifest);
    let pod = cluster.pods[0].addresses[0];
    let routing = route(&cluster, &Observed::default());
    assert_eq!(places(&routing, BackendPart::OwnConnections), [format!("{pod}:8080")]);
}

#[test]
fn under_a_local_policy_nodes_are_asked_before_they_get_anything() {
    let manifest =
        PROXIED.replace("type: LoadBalancer", "type: LoadBalancer\n  externalTrafficPolicy: Local");
    let cluster = cluster(&manifest);
    let spec = cluster.service("default", "lb").unwrap().spec.clone().unwrap();
    let own = spec.health_check_node_port.and_then(|port| u16::try_from(port).ok());
    let routing = route(&cluster, &Observed::default());
    let backend = routing.backends.values().find(|at| at.key.service == "lb").unwrap();
    assert!(own.is_some() && backend.health_check.port == own);
    assert!(backend.places.iter().all(|place| place.is_waiting));
}

#[test]
fn an_address_of_others_is_left_to_them() {
    let manifest = |address: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: lb}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {address}, ipMode: Proxy}}]}}}}
---
"
        )
    };
    let theirs = cluster(&manifest("192.0.2.80"));
    assert!(theirs.proxies.is_empty());
    assert!(route(&theirs, &Observed::default()).sockets.is_empty());
    let ours = cluster(&manifest("203.0.113.9"));
    assert_eq!(ours.proxies.len(), 1);
    assert_eq!(route(&ours, &Observed::default()).sockets.len(), 1);
}

#[test]
fn connections_and_requests_to_one_port_are_checked_each_in_its_way() {
    let manifest = format!(
        "{GATEWAY}
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: pass}}
spec: {{gatewayClassName: kswitch, listeners: [{{name: tcp, port: 7, protocol: TCP}}]}}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {{name: t}}
spec: {{parentRefs: [{{name: pass}}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: h}}
spec: {{parentRefs: [{{name: edge}}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}
---
"
    );
    let routing = routed(&manifest);
    let is_http = |part| {
        let mut backends = routing.backends.values();
        backends.find(|at| at.key.part == part).unwrap().health_check.is_http
    };
    assert!(is_http(BackendPart::Requests));
    assert!(!is_http(BackendPart::Connections), "who takes connections need not speak HTTP");
}
