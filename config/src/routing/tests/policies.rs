//! What policies make of backends and listeners, and what is said of those that cannot be followed.

use std::time::Duration;

use super::{GATEWAY, draft, reasons, routed};
use crate::routing::PersistenceKind;

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
";

#[test]
fn policies_attach_to_the_service_that_they_name() {
    let policies = "
apiVersion: networking.gke.io/v1
kind: GCPBackendPolicy
metadata: {name: p}
spec:
  targetRef: {group: '', kind: Service, name: web}
  default:
    timeoutSec: 7
    connectionDraining: {drainingTimeoutSec: 9}
    sessionAffinity: {type: CLIENT_IP}
    securityPolicy: gate
    logging: {enabled: true, sampleRate: 500000}
---
apiVersion: compute.cnrm.cloud.google.com/v1beta1
kind: ComputeSecurityPolicy
metadata: {name: gate, namespace: kube-system}
spec:
  rule:
  - {action: deny(403), priority: 1, match: {versionedExpr: SRC_IPS_V1, config: {srcIpRanges: ['*']}}}
---
apiVersion: networking.gke.io/v1
kind: HealthCheckPolicy
metadata: {name: h}
spec:
  targetRef: {group: '', kind: Service, name: web}
  default:
    checkIntervalSec: 3
    unhealthyThreshold: 5
    config: {type: HTTP, httpHealthCheck: {requestPath: /live, port: 8081}}
---
";
    let routing = routed(&format!("{GATEWAY}{ROUTE}{policies}"));
    let backend = routing.backends.values().next().unwrap();
    assert_eq!(backend.timeout, Duration::from_secs(7));
    assert_eq!(backend.draining, Some(Duration::from_secs(9)));
    assert_eq!(backend.affinity.as_ref().unwrap().kind, PersistenceKind::ClientIp);
    assert_eq!(backend.policy.security.as_ref().unwrap().name, "gate");
    assert_eq!(backend.policy.noted, 500_000);
    let check = &backend.health_check;
    assert_eq!((check.path.as_str(), check.port), ("/live", Some(8_081)));
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(3), Duration::from_secs(3)));
    assert_eq!((check.healthy, check.unhealthy), (1, 5));
}

#[test]
fn a_tls_policy_is_accepted_where_somebody_is_trusted() {
    let policy = |name: &str, reference: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: '', kind: Service, name: web}}]
  validation: {{hostname: web.example, caCertificateRefs: [{reference}]}}
---
"
        )
    };
    let told = |policies: &str| {
        let routing = routed(&format!("{GATEWAY}{ROUTE}{policies}"));
        let unusable = routing.backends.values().next().unwrap().policy.unusable.is_some();
        let of = |at: &crate::gateway_api::BackendTlsPolicy| {
            let ancestors = at.status.clone().unwrap().ancestors;
            assert_eq!((ancestors.len(), ancestors[0].ancestor_ref.name.as_str()), (1, "edge"));
            reasons(&ancestors[0].conditions)
        };
        (routing.backend_tls.iter().map(|at| of(at)).collect::<Vec<_>>(), unusable)
    };
    let missing = "{group: '', kind: ConfigMap, name: none}";
    assert_eq!(
        told(&policy("p", missing)),
        (
            vec![vec![
                "Accepted=False:NoValidCACertificate".to_owned(),
                "ResolvedRefs=False:InvalidCACertificateRef".to_owned()
            ]],
            true
        )
    );
    let strange = "{group: example.org, kind: Bundle, name: none}";
    let (conditions, _) = told(&policy("p", strange));
    assert_eq!(conditions[0][1], "ResolvedRefs=False:InvalidKind");
}

#[test]
fn what_is_named_and_not_there_is_said_where_it_is_named() {
    let manifest = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: i
  annotations: {networking.gke.io/v1beta1.FrontendConfig: front}
spec:
  tls: [{secretName: nothing}]
  defaultBackend: {service: {name: wbe, port: {number: 80}}}
  rules:
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 81}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, annotations: {cloud.google.com/backend-config: '{\"default\": \"gone\"}'}}
spec: {ports: [{port: 80}]}
---
";
    let mut draft = draft();
    draft.apply_text("a.yaml", &format!("{}{manifest}", super::BASE)).unwrap();
    let cluster = draft.validate(None).unwrap();
    let warnings: Vec<String> = cluster.warnings.iter().map(ToString::to_string).collect();
    for wanted in [
        "no FrontendConfig `front`",
        "no Secret `nothing`",
        "no Service `wbe`",
        "the Service `web` has no such port",
        "no BackendConfig `gone`",
    ] {
        let found = warnings.iter().find(|at| at.contains(wanted));
        let found = found.unwrap_or_else(|| panic!("no {wanted} in {warnings:#?}"));
        assert!(found.contains("a.yaml:"), "{found}");
    }
}

#[test]
fn conditions_say_which_generation_they_are_about() {
    let mut draft = draft();
    let text = format!("{}{GATEWAY}{ROUTE}", super::BASE);
    draft.apply_text("a.yaml", &text).unwrap();
    let first = draft.validate(None).unwrap();
    let generation = |cluster: &crate::Cluster| {
        let routing = crate::routing::route(cluster, &crate::Observed::default());
        let route = &routing.http_routes[0];
        let status = route.status.clone().unwrap();
        let observed = status.parents[0].conditions[0].observed_generation;
        assert_eq!(observed, route.metadata.generation);
        observed
    };
    assert_eq!(generation(&first), Some(1));
    draft.apply_text("a.yaml", &text).unwrap();
    let same = draft.validate(Some(&first)).unwrap();
    assert_eq!(generation(&same), Some(1), "nothing new is wanted");
    draft.apply_text("a.yaml", &ROUTE.replace("port: 80", "port: 81")).unwrap();
    let next = draft.validate(Some(&same)).unwrap();
    assert_eq!(generation(&next), Some(2));
}

#[test]
fn addresses_that_cannot_be_had_are_told() {
    let gateway = |addresses: &str| {
        let text = GATEWAY.replace("spec: {", &format!("spec: {{addresses: [{addresses}], "));
        let routing = routed(&text);
        let status = routing.gateways[0].status.clone().unwrap();
        let all: Vec<String> = status.addresses.iter().map(|at| at.value.clone()).collect();
        (reasons(&status.conditions), all)
    };
    let (told, _) = gateway("{type: test/fake, value: x}, {value: 203.0.113.9}");
    assert_eq!(told[0], "Accepted=False:UnsupportedAddress");
    // that of the node's
    let (told, addresses) = gateway("{value: 10.128.0.2}");
    let wanted = ["Accepted=True:Accepted", "Programmed=False:AddressNotUsable"];
    assert_eq!((told, addresses), (wanted.map(str::to_owned).to_vec(), vec![]));
    let (told, addresses) = gateway("{value: 203.0.113.9}");
    assert_eq!(told[1], "Programmed=True:Programmed");
    assert_eq!(addresses, ["203.0.113.9"]);
}

#[test]
fn a_route_that_names_a_listener_twice_is_one_route() {
    let route = ROUTE.replace("[{name: edge}]", "[{name: edge}, {name: edge, sectionName: web}]");
    let routing = routed(&format!("{GATEWAY}{route}"));
    assert_eq!(routing.http_routes[0].status.clone().unwrap().parents.len(), 2);
    let status = routing.gateways[0].status.clone().unwrap();
    assert_eq!(status.listeners[0].attached_routes, 1);
}
