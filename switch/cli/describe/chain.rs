//! The whole chain behind an Ingress or a Gateway.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::super::error::Error;
use super::super::lab::Lab;
use super::super::output;
use crate::control::request::{Kind, Request, Response, Selector};

/// Prints the chain of each that is meant.
pub(super) fn run(lab: &Lab, kind: Kind, select: Selector) -> Result<ExitCode, Error> {
    let called = if kind == Kind::Ingresses { "Ingress" } else { "Gateway" };
    let objects = ask(lab, kind, select)?;
    if objects.is_empty() {
        return Err(Error::new(format_args!("there is no such {called}")));
    }
    let rules = ask(lab, Kind::ForwardingRules, Selector::default())?;
    let backends = ask(lab, Kind::BackendServices, Selector::default())?;
    let text = |value: &Value, at: &str| {
        value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for object in &objects {
        let is_mine = |rule: &&Value| {
            text(rule, "/ownerKind") == called
                && ["/metadata/namespace", "/metadata/name"]
                    .iter()
                    .all(|at| text(rule, at) == text(object, at))
        };
        let mine: Vec<Value> = rules.iter().filter(is_mine).cloned().collect();
        output::text(&chain(called, object, &mine, &backends))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(lab: &Lab, kind: Kind, select: Selector) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for response in lab.ask(&Request::Get { kind, select })? {
        match response? {
            Response::Objects { items: more } => items.extend(more),
            other => return Err(Error::of(other)),
        }
    }
    Ok(items)
}

/// The chain, from the address to the pods; writing to a string cannot fail.
fn chain(called: &str, object: &Value, rules: &[Value], backends: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let metadata = &object["metadata"];
    let mut out =
        format!("{called} {}/{}\n", text(&metadata["namespace"]), text(&metadata["name"]));
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    for condition in conditions.into_iter().flatten() {
        let _ = writeln!(
            out,
            "  {}: {} ({})",
            text(&condition["type"]),
            text(&condition["status"]),
            text(&condition["reason"])
        );
    }
    if rules.is_empty() {
        out.push_str("  no forwarding rule: it has no address, or nothing of it can be served\n");
    }
    for rule in rules {
        let _ = writeln!(
            out,
            "  forwarding rule {}:{} -> {} ({} certificates), hosts {}",
            text(&rule["address"]),
            text(&rule["port"]),
            text(&rule["target"]),
            text(&rule["certificates"]),
            text(&rule["hosts"])
        );
        for entry in rule["urlMap"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "    {} {}", text(&entry["host"]), text(&entry["path"]));
            if !entry["redirect"].is_null() {
                let _ = writeln!(out, "      redirect {}", text(&entry["redirect"]));
            }
            for target in entry["targets"].as_array().into_iter().flatten() {
                out.push_str(&describe_target(target, backends, &text));
            }
        }
    }
    out
}

fn describe_target(target: &Value, backends: &[Value], text: &impl Fn(&Value) -> String) -> String {
    let mut out = String::new();
    let Some(name) = target["backendService"].as_str() else {
        return format!("      unusable: {}\n", text(&target["problem"]));
    };
    let is_it = |backend: &&Value| {
        let metadata = &backend["metadata"];
        format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"])) == name
    };
    let weight = text(&target["weight"]);
    let Some(backend) = backends.iter().find(is_it) else { return out };
    let check = &backend["healthCheck"];
    let _ = writeln!(
        out,
        "      backend service {name} (weight {weight}, {}), {} checked by {} {} every {} s",
        text(&backend["protocol"]),
        text(&backend["group"]),
        text(&check["type"]),
        text(&check["path"]),
        text(&check["intervalSeconds"])
    );
    for place in backend["backends"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "        {} {} on {}: {}",
            text(&place["address"]),
            text(&place["pod"]),
            text(&place["node"]),
            text(&place["health"])
        );
    }
    out
}
