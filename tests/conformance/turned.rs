//! Cases that must fail: what one expects is turned round, one word at a time.

use std::path::Path;

/// In which case, which words, and what stands in their place.
const TURNED: &[(&str, &str, &str)] = &[
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
    ("l7/ingress-longest-path.yaml", "backend: web/ab}", "backend: web/a}"),
    ("l7/l7-backend-unknown-kind.yaml", "status: 500, share: 0.5", "status: 500, share: 0.1"),
    ("networkpolicy/np-knp-none.yaml", "allow", "deny"),
    ("networkpolicy/np-endport-validation.yaml", "expect: reject", "expect: accept"),
];

/// What was turned round, and the text of the case after that.
pub(crate) fn cases() -> impl Iterator<Item = (String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    TURNED.iter().map(move |(file, from, to)| {
        let text = std::fs::read_to_string(directory.join(file)).unwrap();
        // the last one: the first may be in the title
        let at = text.rfind(from).unwrap_or_else(|| panic!("{file} has no {from}"));
        let turned = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
        (format!("{file}: {from} -> {to}"), turned)
    })
}
