//! An answer that is kept, and requests that it may be given to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy, RequestLike};
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};
use kswitch_config::routing::Caching;

use super::judge;
use crate::agents::proxy::head;
use crate::agents::proxy::pool::Body;
use crate::agents::proxy::request::{empty, full};

/// Octets of the largest body that is kept.
///
/// Source: Cloud CDN, "Maximum size": 10 MiB where a backend cannot be asked for parts.
pub(super) const BODY_MAX: usize = 10 << 20;

/// Fields that a not-modified answer has beside those that tell it apart.
///
/// Source: RFC 9110, 15.4.5.
const OF_NOT_MODIFIED: [HeaderName; 8] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

/// A request, as far as keeping goes: what is kept of GET serves HEAD as well.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    headers: HeaderMap,
}

impl Asked {
    pub(super) fn of(parts: &Parts) -> Self {
        let mut headers = parts.headers.clone();
        // the key has it, where it matters
        headers.remove(header::HOST);
        Self { headers }
    }

    /// Whether the client wants what is kept or nothing.
    ///
    /// Source: RFC 9111, 5.2.1.7.
    pub(super) fn wants_kept_only(&self) -> bool {
        judge::directive(&self.headers, "only-if-cached").is_some()
    }

    /// Whether the client wants nothing that is too old.
    pub(super) fn wants_new(&self) -> bool {
        let words = ["no-cache", "max-age", "min-fresh"];
        self.headers.contains_key(header::PRAGMA)
            || words.iter().any(|word| judge::directive(&self.headers, word).is_some())
    }
}

impl RequestLike for Asked {
    fn uri(&self) -> Uri {
        Uri::from_static("/")
    }

    fn is_same_uri(&self, _: &Uri) -> bool {
        // what is looked at was found by the key
        true
    }

    fn method(&self) -> &Method {
        &Method::GET
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// The head of an answer as it is judged by.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
}

impl http_cache_semantics::ResponseLike for Answered {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// An answer that is kept.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    policy: CachePolicy,
    /// The request that it was for.
    pub(super) asked: Asked,
    status: StatusCode,
    /// As the backend sent them.
    original: HeaderMap,
    /// As clients get them.
    shown: HeaderMap,
    /// Its whole body.
    pub(super) body: Bytes,
    /// Until when it is fresh.
    expires: SystemTime,
    /// For how long after that it is given while a new one is fetched.
    late: Duration,
    /// And while none can be.
    late_on_error: Duration,
}

/// An answer whose time begins anew.
pub(super) struct Renewed {
    pub(super) stored: Arc<Stored>,
    pub(super) is_worth_keeping: bool,
}

impl Stored {
    /// What is kept of an answer, but its body; `None`: nothing.
    pub(super) fn draft(
        caching: &Caching,
        asked: &Asked,
        response: &Response<Body>,
        now: SystemTime,
    ) -> Option<Self> {
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_MAX) {
            return None;
        }
        Self::new(caching, asked, response.status(), response.headers(), now)
    }

    fn new(
        caching: &Caching,
        asked: &Asked,
        status: StatusCode,
        original: &HeaderMap,
        now: SystemTime,
    ) -> Option<Self> {
        // Source: RFC 9111, 3.5
        let allowing = ["public", "must-revalidate", "s-maxage"];
        let is_allowed = allowing.iter().any(|word| judge::directive(original, word).is_some());
        if asked.headers.contains_key(header::AUTHORIZATION) && !is_allowed {
            return None;
        }
        let mut judged = judge::judged(caching, status, original)?;
        judged.remove(header::WARNING);
        let options =
            CacheOptions { shared: true, cache_heuristic: 0.0, ..CacheOptions::default() };
        let answered = Answered { status, headers: judged };
        let policy = CachePolicy::new_options(asked, &answered, now, options);
        let lasts = policy.time_to_live(now);
        if !policy.is_storable() || lasts.is_zero() {
            return None;
        }
        let mut shown = original.clone();
        judge::told(caching, status, &mut shown);
        let seconds = |word| {
            let value = judge::directive(original, word)?.parse().ok()?;
            Some(Duration::from_secs(value))
        };
        // Source: RFC 9111, 4.2.4; RFC 5861
        let is_strict = ["must-revalidate", "proxy-revalidate", "s-maxage"];
        let is_strict = is_strict.iter().any(|word| judge::directive(original, word).is_some());
        let late = |word| {
            let said = seconds(word).unwrap_or(caching.stale);
            if is_strict { Duration::ZERO } else { said }
        };
        Some(Self {
            policy,
            asked: asked.clone(),
            status,
            original: original.clone(),
            shown,
            body: Bytes::new(),
            expires: now + lasts,
            late: late("stale-while-revalidate"),
            late_on_error: late("stale-if-error"),
        })
    }

    /// The same with its body.
    pub(super) fn with(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Whether it is for such requests, fresh or not.
    pub(super) fn is_for(&self, asked: &Asked) -> bool {
        match self.policy.before_request(asked, self.expires) {
            BeforeRequest::Fresh(_) => true,
            BeforeRequest::Stale { matches, .. } => matches,
        }
    }

    /// Whether it may be given as it is.
    pub(super) fn is_fresh(&self, asked: &Asked, now: SystemTime) -> bool {
        matches!(self.policy.before_request(asked, now), BeforeRequest::Fresh(_))
    }

    /// Whether it may be given while a new one is fetched.
    pub(super) fn may_be_late(&self, now: SystemTime) -> bool {
        now < self.expires + self.late
    }

    /// Whether it may be given while no new one can be fetched.
    pub(super) fn may_hide_error(&self, now: SystemTime) -> bool {
        now < self.expires + self.late_on_error
    }

    /// Makes a request ask whether this still holds; `false` if it cannot be told apart.
    ///
    /// Source: RFC 9111, 4.3.1.
    pub(super) fn ask_again(&self, parts: &mut Parts) -> bool {
        let (tag, modified) =
            (self.original.get(header::ETAG), self.original.get(header::LAST_MODIFIED));
        for name in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            parts.headers.remove(name);
        }
        if let Some(tag) = tag {
            parts.headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        if let Some(modified) = modified {
            parts.headers.insert(header::IF_MODIFIED_SINCE, modified.clone());
        }
        tag.is_some() || modified.is_some()
    }

    /// The same after the backend said that it still holds.
    ///
    /// Source: RFC 9111, 4.3.4.
    pub(super) fn renewed(
        &self,
        caching: &Caching,
        asked: &Asked,
        news: &HeaderMap,
        now: SystemTime,
    ) -> Renewed {
        let mut original = self.original.clone();
        for name in news.keys() {
            if matches!(
                *name,
                header::CONTENT_LENGTH | header::CONTENT_ENCODING | header::CONTENT_RANGE
            ) {
                continue;
            }
            original.remove(name);
            for value in news.get_all(name) {
                original.append(name, value.clone());
            }
        }
        match Self::new(caching, asked, self.status, &original, now) {
            Some(renewed) => Renewed {
                stored: Arc::new(renewed.with(self.body.clone())),
                is_worth_keeping: true,
            },
            None => Renewed { stored: Arc::new(self.clone()), is_worth_keeping: false },
        }
    }

    /// The answer to a request.
    pub(super) fn answer(&self, parts: &Parts, now: SystemTime) -> Response<Body> {
        self.answer_to(&parts.method, &parts.headers, now)
    }

    /// The answer to a request of this method and head.
    pub(super) fn answer_to(
        &self,
        method: &Method,
        asked: &HeaderMap,
        now: SystemTime,
    ) -> Response<Body> {
        let is_known = self.status.is_success() && self.is_known(asked);
        let body = match *method {
            _ if is_known => empty(),
            Method::HEAD => empty(),
            _ => full(self.body.clone()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = if is_known { StatusCode::NOT_MODIFIED } else { self.status };
        let headers = response.headers_mut();
        headers.clone_from(&self.shown);
        head::end_hop(headers);
        let age = self.policy.age(now).as_secs();
        headers.insert(header::AGE, HeaderValue::from(age));
        if is_known {
            let all: Vec<HeaderName> = headers.keys().cloned().collect();
            for name in all.into_iter().filter(|name| !OF_NOT_MODIFIED.contains(name)) {
                headers.remove(name);
            }
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        response
    }

    /// Whether a client has it already.
    ///
    /// Source: RFC 9110, 13.1.2, 13.1.3.
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let own = self.original.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(weak);
        let mut tags = asked.get_all(header::IF_NONE_MATCH).iter().peekable();
        if tags.peek().is_some() {
            return tags
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .any(|tag| tag.trim() == "*" || own.as_ref().is_some_and(|own| *own == weak(tag)));
        }
        let date = |headers: &HeaderMap, name| {
            httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
        };
        let since = date(asked, header::IF_MODIFIED_SINCE);
        let modified = date(&self.original, header::LAST_MODIFIED);
        since.zip(modified).is_some_and(|(since, modified)| modified <= since)
    }
}
