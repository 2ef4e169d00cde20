//! What is kept to answer again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use crate::bed::{BASE, Bed, answer};

fn lab(cdn: &str) -> String {
    format!(
        "{BASE}\n[[backend-config]]\nmetadata = {{ name = \"web\" }}\n\
         spec = {{ cdn = {{ enabled = true, {cdn} }} }}\n"
    )
}

#[tokio::test]
async fn what_is_fresh_is_answered_without_the_backend() {
    let bed = Bed::new(&lab("cacheMode = \"USE_ORIGIN_HEADERS\""), |number, asked| {
        let kept = if asked.uri.path() == "/private" { "private" } else { "max-age=60" };
        let fields = [("cache-control", kept), ("vary", "accept-language"), ("etag", "\"one\"")];
        answer(200, &fields, &format!("answer {number}"))
    })
    .await;
    let first = bed.get("/a?x=1", &[]).await;
    assert_eq!((first.body.as_str(), first.field("age")), ("answer 1", ""));
    let second = bed.get("/a?x=1", &[]).await;
    assert_eq!((second.body.as_str(), second.field("age")), ("answer 1", "0"));
    assert_eq!(second.field("content-length"), "8");
    let line = bed.log.lock().unwrap().last().unwrap().clone();
    assert_eq!(line["httpRequest"]["cacheHit"], true, "{line}");
    assert_eq!(line["statusDetails"], "response_from_cache", "{line}");
    // one that is asked for by its head alone, and one that the client has already
    let head = bed.ask("HEAD", "/a?x=1", &[]).await;
    assert_eq!((head.status, head.field("content-length")), (200, "8"));
    let known = bed.get("/a?x=1", &[("if-none-match", "\"one\"")]).await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(bed.count(), 1);
    // another query, another language, one that is for nobody else, one that is wanted anew
    assert_eq!(bed.get("/a?x=2", &[]).await.body, "answer 2");
    assert_eq!(bed.get("/a?x=1", &[("accept-language", "de")]).await.body, "answer 3");
    assert_eq!(bed.get("/a?x=1", &[("accept-language", "de")]).await.body, "answer 3");
    assert_eq!(bed.get("/a?x=1", &[]).await.body, "answer 1", "both are kept");
    for number in [4, 5] {
        assert_eq!(bed.get("/private", &[]).await.body, format!("answer {number}"));
    }
    let secret = [("authorization", "Basic eDp5")];
    for number in [6, 7] {
        assert_eq!(bed.get("/b", &secret).await.body, format!("answer {number}"));
    }
    assert_eq!(bed.get("/c", &[("cache-control", "only-if-cached")]).await.status, 504);
    // what changes it makes it forgotten
    assert_eq!(bed.ask("POST", "/a?x=1", &[]).await.body, "answer 8");
    assert_eq!(bed.get("/a?x=1", &[]).await.body, "answer 9");
}

#[tokio::test]
async fn what_is_too_old_is_asked_for_again() {
    let is_ill = Arc::new(AtomicBool::new(false));
    let illness = Arc::clone(&is_ill);
    let bed = Bed::new(&lab("cacheMode = \"USE_ORIGIN_HEADERS\""), move |number, asked| {
        if illness.load(Ordering::SeqCst) {
            return answer(503, &[], "ill");
        }
        let lasts = if asked.uri.path() == "/robust" {
            "max-age=1, stale-if-error=3600"
        } else {
            "max-age=1"
        };
        let fields =
            [("cache-control", lasts), ("etag", "\"one\""), ("x-number", &number.to_string())];
        if asked.headers.get("if-none-match").is_some_and(|tag| tag == "\"one\"") {
            return answer(304, &fields, "");
        }
        answer(200, &fields, &format!("answer {number}"))
    })
    .await;
    assert_eq!(bed.get("/", &[]).await.body, "answer 1");
    assert_eq!(bed.get("/robust", &[]).await.body, "answer 2");
    // until both are too old
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let again = bed.get("/", &[]).await;
    assert_eq!((again.body.as_str(), again.field("x-number")), ("answer 1", "3"), "it still holds");
    assert_eq!(bed.last("if-none-match").unwrap(), "\"one\"");
    let line = bed.log.lock().unwrap().last().unwrap().clone();
    assert_eq!(line["httpRequest"]["cacheValidatedWithOriginServer"], true, "{line}");
    is_ill.store(true, Ordering::SeqCst);
    let told = bed.get("/robust", &[]).await;
    assert_eq!((told.status, told.body.as_str()), (200, "answer 2"), "better than nothing");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(bed.get("/", &[]).await.status, 503);
}

#[tokio::test]
async fn modes_and_keys_hold_as_configured() {
    let cdn = "clientTtl = 30, negativeCachingPolicy = [{ code = 404, ttl = 60 }], \
               bypassCacheOnRequestHeaders = [{ headerName = \"X-Fresh\" }], \
               cachePolicy = { includeHost = false, includeQueryString = true, \
               queryStringBlacklist = [\"utm\"] }";
    let mut bed = Bed::new(&lab(cdn), |number, asked| {
        let status = if asked.uri.path() == "/none" { 404 } else { 200 };
        let kind = if asked.uri.path() == "/style" { "text/css" } else { "text/html" };
        answer(status, &[("content-type", kind)], &format!("answer {number}"))
    })
    .await;
    let style = bed.get("/style?utm=1", &[]).await;
    assert_eq!(style.field("cache-control"), "public, max-age=30", "clients keep it less long");
    assert_eq!(bed.get("/style?utm=2", &[("host", "b.example")]).await.body, "answer 1");
    assert_eq!(bed.get("/style", &[("x-fresh", "1")]).await.body, "answer 2");
    for number in [3, 4] {
        assert_eq!(bed.get("/page", &[]).await.body, format!("answer {number}"), "not static");
    }
    for _ in 0..2 {
        let told = bed.get("/none", &[]).await;
        assert_eq!((told.status, told.body.as_str()), (404, "answer 5"));
    }
    bed.publish(&lab("cacheMode = \"FORCE_CACHE_ALL\"")).await;
    for _ in 0..2 {
        assert_eq!(bed.get("/page", &[]).await.body, "answer 6");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_ask_the_same_wait_for_the_first() {
    // the backend answers once the test has seen others ask
    let gate = Arc::new(Barrier::new(2));
    let inside = Arc::clone(&gate);
    let bed = Bed::new(&lab("cacheMode = \"FORCE_CACHE_ALL\""), move |number, _| {
        inside.wait();
        answer(200, &[], &format!("answer {number}"))
    })
    .await;
    let bed = Arc::new(bed);
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { bed.get("/", &[]).await.body })
        })
        .collect();
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "answer 1");
    }
    assert_eq!(bed.count(), 1);
}
