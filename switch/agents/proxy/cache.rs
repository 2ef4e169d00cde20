//! Answers that are kept to be given again, as RFC 9111 has it for caches that many share.
//!
//! Whether an answer may be kept, and whether one that is kept may be given, `http-cache-semantics`
//! knows; what a BackendConfig says beside that is made part of what it is told (`judge`).

mod judge;
mod keep;
mod stored;
mod tee;

use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::{Body as _, Incoming};
use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use kswitch_config::routing::Caching;
use tokio::time::timeout;

use super::forward::{Course, Owned, whole};
use super::pool::Body;
use super::record::{Lookup, Way};
use super::request::{Refusal, empty};
pub use keep::Cache;
use keep::Turn;
use stored::{Asked, Stored};

/// A request on its way through the cache.
struct Passage<'p> {
    course: Course<'p>,
    caching: &'p Arc<Caching>,
    key: String,
    asked: Asked,
}

/// Answers a request from what is kept, or by its backend.
///
/// # Errors
/// What is answered instead.
pub(super) async fn answer(
    course: Course<'_>,
    caching: &Arc<Caching>,
    parts: Parts,
    body: Incoming,
    way: &mut Way,
) -> Result<Response<Body>, Refusal> {
    let shared = &course.going.client.shared;
    let cache = &shared.cache;
    let uri = &parts.uri;
    let client = course.going.client;
    let key = caching.key(client.scheme, course.going.field, uri.path(), uri.query());
    let key = format!("{} {key}", course.backend.key);
    let is_get = parts.method == Method::GET;
    if !is_get && parts.method != Method::HEAD {
        way.cache = Some(Lookup::Bypassed);
        let response = course.send(parts, whole(body), way).await?;
        // Source: RFC 9111, 4.4
        let is_done = response.status().is_success() || response.status().is_redirection();
        if is_done && !matches!(response.status(), StatusCode::NOT_MODIFIED) {
            cache.forget(&key);
        }
        return Ok(response);
    }
    let is_special =
        [header::RANGE, header::UPGRADE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];
    let is_special = is_special.iter().any(|name| parts.headers.contains_key(name));
    let is_bypassed = caching.bypass.iter().any(|name| parts.headers.contains_key(name.as_str()));
    if is_special || is_bypassed || !body.is_end_stream() {
        way.cache = Some(Lookup::Bypassed);
        return course.send(parts, whole(body), way).await;
    }
    let passage = Passage { course, caching, key, asked: Asked::of(&parts) };
    let mut found = cache.find(&passage.key, &passage.asked);
    if let Some(answer) = passage.fresh(found.as_ref(), &parts, way) {
        return Ok(answer);
    }
    if passage.asked.wants_kept_only() {
        return Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "nothing is kept of this answer"));
    }
    let mut turn = None;
    if is_get && caching.is_coalescing {
        match cache.turn(&passage.key) {
            Turn::First(first) => turn = Some(first),
            Turn::After(mut first) => {
                // it ends with the answer kept, or thrown away
                let _ = timeout(course.backend.timeout, first.changed()).await;
                found = cache.find(&passage.key, &passage.asked);
                if let Some(answer) = passage.fresh(found.as_ref(), &parts, way) {
                    return Ok(answer);
                }
            }
        }
    }
    let now = SystemTime::now();
    if let Some(stored) = &found
        && stored.may_be_late(now)
        && !passage.asked.wants_new()
    {
        let answer = stored.answer(&parts, now);
        way.cache = Some(Lookup::Stale);
        passage.refresh_later(Arc::clone(stored), parts, turn);
        return Ok(answer);
    }
    passage.fetch(found, parts, way, turn).await
}

impl Passage<'_> {
    fn fresh(
        &self,
        found: Option<&Arc<Stored>>,
        parts: &Parts,
        way: &mut Way,
    ) -> Option<Response<Body>> {
        let now = SystemTime::now();
        let stored = found.filter(|stored| stored.is_fresh(&self.asked, now))?;
        way.cache = Some(Lookup::Hit);
        Some(stored.answer(parts, now))
    }

    /// Asks the backend, and keeps what it answers if that may be.
    async fn fetch(
        self,
        found: Option<Arc<Stored>>,
        mut parts: Parts,
        way: &mut Way,
        turn: Option<keep::First>,
    ) -> Result<Response<Body>, Refusal> {
        let (method, asked_head) = (parts.method.clone(), parts.headers.clone());
        let is_conditional = found.as_ref().is_some_and(|stored| stored.ask_again(&mut parts));
        let answered = self.course.send(parts, empty(), way).await;
        let now = SystemTime::now();
        let cache = &self.course.going.client.shared.cache;
        let is_failure = match &answered {
            Ok(response) => response.status().is_server_error(),
            Err(refusal) => refusal.status.is_server_error(),
        };
        if let Some(stored) = found.as_ref().filter(|at| is_failure && at.may_hide_error(now)) {
            way.cache = Some(Lookup::Stale);
            return Ok(stored.answer_to(&method, &asked_head, now));
        }
        let response = answered?;
        if let Some(stored) = found
            && is_conditional
            && response.status() == StatusCode::NOT_MODIFIED
        {
            way.cache = Some(Lookup::Revalidated);
            let stored = stored.renewed(self.caching, &self.asked, response.headers(), now);
            if let Some(stored) = stored.is_worth_keeping.then_some(&stored.stored) {
                cache.put(&self.key, stored);
            }
            return Ok(stored.stored.answer_to(&method, &asked_head, now));
        }
        way.cache = Some(Lookup::Miss);
        if method != Method::GET {
            return Ok(response);
        }
        let Some(draft) = Stored::draft(self.caching, &self.asked, &response, now) else {
            return Ok(judge::shown(self.caching, response));
        };
        let response = judge::shown(self.caching, response);
        let (cache, key) = (Arc::clone(&self.course.going.client.shared), self.key);
        Ok(tee::kept(response, move |octets| {
            cache.cache.put(&key, &Arc::new(draft.with(octets)));
            drop(turn);
        }))
    }

    /// Fetches an answer anew while the one that is kept is given.
    fn refresh_later(self, stored: Arc<Stored>, parts: Parts, turn: Option<keep::First>) {
        let Self { course, caching, key, asked } = self;
        // somebody else does already
        let Some(turn) = turn.or_else(|| course.going.client.shared.cache.first(&key)) else {
            return;
        };
        let (owned, caching) = (Owned::of(course), Arc::clone(caching));
        tokio::spawn(async move {
            let Some(course) = owned.course() else { return };
            let passage = Passage { course, caching: &caching, key, asked };
            let mut way = Way::default();
            let fetched = passage.fetch(Some(stored), parts, &mut way, Some(turn)).await;
            if let Ok(response) = fetched {
                // what is not read to its end is not kept
                let _ = http_body_util::BodyExt::collect(response.into_body()).await;
            }
        });
    }
}
