//! Who may ask a backend: what security policies say of clients, and whether they have to say who
//! they are.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use kswitch_config::routing::{self, Backend, SecurityAction, SecurityRule, Visit};

use super::limits::Counted;
use super::pool::Body;
use super::record::{Said, Verdict, Way};
use super::request::{Client, Going, Refusal, empty};
use super::{head, identity};

/// What a client is answered that may not ask a backend; `None`: it may.
///
/// # Errors
/// A refusal of it.
pub(super) fn check(
    going: Going<'_>,
    backend: &Backend,
    parts: &mut Parts,
    way: &mut Way,
) -> Result<Option<Response<Body>>, Refusal> {
    if let Some(answer) = security(going, backend, parts, way)? {
        return Ok(Some(answer));
    }
    let Some(audience) = &backend.policy.identity else { return Ok(None) };
    identity::gate(going, audience, parts, way)
}

fn security(
    going: Going<'_>,
    backend: &Backend,
    parts: &Parts,
    way: &mut Way,
) -> Result<Option<Response<Body>>, Refusal> {
    let Some(policy) = &backend.policy.security else { return Ok(None) };
    let request = routing::Request {
        host: going.host,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &head::Fields(&parts.headers),
    };
    let Client { shared, peer, scheme, .. } = &**going.client;
    let visit = Visit { client: peer.ip(), scheme, request: &request };
    let judgement = policy.judge(&visit);
    let count = |rule: &SecurityRule| match &rule.action {
        SecurityAction::Limit(limit) => {
            let place = (&backend.key, policy.name.as_str(), rule.priority);
            Some(shared.limits.count(place, limit, &visit, Instant::now()))
        }
        _ => None,
    };
    // previews are counted like all others, and hold nobody up
    let previewed = judgement.preview.and_then(count);
    let counted = judgement.enforced.and_then(count);
    let action = judgement.enforced.map(|rule| settled(&rule.action, counted));
    let is_good = |action: Option<&SecurityAction>| {
        matches!(action, None | Some(SecurityAction::Allow | SecurityAction::Limit(_)))
    };
    let told = |rule: &SecurityRule, counted: Option<Counted>| Said {
        priority: rule.priority,
        action: word(&rule.action),
        is_let_through: is_good(Some(settled(&rule.action, counted))),
        counted,
    };
    way.security = Some(Arc::new(Verdict {
        policy: policy.name.clone(),
        enforced: judgement.enforced.map(|rule| told(rule, counted)),
        preview: judgement.preview.map(|rule| told(rule, previewed)),
    }));
    match action {
        None | Some(SecurityAction::Allow | SecurityAction::Limit(_)) => Ok(None),
        Some(SecurityAction::Deny(status)) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN);
            Err(Refusal::new(status, "denied_by_security_policy"))
        }
        Some(SecurityAction::Redirect(to)) => {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::FOUND;
            if let Ok(to) = HeaderValue::try_from(to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            way.reason = Some("redirected_by_security_policy");
            Ok(Some(response))
        }
    }
}

/// What an action comes to for a client that was counted.
fn settled(action: &SecurityAction, counted: Option<Counted>) -> &SecurityAction {
    match (action, counted) {
        (SecurityAction::Limit(limit), Some(Counted::Beyond | Counted::Banned)) => &limit.exceed,
        _ => action,
    }
}

/// Source: Cloud Armor, `configuredAction`.
fn word(action: &SecurityAction) -> String {
    match action {
        SecurityAction::Allow => "ALLOW".to_owned(),
        SecurityAction::Deny(status) => format!("DENY({status})"),
        SecurityAction::Redirect(_) => "REDIRECT".to_owned(),
        SecurityAction::Limit(limit) if limit.ban.is_some() => "RATE_BASED_BAN".to_owned(),
        SecurityAction::Limit(_) => "THROTTLE".to_owned(),
    }
}
