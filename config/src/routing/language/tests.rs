use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;
use crate::routing::Headers;

struct Fields(BTreeMap<&'static str, &'static str>);

impl Headers for Fields {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(|value| Cow::Borrowed(*value))
    }
}

/// Whether `POST https://shop.example/login/a%20b?next=/` from 198.51.100.7 is meant.
fn is_met(text: &str) -> bool {
    let (condition, _) = Condition::new(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
    let fields = Fields(BTreeMap::from([
        ("user-agent", "Curl/8"),
        ("x-size", "12"),
        ("authorization", "cm9vdA=="),
    ]));
    let request = Request {
        host: "shop.example",
        method: "POST",
        path: "/login/a%20b",
        query: Some("next=/"),
        headers: &fields,
    };
    let client = "::ffff:198.51.100.7".parse().unwrap();
    condition.matches(&Visit { client, scheme: "https", request: &request })
}

#[test]
fn conditions_are_met_by_those_that_they_mean() {
    for text in [
        "true",
        "inIpRange(origin.ip, '198.51.100.0/24')",
        "origin.ip == '198.51.100.7'",
        "request.method == 'POST' && request.path.startsWith(\"/login\")",
        "request.path.matches('^/log(in|out)/')",
        r"request.path.matches(r'%\d\d')",
        "request.path.urlDecode().contains('a b')",
        "request.headers['user-agent'].lower().contains('curl')",
        "request.headers['User-Agent'] == 'Curl/8'",
        "request.headers['authorization'].base64Decode() == 'root'",
        "has(request.headers['x-size']) && !has(request.headers['cookie'])",
        "int(request.headers['x-size']) >= 12 && size(request.path) < 100",
        "request.query.contains('next=') || false",
        "!(request.scheme == 'http')",
        "request.headers['host'] == 'shop.example'",
        "request.method + request.scheme == 'POSThttps'",
        "request.path.size() == 12",
        "request.path.endsWith('b') && 'it\\'s'.contains(\"'\")",
        // what has no value does not stand in the way of what suffices
        "request.headers['cookie'].contains('x') || request.method == 'POST'",
        "origin.region_code == 'AU' || true",
    ] {
        assert!(is_met(text), "{text}");
    }
    for text in [
        "false",
        "inIpRange(origin.ip, '192.0.2.0/24')",
        "request.path.matches('^login')",
        "request.path == '/LOGIN/a%20b'",
        "int(request.headers['user-agent']) > 0",
        // what has no value matches nobody, whichever way it is asked
        "origin.region_code == 'AU'",
        "origin.region_code != 'AU'",
        "!request.headers['cookie'].contains('x')",
        "origin.asn > 0",
        "evaluatePreconfiguredWaf('sqli-v33-stable', {'sensitivity': 1})",
        "token.recaptcha_session.score < 0.5",
    ] {
        assert!(!is_met(text), "{text}");
    }
}

#[test]
fn what_has_no_value_here_is_named() {
    let unknown = |text: &str| Condition::new(text).unwrap().1;
    assert_eq!(
        unknown("origin.region_code == 'AU' && origin.asn == 1"),
        ["origin.region_code", "origin.asn"]
    );
    assert_eq!(unknown("evaluateThreatIntelligence('iplist-tor-exit-nodes')").len(), 1);
    assert_eq!(unknown("token.recaptcha_session.valid"), ["token.recaptcha_session"]);
    assert!(unknown("request.method == 'GET'").is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let rows = [
        ("request.cookies == ''", 1, "`request.cookies` is not known"),
        ("origin.ip == 1", 14, "a text is compared with a number"),
        ("request.path", 1, "a text stands where true or false has to"),
        ("true && request.path", 9, "a text stands where true or false has to"),
        ("request.path.find('x')", 14, "`find` is not known"),
        ("request.path.matches('(')", 22, "\"(\" is not a regular expression"),
        ("inIpRange(origin.ip, '1.2.3')", 22, "\"1.2.3\" is not a range of addresses"),
        ("inIpRange(origin.ip)", 1, "`inIpRange` has other arguments"),
        ("geo(origin.ip) == 'x'", 1, "`geo` is not known"),
        ("(true", 6, "`)` is missing"),
        ("true true", 6, "`true` is not expected here"),
        ("request.method == 'GET", 19, "the text does not end"),
        ("request.method = 'GET'", 16, "`=` has no meaning here"),
        ("", 1, "the condition ends here"),
        ("request.headers.x", 16, "`[` is missing"),
    ];
    for (text, column, message) in rows {
        let wrong = Condition::new(text).unwrap_err();
        assert_eq!((wrong.column, wrong.message.as_str()), (column, message), "{text}");
    }
    let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    assert!(Condition::new(&deep).is_err());
    assert!(Condition::new(&"!".repeat(500)).is_err());
    assert!(Condition::new(&"true || ".repeat(500)).is_err());
}
