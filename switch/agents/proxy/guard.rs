//! Who may ask a backend: what security policies say of clients, and whether they have to say who
//! they are.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use kswitch_config::routing::{Backend, SecurityAction, SecurityRule};

use super::identity;
use super::pool::Body;
use super::record::{Verdict, Way};
use super::request::{Going, Refusal, empty};

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
    if let Some(answer) = security(going, backend, way)? {
        return Ok(Some(answer));
    }
    let Some(audience) = &backend.policy.identity else { return Ok(None) };
    identity::gate(going, audience, parts, way)
}

fn security(
    going: Going<'_>,
    backend: &Backend,
    way: &mut Way,
) -> Result<Option<Response<Body>>, Refusal> {
    let Some(policy) = &backend.policy.security else { return Ok(None) };
    let judgement = policy.judge(going.client.peer.ip());
    let told = |rule: &SecurityRule| (rule.priority, word(&rule.action));
    let action = judgement.enforced.map(|rule| &rule.action);
    way.security = Some(Arc::new(Verdict {
        policy: policy.name.clone(),
        enforced: judgement.enforced.map(told),
        preview: judgement.preview.map(told),
        is_let_through: matches!(action, None | Some(SecurityAction::Allow)),
    }));
    match action {
        None | Some(SecurityAction::Allow) => Ok(None),
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

/// Source: Cloud Armor, `configuredAction`.
fn word(action: &SecurityAction) -> String {
    match action {
        SecurityAction::Allow => "ALLOW".to_owned(),
        SecurityAction::Deny(status) => format!("DENY({status})"),
        SecurityAction::Redirect(_) => "REDIRECT".to_owned(),
    }
}
