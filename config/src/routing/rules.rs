//! Rules of routes, with the Services that they name.

use std::sync::Arc;

use super::attach::Grants;
use super::backends::{Backends, PortRef};
use super::filters::filters;
use super::matching::{Call, Match, PathMatch, ValueMatch, expression};
use super::model::{
    Backend, BackendPart, Persistence, PersistenceKind, Rule, Target, TargetBackend, Timeouts,
};
use super::time::timeout;
use crate::gateway_api::{
    BackendReference, GrpcMatch, GrpcRule, HttpRule, L4Rule, RouteBackend, RouteFilter, RouteMatch,
    SessionPersistence, ValueMatchSpec,
};

/// Whose rules these are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'r> {
    /// `HTTPRoute` or another kind.
    pub(super) kind: &'static str,
    pub(super) namespace: &'r str,
    pub(super) name: &'r str,
    /// What its Services get.
    pub(super) part: BackendPart,
}

/// A reference that cannot be used: the reason of the condition, and what is wrong.
///
/// Source: Gateway API, `RouteReasonBackendNotFound` and those beside it.
pub(super) type Problem = (&'static str, String);

/// Reads the rules of one route.
pub(super) struct Reader<'r, 'c> {
    pub(super) owner: Owner<'r>,
    pub(super) backends: &'r mut Backends<'c>,
    pub(super) grants: &'r Grants<'c>,
    /// What cannot be used.
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_, '_> {
    /// A rule of requests.
    pub(super) fn http(&mut self, index: usize, rule: &HttpRule) -> (Vec<Match>, Rule) {
        let matches = rule.matches.iter().map(http_match).collect();
        let times = rule.timeouts.clone().unwrap_or_default();
        let time = |text: Option<String>| text.as_deref().and_then(timeout);
        let made = Rule {
            name: self.name(index, rule.name.as_deref()),
            filters: self.filters(&rule.filters),
            targets: self.targets(&rule.backend_refs),
            timeouts: Timeouts {
                request: time(times.request),
                backend: time(times.backend_request),
            },
            persistence: rule.session_persistence.as_ref().map(persistence),
        };
        (or_all(matches), made)
    }

    /// A rule of calls.
    pub(super) fn grpc(&mut self, index: usize, rule: &GrpcRule) -> (Vec<Match>, Rule) {
        let matches = rule.matches.iter().map(grpc_match).collect();
        let made = Rule {
            name: self.name(index, rule.name.as_deref()),
            filters: self.filters(&rule.filters),
            targets: self.targets(&rule.backend_refs),
            timeouts: Timeouts::default(),
            persistence: rule.session_persistence.as_ref().map(persistence),
        };
        let all =
            if rule.matches.is_empty() { vec![grpc_match(&GrpcMatch::default())] } else { matches };
        (all, made)
    }

    /// A rule of connections or datagrams.
    pub(super) fn layer4(&mut self, index: usize, rule: &L4Rule) -> Rule {
        Rule {
            name: self.name(index, rule.name.as_deref()),
            targets: rule.backend_refs.iter().map(|at| self.target(at, &[])).collect(),
            ..Rule::default()
        }
    }

    fn name(&self, index: usize, name: Option<&str>) -> String {
        let Owner { kind, namespace, name: of, part: _ } = self.owner;
        match name {
            Some(name) => format!("{kind} {namespace}/{of}, rule {name}"),
            None => format!("{kind} {namespace}/{of}, rule {index}"),
        }
    }

    fn filters(&mut self, list: &[RouteFilter]) -> super::Filters {
        let made = filters(list, &mut |reference| self.backend(reference).ok());
        if let Some(unusable) = &made.unusable {
            self.problems.push(("UnsupportedValue", unusable.clone()));
        }
        made
    }

    fn targets(&mut self, list: &[RouteBackend]) -> Vec<Target> {
        list.iter().map(|at| self.target(&at.reference(), &at.filters)).collect()
    }

    fn target(&mut self, reference: &BackendReference, list: &[RouteFilter]) -> Target {
        let filters = self.filters(list);
        let backend = match self.backend(reference) {
            Ok(backend) => TargetBackend::Service(backend),
            Err(why) => TargetBackend::Unusable(why),
        };
        let weight = reference.weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
        Target { weight, backend, filters }
    }

    /// The backend that is referred to; what is wrong is noted.
    fn backend(&mut self, reference: &BackendReference) -> Result<Arc<Backend>, String> {
        let found = self.find(reference);
        found.map_err(|(reason, message)| {
            self.problems.push((reason, message.clone()));
            message
        })
    }

    fn find(&mut self, reference: &BackendReference) -> Result<Arc<Backend>, Problem> {
        let group = reference.group.as_deref().unwrap_or("");
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if !matches!(group, "" | "core") || kind != "Service" {
            return Err(("InvalidKind", format!("backends of the kind {kind} are not known here")));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(self.owner.namespace);
        let from = (self.owner.kind, self.owner.namespace);
        if !self.grants.permit(from, ("", "Service"), namespace, &reference.name) {
            let message = format!(
                "no ReferenceGrant in {namespace} lets {}s of {} refer to the Service {}",
                self.owner.kind, self.owner.namespace, reference.name
            );
            return Err(("RefNotPermitted", message));
        }
        let port = PortRef::Number(reference.port.unwrap_or(0));
        self.backends
            .of(namespace, &reference.name, port, self.owner.part)
            .map_err(|message| ("BackendNotFound", message))
    }
}

fn or_all(matches: Vec<Match>) -> Vec<Match> {
    if matches.is_empty() { vec![Match::default()] } else { matches }
}

fn persistence(spec: &SessionPersistence) -> Persistence {
    let kind = match spec.type_.as_deref() {
        Some("Header") => PersistenceKind::Header,
        _ => PersistenceKind::Cookie,
    };
    let is_permanent = spec
        .cookie_config
        .as_ref()
        .is_some_and(|config| config.lifetime_type.as_deref() == Some("Permanent"));
    let lasts = spec.absolute_timeout.as_deref().and_then(timeout).filter(|_| is_permanent);
    let default = if kind == PersistenceKind::Header { "x-kswitch-session" } else { "kswitch" };
    Persistence {
        kind,
        name: spec.session_name.clone().unwrap_or_else(|| default.to_owned()),
        max_age: lasts.map(|lasts| lasts.as_secs()),
    }
}

fn http_match(spec: &RouteMatch) -> Match {
    let path = spec.path.as_ref().map_or_else(PathMatch::default, |path| {
        let value = path.value.as_deref().unwrap_or("/");
        match path.type_.as_deref() {
            Some("Exact") => PathMatch::Exact(value.to_owned()),
            Some("RegularExpression") => expression(value)
                .map_or_else(|_| PathMatch::Exact(value.to_owned()), PathMatch::Expression),
            _ => PathMatch::prefix(value),
        }
    });
    Match {
        path,
        method: spec.method.clone(),
        headers: values(&spec.headers, str::to_ascii_lowercase),
        query: values(&spec.query_params, str::to_owned),
        call: None,
    }
}

/// Named values; of those with the same name, only the first counts.
///
/// Source: Gateway API, `HTTPHeaderMatch.name`.
fn values(specs: &[ValueMatchSpec], name: impl Fn(&str) -> String) -> Vec<(String, ValueMatch)> {
    let mut all: Vec<(String, ValueMatch)> = Vec::new();
    for spec in specs {
        let key = name(&spec.name);
        if all.iter().any(|(have, _)| *have == key) {
            continue;
        }
        let value = spec.value.as_deref().unwrap_or_default();
        let exact = || ValueMatch::Exact(value.to_owned());
        let wanted = match spec.type_.as_deref() {
            Some("RegularExpression") => {
                expression(value).map_or_else(|_| exact(), ValueMatch::Expression)
            }
            _ => exact(),
        };
        all.push((key, wanted));
    }
    all
}

/// Source: gRPC over HTTP/2: a call's path is `/Service/Method`.
fn grpc_match(spec: &GrpcMatch) -> Match {
    let method = spec.method.clone().unwrap_or_default();
    let (service, call) = (method.service.as_deref(), method.method.as_deref());
    let is_expression = method.type_.as_deref() == Some("RegularExpression");
    let path = if is_expression {
        let text = format!("/{}/{}", service.unwrap_or("[^/]+"), call.unwrap_or("[^/]+"));
        expression(&text).map_or_else(|_| PathMatch::Exact(text), PathMatch::Expression)
    } else {
        match (service, call) {
            (Some(service), Some(call)) => PathMatch::Exact(format!("/{service}/{call}")),
            (Some(service), None) => PathMatch::Begins(format!("/{service}/")),
            (None, Some(call)) => {
                let text = format!("/[^/]+/{}", regex::escape(call));
                expression(&text).map_or_else(|_| PathMatch::Exact(text), PathMatch::Expression)
            }
            (None, None) => PathMatch::default(),
        }
    };
    Match {
        path,
        headers: values(&spec.headers, str::to_ascii_lowercase),
        call: Some(Call::new(service, call, is_expression)),
        ..Match::default()
    }
}
