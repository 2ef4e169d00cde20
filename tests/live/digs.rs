//! Ten thousand names by dig, against a naive reading of the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use kswitch_config::{Cluster, Data, Draft, Observed, Type};
use libtest_mimic::Failed;

use super::Test;
use super::lab::{Lab, fresh_name};
use super::naive;
use super::names::run;
use super::random::{self, Random};

pub(crate) const TESTS: &[Test] =
    &[("names: dig of ten thousand names agrees with the objects", &["dig"], digs)];

/// Names asked for by each way: the server, dig's word for the transport, and how many.
const WAYS: [(&str, &str, usize); 4] = [
    ("10.8.0.10", "+notcp", 4_500),
    ("fd00:8::a", "+notcp", 4_500),
    ("10.8.0.10", "+tcp", 500),
    ("fd00:8::a", "+tcp", 500),
];

const TYPES: [(&str, Type); 9] = [
    ("A", Type::A),
    ("AAAA", Type::Aaaa),
    ("SRV", Type::Srv),
    ("SRV", Type::Srv),
    ("PTR", Type::Ptr),
    ("CNAME", Type::Cname),
    ("TXT", Type::Txt),
    ("SOA", Type::Soa),
    ("MX", Type::Other),
];

/// Services of every kind, and pods that they select or nearly do.
fn text(name: &str) -> String {
    let mut text = format!(
        r#"
[lab]
name = "{name}"
[cluster]
pod-cidrs = ["10.4.0.0/16", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
[dns]
pod-records = "verified"
reverse-zones = ["10.4.0.0/16", "10.8.0.0/16", "fd00:4::/32", "fd00:8::/32"]
[dns.names]
"www.example.com" = "198.51.100.7"
[[namespace]]
name = "shop"
[[namespace]]
name = "empty"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = {{ name = "client" }}
[[service]]
metadata = {{ name = "alias" }}
spec = {{ type = "ExternalName", externalName = "www.example.com" }}
[[service]]
metadata = {{ name = "alias", namespace = "shop" }}
spec = {{ type = "ExternalName", externalName = "web.default.svc.cluster.local" }}
[[service]]
metadata = {{ name = "outside" }}
spec = {{ type = "ExternalName", externalName = "nowhere.example.org" }}
[[service]]
metadata = {{ name = "lost" }}
spec = {{ type = "ExternalName", externalName = "missing.cluster.local" }}
[[service]]
metadata = {{ name = "hollow" }}
spec = {{ selector = {{ app = "nobody" }}, ports = [{{ port = 80 }}] }}
[[service]]
metadata = {{ name = "nothing" }}
spec = {{ clusterIP = "None", selector = {{ app = "nobody" }}, ports = [{{ name = "http", port = 80 }}] }}
"#
    );
    let ports = "[{ name = \"http\", port = 80, targetPort = \"web\" }, \
                 { name = \"dns\", port = 53, protocol = \"UDP\" }]";
    for (name, namespace, families, more) in [
        ("web", "default", "PreferDualStack", ""),
        ("web", "shop", "SingleStack", "ipFamilies = [\"IPv6\"]"),
        ("db", "default", "PreferDualStack", "clusterIP = \"None\""),
        ("db", "shop", "SingleStack", "clusterIP = \"None\""),
        ("api", "shop", "PreferDualStack", "clusterIP = \"None\"\npublishNotReadyAddresses = true"),
    ] {
        // writing to a string cannot fail
        let _ = writeln!(
            text,
            "[[service]]\nmetadata = {{ name = \"{name}\", namespace = \"{namespace}\" }}\n\
             [service.spec]\nselector = {{ app = \"{name}\" }}\nipFamilyPolicy = \"{families}\"\n\
             ports = {ports}\n{more}"
        );
    }
    for n in 0..18 {
        let app = ["web", "db", "api"][n % 3];
        let namespace = ["default", "shop"][n / 3 % 2];
        let hostname = ["", "hostname = \"pet-0\"", "hostname = \"pet-1\""][n % 5 % 3];
        let subdomain = if n % 4 < 3 { format!("subdomain = \"{app}\"") } else { String::new() };
        let ready = if n % 7 == 6 { "False" } else { "True" };
        let _ = writeln!(
            text,
            "[[pod]]\nmetadata = {{ name = \"pod-{n}\", namespace = \"{namespace}\", \
             labels = {{ app = \"{app}\" }} }}\n\
             status.conditions = [{{ type = \"Ready\", status = \"{ready}\" }}]\n\
             [pod.spec]\n{hostname}\n{subdomain}\n\
             containers = [{{ name = \"c\", ports = [{{ name = \"web\", containerPort = 8080 }}] }}]"
        );
    }
    text
}

/// An answer in words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    exists: bool,
    records: BTreeSet<(String, String)>,
    zone: Option<String>,
}

fn expected(list: &naive::List, cluster: &Cluster, name: &str, wanted: Type) -> Answer {
    let naive::Expected { exists, records, zone } = naive::answer(list, cluster, name, wanted);
    let words = |(owner, data): (String, Data)| {
        let data = match data {
            Data::A(ip) => format!("A {ip}"),
            Data::Aaaa(ip) => format!("AAAA {ip}"),
            Data::Cname(name) => format!("CNAME {name}"),
            Data::Ptr(name) => format!("PTR {name}"),
            Data::Ns(name) => format!("NS {name}"),
            Data::Srv { port, target, .. } => format!("SRV {port} {target}"),
            Data::Txt(text) => format!("TXT \"{text}\""),
            Data::Soa { .. } => "SOA".to_owned(),
        };
        (owner, data)
    };
    Answer { exists, records: records.into_iter().map(words).collect(), zone }
}

/// What dig says of one question after another.
fn read(said: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut section = "";
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("->>HEADER<<-") {
            answers.push(Answer { exists: rest.contains("NOERROR"), ..Answer::default() });
        } else if let Some(name) =
            line.strip_prefix(";; ").and_then(|it| it.strip_suffix(" SECTION:"))
        {
            section = if name == "ANSWER" {
                "answer"
            } else if name == "AUTHORITY" {
                "zone"
            } else {
                ""
            };
        } else if !line.starts_with(';') && !line.is_empty() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ([owner, ttl, "IN", kind, data @ ..], Some(answer)) =
                (&words[..], answers.last_mut())
            else {
                continue;
            };
            assert_eq!(*ttl, "5", "{line}");
            let owner = owner.to_lowercase();
            let data = match (*kind, data) {
                ("SRV", [_, _, port, target]) => format!("SRV {port} {target}"),
                ("SOA", _) => "SOA".to_owned(),
                (kind, data) => format!("{kind} {}", data.join(" ")),
            };
            match section {
                "answer" => {
                    answer.records.insert((owner, data));
                }
                "zone" if *kind == "SOA" => answer.zone = Some(owner),
                _ => {}
            }
        }
    }
    answers
}

fn digs() -> Result<(), Failed> {
    let name = fresh_name();
    let text = text(&name);
    let cluster = Draft::read_text("lab.toml", &text, Path::new("")).with_addons().validate(None);
    let cluster = cluster.map_err(|errors| errors.to_string())?;
    let list = naive::list(&cluster, &Observed::default());
    let lab = Lab::start(&name, &text)?;
    let mut random = Random::new(7);
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for (server, transport, count) in WAYS {
        let asked: Vec<(String, (&str, Type))> =
            (0..count).map(|_| (random::name(&mut random, &list), *random.one(&TYPES))).collect();
        let file = tempfile::NamedTempFile::new()?;
        let lines = asked.iter().map(|(name, (kind, _))| format!("{name} {kind}\n"));
        std::fs::write(file.path(), lines.collect::<String>())?;
        let (server, file) = (format!("@{server}"), file.path().display().to_string());
        let said = run(
            &lab,
            "dig",
            &[
                &server,
                transport,
                "+tries=2",
                "+time=10",
                "+noall",
                "+comments",
                "+answer",
                "+authority",
                "-f",
                &file,
            ],
        )?;
        let answers = read(&said);
        assert_eq!(answers.len(), count, "answers by {transport} of {server}");
        for ((name, (kind, wanted)), got) in asked.iter().zip(answers) {
            let expected = expected(&list, &cluster, name, *wanted);
            assert_eq!(got, expected, "{name} {kind} by {transport} of {server}");
            let what = match (got.records.first(), got.exists) {
                (Some((_, data)), _) => data.split(' ').next().unwrap_or_default().to_owned(),
                (None, true) => "nothing of it".to_owned(),
                (None, false) => "no name".to_owned(),
            };
            *met.entry(what).or_default() += 1;
        }
    }
    for kind in ["A", "AAAA", "SRV", "PTR", "CNAME", "SOA", "nothing of it", "no name"] {
        assert!(met.get(kind).is_some_and(|count| *count > 20), "{kind}: {met:?}");
    }
    assert!(met.contains_key("TXT"), "{met:?}");
    Ok(())
}
