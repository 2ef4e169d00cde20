//! What BackendConfigs and their like do with requests.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::PATIENCE;
use crate::bed::{BASE, Bed, answer};

fn with(more: &str) -> String {
    format!("{BASE}{more}")
}

#[tokio::test]
async fn a_security_policy_refuses_and_says_so() {
    let policy = |action: &str, range: &str| {
        rules(&format!(
            r#"[[security-policy.spec.rule]]
action = "deny(404)"
priority = 10
preview = true
match = {{ versionedExpr = "SRC_IPS_V1", config = {{ srcIpRanges = ["127.0.0.1/32"] }} }}
[[security-policy.spec.rule]]
action = "{action}"
priority = 1000
match = {{ versionedExpr = "SRC_IPS_V1", config = {{ srcIpRanges = ["{range}"] }} }}"#
        ))
    };
    let mut bed =
        Bed::new(&policy("deny(403)", "127.0.0.0/8"), |_, _| answer(200, &[], "in")).await;
    let told = bed.get("/", &[("user-agent", "test/1")]).await;
    assert_eq!((told.status, bed.count()), (403, 0), "{told:?}");
    let line = bed.log.lock().unwrap().last().unwrap().clone();
    assert_eq!(line["enforcedSecurityPolicy"]["outcome"], "DENY", "{line}");
    assert_eq!(line["enforcedSecurityPolicy"]["configuredAction"], "DENY(403)", "{line}");
    assert_eq!(line["previewSecurityPolicy"]["priority"], 10, "{line}");
    assert_eq!(line["statusDetails"], "denied_by_security_policy", "{line}");
    assert_eq!(line["httpRequest"]["userAgent"], "test/1", "{line}");
    bed.publish(&policy("deny(502)", "127.0.0.0/8")).await;
    assert_eq!(bed.get("/", &[]).await.status, 502);
    // others are let through, and the preview refuses nobody
    bed.publish(&policy("deny(403)", "192.0.2.0/24")).await;
    let told = bed.get("/", &[]).await;
    assert_eq!((told.status, told.body.as_str()), (200, "in"));
    let line = bed.log.lock().unwrap().last().unwrap().clone();
    assert_eq!(line["enforcedSecurityPolicy"]["priority"], 2_147_483_647_u32, "{line}");
    assert_eq!(line["statusDetails"], "response_sent_by_backend", "{line}");
}

/// A policy of one rule beside the one for all others.
fn gate(rule: &str) -> String {
    rules(&format!("[[security-policy.spec.rule]]\npriority = 1000\n{rule}"))
}

/// A policy of these rules beside the one for all others.
fn rules(rules: &str) -> String {
    with(&format!(
        r#"
[[backend-config]]
metadata = {{ name = "web" }}
spec = {{ securityPolicy = {{ name = "gate" }} }}

[[security-policy]]
metadata = {{ name = "gate" }}
{rules}
[[security-policy.spec.rule]]
action = "allow"
priority = 2147483647
match = {{ versionedExpr = "SRC_IPS_V1", config = {{ srcIpRanges = ["*"] }} }}
"#
    ))
}

#[tokio::test]
async fn a_condition_says_whom_a_rule_is_for() {
    let rule = r#"
action = "deny(403)"
match.expr.expression = """inIpRange(origin.ip, '127.0.0.0/8') && request.method == 'GET' &&
    (request.path.matches('^/admin(/|$)') || request.headers['user-agent'].contains('Bad'))"""
"#;
    let bed = Bed::new(&gate(rule), |_, _| answer(200, &[], "in")).await;
    for (path, agent, status) in [
        ("/admin", "curl", 403),
        ("/admin/users?a=b", "curl", 403),
        ("/administration", "curl", 200),
        ("/", "Bad/1", 403),
        ("/", "Good/1", 200),
    ] {
        let told = bed.get(path, &[("user-agent", agent)]).await;
        assert_eq!(told.status, status, "{path} {agent}");
    }
    // a field that is not there is no answer, and what is asked of it holds for nobody
    assert_eq!(bed.get("/", &[]).await.status, 200);
    assert_eq!(bed.ask("POST", "/admin", &[]).await.status, 200);
    let line = bed.log.lock().unwrap().first().unwrap().clone();
    assert_eq!(line["enforcedSecurityPolicy"]["priority"], 1000, "{line}");
}

#[tokio::test]
async fn so_many_requests_of_a_client_are_let_through() {
    let rule = |action: &str, more: &str| {
        gate(&format!(
            r#"
action = "{action}"
match.expr.expression = "request.path.startsWith('/')"
[security-policy.spec.rule.rateLimitOptions]
conformAction = "allow"
exceedAction = "deny(429)"
enforceOnKeyConfigs = [{{ enforceOnKeyType = "IP" }}, {{ enforceOnKeyType = "HTTP_HEADER", enforceOnKeyName = "X-User" }}]
rateLimitThreshold = {{ count = 3, intervalSec = 3600 }}
{more}"#
        ))
    };
    let mut bed = Bed::new(&rule("throttle", ""), |_, _| answer(200, &[], "in")).await;
    let mut statuses = Vec::new();
    for user in ["ada", "ada", "ada", "ada", "bob", "ada"] {
        statuses.push(bed.get("/", &[("x-user", user)]).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 200, 429], "each client for itself");
    assert_eq!(bed.count(), 4, "what is beyond goes nowhere");
    let last = |bed: &Bed| bed.log.lock().unwrap().last().unwrap().clone();
    let line = last(&bed);
    let policy = &line["enforcedSecurityPolicy"];
    assert_eq!(policy["configuredAction"], "THROTTLE", "{line}");
    assert_eq!(policy["outcome"], "DENY", "{line}");
    assert_eq!(policy["rateLimitAction"]["outcome"], "RATE_LIMIT_THRESHOLD_EXCEED", "{line}");
    // a preview counts and refuses nobody
    bed.publish(
        &rule("throttle", "").replace("priority = 1000", "priority = 1001\npreview = true"),
    )
    .await;
    for _ in 0..4 {
        assert_eq!(bed.get("/", &[("x-user", "ada")]).await.status, 200);
    }
    let line = last(&bed);
    assert_eq!(line["previewSecurityPolicy"]["outcome"], "DENY", "{line}");
    assert_eq!(line["enforcedSecurityPolicy"]["outcome"], "ACCEPT", "{line}");
    // who is banned is so for what would have been let through, too
    let ban = "banDurationSec = 3600\nbanThreshold = { count = 1, intervalSec = 3600 }";
    let ban = rule("rate_based_ban", ban).replace("priority = 1000", "priority = 1002");
    bed.publish(&ban).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(bed.get("/", &[("x-user", "eve")]).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    let line = last(&bed);
    let policy = &line["enforcedSecurityPolicy"];
    assert_eq!(policy["rateLimitAction"]["outcome"], "BAN_THRESHOLD_EXCEED", "{line}");
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_sent_to_where_they_can() {
    let lab = with(
        r#"
[[backend-config]]
metadata = { name = "web" }
spec = { iap = { enabled = true, oauthclientCredentials = { secretName = "oauth" } } }
"#,
    );
    let bed = Bed::new(&lab, |_, _| answer(200, &[], "inside")).await;
    let told = bed.get("/orders?page=2", &[]).await;
    assert_eq!((told.status, bed.count()), (302, 0));
    let login = told.field("location");
    assert_eq!(login, "http://a.example/_gcp_iap/login?continue=%2Forders%3Fpage%3D2");
    let script = bed.get("/", &[("x-requested-with", "XMLHttpRequest")]).await;
    assert_eq!(script.status, 401);
    // a page where a name can be said, which leads back, and nowhere else
    let path = login.strip_prefix("http://a.example").unwrap();
    assert!(bed.get(path, &[]).await.body.contains("<form"));
    let told = bed.get(&format!("{path}&email=ada%40lab.example"), &[]).await;
    assert_eq!((told.status, told.field("location")), (302, "/orders?page=2"));
    let cookie = told.field("set-cookie").split(';').next().unwrap().to_owned();
    let away = "/_gcp_iap/login?email=a%40b&continue=https%3A%2F%2Fevil.example%2F";
    assert_eq!(bed.get(away, &[]).await.field("location"), "/");
    let lie = ("x-goog-authenticated-user-email", "accounts.google.com:root@lab.example");
    let told = bed.get("/orders", &[("cookie", &cookie), lie]).await;
    assert_eq!((told.status, told.body.as_str()), (200, "inside"));
    let email = bed.last("x-goog-authenticated-user-email").unwrap();
    assert_eq!(email, "accounts.google.com:ada@lab.example");
    let assertion = bed.last("x-goog-iap-jwt-assertion").unwrap();
    assert_eq!(assertion.split('.').count(), 3, "{assertion}");
    let forged = format!("{}x", &cookie[..cookie.len() - 2]);
    assert_eq!(bed.get("/orders", &[("cookie", &forged)]).await.status, 302);
}

/// How many places a client sees in a few requests.
async fn places(bed: &Bed) -> usize {
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        seen.insert(bed.get("/", &[]).await.field("x-place").to_owned());
    }
    seen.len()
}

#[tokio::test]
async fn clients_stay_with_their_place() {
    let by = |kind: &str| {
        with(&format!(
            "\n[[backend-config]]\nmetadata = {{ name = \"web\" }}\n\
             spec = {{ sessionAffinity = {{ affinityType = \"{kind}\", affinityCookieTtlSec = 50 }} }}\n"
        ))
    };
    let mut bed = Bed::new(&by("GENERATED_COOKIE"), |_, _| answer(200, &[], "")).await;
    let first = bed.get("/", &[]).await;
    let cookie = first.field("set-cookie");
    assert!(cookie.starts_with("GCLB=") && cookie.contains("Max-Age=50"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    for _ in 0..6 {
        let told = bed.get("/", &[("cookie", cookie)]).await;
        assert_eq!(told.field("x-place"), first.field("x-place"));
        assert_eq!(told.field("set-cookie"), "", "said once");
    }
    assert_eq!(places(&bed).await, 2, "without the cookie they take turns");
    bed.publish(&by("CLIENT_IP")).await;
    assert_eq!(places(&bed).await, 1);
    bed.publish(&by("NONE")).await;
    assert_eq!(places(&bed).await, 2);
}

#[tokio::test]
async fn fields_are_added_and_requests_noted_as_said() {
    let lab = with(
        r#"
[[backend-config]]
metadata = { name = "web" }
[backend-config.spec]
customRequestHeaders = { headers = ["X-Client: {client_ip_address}", "X-Region:{client_region}"] }
customResponseHeaders = { headers = ["Strict-Transport-Security: max-age=9"] }
logging = { enable = false }
"#,
    );
    let mut bed = Bed::new(&lab, |_, _| answer(200, &[], "")).await;
    let told = bed.get("/", &[("x-client", "somebody else")]).await;
    assert_eq!(bed.last("x-client").unwrap(), "127.0.0.1");
    assert_eq!(bed.last("x-region").unwrap(), "");
    assert_eq!(told.field("strict-transport-security"), "max-age=9");
    assert!(bed.log.lock().unwrap().is_empty());
    bed.publish(&lab.replace("enable = false", "enable = true, sampleRate = 0.25")).await;
    for _ in 0..40 {
        bed.get("/", &[]).await;
    }
    let noted = bed.log.lock().unwrap().len();
    assert!((8..=12).contains(&noted), "{noted} of 40");
}

#[tokio::test]
async fn a_backend_that_is_silent_for_too_long_is_given_up() {
    let lab =
        with("\n[[backend-config]]\nmetadata = { name = \"web\" }\nspec = { timeoutSec = 1 }\n");
    let mut bed = Bed::new(&lab, |_, _| answer(200, &[], "")).await;
    // a backend that takes connections, and says nothing but that it changes the protocol
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                if String::from_utf8(head).unwrap().to_ascii_lowercase().contains("websocket") {
                    let answer = "HTTP/1.1 101 Switching Protocols\r\n\
                                  Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    bed.map.backends.write().unwrap().values_mut().for_each(|to| *to = at);
    bed.publish(&lab).await;
    let begun = Instant::now();
    let told = bed.get("/", &[]).await;
    assert_eq!(told.status, 504, "{told:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // what was upgraded lives while something is said
    let mut client = TcpStream::connect(bed.at(80)).await.unwrap();
    let ask =
        "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    client.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    timeout(PATIENCE, client.read_exact(&mut echo)).await.unwrap().unwrap();
    let last = Instant::now();
    assert_eq!(timeout(PATIENCE, client.read(&mut echo)).await.unwrap().unwrap(), 0, "it is ended");
    assert!(last.elapsed() >= Duration::from_millis(900), "{:?}", last.elapsed());
}

#[tokio::test]
async fn a_place_that_goes_finishes_what_it_has_begun_or_is_cut_off() {
    let lab = |draining: u32| {
        with(&format!(
            "\n[[backend-config]]\nmetadata = {{ name = \"web\" }}\n\
             spec = {{ connectionDraining = {{ drainingTimeoutSec = {draining} }} }}\n"
        ))
    };
    // backends that take requests, and answer when they are told to
    for (draining, status) in [(3_600, 200), (0, 502)] {
        let mut bed = Bed::new(&lab(draining), |_, _| answer(200, &[], "")).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        bed.map.backends.write().unwrap().values_mut().for_each(|to| *to = at);
        let mut client = TcpStream::connect(bed.at(80)).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        // the pods are no endpoints any more, and then they answer
        bed.publish(&lab(draining).replace("app = \"web\" } }\nspec", "app = \"x\" } }\nspec"))
            .await;
        if status == 200 {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
        let mut told = [0; 12];
        timeout(PATIENCE, client.read_exact(&mut told)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&told), format!("HTTP/1.1 {status}"));
    }
}
