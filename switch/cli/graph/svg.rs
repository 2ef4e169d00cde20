//! A picture as SVG: services on the left, nodes with their pods in the middle, the outside on the
//! right.

use std::collections::HashMap;
use std::fmt::Write;

use super::Picture;

/// Measures, pixels.
const WIDTH: usize = 220;
const ROW: usize = 34;
const GAP: usize = 24;
const COLUMN: usize = 320;

/// The picture.
pub(super) fn write(picture: &Picture) -> String {
    let Picture { nodes, services, externals } = picture;
    let mut body = String::new();
    let mut pod_rows: HashMap<&str, usize> = HashMap::new();
    let mut node_middles = Vec::new();
    let mut top = GAP;
    let middle = GAP + COLUMN;
    for (node, pods) in nodes {
        let height = ROW * (pods.len() + 1) + GAP / 2;
        rect(&mut body, (middle, top), (WIDTH + GAP, height), "node");
        label(&mut body, (middle + GAP / 2, top + ROW * 2 / 3), node, "head");
        for (at, pod) in pods.iter().enumerate() {
            let y = top + ROW * (at + 1);
            rect(&mut body, (middle + GAP / 2, y), (WIDTH, ROW - 6), "pod");
            label(&mut body, (middle + GAP, y + ROW * 3 / 5), pod, "name");
            pod_rows.insert(pod, y + ROW / 2 - 3);
        }
        node_middles.push(top + height / 2);
        top += height + GAP;
    }
    let mut lines = String::new();
    let mut y = GAP;
    for (service, pods) in services {
        rect(&mut body, (GAP, y), (WIDTH, ROW - 6), "service");
        label(&mut body, (GAP * 2, y + ROW * 3 / 5), service, "name");
        for pod in pods.iter().filter_map(|pod| pod_rows.get(&**pod)) {
            line(&mut lines, (GAP + WIDTH, y + ROW / 2 - 3), (middle + GAP / 2, *pod));
        }
        y += ROW + GAP / 2;
    }
    let right = GAP + COLUMN * 2;
    let edge = (right, top / 2);
    let mut outside = GAP;
    if !externals.is_empty() {
        rect(&mut body, (edge.0, edge.1 - ROW / 2), (WIDTH / 2, ROW - 6), "router");
        label(&mut body, (edge.0 + GAP / 2, edge.1 + 3), "edge router", "name");
        for middle_of_node in &node_middles {
            line(&mut lines, (middle + WIDTH + GAP, *middle_of_node), edge);
        }
    }
    for external in externals {
        let x = right + WIDTH / 2 + GAP * 2;
        rect(&mut body, (x, outside), (WIDTH, ROW - 6), "external");
        label(&mut body, (x + GAP, outside + ROW * 3 / 5), external, "name");
        line(&mut lines, (edge.0 + WIDTH / 2, edge.1), (x, outside + ROW / 2 - 3));
        outside += ROW + GAP / 2;
    }
    let (width, height) = (right + WIDTH * 3 / 2 + GAP * 3, top.max(y).max(outside) + GAP);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n{lines}{body}</svg>\n"
    )
}

const STYLE: &str = "text{font:13px sans-serif;fill:#222}.head{font-weight:bold}\
    rect{stroke:#888;rx:4;fill:#fff}.node{fill:#f2f5f9}.service{fill:#e5f2e5}\
    .router{fill:#f9f2e0}.external{stroke-dasharray:4}line{stroke:#8aa;stroke-width:1.5}";

fn rect(to: &mut String, (x, y): (usize, usize), (width, height): (usize, usize), class: &str) {
    // writing to a string does not fail
    let _ = writeln!(
        to,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
    );
}

fn label(to: &mut String, (x, y): (usize, usize), text: &str, class: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(to, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
}

fn line(to: &mut String, from: (usize, usize), until: (usize, usize)) {
    let ((x1, y1), (x2, y2)) = (from, until);
    let _ = writeln!(to, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;

    #[test]
    fn everything_is_drawn_and_names_are_escaped() {
        let svg = write(&picture());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        for (class, count) in [("node", 2), ("pod", 2), ("service", 1), ("external", 1)] {
            assert_eq!(svg.matches(&format!("<rect class=\"{class}\"")).count(), count, "{svg}");
        }
        assert_eq!(svg.matches("<line ").count(), 2 + 2 + 1, "{svg}");
        assert!(svg.contains("shop/b&lt;&amp;&gt;"), "{svg}");
    }
}
