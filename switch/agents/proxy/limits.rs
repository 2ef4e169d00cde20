//! How many requests clients have sent, by the rules that count them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header;
use kswitch_config::routing::{BackendKey, LimitKey, RateLimit, Threshold, Visit};

use super::head;

/// Clients that are counted at most; others are let through.
const CLIENTS: usize = 65_536;

/// How often those are forgotten who need not be counted any more, where there are too many.
const SWEEP: Duration = Duration::from_secs(1);

/// What came of counting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is one of those that are let through.
    Within,
    /// It is not.
    Beyond,
    /// Its client is banned.
    Banned,
}

impl Counted {
    /// As logs have it.
    ///
    /// Source: Google Cloud Armor, "Monitoring", `rateLimitAction.outcome`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Within => "RATE_LIMIT_THRESHOLD_CONFORM",
            Self::Beyond => "RATE_LIMIT_THRESHOLD_EXCEED",
            Self::Banned => "BAN_THRESHOLD_EXCEED",
        }
    }
}

/// Whose requests are counted together: the backend, the policy, and the rule's priority.
pub type Rule<'r> = (&'r BackendKey, &'r str, i64);

/// Clients that are counted, by rule.
#[derive(Debug, Default)]
pub struct Limits(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_client: HashMap<u64, Client>,
    swept: Option<Instant>,
}

/// What is known of a client of a rule.
#[derive(Debug)]
struct Client {
    let_through: Window,
    beyond: Window,
    banned_until: Option<Instant>,
    /// From when on it need not be known.
    forget: Instant,
}

/// A time in which is counted: it begins with the first request.
#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Instant,
    count: u32,
}

impl Window {
    /// Counts a request; answers whether it is within what may be.
    fn count(&mut self, now: Instant, Threshold { count, interval }: Threshold) -> bool {
        if now.duration_since(self.begun) >= interval {
            *self = Self { begun: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= count
    }
}

impl Client {
    const fn new(now: Instant) -> Self {
        let window = Window { begun: now, count: 0 };
        Self { let_through: window, beyond: window, banned_until: None, forget: now }
    }

    fn count(&mut self, limit: &RateLimit, now: Instant) -> Counted {
        if self.banned_until.is_some_and(|until| now < until) {
            return Counted::Banned;
        }
        self.banned_until = None;
        let longest = limit.ban.and_then(|ban| ban.threshold).map(|at| at.interval);
        self.forget = now + limit.threshold.interval.max(longest.unwrap_or_default());
        if self.let_through.count(now, limit.threshold) {
            return Counted::Within;
        }
        let Some(ban) = limit.ban else { return Counted::Beyond };
        if ban.threshold.is_some_and(|threshold| self.beyond.count(now, threshold)) {
            return Counted::Beyond;
        }
        let until = now + ban.lasts;
        self.banned_until = Some(until);
        self.forget = until;
        Counted::Banned
    }
}

impl Limits {
    /// Counts a request.
    pub fn count(
        &self,
        rule: Rule<'_>,
        limit: &RateLimit,
        visit: &Visit<'_>,
        now: Instant,
    ) -> Counted {
        let key = key(rule, limit, visit);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { by_client, swept } = &mut *counts;
        if by_client.len() >= CLIENTS && !by_client.contains_key(&key) {
            if swept.is_none_or(|at| now.duration_since(at) >= SWEEP) {
                *swept = Some(now);
                by_client.retain(|_, client| now < client.forget);
            }
            if by_client.len() >= CLIENTS {
                return Counted::Within;
            }
        }
        by_client.entry(key).or_insert_with(|| Client::new(now)).count(limit, now)
    }
}

/// What a client of a rule is known by.
fn key(rule: Rule<'_>, limit: &RateLimit, visit: &Visit<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    rule.hash(&mut hasher);
    for key in &limit.keys {
        told(key, visit).hash(&mut hasher);
    }
    hasher.finish()
}

/// What a client says or is; clients that do not say it are one.
fn told<'v>(key: &LimitKey, visit: &'v Visit<'_>) -> Option<Cow<'v, str>> {
    let headers = visit.request.headers;
    let own = || visit.client.to_canonical().to_string();
    Some(match key {
        LimitKey::Address => own().into(),
        LimitKey::Forwarded => {
            let list = headers.value("x-forwarded-for");
            let first =
                list.as_deref().and_then(|list| list.split(',').next()?.trim().parse().ok());
            first.map_or_else(own, |first: IpAddr| first.to_string()).into()
        }
        LimitKey::Header(name) => headers.value(name)?,
        LimitKey::Cookie(name) => {
            let cookies = headers.value(header::COOKIE.as_str())?;
            head::cookie_of(&cookies, name)?.to_owned().into()
        }
        LimitKey::Path => visit.request.path.into(),
        LimitKey::ServerName if visit.scheme == "https" => visit.request.host.into(),
        LimitKey::ServerName => return None,
    })
}

#[cfg(test)]
mod tests {
    use kswitch_config::routing::{Ban, SecurityAction};

    use super::*;

    const fn threshold(count: u32, seconds: u64) -> Threshold {
        Threshold { count, interval: Duration::from_secs(seconds) }
    }

    fn limit(ban: Option<Ban>) -> RateLimit {
        let exceed = Box::new(SecurityAction::Deny(429));
        RateLimit { keys: vec![LimitKey::Address], threshold: threshold(2, 10), exceed, ban }
    }

    /// What becomes of requests at these seconds.
    fn counted(limit: &RateLimit, seconds: &[u64]) -> Vec<Counted> {
        let begun = Instant::now();
        let mut client = Client::new(begun);
        let at = |second: &u64| client.count(limit, begun + Duration::from_secs(*second));
        seconds.iter().map(at).collect()
    }

    use Counted::{Banned, Beyond, Within};

    #[test]
    fn so_many_in_a_time_are_let_through() {
        let told = counted(&limit(None), &[0, 1, 2, 9, 10, 11, 12]);
        assert_eq!(told, [Within, Within, Beyond, Beyond, Within, Within, Beyond]);
    }

    #[test]
    fn who_goes_on_is_banned() {
        let at_once = Some(Ban { threshold: None, lasts: Duration::from_mins(1) });
        let told = counted(&limit(at_once), &[0, 1, 2, 50, 61, 62]);
        assert_eq!(told, [Within, Within, Banned, Banned, Banned, Within]);
        let later = Some(Ban { threshold: Some(threshold(2, 30)), lasts: Duration::from_mins(1) });
        let told = counted(&limit(later), &[0, 0, 1, 2, 3, 40, 63, 64]);
        assert_eq!(told, [Within, Within, Beyond, Beyond, Banned, Banned, Within, Within]);
    }
}
