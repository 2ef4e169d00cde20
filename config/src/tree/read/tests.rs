use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::source::Source;
use crate::tree::{Document, documents};

fn yaml<T: for<'de> Deserialize<'de>>(text: &str) -> Reading<T> {
    let source = Source::new("x.yaml", text);
    let document: Document = documents(&source, Format::Yaml).remove(0);
    let (mut trees, errors) = document.parse();
    assert_eq!(errors, []);
    read(&mut trees[0], text, Format::Yaml)
}

fn wrong(reading: &Reading<impl Sized>, text: &str) -> Vec<(String, String, String, String)> {
    let one = |at: &Wrong| {
        let written = text[at.span.range()].to_owned();
        (at.field.to_string(), written, at.message.clone(), at.help.clone().unwrap_or_default())
    };
    reading.wrong.iter().map(one).collect()
}

fn strings(rows: &[[&str; 4]]) -> Vec<(String, String, String, String)> {
    rows.iter().map(|[a, b, c, d]| ((*a).into(), (*b).into(), (*c).into(), (*d).into())).collect()
}

#[test]
fn a_service_reads_as_kubernetes_reads_it() {
    let reading: Reading<Service> = yaml(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: \"1\"}}\n\
         spec:\n  selector: {app: a}\n  ports:\n  - {port: 80, targetPort: http}\n  - port: 0x51\n    \
         targetPort: 8080\n",
    );
    assert_eq!((reading.wrong, reading.unknown), (vec![], vec![]));
    let service = reading.object.unwrap();
    let ports = service.spec.unwrap().ports.unwrap();
    assert_eq!(ports[0].target_port, Some(IntOrString::String("http".into())));
    assert_eq!((ports[1].port, &ports[1].target_port), (81, &Some(IntOrString::Int(8080))));
    assert_eq!(service.metadata.labels, Some(BTreeMap::from([("x".into(), "1".into())])));
}

#[test]
fn everything_wrong_in_an_object_is_found_and_the_rest_is_read() {
    let text = "metadata: {name: a, labels: {version: 1.10}}\nspec:\n  hostNetwork: yes\n  \
                containers:\n  - name: c\n    ports:\n    - containerPort: \"80\"\n    \
                - containerPort: 99999999999\n  tolerations: {key: x}\n  nodeName: n\n";
    let reading: Reading<Pod> = yaml(text);
    assert_eq!(
        wrong(&reading, text),
        strings(&[
            [
                "metadata.labels.version",
                "1.10",
                "expected a text, found the number 1.1",
                "put it in quotes: \"1.10\"",
            ],
            [
                "spec.hostNetwork",
                "yes",
                "expected `true` or `false`, found the text \"yes\"",
                "write `true`, without quotes",
            ],
            [
                "spec.containers[0].ports[0].containerPort",
                "\"80\"",
                "expected a whole number, found the text \"80\"",
                "write it without quotes: 80",
            ],
            [
                "spec.containers[0].ports[1].containerPort",
                "99999999999",
                "99999999999 is out of range",
                "write a number from -2147483648 to 2147483647",
            ],
            [
                "spec.tolerations",
                "{key: x}",
                "expected a list, found a table",
                "begin each item with `- `",
            ],
        ])
    );
    assert_eq!(reading.object.unwrap().spec.unwrap().node_name.as_deref(), Some("n"));
}

#[test]
fn quantities_may_be_numbers_and_times_must_be_times() {
    let text = "metadata: {name: a, deletionTimestamp: soon}\nspec: {containers: [{name: c, \
                resources: {limits: {cpu: 0.5, memory: 1Gi}}}]}\n";
    let reading: Reading<Pod> = yaml(text);
    assert_eq!(
        wrong(&reading, text),
        strings(&[[
            "metadata.deletionTimestamp",
            "soon",
            "expected a time, found the text \"soon\"",
            "write it as \"2026-01-31T23:59:59Z\"",
        ]])
    );
    let containers = reading.object.unwrap().spec.unwrap().containers;
    let limits = containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["cpu"].0, "0.5");
}

#[test]
fn unknown_fields_are_told_with_what_was_meant() {
    let text = "metadata: {name: a}\nspec:\n  nodename: n\n  containers: [{name: c, foo: {}}]\n";
    let reading: Reading<Pod> = yaml(text);
    let unknown: Vec<_> = reading
        .unknown
        .iter()
        .map(|at| (at.field.to_string(), &text[at.span.range()], at.meant))
        .collect();
    assert_eq!(
        unknown,
        [
            ("spec.nodename".into(), "nodename", Some("nodeName")),
            ("spec.containers[0].foo".into(), "foo", None),
        ]
    );
    assert!(reading.wrong.is_empty() && reading.object.is_some());
}

#[test]
fn nothing_counts_as_not_written() {
    let reading: Reading<Service> = yaml("metadata: {name: a, labels: }\nspec:\n");
    assert_eq!(reading.wrong, []);
    assert_eq!(reading.object.unwrap().spec, None);
}
