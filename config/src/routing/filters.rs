//! What filters change.

use std::sync::Arc;

use super::model::{Cors, Filters, HeaderEdit, Mirror, Origin};
use super::path::PathChange;
use super::redirect::Redirect;
use crate::gateway_api::{
    BackendReference, HeaderFilter, HeaderValue, MirrorFilter, PathModifier, RedirectFilter,
    RouteFilter,
};
use crate::routing::Backend;

/// The status of a redirect that names none.
const FOUND: u16 = 302;

/// Seconds for which an answer to a preflight may be remembered.
const CORS_MAX_AGE: u32 = 5;

/// What some filters change; `backend` finds the Services of mirrors.
pub(super) fn filters(
    list: &[RouteFilter],
    backend: &mut dyn FnMut(&BackendReference) -> Option<Arc<Backend>>,
) -> Filters {
    let mut all = Filters::default();
    for filter in list {
        match filter.type_.as_str() {
            "RequestHeaderModifier" => {
                all.request_headers.extend(filter.request_header_modifier.as_ref().map(edit));
            }
            "ResponseHeaderModifier" => {
                all.response_headers.extend(filter.response_header_modifier.as_ref().map(edit));
            }
            "RequestRedirect" => {
                all.redirect = filter.request_redirect.as_ref().map(redirect);
            }
            "URLRewrite" => {
                if let Some(rewrite) = &filter.url_rewrite {
                    all.host.clone_from(&rewrite.hostname);
                    all.path = rewrite.path.as_ref().and_then(path_change);
                }
            }
            "RequestMirror" => {
                if let Some(mirror) = &filter.request_mirror {
                    let (numerator, denominator) = share(mirror);
                    let backend = backend(&mirror.backend_ref);
                    all.mirrors.push(Mirror { backend, numerator, denominator });
                }
            }
            "CORS" => {
                all.cors = filter.cors.as_ref().map(|cors| {
                    Arc::new(Cors {
                        origins: cors.allow_origins.iter().map(|text| Origin::new(text)).collect(),
                        credentials: cors.allow_credentials.unwrap_or(false),
                        methods: cors.allow_methods.clone(),
                        headers: cors.allow_headers.clone(),
                        expose: cors.expose_headers.clone(),
                        max_age: cors
                            .max_age
                            .and_then(|age| u32::try_from(age).ok())
                            .unwrap_or(CORS_MAX_AGE),
                    })
                });
            }
            other => all.unusable = Some(format!("a filter of the type {other} is not known here")),
        }
    }
    all
}

fn edit(filter: &HeaderFilter) -> HeaderEdit {
    let pairs = |list: &[HeaderValue]| {
        list.iter().map(|at| (at.name.to_ascii_lowercase(), at.value.clone())).collect()
    };
    HeaderEdit {
        set: pairs(&filter.set),
        add: pairs(&filter.add),
        remove: filter.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}

fn redirect(filter: &RedirectFilter) -> Redirect {
    let status = filter.status_code.and_then(|status| u16::try_from(status).ok());
    Redirect {
        scheme: filter.scheme.clone(),
        host: filter.hostname.clone(),
        port: filter.port.and_then(|port| u16::try_from(port).ok()),
        path: filter.path.as_ref().and_then(path_change),
        status: status.unwrap_or(FOUND),
    }
}

fn path_change(modifier: &PathModifier) -> Option<PathChange> {
    match modifier.type_.as_str() {
        "ReplaceFullPath" => modifier.replace_full_path.clone().map(PathChange::Full),
        _ => modifier.replace_prefix_match.clone().map(PathChange::Prefix),
    }
}

/// Source: Gateway API, `HTTPRequestMirrorFilter.percent`, `.fraction`.
fn share(mirror: &MirrorFilter) -> (u32, u32) {
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    match (mirror.percent, mirror.fraction) {
        (Some(percent), _) => (number(percent), 100),
        (None, Some(of)) => (number(of.numerator), number(of.denominator.unwrap_or(100)).max(1)),
        (None, None) => (1, 1),
    }
}
