//! What a BackendConfig makes of answers: how long they are kept here, and by clients.

use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use kswitch_config::routing::{CacheMode, Caching};

use crate::agents::proxy::pool::Body;

/// Kinds of content that do not change from client to client.
///
/// Source: Cloud CDN, "Static content".
const STATIC: [&str; 11] = [
    "text/css",
    "text/ecmascript",
    "text/javascript",
    "application/javascript",
    "application/x-javascript",
    "application/ogg",
    "application/pdf",
    "application/postscript",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "application/json+oembed",
];
/// The same by the first half of their name.
const STATIC_FAMILIES: [&str; 5] = ["audio/", "font/", "image/", "model/", "video/"];

/// What an answer says of being kept: one directive, with its value.
pub(super) fn directive<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let words = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.map(str::trim).find_map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        name.trim().eq_ignore_ascii_case(wanted).then_some(value.trim().trim_matches('"'))
    })
}

/// For how long an answer says it may be kept; `None`: it does not say.
fn said(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |wanted| directive(headers, wanted)?.parse().ok().map(Duration::from_secs);
    seconds("s-maxage").or_else(|| seconds("max-age"))
}

fn says_anything(headers: &HeaderMap) -> bool {
    said(headers).is_some() || headers.contains_key(header::EXPIRES)
}

fn forbids(headers: &HeaderMap) -> bool {
    ["no-store", "private", "no-cache"].iter().any(|word| directive(headers, word).is_some())
}

fn is_static(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    STATIC.contains(&kind.as_str()) || STATIC_FAMILIES.iter().any(|family| kind.starts_with(family))
}

fn kept_for(headers: &HeaderMap, lasts: Duration) -> Option<HeaderMap> {
    let mut headers = headers.clone();
    headers.remove(header::EXPIRES);
    headers.remove(header::PRAGMA);
    let value = format!("public, max-age={}", lasts.as_secs());
    headers.insert(header::CACHE_CONTROL, HeaderValue::try_from(value).ok()?);
    Some(headers)
}

/// The head of an answer as it is judged by; `None`: it is not kept.
///
/// Source: Cloud CDN, "Cache modes", "TTL settings", "Negative caching".
pub(super) fn judged(
    caching: &Caching,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<HeaderMap> {
    let is_good = status.is_success();
    if caching.mode == CacheMode::All && is_good {
        return kept_for(headers, caching.default_ttl).filter(|_| !caching.default_ttl.is_zero());
    }
    if forbids(headers) {
        return None;
    }
    // who gets a cookie of their own gets an answer of their own
    if headers.contains_key(header::SET_COOKIE) {
        return None;
    }
    if says_anything(headers) {
        let is_bounded =
            caching.mode == CacheMode::Static && directive(headers, "must-revalidate").is_none();
        return match said(headers) {
            Some(lasts) if is_bounded && lasts > caching.max_ttl => {
                kept_for(headers, caching.max_ttl)
            }
            _ => Some(headers.clone()),
        };
    }
    if !is_good {
        return kept_for(headers, caching.negative_ttl(status.as_u16())?);
    }
    let is_kept = caching.mode == CacheMode::Static && is_static(headers);
    if is_kept { kept_for(headers, caching.default_ttl) } else { None }
}

/// The answer with what clients are told of keeping it.
pub(super) fn shown(caching: &Caching, mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    told(caching, status, response.headers_mut());
    response
}

/// Tells clients for how long they may keep an answer.
///
/// Source: Cloud CDN, "Client TTL": at most that, unless the backend decides by itself.
pub(super) fn told(caching: &Caching, status: StatusCode, headers: &mut HeaderMap) {
    if caching.mode == CacheMode::Origin || !status.is_success() {
        return;
    }
    let Some(judged) = judged(caching, status, headers) else { return };
    let lasts = said(&judged).unwrap_or(caching.default_ttl).min(caching.client_ttl);
    let is_capped = said(headers).is_none_or(|said| said > lasts) || caching.mode == CacheMode::All;
    if !is_capped || directive(headers, "must-revalidate").is_some() {
        return;
    }
    let value = format!("public, max-age={}", lasts.as_secs());
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(header::CACHE_CONTROL, value);
        headers.remove(header::EXPIRES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn caching(mode: CacheMode) -> Caching {
        Caching {
            mode,
            client_ttl: Duration::from_mins(1),
            default_ttl: Duration::from_secs(100),
            max_ttl: Duration::from_secs(1_000),
            negative: Some(vec![(404, Duration::from_secs(5))]),
            has_host: true,
            has_scheme: true,
            query: kswitch_config::routing::QueryKey::All,
            bypass: Vec::new(),
            is_coalescing: true,
            stale: Duration::ZERO,
        }
    }

    fn lasts(mode: CacheMode, status: u16, fields: &[(&'static str, &'static str)]) -> Option<u64> {
        let status = StatusCode::from_u16(status).unwrap();
        said(&judged(&caching(mode), status, &head(fields))?).map(|lasts| lasts.as_secs())
    }

    #[test]
    fn modes_decide_what_is_kept() {
        use CacheMode::{All, Origin, Static};
        let css = ("content-type", "text/css; charset=utf-8");
        let html = ("content-type", "text/html");
        assert_eq!(lasts(Static, 200, &[css]), Some(100));
        assert_eq!(lasts(Static, 200, &[html]), None);
        assert_eq!(lasts(Origin, 200, &[css]), None);
        assert_eq!(lasts(All, 200, &[html]), Some(100));
        let private = ("cache-control", "private, max-age=9");
        assert_eq!(lasts(Static, 200, &[css, private]), None);
        assert_eq!(lasts(All, 200, &[html, private]), Some(100));
        let long = ("cache-control", "public, max-age=5000");
        assert_eq!(lasts(Static, 200, &[html, long]), Some(1_000), "bounded");
        assert_eq!(lasts(Origin, 200, &[html, long]), Some(5_000), "as it says");
        assert_eq!(lasts(Static, 200, &[css, ("set-cookie", "a=b")]), None);
        assert_eq!(lasts(Static, 404, &[]), Some(5));
        assert_eq!(lasts(All, 500, &[]), None);
    }

    #[test]
    fn clients_keep_answers_no_longer_than_said() {
        let told_of = |mode, fields: &[_]| {
            let mut headers = head(fields);
            told(&caching(mode), StatusCode::OK, &mut headers);
            headers.get("cache-control").map(|value| value.to_str().unwrap().to_owned())
        };
        let css = ("content-type", "text/css");
        assert_eq!(told_of(CacheMode::Static, &[css]).unwrap(), "public, max-age=60");
        let short = ("cache-control", "max-age=7");
        assert_eq!(told_of(CacheMode::Static, &[css, short]).unwrap(), "max-age=7");
        let long = ("cache-control", "max-age=700");
        assert_eq!(told_of(CacheMode::Origin, &[css, long]).unwrap(), "max-age=700");
    }
}
