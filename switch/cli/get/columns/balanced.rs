//! Columns of the kinds that load balancers are made of.

use serde_json::Value;

use super::{Column, NAME, all, column, member};
use crate::control::request::Kind;

pub(super) fn columns(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::Ingresses => vec![
            NAME,
            column("CLASS", |ingress| member(ingress, "/spec/ingressClassName")),
            column("HOSTS", |ingress| all(ingress, "/spec/rules", "/host")),
            column("ADDRESS", |ingress| all(ingress, "/status/loadBalancer/ingress", "/ip")),
        ],
        Kind::GatewayClasses => vec![
            NAME,
            column("CONTROLLER", |class| member(class, "/spec/controllerName")),
            column("ACCEPTED", |class| condition(class, "/status/conditions", "Accepted")),
        ],
        Kind::Gateways => vec![
            NAME,
            column("CLASS", |gateway| member(gateway, "/spec/gatewayClassName")),
            column("ADDRESS", |gateway| all(gateway, "/status/addresses", "/value")),
            column("PROGRAMMED", |gateway| condition(gateway, "/status/conditions", "Programmed")),
        ],
        Kind::ListenerSets => vec![
            NAME,
            column("GATEWAY", |set| member(set, "/spec/parentRef/name")),
            column("ACCEPTED", |set| condition(set, "/status/conditions", "Accepted")),
            column("PROGRAMMED", |set| condition(set, "/status/conditions", "Programmed")),
        ],
        Kind::BackendTlsPolicies => vec![
            NAME,
            column("HOSTNAME", |policy| member(policy, "/spec/validation/hostname")),
            column("TARGETS", |policy| all(policy, "/spec/targetRefs", "/name")),
            column("ACCEPTED", |policy| {
                condition(policy, "/status/ancestors/0/conditions", "Accepted")
            }),
        ],
        Kind::ManagedCertificates => vec![
            NAME,
            column("DOMAINS", |object| all(object, "/spec/domains", "")),
            column("STATUS", |object| member(object, "/status/certificateStatus")),
        ],
        Kind::Authorities => vec![NAME, column("CERTIFICATE", |own| member(own, "/certificate"))],
        Kind::BackendServices => vec![
            NAME,
            column("PROTOCOL", |backend| member(backend, "/protocol")),
            column("GROUP", |backend| member(backend, "/group")),
            column("BACKENDS", |backend| all(backend, "/backends", "/address")),
            column("HEALTH", |backend| all(backend, "/backends", "/health")),
        ],
        Kind::ForwardingRules => vec![
            column("LISTENER", |rule| member(rule, "/listener")),
            column("ADDRESS", |rule| member(rule, "/address")),
            column("PORT", |rule| member(rule, "/port")),
            column("TARGET", |rule| member(rule, "/target")),
            column("HOSTS", |rule| member(rule, "/hosts")),
        ],
        Kind::HealthChecks => vec![
            NAME,
            column("TYPE", |check| member(check, "/type")),
            column("PATH", |check| member(check, "/path")),
            column("PORT", |check| member(check, "/port")),
            column("INTERVAL", |check| format!("{} s", member(check, "/intervalSeconds"))),
            column("THRESHOLDS", |check| {
                let one = |at| member(check, at);
                format!("{} good, {} bad", one("/healthyThreshold"), one("/unhealthyThreshold"))
            }),
            column("UNHEALTHY", |check| {
                let results = check["results"].as_object();
                let mut ill: Vec<&str> = results
                    .into_iter()
                    .flatten()
                    .filter(|(_, health)| *health == "UNHEALTHY")
                    .map(|(name, _)| name.as_str())
                    .collect();
                ill.sort_unstable();
                if ill.is_empty() { "<none>".to_owned() } else { ill.join(",") }
            }),
        ],
        Kind::FirewallRules => vec![
            NAME,
            column("DIRECTION", |rule| member(rule, "/direction")),
            column("SOURCES", |rule| all(rule, "/sourceRanges", "")),
            column("DESTINATIONS", |rule| all(rule, "/destinationRanges", "")),
            column("ALLOW", |rule| {
                let allowed = rule["allowed"].as_array();
                let one = |entry: &Value| {
                    format!("{}:{}", member(entry, "/protocol"), all(entry, "/ports", ""))
                };
                allowed.into_iter().flatten().map(one).collect::<Vec<_>>().join(" ")
            }),
            column("TARGETS", |rule| member(rule, "/targets")),
        ],
        _ => vec![
            NAME,
            column("HOSTNAMES", |route| member(route, "/spec/hostnames")),
            column("PARENTS", |route| all(route, "/spec/parentRefs", "/name")),
            column("ACCEPTED", |route| {
                condition(route, "/status/parents/0/conditions", "Accepted")
            }),
            column("RESOLVED", |route| {
                condition(route, "/status/parents/0/conditions", "ResolvedRefs")
            }),
        ],
    }
}

/// The status of a condition, and the reason where that is worth a word.
fn condition(object: &Value, conditions: &str, kind: &str) -> String {
    let list = object.pointer(conditions).and_then(Value::as_array);
    let found = list.into_iter().flatten().find(|condition| condition["type"] == kind);
    let Some(found) = found else { return "Unknown".to_owned() };
    let status = found["status"].as_str().unwrap_or_default();
    match found["reason"].as_str() {
        Some(reason) if status != "True" => format!("{status} ({reason})"),
        _ => status.to_owned(),
    }
}
