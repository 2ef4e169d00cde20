//! The rules of a listener, in the order in which they are tried.

use std::collections::HashMap;
use std::sync::Arc;

use super::host::HostPattern;
use super::matching::{Match, Request};
use super::model::Rule;

/// The rules of a listener.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    exact: HashMap<String, Vec<Entry>, ahash::RandomState>,
    /// Longest first.
    wild: Vec<(HostPattern, Vec<Entry>)>,
    any: Vec<Entry>,
    /// Whether a host whose rules do not match leaves the request to those of wider hosts.
    falls_through: bool,
    /// What is done with requests that no rule matches.
    fallback: Option<Arc<Rule>>,
}

#[derive(Clone, Debug)]
struct Entry {
    matching: Match,
    rule: Arc<Rule>,
}

/// The rule of a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The rule.
    pub rule: &'t Arc<Rule>,
    /// The part of the path that it asks for.
    pub matched: &'t str,
}

/// A rule on its way into a table.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) host: HostPattern,
    pub(super) matching: Match,
    pub(super) rule: Arc<Rule>,
    /// What comes first of rules that ask for as much: the older object, by name, by place in it.
    pub(super) age: Age,
}

/// When an object was made, its namespace and name, and places in it.
pub(super) type Age = (Option<String>, String, String, usize, usize);

impl RouteTable {
    /// A table of Gateway API routes: of all rules that match, the one for the fewest hosts.
    pub(super) fn of_routes(candidates: Vec<Candidate>) -> Self {
        Self::new(candidates, true, None)
    }

    /// A table of Ingress rules: the host decides, and what its rules leave goes to the default.
    pub(super) fn of_ingresses(candidates: Vec<Candidate>, fallback: Option<Arc<Rule>>) -> Self {
        Self::new(candidates, false, fallback)
    }

    fn new(
        mut candidates: Vec<Candidate>,
        falls_through: bool,
        fallback: Option<Arc<Rule>>,
    ) -> Self {
        candidates.sort_by(|a, b| {
            // those that do not say when they were made are as young as can be
            let age = |at: &Candidate| (at.age.0.is_none(), at.age.clone());
            a.matching.rank().cmp(&b.matching.rank()).then_with(|| age(a).cmp(&age(b)))
        });
        let mut table = Self { falls_through, fallback, ..Self::default() };
        for Candidate { host, matching, rule, age: _ } in candidates {
            let entry = Entry { matching, rule };
            match host {
                HostPattern::Any => table.any.push(entry),
                HostPattern::Exact(name) => table.exact.entry(name).or_default().push(entry),
                wild => match table.wild.iter_mut().find(|(host, _)| *host == wild) {
                    Some((_, entries)) => entries.push(entry),
                    None => table.wild.push((wild, vec![entry])),
                },
            }
        }
        table.wild.sort_by_key(|(host, _)| std::cmp::Reverse(host.specificity()));
        table
    }

    /// The rule of a request. **Cost**: linear in the rules of its hosts.
    pub fn find(&self, request: &Request<'_>) -> Option<Found<'_>> {
        let exact = self.exact.get(request.host);
        let wild = self.wild.iter().filter(|(host, _)| host.matches(request.host));
        let any = Some(&self.any).filter(|entries| !entries.is_empty());
        let hosts = exact.into_iter().chain(wild.map(|(_, entries)| entries)).chain(any);
        let found = |entries: &'_ Vec<Entry>| {
            entries.iter().position(|entry| entry.matching.matches(request))
        };
        for entries in hosts {
            if let Some(entry) = found(entries).and_then(|at| entries.get(at)) {
                let matched = entry.matching.path.matched().unwrap_or("");
                return Some(Found { rule: &entry.rule, matched });
            }
            if !self.falls_through {
                break;
            }
        }
        self.fallback.as_ref().map(|rule| Found { rule, matched: "/" })
    }

    /// Every rule with its host and path, for people.
    pub fn rules(&self) -> impl Iterator<Item = (String, &Match, &Arc<Rule>)> {
        let exact = self.exact.iter().map(|(name, entries)| (name.clone(), entries));
        let wild = self.wild.iter().map(|(host, entries)| (host.to_string(), entries));
        let any = std::iter::once(("*".to_owned(), &self.any));
        exact.chain(wild).chain(any).flat_map(|(host, entries)| {
            entries.iter().map(move |entry| (host.clone(), &entry.matching, &entry.rule))
        })
    }

    /// What is done with requests that no rule matches.
    pub fn fallback(&self) -> Option<&Arc<Rule>> {
        self.fallback.as_ref()
    }
}
