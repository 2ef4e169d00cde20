//! The conformance cases, carried out in memory: every case must go as it says, and none may be left
//! out but for the reasons listed here.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};

use kswitch::cases;
use kswitch::cases::report::{CaseReport, Summary, Verdict};

/// Cases that are left out, with the words of the reason.
const LEFT_OUT: [(&str, &str); 1] = [("maglev-katran-small", "not claimed")];

fn run(area: &str) -> Vec<CaseReport> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(area);
    let files: Vec<PathBuf> = cases::files(&[directory]).unwrap();
    files.iter().map(|file| cases::run_file(file)).collect()
}

/// Fails with the report of every case of the area that did not go as it says.
fn judge(area: &str, at_least: usize) {
    let reports = run(area);
    let mut text = String::new();
    for report in &reports {
        let is_right = match &report.verdict {
            Verdict::Passed | Verdict::Reported => true,
            Verdict::Failed | Verdict::Broken(_) => false,
            Verdict::Skipped(why) => {
                LEFT_OUT.iter().any(|(name, reason)| report.name == *name && why.contains(reason))
            }
        };
        if !is_right {
            text.push_str(&report.to_string());
        }
        assert_eq!(report.area, area, "{}", report.name);
    }
    assert!(text.is_empty(), "\n{text}\n{area}: {}", Summary::of(&reports));
    assert!(reports.len() >= at_least, "only {} cases of {area}", reports.len());
}

#[test]
fn services() {
    judge("services", 46);
}

#[test]
fn dns() {
    judge("dns", 36);
}

#[test]
fn maglev() {
    judge("maglev", 7);
}

#[test]
fn nat() {
    judge("nat", 25);
}

#[test]
fn l3() {
    judge("l3", 8);
}

#[test]
fn network_policies() {
    judge("networkpolicy", 55);
}

#[test]
fn cluster_network_policies() {
    judge("clusternetworkpolicy", 10);
}

/// A judge that cannot fail proves nothing: what a case expects is turned round, one word at a time,
/// and the case must fail each time.
#[test]
fn turned_round_expectations_fail() {
    let directory = tempfile::tempdir().unwrap();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    for (file, from, to) in [
        ("services/svc-masquerade-default.yaml", "masquerade: false", "masquerade: true"),
        ("services/svc-masquerade-default.yaml", "masquerade: true", "masquerade: false"),
        ("services/svc-no-endpoints.yaml", "action: reject", "action: drop"),
        ("services/svc-no-endpoints.yaml", "action: reject", "action: not-a-service"),
        ("services/svc-etp-local-none-here.yaml", "action: drop", "action: reject"),
        ("services/svc-headless-not-proxied.yaml", "action: not-a-service", "action: drop"),
        ("services/svc-clusterip-basic.yaml", "backends: ['", "backends: ['10.9.9.9:1', '"),
        ("services/svc-affinity-clusterip.yaml", "distinct_min: 1", "distinct_min: 2"),
        ("services/svc-healthcheck-nodeport.yaml", "status: 503", "status: 200"),
        ("services/svc-healthcheck-nodeport.yaml", "localEndpoints: 3", "localEndpoints: 2"),
        ("services/svc-udp-endpoint-removed.yaml", "['10.240.1.5:9090']", "['10.240.0.4:9090']"),
        ("maglev/maglev-paper-table.yaml", "[B1, B0, B1", "[B0, B1, B1"),
        ("maglev/maglev-even.yaml", "spread_at_most: 1", "spread_at_most: 0"),
        ("nat/checksum-headers.yaml", "sum: 479e", "sum: 479f"),
        (
            "nat/translate-icmp-error.yaml",
            "new_quoted_dst: '10.96.0.10:53'",
            "new_quoted_dst: '10.96.0.11:53'",
        ),
        ("nat/nat-fragments.yaml", "payload_octets: 4000}}", "payload_octets: 3999}}"),
        ("nat/nat-udp-no-port-sharing.yaml", "different:", "equal:"),
        ("nat/nat-related-pmtu.yaml", "mtu: 1280, quotes: '10", "mtu: 1281, quotes: '10"),
        ("nat/nat-icmp-query.yaml", "icmp: {id: 9}}", "icmp: {id: 10}}"),
        ("l3/l3-ttl-ipv4.yaml", "ttl: 62..63", "ttl: 64"),
        ("l3/l3-arp.yaml", "target_mac: mac of a", "target_mac: mac of b"),
        ("l3/l3-echo.yaml", "id: 77, seq: 3, data_same", "id: 76, seq: 3, data_same"),
        ("l3/l3-mtu-ipv4.yaml", "as_fragments: true", "not_at_destination: true"),
        ("l3/l3-mtu-ipv4.yaml", "mtu: 1280, quotes", "mtu: 1500, quotes"),
        ("l3/l3-neighbor-solicitation.yaml", "solicited: true", "solicited: false"),
        ("networkpolicy/np-knp-none.yaml", "allow", "deny"),
        ("networkpolicy/np-endport-validation.yaml", "expect: reject", "expect: accept"),
    ] {
        let text = std::fs::read_to_string(cases.join(file)).unwrap();
        // the last one: the first may be in the title
        let at = text.rfind(from).unwrap_or_else(|| panic!("{file} has no {from}"));
        let turned = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
        let path = directory.path().join("case.yaml");
        std::fs::write(&path, turned).unwrap();
        let report = cases::run_file(&path);
        assert_eq!(report.verdict, Verdict::Failed, "{file}: {from} -> {to}\n{report}");
    }
}
