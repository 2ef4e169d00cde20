//! What is the switch's own, as objects in Kubernetes' form.

use serde_json::{Map, Value, json};

use super::request::{Kind, Selector};

/// The group and version of kinds that are the switch's own.
const API_VERSION: &str = "kswitch.dev/v1";

/// Completes what is no object of Kubernetes': with a version, its kind, and a name.
pub(super) fn complete(kind: Kind, item: Value) -> Value {
    let Value::Object(mut members) = item else { return item };
    if members.contains_key("apiVersion") {
        return Value::Object(members);
    }
    let called = members.shift_remove("kind").or_else(|| singular(kind).map(Value::from));
    let metadata = members.shift_remove("metadata");
    let metadata = metadata.unwrap_or_else(|| json!({ "name": name(kind, &members) }));
    let head = [
        ("apiVersion".to_owned(), API_VERSION.into()),
        ("kind".to_owned(), called.unwrap_or_default()),
        ("metadata".to_owned(), metadata),
    ];
    Value::Object(head.into_iter().chain(members).collect())
}

/// One of those kinds that say nothing of it themselves.
const fn singular(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Authorities => Some("CertificateAuthority"),
        Kind::BackendServices => Some("BackendService"),
        Kind::ForwardingRules => Some("ForwardingRule"),
        Kind::HealthChecks => Some("HealthCheck"),
        Kind::FirewallRules => Some("FirewallRule"),
        _ => None,
    }
}

/// What a record is called.
fn name(kind: Kind, members: &Map<String, Value>) -> String {
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    match kind {
        Kind::Routes => format!("{}/{}", text("router"), text("prefix")),
        Kind::Fdb => format!("{}/{}", text("segment"), text("mac")),
        Kind::Neighbours => format!("{}/{}", text("segment"), text("address")),
        _ => text("name").to_owned(),
    }
}

/// Whether a record is meant whose name is made of two: by both, or by one of them.
pub(super) fn is_meant(select: &Selector, item: &Value) -> bool {
    let Some(wanted) = select.name.as_deref() else { return true };
    let called = item.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let is_part = |(first, second): (&str, &str)| wanted == first || wanted == second;
    called == wanted || called.split_once('/').is_some_and(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_our_own_has_the_form_of_an_object() {
        let record = json!({ "kind": "Route", "router": "node-a", "prefix": "10.4.0.0/24" });
        let object = complete(Kind::Routes, record);
        let expected = r#"{"apiVersion":"kswitch.dev/v1","kind":"Route","metadata":{"name":"node-a/10.4.0.0/24"},"router":"node-a","prefix":"10.4.0.0/24"}"#;
        assert_eq!(object.to_string(), expected);
        for (name, is_it) in
            [("node-a", true), ("10.4.0.0/24", true), ("node-a/10.4.0.0/24", true), ("node", false)]
        {
            let select = Selector { name: Some(name.into()), namespace: None };
            assert_eq!(is_meant(&select, &object), is_it, "{name}");
        }
        let rule = json!({ "metadata": { "name": "edge" }, "port": 80 });
        let object = complete(Kind::ForwardingRules, rule);
        assert_eq!((&object["kind"], &object["port"]), (&"ForwardingRule".into(), &80.into()));
        let pod = json!({ "apiVersion": "v1", "kind": "Pod" });
        assert_eq!(complete(Kind::Pods, pod.clone()), pod);
    }
}
