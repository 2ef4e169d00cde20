use std::sync::Arc;

use kswitch_tables::Generation;
use serde_json::json;

use super::reverse::name_of_address;
use super::*;
use crate::compile::fixture::{cluster, pod, service};
use crate::{Cluster, Compiler, Observed};

fn ask(zones: &Zones, name: &str, wanted: Type) -> Answer {
    zones.answer(&Question { name: Name::parse(name).unwrap(), wanted })
}

fn alias(name: &str, target: &str) -> Arc<k8s_openapi::api::core::v1::Service> {
    service(name, &json!({ "type": "ExternalName", "externalName": target }))
}

fn two() -> Cluster {
    let mut cluster = cluster();
    cluster.pods = vec![pod("a", 0, &["10.4.0.5"], "a"), pod("b", 1, &["10.4.1.5"], "b")];
    let spec = |ip: &str, app: &str| {
        json!({
            "clusterIP": ip, "clusterIPs": [ip], "selector": { "app": app },
            "ports": [{ "name": "web", "port": 80, "targetPort": "web" }],
        })
    };
    cluster.services =
        vec![service("a", &spec("10.8.0.1", "a")), service("b", &spec("10.8.0.2", "b"))];
    cluster
}

#[test]
fn records_that_did_not_change_are_kept() {
    let mut compiler = Compiler::new(7);
    let first = Arc::new(two());
    let before = compiler.compile(&first, &Observed::default(), Generation(1)).zones;
    let mut second = (*first).clone();
    second.pods[1] = pod("b", 1, &["10.4.1.6"], "b");
    let after = compiler.compile(&second.into(), &Observed::default(), Generation(2)).zones;
    assert!(before.shares_look_ups(&after));
    let mut third = (*first).clone();
    third.services.remove(0);
    let last = compiler.compile(&third.into(), &Observed::default(), Generation(3)).zones;
    assert!(!before.shares_look_ups(&last));
    let name = "a.default.svc.cluster.local";
    for (zones, exists) in [(&before, true), (&after, true), (&last, false)] {
        assert_eq!(ask(zones, name, Type::A).answers.len(), usize::from(exists));
        let reverse = name_of_address("10.8.0.1".parse().unwrap()).to_string();
        assert_eq!(ask(zones, &reverse, Type::Ptr).answers.len(), usize::from(exists));
    }
}

#[test]
fn aliases_are_followed_as_far_as_they_lead() {
    let mut cluster = two();
    cluster.services.extend([
        alias("inside", "a.default.svc.cluster.local"),
        alias("circle", "circle.default.svc.cluster.local"),
        alias("outside", "www.example.com"),
        alias("unknown", "nowhere.example.org"),
        alias("missing", "missing.cluster.local"),
    ]);
    let known = (Name::parse("www.example.com").unwrap(), Data::A([198, 51, 100, 7].into()));
    cluster.settings.dns.outside = vec![known];
    let compile = |cluster: &Cluster| {
        Compiler::new(7).compile(&cluster.clone().into(), &Observed::default(), Generation(1)).zones
    };
    let closed = compile(&cluster);
    cluster.settings.dns.upstream = vec!["192.0.2.53:53".parse().unwrap()];
    let open = compile(&cluster);
    let name = |own: &str| format!("{own}.default.svc.cluster.local");
    for zones in [&closed, &open] {
        assert_eq!(ask(zones, &name("inside"), Type::A).answers.len(), 2);
        assert_eq!(ask(zones, &name("inside"), Type::Cname).answers.len(), 1);
        assert_eq!(ask(zones, &name("outside"), Type::A).answers.len(), 2);
        assert_eq!(ask(zones, &name("circle"), Type::A).answers.len(), ALIASES_MAX + 1);
        let missing = ask(zones, &name("missing"), Type::A);
        assert_eq!((missing.answers.len(), missing.existence), (1, Existence::DoesNotExist));
        let inside = ask(zones, &name("inside"), Type::Aaaa);
        assert!(inside.authority.is_some() && inside.is_authoritative);
    }
    let (alone, forwarded) =
        (ask(&closed, &name("unknown"), Type::A), ask(&open, &name("unknown"), Type::A));
    assert_eq!((alone.answers.len(), alone.unknown), (1, None));
    assert_eq!(forwarded.unknown, Name::parse("nowhere.example.org"));
    let nobody = ask(&closed, "nobody.example.org", Type::A);
    assert_eq!(nobody.existence, Existence::DoesNotExist);
    assert!(!nobody.is_authoritative && nobody.unknown.is_none());
    assert!(ask(&open, "nobody.example.org", Type::A).unknown.is_some());
    assert!(ask(&open, "www.example.com", Type::A).unknown.is_none());
}
