//! What a trace says of links that fail.

use super::Lab;

const LAB: &str = r#"
[lab]
name = "t"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = { name = "client" }
spec.nodeName = "node-a"
[[pod]]
metadata = { name = "far" }
spec.nodeName = "node-b"
"#;

/// The links on the way there and back.
const THERE: [(&str, &str); 4] =
    [("client", "from"), ("node/node-a", "from"), ("node/node-b", "to"), ("far", "to")];
const BACK: [(&str, &str); 4] =
    [("far", "from"), ("node/node-b", "from"), ("node/node-a", "to"), ("client", "to")];

fn lab(of: &str, direction: &str, faults: &str) -> Lab {
    Lab::new(&format!("{LAB}[[link]]\nof = \"{of}\"\ndirection = \"{direction}\"\n{faults}\n"))
}

fn name(of: &str) -> String {
    if of.contains('/') { of.to_owned() } else { format!("default/{of}") }
}

#[test]
fn a_cut_link_is_the_end() {
    for faults in ["partition = true", "loss = \"100%\""] {
        let reason = if faults.starts_with("part") { "link_cut" } else { "link_loss" };
        for (of, direction) in THERE {
            let report = lab(of, direction, faults).trace("client", "far:80", "tcp");
            assert_eq!(
                (&*report.verdict, report.reason.as_deref()),
                ("drop", Some(reason)),
                "{of}"
            );
            let last = report.hops.last().unwrap();
            assert_eq!((&last.at, &*last.table), (&name(of), "link"));
            // what comes from a machine is judged behind its link, all else before
            let is_judged = report.hops.iter().any(|hop| hop.table == "conntrack");
            assert_eq!(is_judged, of != "client", "{of}");
            assert!(report.reply.is_none());
        }
        for (of, direction) in BACK {
            let report = lab(of, direction, faults).trace("client", "far:80", "tcp");
            assert_eq!(report.verdict, "forward", "{of}");
            let reply = report.reply.unwrap();
            assert_eq!((&*reply.verdict, reply.reason.as_deref()), ("drop", Some(reason)), "{of}");
            assert_eq!(reply.hops.last().unwrap().at, name(of));
        }
    }
}

#[test]
fn what_is_left_to_chance_is_mentioned() {
    for (of, direction) in THERE {
        let report = lab(of, direction, "delay = \"20ms\"\nloss = \"1%\"");
        let report = report.trace("client", "far:80", "tcp");
        assert_eq!(report.verdict, "forward");
        let links: Vec<_> = report.hops.iter().filter(|hop| hop.table == "link").collect();
        let [link] = links[..] else { panic!("{links:?}") };
        assert_eq!(link.at, name(of));
        assert_eq!(link.rule.as_deref(), Some("delay 20ms, loss 1%"));
        assert!(report.hops.last().unwrap().decision.starts_with("delivered"));
    }
    // nobody goes that way
    let report = lab("node/node-b", "from", "delay = \"20ms\"").trace("client", "far:80", "tcp");
    assert!(report.hops.iter().all(|hop| hop.table != "link"));
    assert!(report.reply.unwrap().hops.iter().any(|hop| hop.table == "link"));
}
