//! Ingress objects in the words of older versions.

use std::borrow::Cow;

use crate::tree::{Member, Tree, Value};

/// Says in `networking.k8s.io/v1` what an Ingress of an older version says.
///
/// Source: Kubernetes deprecation guide, v1.22, "Ingress": `spec.backend` has become
/// `spec.defaultBackend`, `serviceName` and `servicePort` stand below `service`, and a path without a
/// type is of the type `ImplementationSpecific`.
pub(crate) fn modernise(tree: &mut Tree<'_>) {
    let Some(version) = member(tree, "apiVersion") else { return };
    if !matches!(&version.value, Value::Text(text) if text.ends_with("v1beta1")) {
        return;
    }
    version.value = Value::Text(Cow::Borrowed("networking.k8s.io/v1"));
    let Some(spec) = member(tree, "spec") else { return };
    rename(spec, "backend", "defaultBackend");
    if let Some(backend) = member(spec, "defaultBackend") {
        modern_backend(backend);
    }
    let Some(Value::List(rules)) = member(spec, "rules").map(|tree| &mut tree.value) else {
        return;
    };
    for rule in rules {
        let paths = member(rule, "http").and_then(|http| member(http, "paths"));
        let Some(Value::List(paths)) = paths.map(|tree| &mut tree.value) else { continue };
        for path in paths {
            if let Some(backend) = member(path, "backend") {
                modern_backend(backend);
            }
            if path.get("pathType").is_none()
                && let Value::Table(members) = &mut path.value
            {
                let text = Value::Text(Cow::Borrowed("ImplementationSpecific"));
                members.push(new("pathType", Tree { value: text, span: path.span }));
            }
        }
    }
}

fn modern_backend(backend: &mut Tree<'_>) {
    let span = backend.span;
    let Value::Table(members) = &mut backend.value else { return };
    let mut take = |key: &str| {
        let at = members.iter().position(|member| member.key == key)?;
        Some(members.remove(at))
    };
    let (name, port) = (take("serviceName"), take("servicePort"));
    let mut service = Vec::new();
    if let Some(name) = name {
        service.push(Member { key: Cow::Borrowed("name"), ..name });
    }
    if let Some(port) = port {
        let key = if matches!(port.tree.value, Value::Text(_)) { "name" } else { "number" };
        let port_span = port.tree.span;
        let port = Member { key: Cow::Borrowed(key), ..port };
        service.push(new("port", Tree { value: Value::Table(vec![port]), span: port_span }));
    }
    if !service.is_empty() {
        members.push(new("service", Tree { value: Value::Table(service), span }));
    }
}

fn new<'t>(key: &'static str, tree: Tree<'t>) -> Member<'t> {
    Member { key: Cow::Borrowed(key), key_span: tree.span, tree }
}

fn rename(tree: &mut Tree<'_>, from: &str, to: &'static str) {
    let Value::Table(members) = &mut tree.value else { return };
    if let Some(member) = members.iter_mut().find(|member| member.key == from) {
        member.key = Cow::Borrowed(to);
    }
}

fn member<'a, 't>(tree: &'a mut Tree<'t>, key: &str) -> Option<&'a mut Tree<'t>> {
    let Value::Table(members) = &mut tree.value else { return None };
    members.iter_mut().find(|member| member.key == key).map(|member| &mut member.tree)
}
