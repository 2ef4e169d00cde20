//! Requests and what became of them, as logs of load balancers tell it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use hyper::{Method, Uri, Version};
use kswitch_config::routing::{Listener, Rule};
use serde_json::{Value, json};

use super::limits::Counted;

/// A request and what became of it. What it holds is shared, so that noting one costs little.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it came.
    pub when: SystemTime,
    /// The client.
    pub client: SocketAddr,
    /// Where it came in.
    pub place: SocketAddr,
    /// The listener that took it.
    pub listener: Option<Arc<Listener>>,
    /// Its method.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host that it asked; empty: none.
    pub host: String,
    /// Its target.
    pub uri: Uri,
    /// The version of HTTP that it came in.
    pub version: Version,
    /// What the client calls itself.
    pub agent: Option<HeaderValue>,
    /// The status of the answer.
    pub status: u16,
    /// What was found out on its way.
    pub way: Way,
    /// Why this balancer answered itself.
    pub reason: Option<String>,
    /// Until the answer began.
    pub took: Duration,
}

/// A request on its way: what was found out about it.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// The rule that it met.
    pub rule: Option<Arc<Rule>>,
    /// Where it was sent.
    pub backend: Option<SocketAddr>,
    /// So many of a million such requests are noted; `None`: all.
    pub noted: Option<u32>,
    /// What a security policy said.
    pub security: Option<Arc<Verdict>>,
    /// What the cache had to say; `None`: nothing is kept there.
    pub cache: Option<Lookup>,
    /// Who the client is, by what vouches for it.
    pub user: Option<String>,
    /// Why this balancer answered itself, where that is no refusal.
    pub reason: Option<&'static str>,
}

/// What a security policy said of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its name.
    pub policy: String,
    /// The rule that held.
    pub enforced: Option<Said>,
    /// The one that would have held were it not a preview.
    pub preview: Option<Said>,
}

/// What a rule of a security policy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its priority.
    pub priority: i64,
    /// What it is to do.
    pub action: String,
    /// Whether the client is let through.
    pub is_let_through: bool,
    /// What came of counting, where it counts.
    pub counted: Option<Counted>,
}

impl Said {
    fn to_json(&self, policy: &str) -> Value {
        let Self { priority, action, is_let_through, counted } = self;
        let mut said = json!({
            "name": policy,
            "priority": priority,
            "configuredAction": action,
            "outcome": if *is_let_through { "ACCEPT" } else { "DENY" },
        });
        if let (Some(counted), Some(said)) = (counted, said.as_object_mut()) {
            said.insert("rateLimitAction".into(), json!({ "outcome": counted.word() }));
        }
        said
    }
}

/// What a cache had of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// All of it.
    Hit,
    /// One that was too old, and was given all the same.
    Stale,
    /// One that its backend said still holds.
    Revalidated,
    /// Nothing.
    Miss,
    /// It was not asked.
    Bypassed,
}

impl Lookup {
    /// In one word.
    ///
    /// Source: Cloud CDN, `cdn_cache_status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Bypassed => "uncacheable",
        }
    }
}

impl Record {
    /// In one line, with the words of Cloud Logging.
    ///
    /// Source: Google Cloud, `HttpRequest`, and `statusDetails`, `enforcedSecurityPolicy` and
    /// `previewSecurityPolicy` of load balancers' logs.
    pub fn to_json(&self) -> Value {
        let Self { client, place, method, scheme, host, uri, status, way, reason, took, .. } = self;
        let is_kept = matches!(way.cache, Some(Lookup::Hit | Lookup::Stale | Lookup::Revalidated));
        let details = match reason.as_deref().or(way.reason) {
            Some(reason) => reason,
            None if way.cache == Some(Lookup::Revalidated) => "response_from_cache_validated",
            None if is_kept => "response_from_cache",
            None => "response_sent_by_backend",
        };
        let since = self.when.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let since = i64::try_from(since.as_micros()).unwrap_or_default();
        let when = jiff::Timestamp::from_microsecond(since).unwrap_or_default();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let severity = match status {
            500.. => "ERROR",
            400.. => "WARNING",
            _ => "INFO",
        };
        let mut line = json!({
            "timestamp": when.to_string(),
            "severity": severity,
            "httpRequest": {
                "requestMethod": method.as_str(),
                "requestUrl": format!("{scheme}://{host}{path}"),
                "protocol": format!("{:?}", self.version),
                "status": status,
                "userAgent": self.agent.as_ref().and_then(|agent| agent.to_str().ok()),
                "remoteIp": client.ip().to_string(),
                "serverIp": way.backend.map(|backend| backend.to_string()),
                "latency": format!("{:.6}s", took.as_secs_f64()),
            },
            "forwardingRule": place.to_string(),
            "listener": self.listener.as_ref().map(|listener| listener.name.as_str()),
            "urlMapRule": way.rule.as_ref().map(|rule| rule.name.as_str()),
            "statusDetails": details,
        });
        let Some(line) = line.as_object_mut() else { return line };
        if let Some(lookup) = way.cache
            && let Some(request) = line.get_mut("httpRequest").and_then(Value::as_object_mut)
        {
            request.insert("cacheLookup".into(), (lookup != Lookup::Bypassed).into());
            request.insert("cacheHit".into(), is_kept.into());
            let was_asked = lookup == Lookup::Revalidated;
            request.insert("cacheValidatedWithOriginServer".into(), was_asked.into());
        }
        if let Some(verdict) = way.security.as_deref() {
            let Verdict { policy, enforced, preview } = verdict;
            let rules = [("enforcedSecurityPolicy", enforced), ("previewSecurityPolicy", preview)];
            for (key, rule) in rules {
                line.extend(rule.as_ref().map(|rule| (key.to_owned(), rule.to_json(policy))));
            }
        }
        if let Some(user) = &way.user {
            line.insert("authenticatedUser".into(), user.as_str().into());
        }
        Value::Object(std::mem::take(line))
    }
}
