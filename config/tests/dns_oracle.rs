//! A naive reading of the objects agrees with what is answered to who asks for a name.
//!
//! Random clusters change step by step under one compiler. After each step a list of every record
//! there should be is written down from the objects, EndpointSlices among them, and names that are
//! in the list, nearly in it, and nowhere near it are asked for. A name exists if a record has it or
//! a name below it. The test fails if the two differ, and if some kind of answer was never met.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "dns_oracle/naive.rs"]
mod naive;
#[path = "dns_oracle/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kswitch_config::{
    Compiler, Data, DnsSettings, EmptyServices, Existence, Name, Observed, PodRecords, Question,
    ReverseEndpoints, Type,
};
use kswitch_tables::Generation;

use random::Random;

const QUESTIONS: usize = 100;
const STEPS: u32 = 10;
const CLUSTERS: u64 = 12;

const TYPES: [Type; 8] =
    [Type::A, Type::Aaaa, Type::Srv, Type::Ptr, Type::Cname, Type::Txt, Type::Soa, Type::Other];

fn settings(random: &mut Random) -> DnsSettings {
    DnsSettings {
        pod_records: *random.one(&[
            PodRecords::Disabled,
            PodRecords::Insecure,
            PodRecords::Verified,
        ]),
        empty_services: *random.one(&[EmptyServices::Exist, EmptyServices::DoNotExist]),
        reverse_endpoints: *random.one(&[ReverseEndpoints::Headless, ReverseEndpoints::All]),
        outside: vec![
            (name("www.example.com"), Data::A([198, 51, 100, 7].into())),
            (name("alias.example.com"), Data::Cname(name("www.example.com"))),
        ],
        ..DnsSettings::default()
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn ten_thousand_names_are_answered_as_the_objects_say() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut asked = 0;
    for seed in 0..CLUSTERS {
        let mut random = Random::new(seed);
        let mut cluster = random::cluster(&mut random);
        cluster.settings.dns = settings(&mut random);
        let mut observed = Observed::default();
        let mut compiler = Compiler::new(seed);
        for step in 0..STEPS {
            let compiled =
                compiler.compile(&Arc::new(cluster.clone()), &observed, Generation(step));
            let list = naive::list(&cluster, &observed);
            for _ in 0..QUESTIONS {
                let text = random::name(&mut random, &list);
                let wanted = *random.one(&TYPES);
                let answer = compiled.zones.answer(&Question { name: name(&text), wanted });
                let expected = naive::answer(&list, &cluster, &text, wanted);
                let records: BTreeSet<(String, Data)> = answer
                    .answers
                    .into_iter()
                    .map(|record| (record.owner.to_string(), without_weight(record.data)))
                    .collect();
                let exists = answer.existence == Existence::Exists;
                let zone = answer.authority.map(|soa| soa.owner.to_string());
                let got = naive::Expected { exists, records, zone };
                assert_eq!(got, expected, "{text} {wanted:?}, seed {seed}, step {step}");
                *met.entry(kind(&expected)).or_default() += 1;
                asked += 1;
            }
            random::step(&mut random, &mut cluster, &mut observed);
        }
    }
    assert!(asked >= 10_000, "{asked}");
    for kind in ["address", "alias", "name", "port", "text", "zone", "nothing of it", "no name"] {
        assert!(met.get(kind).is_some_and(|count| *count > 20), "{kind}: {met:?}");
    }
}

fn without_weight(data: Data) -> Data {
    match data {
        Data::Srv { port, target, .. } => Data::Srv { weight: 0, port, target },
        Data::Soa { server, mailbox, .. } => Data::Soa { server, mailbox, serial: 0 },
        other => other,
    }
}

fn kind(expected: &naive::Expected) -> &'static str {
    match expected.records.first() {
        None if expected.exists => "nothing of it",
        None => "no name",
        Some((_, data)) => match data {
            Data::A(_) | Data::Aaaa(_) => "address",
            Data::Cname(_) => "alias",
            Data::Ptr(_) => "name",
            Data::Srv { .. } => "port",
            Data::Txt(_) => "text",
            Data::Ns(_) | Data::Soa { .. } => "zone",
        },
    }
}
