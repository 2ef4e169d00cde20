//! What is kept to answer again.

use std::time::Duration;

use crate::gke::{CacheKey, Cdn};

/// What is kept, and for how long.
///
/// Source: GKE, "Cloud CDN" of `BackendConfig`; Cloud CDN, "Cache modes".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caching {
    /// Which answers are kept.
    pub mode: CacheMode,
    /// For how long clients may keep them, at most.
    pub client_ttl: Duration,
    /// For how long those are kept that do not say so.
    pub default_ttl: Duration,
    /// For how long others are kept, at most; with [`CacheMode::Origin`] as they say.
    pub max_ttl: Duration,
    /// By status, for how long failures are kept; `None`: not at all.
    pub negative: Option<Vec<(u16, Duration)>>,
    /// Whether the host tells requests apart.
    pub has_host: bool,
    /// Whether `http` and `https` do.
    pub has_scheme: bool,
    /// Which parameters of the query do.
    pub query: QueryKey,
    /// Fields of requests that are always passed on, in lower case.
    pub bypass: Vec<String>,
    /// Whether requests for the same wait for the first of them.
    pub is_coalescing: bool,
    /// For how long answers that are too old are given while a new one is fetched.
    pub stale: Duration,
}

/// Which answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Those that say so, and static content that does not forbid it.
    Static,
    /// Those that say so.
    Origin,
    /// All that succeed.
    All,
}

/// Which parameters of a query tell requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryKey {
    /// None.
    None,
    /// All.
    All,
    /// All but these.
    Without(Vec<String>),
    /// These.
    Only(Vec<String>),
}

/// Source: Cloud CDN, "TTL settings": an hour each, and a day at most.
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// For how long failures are kept that no policy names.
///
/// Source: Cloud CDN, "Negative caching".
const NEGATIVE: [(u16, u64); 7] =
    [(300, 600), (301, 600), (308, 600), (404, 120), (410, 120), (421, 60), (451, 120)];
/// The same of 405 and 501.
const REFUSED: [(u16, u64); 2] = [(405, 60), (501, 60)];

impl Caching {
    /// Reads what a `BackendConfig` says, if anything is kept.
    pub(super) fn new(cdn: &Cdn) -> Option<Self> {
        if !cdn.enabled {
            return None;
        }
        let mode = match cdn.cache_mode.as_deref() {
            Some("USE_ORIGIN_HEADERS") => CacheMode::Origin,
            Some("FORCE_CACHE_ALL") => CacheMode::All,
            _ => CacheMode::Static,
        };
        let time = |seconds: Option<i64>, default| {
            seconds.and_then(|at| u64::try_from(at).ok()).map_or(default, Duration::from_secs)
        };
        let default_ttl = time(cdn.default_ttl, HOUR);
        let max_ttl = match mode {
            CacheMode::All => default_ttl,
            CacheMode::Static | CacheMode::Origin => time(cdn.max_ttl, DAY),
        };
        let key = cdn.cache_policy.as_ref();
        let has = |of: fn(&CacheKey) -> Option<bool>| {
            // all of it, where nothing is said
            key.is_none_or(|key| of(key).unwrap_or(false))
        };
        let query = match key {
            _ if !has(|key| key.include_query_string) => QueryKey::None,
            Some(key) if !key.query_string_whitelist.is_empty() => {
                QueryKey::Only(key.query_string_whitelist.clone())
            }
            Some(key) if !key.query_string_blacklist.is_empty() => {
                QueryKey::Without(key.query_string_blacklist.clone())
            }
            _ => QueryKey::All,
        };
        let bypass = cdn.bypass_cache_on_request_headers.iter();
        Some(Self {
            mode,
            client_ttl: time(cdn.client_ttl, default_ttl),
            default_ttl,
            max_ttl,
            negative: cdn.negative_caching.unwrap_or(true).then(|| negative(cdn)),
            has_host: has(|key| key.include_host),
            has_scheme: has(|key| key.include_protocol),
            query,
            bypass: bypass.map(|at| at.header_name.to_ascii_lowercase()).collect(),
            is_coalescing: cdn.request_coalescing.unwrap_or(true),
            // Cloud CDN has a day where nothing is said; here RFC 9111 is followed until told otherwise
            stale: time(cdn.serve_while_stale, Duration::ZERO),
        })
    }

    /// What tells a request apart from others: requests of the same key get the same answer.
    pub fn key(&self, scheme: &str, host: &str, path: &str, query: Option<&str>) -> String {
        let scheme = if self.has_scheme { scheme } else { "" };
        let host = if self.has_host { host } else { "" };
        let mut key = format!("{scheme}://{host}{path}");
        let mut mark = '?';
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let is_named = |list: &[String]| list.iter().any(|at| at == name);
            let counts = match &self.query {
                QueryKey::None => false,
                QueryKey::All => true,
                QueryKey::Without(names) => !is_named(names),
                QueryKey::Only(names) => is_named(names),
            };
            if counts {
                key.push(mark);
                key.push_str(pair);
                mark = '&';
            }
        }
        key
    }

    /// For how long an answer of a status that is no success is kept, where it does not say so.
    pub fn negative_ttl(&self, status: u16) -> Option<Duration> {
        let list = self.negative.as_ref()?;
        list.iter().find(|(code, _)| *code == status).map(|(_, ttl)| *ttl)
    }
}

/// Source: Cloud CDN, "Negative caching": a policy replaces all defaults.
fn negative(cdn: &Cdn) -> Vec<(u16, Duration)> {
    let seconds = |(code, ttl): &(u16, u64)| (*code, Duration::from_secs(*ttl));
    if cdn.negative_caching_policy.is_empty() {
        return NEGATIVE.iter().chain(&REFUSED).map(seconds).collect();
    }
    let policy = cdn.negative_caching_policy.iter();
    policy
        .filter_map(|at| {
            let ttl = u64::try_from(at.ttl).ok()?;
            Some((u16::try_from(at.code).ok()?, Duration::from_secs(ttl)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caching(text: &str) -> Caching {
        Caching::new(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn keys_have_what_is_said() {
        let key = |caching: &Caching| caching.key("https", "a.example", "/x", Some("b=1&utm=2&c"));
        let all = caching(r#"{"enabled": true}"#);
        assert_eq!(key(&all), "https://a.example/x?b=1&utm=2&c");
        let bare = caching(r#"{"enabled": true, "cachePolicy": {"includeHost": true}}"#);
        assert_eq!(key(&bare), "://a.example/x");
        let without = caching(
            r#"{"enabled": true, "cachePolicy":
                {"includeQueryString": true, "queryStringBlacklist": ["utm"]}}"#,
        );
        assert_eq!(key(&without), ":///x?b=1&c");
        let only = caching(
            r#"{"enabled": true, "cachePolicy":
                {"includeQueryString": true, "queryStringWhitelist": ["c"]}}"#,
        );
        assert_eq!(key(&only), ":///x?c");
    }

    #[test]
    fn failures_are_kept_as_a_policy_says() {
        let default = caching(r#"{"enabled": true}"#);
        assert_eq!(default.negative_ttl(404), Some(Duration::from_mins(2)));
        assert_eq!(default.negative_ttl(500), None);
        let own =
            caching(r#"{"enabled": true, "negativeCachingPolicy": [{"code": 404, "ttl": 7}]}"#);
        assert_eq!(own.negative_ttl(404), Some(Duration::from_secs(7)));
        assert_eq!(own.negative_ttl(410), None);
        let none = caching(r#"{"enabled": true, "negativeCaching": false}"#);
        assert_eq!(none.negative_ttl(404), None);
        assert_eq!(Caching::new(&Cdn::default()), None);
    }
}
