//! Whether a request is one that a rule is for, and which rule comes first.

use std::borrow::Cow;
use std::cmp::Reverse;

use regex::Regex;

/// Where the fields of a head are found.
pub trait Headers {
    /// The value of a field by its name in lower case; several values joined by `,`.
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// A request, as far as rules ask for it.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// Its host, in lower case and without a port.
    pub host: &'r str,
    /// Its method.
    pub method: &'r str,
    /// Its path.
    pub path: &'r str,
    /// Its query, without the `?`.
    pub query: Option<&'r str>,
    /// The fields of its head.
    pub headers: &'r (dyn Headers + Sync),
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}{}", self.method, self.host, self.path)
    }
}

/// Requests that satisfy all of this.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// Its path.
    pub path: PathMatch,
    /// Its method.
    pub method: Option<String>,
    /// Fields of its head, by name in lower case.
    pub headers: Vec<(String, ValueMatch)>,
    /// Parameters of its query.
    pub query: Vec<(String, ValueMatch)>,
    /// What it asks of a gRPC call, which it must be then.
    pub call: Option<Call>,
}

/// What a match asks of a gRPC call, as far as it decides which of several comes first; its path says
/// the same.
///
/// Source: Gateway API, `GRPCRouteRule.matches`, on precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// 0: by names; 1: by expressions; 2: any.
    kind: u8,
    /// Letters of the service that is named; more come first.
    service: Reverse<usize>,
    /// Letters of the method.
    method: Reverse<usize>,
}

impl Call {
    /// What is asked of a call, by names or by expressions.
    pub(super) fn new(service: Option<&str>, method: Option<&str>, is_expression: bool) -> Self {
        let letters = |text: Option<&str>| Reverse(text.map_or(0, str::len));
        let kind = match (service, method) {
            (None, None) => 2,
            _ => u8::from(is_expression),
        };
        Self { kind, service: letters(service), method: letters(method) }
    }
}

/// A path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// This alone.
    Exact(String),
    /// This and what is below it, by whole elements; without `/` at its end, but for the root.
    Prefix(String),
    /// Whatever begins so.
    ///
    /// Source: GKE, Ingress paths that end in `*`.
    Begins(String),
    /// Whatever is as the expression says, as a whole.
    Expression(Regex),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// This.
    Exact(String),
    /// Whatever is as the expression says, as a whole.
    Expression(Regex),
}

/// Reads an expression, which must match the whole of something.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn expression(text: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{text})$")).map_err(|error| match error {
        regex::Error::Syntax(_) => format!("{text:?} is not a regular expression"),
        _ => format!("the expression {text:?} is too large"),
    })
}

impl PathMatch {
    /// A prefix by whole elements.
    pub(super) fn prefix(text: &str) -> Self {
        let trimmed = text.trim_end_matches('/');
        Self::Prefix(if trimmed.is_empty() { "/".into() } else { trimmed.to_owned() })
    }

    /// Whether a path is one of these.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) if prefix == "/" => true,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Begins(begin) => path.starts_with(begin.as_str()),
            Self::Expression(expression) => expression.is_match(path),
        }
    }

    /// The part of a path that it asks for.
    pub fn matched(&self) -> Option<&str> {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Begins(text) => Some(text),
            Self::Expression(_) => None,
        }
    }

    /// What comes first: exact paths, then the longest prefixes, then expressions.
    fn rank(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(exact) => (0, Reverse(exact.len())),
            Self::Prefix(prefix) | Self::Begins(prefix) => (1, Reverse(prefix.len())),
            Self::Expression(expression) => (2, Reverse(expression.as_str().len())),
        }
    }
}

impl ValueMatch {
    /// Whether a value is one of these.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Expression(expression) => expression.is_match(value),
        }
    }
}

impl Match {
    /// Whether a request satisfies all of it, but for its host.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        let Self { path, method, headers, query, call } = self;
        path.matches(request.path)
            && method.as_ref().is_none_or(|method| method == request.method)
            && (call.is_none() || is_grpc_call(request))
            && headers.iter().all(|(name, wanted)| {
                request.headers.value(name).is_some_and(|value| wanted.matches(&value))
            })
            && query.iter().all(|(name, wanted)| {
                let mut pairs =
                    form_urlencoded::parse(request.query.unwrap_or_default().as_bytes());
                // of a parameter that is there twice, the first counts
                pairs.find(|(key, _)| key == name).is_some_and(|(_, value)| wanted.matches(&value))
            })
    }

    /// What comes first among those that match the same request.
    ///
    /// Source: Gateway API, `HTTPRouteRule.matches`, on precedence.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let Self { path, method, headers, query, call } = self;
        // of calls it is not the path that decides
        let path = if call.is_some() { (0, Reverse(0)) } else { path.rank() };
        (path, *call, method.is_none(), Reverse(headers.len()), Reverse(query.len()))
    }
}

fn is_grpc_call(request: &Request<'_>) -> bool {
    let kind = request.headers.value("content-type");
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}
