//! Pictures in languages that other programs draw.

use std::fmt::Write;

use super::Picture;

/// The router to the outside; `edge` alone is a word of Graphviz.
const EDGE: &str = "\"edge router\"";

/// For Graphviz.
pub(super) fn dot(picture: &Picture) -> String {
    let Picture { nodes, services, externals } = picture;
    let mut text = String::from("digraph lab {\n  rankdir=LR;\n  node [shape=box];\n");
    for (number, (node, pods)) in nodes.iter().enumerate() {
        put(
            &mut text,
            format_args!("  subgraph cluster_{number} {{\n    label={};\n", quoted(node)),
        );
        // an empty cluster is not drawn
        put(&mut text, format_args!("    {} [label=\"\", style=invis];\n", quoted(node)));
        for pod in pods {
            put(&mut text, format_args!("    {};\n", quoted(pod)));
        }
        text.push_str("  }\n");
    }
    for (service, pods) in services {
        let name = quoted(&format!("service {service}"));
        put(&mut text, format_args!("  {name} [shape=ellipse];\n"));
        for pod in pods {
            put(&mut text, format_args!("  {name} -> {};\n", quoted(pod)));
        }
    }
    for external in externals {
        let name = quoted(&format!("ext/{external}"));
        put(&mut text, format_args!("  {name} [style=dashed];\n  {name} -> {EDGE} [dir=none];\n"));
    }
    if !externals.is_empty() {
        put(&mut text, format_args!("  {EDGE} [shape=diamond];\n"));
        for node in nodes.keys() {
            put(&mut text, format_args!("  {EDGE} -> {} [dir=none];\n", quoted(node)));
        }
    }
    text.push_str("}\n");
    text
}

/// For Mermaid.
pub(super) fn mermaid(picture: &Picture) -> String {
    let Picture { nodes, services, externals } = picture;
    let mut text = String::from("flowchart LR\n");
    let id = |name: &str| -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    };
    for (node, pods) in nodes {
        put(&mut text, format_args!("  subgraph node_{}[\"{}\"]\n", id(node), label(node)));
        for pod in pods {
            put(&mut text, format_args!("    pod_{}[\"{}\"]\n", id(pod), label(pod)));
        }
        text.push_str("  end\n");
    }
    for (service, pods) in services {
        put(&mut text, format_args!("  svc_{}([\"{}\"])\n", id(service), label(service)));
        for pod in pods {
            put(&mut text, format_args!("  svc_{} --> pod_{}\n", id(service), id(pod)));
        }
    }
    for external in externals {
        put(&mut text, format_args!("  ext_{}[/\"{}\"/]\n", id(external), label(external)));
        put(&mut text, format_args!("  ext_{} --- edge{{{{\"edge router\"}}}}\n", id(external)));
    }
    for node in nodes.keys().filter(|_| !externals.is_empty()) {
        put(&mut text, format_args!("  edge --- node_{}\n", id(node)));
    }
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // writing to a string does not fail
    let _ = text.write_fmt(what);
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', r"\\").replace('"', "\\\""))
}

/// A label in quotes, in which Mermaid reads entities.
fn label(name: &str) -> String {
    name.replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;

    #[test]
    fn every_pod_is_drawn_once_and_every_endpoint_is_an_arrow() {
        let dot = dot(&picture());
        assert_eq!(dot.matches("    \"default/a\";").count(), 1, "{dot}");
        assert!(dot.contains("\"service default/web\" -> \"default/a\";"), "{dot}");
        assert!(dot.contains("\"ext/internet\" -> \"edge router\""), "{dot}");
        let mermaid = mermaid(&picture());
        assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
        assert!(mermaid.contains("svc_default_web --> pod_default_a\n"), "{mermaid}");
        assert!(mermaid.contains("pod_shop_b___[\"shop/b#lt;&#gt;\"]"), "{mermaid}");
    }
}
