use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kswitch_tables::policy::{Contact, Place};
use kswitch_tables::{Address, Generation, Policies, Protocol, RouterId};
use serde_json::{Value, json};

use super::explain;
use crate::{Cluster, ClusterNetworkPolicy, Compiled, Compiler, Observed, Pod};

const CLIENT: &str = "10.4.0.2";
const DB: &str = "10.4.0.3";

fn pod(name: &str, address: &str) -> Arc<Pod> {
    let object = json!({ "metadata": { "labels": { "app": name } } });
    Arc::new(Pod {
        namespace: "shop".into(),
        name: name.into(),
        node: 0,
        addresses: vec![address.parse().unwrap()],
        host_network: false,
        object: Arc::new(serde_json::from_value(object).unwrap()),
    })
}

/// Why the client may not reach the database.
fn why(network: &[Value], of_cluster: &[Value], protocol: Protocol, port: u16) -> String {
    let mut cluster =
        Cluster { pods: vec![pod("client", CLIENT), pod("db", DB)], ..Cluster::default() };
    cluster.namespaces.insert("shop".into(), [("team".into(), "shop".into())].into());
    let network = network.iter().cloned().map(serde_json::from_value::<NetworkPolicy>);
    cluster.network_policies = network.map(|policy| Arc::new(policy.unwrap())).collect();
    let of_cluster = of_cluster.iter().cloned().map(serde_json::from_value::<ClusterNetworkPolicy>);
    cluster.cluster_network_policies = of_cluster.map(|policy| Arc::new(policy.unwrap())).collect();
    let Compiled { snapshot, names, .. } =
        Compiler::new(1).compile(&Arc::new(cluster), &Observed::default(), Generation(1));
    let policies: &Policies = &snapshot.policies;
    let party = |text: &str| {
        let address: Address = text.parse::<std::net::IpAddr>().unwrap().into();
        let identity = policies.addresses.find(address);
        kswitch_tables::policy::Party { address, identity, place: Place::Behind(RouterId(1)) }
    };
    let (source, target) = (party(CLIENT), party(DB));
    let contact = Contact { source, target, protocol, port, is_translated: false };
    let denied = policies.check(&contact).unwrap_err();
    explain(policies, names.policies(), &contact, &denied).to_string()
}

fn ingress(name: &str, rules: &Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "podSelector": { "matchLabels": { "app": "db" } }, "ingress": rules },
    })
}

#[test]
fn a_refusal_names_the_policies_and_the_rule_that_nearly_allowed_it() {
    let others = json!({ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] });
    let rules = json!([others, { "ports": [{ "port": 5432 }] }]);
    let policies = [ingress("db-ingress", &rules), ingress("deny", &json!([]))];
    let isolated = "ingress: isolated by shop/db-ingress, shop/deny";
    for (protocol, port, nearest) in [
        (Protocol::TCP, 5433, "rule 2 of shop/db-ingress allows 5432, not 5433"),
        (Protocol::UDP, 53, "rule 2 of shop/db-ingress allows 5432/TCP, not 53/UDP"),
        (Protocol::ICMP, 1, "rule 2 of shop/db-ingress allows 5432/TCP, not ICMP"),
    ] {
        assert_eq!(why(&policies, &[], protocol, port), format!("{isolated}; {nearest}"));
    }
    let policies = [ingress("db-ingress", &json!([others]))];
    assert_eq!(
        why(&policies, &[], Protocol::TCP, 1),
        "ingress: isolated by shop/db-ingress; \
         rule 1 of shop/db-ingress allows from pods app=web of its namespace, not 10.4.0.2"
    );
    let policies = [ingress("deny", &json!([]))];
    assert_eq!(why(&policies, &[], Protocol::TCP, 1), "ingress: isolated by shop/deny");
}

#[test]
fn a_rule_that_denies_is_named() {
    let policy = json!({
        "metadata": { "name": "guard" },
        "spec": {
            "tier": "Admin", "priority": 1, "subject": { "namespaces": {} },
            "egress": [{ "name": "no-db", "action": "Deny", "to": [{ "namespaces": {} }] }],
        },
    });
    let expected = "egress: denied by rule 1 (no-db) of guard";
    assert_eq!(why(&[], &[policy], Protocol::TCP, 5432), expected);
}
