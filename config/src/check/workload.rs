//! What makes pods.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::pod::check_spec;
use super::{labels, selector};
use crate::error::Findings;
use crate::labels::matches;
use crate::path::Path;

/// Pods that one workload may ask for.
const REPLICAS: i32 = 10_000;

pub(super) fn check_deployment(object: &Deployment, findings: &mut Findings) {
    let Some(spec) = &object.spec else { return missing(findings) };
    replicas(spec.replicas, findings);
    template(&spec.selector, Some(&spec.template), findings);
}

pub(super) fn check_replica_set(object: &ReplicaSet, findings: &mut Findings) {
    let Some(spec) = &object.spec else { return missing(findings) };
    replicas(spec.replicas, findings);
    template(&spec.selector, spec.template.as_ref(), findings);
}

pub(super) fn check_stateful_set(object: &StatefulSet, findings: &mut Findings) {
    let Some(spec) = &object.spec else { return missing(findings) };
    replicas(spec.replicas, findings);
    template(&spec.selector, Some(&spec.template), findings);
}

pub(super) fn check_daemon_set(object: &DaemonSet, findings: &mut Findings) {
    let Some(spec) = &object.spec else { return missing(findings) };
    template(&spec.selector, Some(&spec.template), findings);
}

fn missing(findings: &mut Findings) {
    let help = "write `selector` and `template` below it";
    findings.error(Path::Root.key("spec"), "`spec` is missing", help);
}

fn replicas(replicas: Option<i32>, findings: &mut Findings) {
    let Some(replicas) = replicas else { return };
    if !(0..=REPLICAS).contains(&replicas) {
        let spec = Path::Root.key("spec");
        let message = format!("{replicas} pods cannot be made");
        findings.error(
            spec.key("replicas"),
            message,
            format!("write a number from 0 to {REPLICAS}"),
        );
    }
}

fn template(wanted: &LabelSelector, template: Option<&PodTemplateSpec>, findings: &mut Findings) {
    let spec = Path::Root.key("spec");
    let at = spec.key("selector");
    selector(at, wanted, findings);
    let none = BTreeMap::new();
    let metadata = template.and_then(|template| template.metadata.as_ref());
    let given = metadata.and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&none);
    let is_empty = |selector: &LabelSelector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    };
    if is_empty(wanted) {
        let help = "write `matchLabels` with the labels of the template";
        findings.error(at, "the selector selects nothing", help);
    } else if !matches(wanted, given) {
        let help = "write the same labels in `selector` and in the template's metadata";
        findings.error(at, "the selector does not select the pods of the template", help);
    }
    let path = spec.key("template");
    let metadata = path.key("metadata");
    labels(metadata.key("labels"), Some(given), findings);
    if let Some(pod) = template.and_then(|template| template.spec.as_ref()) {
        check_spec(path.key("spec"), pod, findings);
    }
}
