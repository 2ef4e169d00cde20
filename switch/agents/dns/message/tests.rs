use std::path::Path;
use std::sync::Arc;

use kswitch_config::{Compiler, Observed, load_text};
use kswitch_tables::Generation;

use super::*;
use crate::agents::dns::client::{self, Reading};

const LAB: &str = r#"
[lab]
name = "t"
[dns.names]
"www.example.com" = ["198.51.100.7", "2001:db8::7"]
[[node]]
name = "node-a"
[[service]]
metadata = { name = "web" }
[service.spec]
clusterIP = "10.8.0.80"
ports = [{ name = "http", port = 80 }]
[[service]]
metadata = { name = "many" }
[service.spec]
clusterIP = "None"
ports = [{ name = "http", port = 80 }]
[[endpoint-slice]]
metadata = { name = "many-1", labels = { "kubernetes.io/service-name" = "many" } }
addressType = "IPv4"
ports = [{ name = "http", port = 80 }]
endpoints = [ENDPOINTS]
"#;

fn zones(lab: &str) -> Arc<Zones> {
    let endpoints = (0..100).map(|n| format!("{{ addresses = [\"10.4.9.{n}\"] }}"));
    let lab = lab.replace("ENDPOINTS", &endpoints.collect::<Vec<_>>().join(", "));
    let cluster = load_text("lab.toml", &lab, Path::new("")).unwrap();
    Compiler::new(7).compile(&cluster.into(), &Observed::default(), Generation(1)).zones
}

fn octets(outcome: Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Answered(reply) => reply.octets,
        other => panic!("{other:?}"),
    }
}

fn ask(zones: &Zones, name: &str, kind: &str, size: Option<u16>, by: Transport) -> Reading {
    let request = client::request(7, name, kind, size).unwrap();
    let octets = octets(answer(zones, &request, by));
    let most = if by == Transport::Tcp { u16::MAX } else { size.unwrap_or(512).max(512) };
    assert!(octets.len() <= usize::from(most), "{}", octets.len());
    client::read(&octets).unwrap()
}

#[test]
fn what_does_not_fit_is_cut_and_whole_by_tcp() {
    let zones = zones(LAB);
    let name = "many.default.svc.cluster.local.";
    for size in [None, Some(0), Some(512), Some(1_232)] {
        let cut = ask(&zones, name, "A", size, Transport::Udp);
        assert!(cut.is_cut && cut.answers.is_empty() && cut.code == "NOERROR");
    }
    for (size, by) in [(Some(4_096), Transport::Udp), (None, Transport::Tcp)] {
        let whole = ask(&zones, name, "A", size, by);
        assert!(!whole.is_cut && whole.answers.len() == 100 && whole.answers[0].ttl == 5);
    }
    // what is only told beside the answer goes first
    let name = "_http._tcp.web.default.svc.cluster.local.";
    let beside = ask(&zones, name, "SRV", Some(4_096), Transport::Udp);
    assert_eq!((beside.answers.len(), beside.additionals.len()), (1, 1));
    let name = "_http._tcp.many.default.svc.cluster.local.";
    let size = ask(&zones, name, "SRV", None, Transport::Tcp);
    assert_eq!((size.answers.len(), size.is_cut), (100, false));
}

#[test]
fn the_spelling_of_the_question_comes_back() {
    let request = client::request(7, "WeB.dEfAuLt.SvC.cluster.local.", "A", None).unwrap();
    let octets = octets(answer(&zones(LAB), &request, Transport::Udp));
    let message = Message::from_vec(&octets).unwrap();
    let spelling = "WeB.dEfAuLt.SvC.cluster.local.";
    assert_eq!(message.queries[0].name().to_ascii(), spelling);
    assert_eq!(message.answers[0].name.to_ascii(), spelling);
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.edns.is_none());
}

#[test]
fn what_no_name_server_here_does_is_refused() {
    let zones = zones(LAB);
    let name = "web.default.svc.cluster.local.";
    assert_eq!(ask(&zones, name, "AXFR", None, Transport::Tcp).code, "REFUSED");
    let change = |change: &dyn Fn(&mut Message)| {
        let request = client::request(7, name, "A", Some(1_232)).unwrap();
        let mut message = Message::from_vec(&request).unwrap();
        change(&mut message);
        client::read(&octets(answer(&zones, &message.to_vec().unwrap(), Transport::Udp))).unwrap()
    };
    assert_eq!(change(&|message| message.metadata.op_code = OpCode::Status).code, "NOTIMP");
    assert_eq!(change(&|message| message.queries.clear()).code, "FORMERR");
    let chaos = |message: &mut Message| message.queries[0].query_class = DNSClass::CH;
    assert_eq!(change(&chaos).code, "REFUSED");
    let newer = |message: &mut Message| {
        message.edns.as_mut().unwrap().set_version(1);
    };
    assert_ne!(change(&newer).code, "NOERROR");
}

#[test]
fn any_octets_are_survived_and_answers_are_never_answered() {
    let zones = zones(LAB);
    let request = client::request(7, "web.default.svc.cluster.local.", "A", Some(1_232)).unwrap();
    let answered = octets(answer(&zones, &request, Transport::Udp));
    assert!(matches!(answer(&zones, &answered, Transport::Udp), Outcome::Ignored));
    assert!(matches!(answer(&zones, &answered[..20], Transport::Udp), Outcome::Ignored));
    assert!(matches!(answer(&zones, &[], Transport::Udp), Outcome::Ignored));
    for at in 0..request.len() {
        for octet in [0, 1, 0x7f, 0x80, 0xc0, 0xff] {
            let mut broken = request.clone();
            broken[at] = octet;
            let _ = answer(&zones, &broken, Transport::Udp);
        }
        let cut = answer(&zones, &request[..at], Transport::Udp);
        assert_eq!(matches!(cut, Outcome::Ignored), at < 12, "{at}");
    }
}

#[test]
fn somebody_outside_is_asked_for_the_rest() {
    let lab = LAB.replace("[dns.names]", "[dns]\nupstream = [\"192.0.2.53\"]\n[dns.names]");
    let zones = zones(&lab);
    let here = ask(&zones, "www.example.com.", "AAAA", None, Transport::Udp);
    assert_eq!(here.answers[0].data, "2001:db8::7");
    let request = client::request(7, "Nowhere.example.org.", "A", None).unwrap();
    let unknown = || match answer(&zones, &request, Transport::Udp) {
        Outcome::Unknown(unknown) => unknown,
        other => panic!("{other:?}"),
    };
    let passed_on = Message::from_vec(&unknown().request(99).unwrap()).unwrap();
    assert_eq!(passed_on.queries[0].name().to_ascii(), "nowhere.example.org.");
    let mut said = Message::response(99, OpCode::Query);
    said.queries.clone_from(&passed_on.queries);
    let name = passed_on.queries[0].name().clone();
    said.add_answer(rr::Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 1].into()))));
    let said = said.to_vec().unwrap();
    assert_eq!(unknown().is_cut(99, &said), Some(false));
    assert_eq!(unknown().is_cut(98, &said), None);
    assert_eq!(unknown().is_cut(99, &request), None);
    let reading = client::read(&octets(unknown().complete(Some(&said)))).unwrap();
    assert_eq!((reading.id, reading.answers.len()), (7, 1));
    let failed = client::read(&octets(unknown().complete(None))).unwrap();
    assert_eq!(failed.code, "SERVFAIL");
}
