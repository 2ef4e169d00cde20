//! What is told of Gateways, ListenerSets and routes that cannot be, or only partly be, served.

use super::{GATEWAY, reasons, routed};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
";

/// A Gateway that is called `edge`.
fn gateway(spec: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: kswitch
{spec}
---
"
    )
}

fn set(namespace: &str, name: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRef: {{name: edge, namespace: default}}
  listeners: [{listeners}]
---
"
    )
}

/// The conditions of the Gateway, then those of each of its listeners, with their routes.
fn told(manifest: &str) -> Vec<String> {
    let routing = routed(&format!("{manifest}{ROUTE}"));
    let status = routing.gateways[0].status.clone().unwrap();
    let mut all = vec![reasons(&status.conditions).join(" ")];
    for listener in &status.listeners {
        let kinds: Vec<_> = listener.supported_kinds.iter().map(|at| at.kind.as_str()).collect();
        let conditions = reasons(&listener.conditions);
        let conditions = conditions.iter().filter(|at| !at.starts_with("Conflicted=False"));
        let conditions: Vec<_> = conditions.map(String::as_str).collect();
        let (kinds, conditions) = (kinds.join(","), conditions.join(" "));
        all.push(format!("{} {kinds} {}: {conditions}", listener.name, listener.attached_routes));
    }
    all
}

const FINE: &str =
    "Accepted=True:Accepted ResolvedRefs=True:ResolvedRefs Programmed=True:Programmed";

#[test]
fn a_protocol_that_is_not_known_leaves_the_others_alone() {
    let strange = "  - {name: x, port: 80, protocol: example.com/dns}";
    let alone = told(&gateway(&format!("  listeners:\n{strange}")));
    let not_served = "x  0: Accepted=False:UnsupportedProtocol ResolvedRefs=True:ResolvedRefs \
                      Programmed=False:Invalid";
    assert_eq!(alone[0], "Accepted=False:ListenersNotValid Programmed=False:Invalid");
    assert_eq!(alone[1], not_served);
    let http = "  - {name: web, port: 80, protocol: HTTP}";
    let beside = told(&gateway(&format!("  listeners:\n{http}\n{strange}")));
    assert_eq!(beside[0], "Accepted=True:ListenersNotValid Programmed=True:Programmed");
    assert_eq!(beside[1], format!("web HTTPRoute,GRPCRoute 1: {FINE}"));
    assert_eq!(beside[2], not_served);
}

#[test]
fn parameters_that_are_not_known_refuse_the_gateway() {
    let parameters = "  listeners: [{name: web, port: 80, protocol: HTTP}]
  infrastructure: {parametersRef: {group: example.com, kind: Sizes, name: large}}";
    let manifest = gateway(parameters);
    assert_eq!(told(&manifest)[0], "Accepted=False:InvalidParameters Programmed=False:Invalid");
    assert_eq!(routed(&format!("{manifest}{ROUTE}")).sockets.len(), 0);
}

#[test]
fn clients_cannot_be_vouched_for_by_nobody() {
    let tls = |frontend: &str| {
        told(&gateway(&format!(
            "  tls: {{frontend: {{{frontend}}}}}
  listeners:
  - {{name: web, port: 80, protocol: HTTP}}
  - {{name: secure, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: none}}]}}}}"
        )))
    };
    let of = |reference: &str| format!("validation: {{caCertificateRefs: [{reference}]}}");
    let refused = |reason: &str| {
        format!(
            "secure HTTPRoute,GRPCRoute 1: Accepted=False:NoValidCACertificate \
             ResolvedRefs=False:{reason} Programmed=False:Invalid"
        )
    };
    let missing = of("{kind: ConfigMap, group: '', name: none}");
    // the certificate of the listener is missing as well, and told first
    let all = tls(&format!("default: {{{missing}}}"));
    assert_eq!(all[1], format!("web HTTPRoute,GRPCRoute 1: {FINE}"));
    assert_eq!(all[2], refused("InvalidCertificateRef"));
    // on another port something else is asked
    let elsewhere = format!("default: {{}}, perPort: [{{port: 8443, tls: {{{missing}}}}}]");
    assert!(tls(&elsewhere)[2].contains("Accepted=True:Accepted"));
    let lenient = "default: {validation: {mode: AllowInsecureFallback, \
                   caCertificateRefs: [{kind: ConfigMap, group: '', name: none}]}}";
    let all = tls(lenient);
    assert!(
        all[0].ends_with("InsecureFrontendValidationMode=True:ConfigurationChanged"),
        "{all:?}"
    );
}

#[test]
fn the_gateways_own_certificate_has_to_be_there_and_to_be_allowed() {
    let shown = |reference: &str| {
        told(&gateway(&format!(
            "  tls: {{backend: {{clientCertificateRef: {reference}}}}}
  listeners: [{{name: web, port: 80, protocol: HTTP}}]"
        )))
        .remove(0)
    };
    let good = "Accepted=True:Accepted Programmed=True:Programmed ResolvedRefs=False:";
    let rows = [
        ("{group: '', kind: Secret, name: none}", "InvalidClientCertificateRef"),
        ("{group: x.example, kind: Secret, name: none}", "InvalidClientCertificateRef"),
        ("{group: '', kind: Secret, name: none, namespace: far}", "RefNotPermitted"),
    ];
    for (reference, reason) in rows {
        assert_eq!(shown(reference), format!("{good}{reason}"), "{reference}");
    }
}

#[test]
fn a_listener_set_adds_what_is_allowed_and_not_there_yet() {
    let allowed = |from: &str| {
        gateway(&format!(
            "  allowedListeners: {{namespaces: {from}}}
  listeners: [{{name: web, port: 80, protocol: HTTP, hostname: own.example}}]"
        ))
    };
    let one = "{name: more, port: 80, protocol: HTTP, hostname: more.example}";
    let own = "{name: web, port: 80, protocol: HTTP, hostname: own.example}";
    let other = "{name: plain, port: 80, protocol: TCP}";
    let conditions = |manifest: &str| -> (Vec<Vec<String>>, i32) {
        let routing = routed(manifest);
        let mut sets: Vec<_> = routing.listener_sets.iter().collect();
        sets.sort_by_key(|at| at.metadata.name.clone());
        let of = |at: &&std::sync::Arc<crate::gateway_api::ListenerSet>| {
            let status = at.status.clone().unwrap();
            let listeners = status.listeners.iter().map(|at| {
                let conflict = at.conditions.iter().find(|at| at.type_ == "Conflicted").unwrap();
                format!("{}:{}:{}", at.name, conflict.reason, at.attached_routes)
            });
            [reasons(&status.conditions), listeners.collect()].concat()
        };
        let gateway = routing.gateways.iter().find(|at| at.status.is_some()).unwrap();
        let attached = gateway.status.as_ref().unwrap().attached_listener_sets;
        (sets.iter().map(of).collect(), attached)
    };
    let far = "apiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: {may: add}}\n---\n";
    let refused = ["Accepted=False:NotAllowed", "Programmed=False:NotAllowed"];
    // nobody, unless that is said
    let shut = format!("{GATEWAY}{}", set("default", "a", one));
    assert_eq!(conditions(&shut), (vec![refused.map(str::to_owned).to_vec()], 0));
    let rows = [("{from: Same}", 1), ("{from: All}", 2), ("{from: None}", 0)];
    let chosen = "{from: Selector, selector: {matchLabels: {may: add}}}";
    for (from, attached) in rows.into_iter().chain([(chosen, 1)]) {
        let more = "{name: more, port: 80, protocol: HTTP, hostname: far.example}";
        let sets = format!("{}{far}{}", set("default", "a", one), set("far", "b", more));
        assert_eq!(conditions(&format!("{}{sets}", allowed(from))).1, attached, "{from}");
    }
    // what is there already stays, and the older set's listeners do
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: of-set}
spec:
  parentRefs: [{kind: ListenerSet, name: a}, {name: edge, sectionName: more}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
---
";
    let sets = [
        set("default", "a", &format!("{one}, {own}")),
        set("default", "b", one),
        set("default", "c", other),
    ];
    let manifest = format!("{}{}{route}", allowed("{from: Same}"), sets.concat());
    let (all, attached) = conditions(&manifest);
    assert_eq!(attached, 1);
    let invalid = ["Accepted=False:ListenersNotValid", "Programmed=False:ListenersNotValid"];
    let expected = [
        vec![
            "Accepted=True:ListenersNotValid",
            "Programmed=True:Programmed",
            "more:NoConflicts:1",
            "web:HostnameConflict:1",
        ],
        [&invalid[..], &["more:HostnameConflict:0"]].concat(),
        [&invalid[..], &["plain:ProtocolConflict:0"]].concat(),
    ];
    assert_eq!(all, expected);
    let routing = routed(&manifest);
    let parents = &routing.http_routes[0].status.as_ref().unwrap().parents;
    assert_eq!(parents[0].parent_ref.kind.as_deref(), Some("ListenerSet"));
    assert_eq!(reasons(&parents[0].conditions)[0], "Accepted=True:Accepted");
    assert_eq!(parents[1].parent_ref.kind.as_deref(), Some("Gateway"));
    assert_eq!(reasons(&parents[1].conditions)[0], "Accepted=False:NoMatchingParent");
    let socket = &routing.sockets[0];
    let rule = |host| super::rule(socket, host, "/");
    assert_eq!(rule("more.example").as_deref(), Some("HTTPRoute default/of-set, rule 0"));
    assert_eq!(rule("own.example"), None);
}
