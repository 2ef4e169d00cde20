//! Calls of gRPC: which rule is for them, and what becomes of routes of both types for one host.

use super::*;

/// The fields of a call's head.
struct Call<'f>(&'f [(&'f str, &'f str)]);

impl Headers for Call<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        if name == "content-type" {
            return Some("application/grpc+proto".into());
        }
        let found = self.0.iter().find(|(have, _)| *have == name);
        found.map(|(_, value)| Cow::Borrowed(*value))
    }
}

fn called(routing: &Routing, path: &str, fields: &[(&str, &str)]) -> Option<String> {
    let Serve::Http(table) = &routing.sockets[0].listener("a.example")?.serve else { return None };
    let headers = &Call(fields);
    let request = Request { host: "a.example", method: "POST", path, query: None, headers };
    table.find(&request).map(|found| found.rule.name.rsplit(' ').next().unwrap().to_owned())
}

fn routed_calls(rules: &str) -> Routing {
    routed(&format!(
        "{GATEWAY}
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
{rules}
---
"
    ))
}

#[test]
fn the_service_decides_before_the_method_and_this_before_fields() {
    let to = "backendRefs: [{name: web, port: 80}]";
    let routing = routed_calls(&format!(
        "    - {{name: all, {to}}}
    - {{name: field, matches: [{{headers: [{{name: Version, value: two}}]}}], {to}}}
    - {{name: fields, matches: [{{headers: [{{name: version, value: two}}, {{name: color, value: red}}]}}], {to}}}
    - {{name: method, matches: [{{method: {{method: Echo}}}}], {to}}}
    - {{name: service, matches: [{{method: {{service: lab.Echo}}}}], {to}}}
    - {{name: both, matches: [{{method: {{service: lab.Echo, method: Echo}}}}], {to}}}
    - {{name: some, matches: [{{method: {{type: RegularExpression, service: 'lab[.].*', method: 'Say.*'}}}}], {to}}}"
    ));
    let two = [("version", "two")];
    let red = [("version", "two"), ("color", "red")];
    for (path, fields, rule) in [
        ("/lab.Echo/Echo", &red[..], "both"),
        ("/lab.Echo/Other", &red, "service"),
        ("/lab.EchoTwo/Echo", &[], "method"),
        ("/lab.EchoTwo/SayIt", &[], "some"),
        ("/lab.EchoTwo/Other", &red, "fields"),
        ("/lab.EchoTwo/Other", &two, "field"),
        ("/lab.EchoTwo/Other", &[("color", "red")], "all"),
        ("/lab.Echo", &[], "all"),
    ] {
        assert_eq!(called(&routing, path, fields).as_deref(), Some(rule), "{path} {fields:?}");
    }
    // what is no call is for none of them
    let plain = super::rule(&routing.sockets[0], "a.example", "/lab.Echo/Echo");
    assert_eq!(plain, None);
}

#[test]
fn of_routes_of_both_types_for_one_host_the_oldest_holds() {
    let route = |kind: &str, created: &str, hosts: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: r, creationTimestamp: '{created}'}}
spec: {{parentRefs: [{{name: edge}}], hostnames: {hosts}, rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}
---
"
        )
    };
    let told = |http: (&str, &str), grpc: (&str, &str)| {
        let (one, other) = (route("HTTPRoute", http.0, http.1), route("GRPCRoute", grpc.0, grpc.1));
        let routing = routed(&format!("{GATEWAY}{one}{other}"));
        let first = |status: &Option<crate::gateway_api::RouteStatus>| {
            reasons(&status.as_ref().unwrap().parents[0].conditions)[0].clone()
        };
        let listeners = routing.gateways[0].status.as_ref().unwrap().listeners.clone();
        let attached = listeners[0].attached_routes;
        (first(&routing.http_routes[0].status), first(&routing.grpc_routes[0].status), attached)
    };
    let (taken, refused) = ("Accepted=True:Accepted", "Accepted=False:HostnameConflict");
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let told = |http, grpc| {
        let (http, grpc, attached) = told(http, grpc);
        (http == taken, grpc == taken, http == refused || grpc == refused, attached)
    };
    assert_eq!(told((old, "[a.example]"), (new, "['*.example']")), (true, false, true, 1));
    assert_eq!(told((new, "[a.example]"), (old, "[a.example]")), (false, true, true, 1));
    assert_eq!(told((old, "[a.example]"), (new, "[b.example]")), (true, true, false, 2));
    assert_eq!(told((old, "[]"), (new, "[b.example]")), (true, false, true, 1));
}
