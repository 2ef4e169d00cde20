//! Many Services: how long it takes to read and compile them, and to change one endpoint.
//!
//! Times are held to their bounds in a release build only, and only where they are asked to be by
//! `KSWITCH_TIMES=1`, since other work on the machine is no defect; `--nocapture` shows them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;

use std::sync::Arc;
use std::time::Instant;

use kswitch_config::{Compiler, Draft, Observed};
use kswitch_tables::{BackendSetId, Generation};

// what is not optimised would keep the tests waiting
const SERVICES: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
const ENDPOINTS: usize = 10;

const LAB: &str = r#"
[lab]
name = "large"
manifests = ["*.yaml"]
[cluster]
pod-cidrs = ["10.0.0.0/12"]
service-cidrs = ["10.96.0.0/16"]
[[node]]
name = "a"
[[node]]
name = "b"
"#;

fn slice(service: usize, endpoints: usize) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{service}-1\n  \
         labels: {{kubernetes.io/service-name: s{service}}}\naddressType: IPv4\n\
         ports:\n  - name: http\n    port: 8080\n    protocol: TCP\nendpoints:\n"
    );
    for n in 0..endpoints {
        let at = service * ENDPOINTS + n;
        let (high, low) = (at / 250 % 250, at % 250 + 1);
        let node = if n % 2 == 0 { "a" } else { "b" };
        writeln!(
            text,
            "  - addresses: [10.{}.{high}.{low}]\n    nodeName: {node}\n    conditions: {{ready: true}}",
            at / 62_500
        )
        .unwrap();
    }
    text
}

fn service(service: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{service}\n  namespace: default\nspec:\n  \
         type: ClusterIP\n  ports:\n    - name: http\n      port: 80\n      targetPort: 8080\n"
    )
}

#[test]
fn one_endpoint_of_very_many_changes_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text: String = (0..SERVICES).map(|n| service(n) + &slice(n, ENDPOINTS)).collect();
    fs::write(directory.path().join("all.yaml"), &text).unwrap();
    let mut compiler = Compiler::new(1);
    let observed = Observed::default();

    let start = Instant::now();
    let mut draft = Draft::read_text("lab.toml", LAB, directory.path());
    let read = start.elapsed();
    let cluster = draft.validate(None).unwrap_or_else(|errors| panic!("{errors}"));
    let validated = start.elapsed();
    let cluster = Arc::new(cluster);
    let before = compiler.compile(&cluster, &observed, Generation(1)).snapshot;
    let load = start.elapsed();
    println!("{} octets: read {read:?}, valid {validated:?}, compiled {load:?}", text.len());

    let start = Instant::now();
    draft.apply_text("one.yaml", &slice(SERVICES / 2, ENDPOINTS - 1)).unwrap();
    let changed = draft.validate(Some(&cluster)).unwrap_or_else(|errors| panic!("{errors}"));
    let validated = start.elapsed();
    let after = compiler.compile(&Arc::new(changed), &observed, Generation(2)).snapshot;
    let change = start.elapsed();
    println!("one endpoint less: valid {validated:?}, compiled {change:?}");

    assert_eq!(before.served.backends.len(), after.served.backends.len());
    let sets = (0..before.served.backends.len()).map(|at| BackendSetId(u32::try_from(at).unwrap()));
    let differ: Vec<_> = sets
        .map(|id| (before.served.backends.get(id).unwrap(), after.served.backends.get(id).unwrap()))
        .filter(|(before, after)| !Arc::ptr_eq(before, after))
        .map(|(before, after)| (before.members().len(), after.members().len()))
        .collect();
    assert_eq!(differ, [(ENDPOINTS, ENDPOINTS - 1)], "only what changed is made anew");
    assert!(Arc::ptr_eq(&before.topology, &after.topology));
    if std::env::var_os("KSWITCH_TIMES").is_some() && !cfg!(debug_assertions) {
        assert!(load.as_millis() < 1_000 && change.as_millis() < 20, "{load:?} {change:?}");
    }
}
