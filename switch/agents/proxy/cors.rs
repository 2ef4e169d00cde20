//! Answers to pages of other origins that want to ask.
//!
//! Source: Gateway API, `HTTPCORSFilter`; Fetch Standard, "CORS protocol".

use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method};
use kswitch_config::routing::{Cors, Headers, Origin};

use super::head::Fields;

/// The origin of a request, where it is one that may ask.
pub fn origin<'h>(cors: &Cors, headers: &'h HeaderMap) -> Option<&'h str> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    cors.origins.iter().any(|allowed| allowed.matches(origin)).then_some(origin)
}

/// Whether a request only asks whether another may be sent.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What is said to a page of this origin; `request` is what it sent, if it only asked.
pub fn allow(cors: &Cors, origin: &str, request: Option<&HeaderMap>, headers: &mut HeaderMap) {
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let is_any = cors.origins.contains(&Origin::Any) && !cors.credentials;
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, if is_any { "*" } else { origin });
    if cors.credentials {
        set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    if !cors.expose.is_empty() {
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose.join(", "));
    }
    if let Some(request) = request {
        let asked = |name: header::HeaderName| {
            Fields(request).value(name.as_str()).map(std::borrow::Cow::into_owned)
        };
        // a wildcard means nothing where cookies are sent: what was asked for is named
        let named = |list: &[String], asked: Option<String>| match asked {
            Some(asked) if cors.credentials && list.iter().any(|at| at == "*") => asked,
            _ => list.join(", "),
        };
        let methods = named(&cors.methods, asked(header::ACCESS_CONTROL_REQUEST_METHOD));
        if !methods.is_empty() {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, &methods);
        }
        let fields = named(&cors.headers, asked(header::ACCESS_CONTROL_REQUEST_HEADERS));
        if !fields.is_empty() {
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, &fields);
        }
        set(header::ACCESS_CONTROL_MAX_AGE, &cors.max_age.to_string());
    }
    if !is_any {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
