//! Nodes that hear of changes of Services and endpoints later than others.
//!
//! In a cluster each service proxy watches the API server for itself, and a node may send new flows to
//! a pod that others know to be gone. Here all nodes hear of a change at once, unless one is told to
//! lag: until its time has come it serves what it served before, while pods, and all other nodes, are
//! at what is new. What it leads to may be gone by then, as it may in a cluster.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use kswitch_config::{Cluster, HealthCheck, Names};
use kswitch_tables::{RouterId, Served};

use super::answer::Office;
use super::running::Running;
use crate::threads;

/// Changes that a node has yet to hear of, at most; it hears of the last of them in place of those
/// beyond.
const CHANGES_MAX: usize = 256;

/// How long the keeper sleeps while nobody has anything to hear.
const IDLE: Duration = Duration::from_secs(1);

/// What nodes go by.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// What they serve.
    pub(super) served: Arc<Served>,
    /// The health checks that they answer.
    pub(super) checks: Arc<[HealthCheck]>,
}

impl News {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.served, &other.served) && self.checks == other.checks
    }
}

/// A node that lags.
#[derive(Debug)]
struct Lagging {
    news: News,
    coming: VecDeque<(Instant, News)>,
}

impl Lagging {
    /// What there is to hear, and when.
    fn hear(&mut self, news: &News, at: Instant) {
        let last = self.coming.back();
        if last.map_or(&self.news, |(_, news)| news).is(news) {
            return;
        }
        // nobody hears of two changes in another order than they were made
        let at = last.map_or(at, |(last, _)| at.max(*last));
        if self.coming.len() >= CHANGES_MAX {
            self.coming.pop_back();
        }
        self.coming.push_back((at, news.clone()));
    }

    /// Hears what is due; whether there was anything.
    fn catch_up(&mut self, now: Instant) -> bool {
        let due = self.coming.iter().take_while(|(at, _)| *at <= now).count();
        let last = self.coming.drain(..due).next_back();
        last.map(|(_, news)| self.news = news).is_some()
    }
}

/// What is published, and who has yet to hear of it.
#[derive(Debug, Default)]
pub(super) struct Lags {
    newest: News,
    nodes: BTreeMap<String, Lagging>,
    keeper: Option<Thread>,
}

impl Lags {
    /// Takes note of what is published now.
    pub(super) fn publish(&mut self, cluster: &Cluster, news: News, now: Instant) {
        let lags = cluster.nodes.iter().map(|node| (node.name.as_str(), node.endpoint_lag()));
        let lags: BTreeMap<_, _> = lags.filter(|(_, lag)| !lag.is_zero()).collect();
        self.nodes.retain(|name, _| lags.contains_key(name.as_str()));
        for (name, lag) in lags {
            let lagging = self
                .nodes
                .entry(name.to_owned())
                .or_insert_with(|| Lagging { news: news.clone(), coming: VecDeque::new() });
            lagging.hear(&news, now + lag);
        }
        self.newest = news;
        self.catch_up(now);
        if let Some(keeper) = &self.keeper {
            keeper.unpark();
        }
    }

    /// Has nodes hear of what is due; whether any did.
    pub(super) fn catch_up(&mut self, now: Instant) -> bool {
        let heard = self.nodes.values_mut().map(|node| node.catch_up(now));
        heard.fold(false, |any, heard| any | heard)
    }

    /// When a node hears of a change next.
    pub(super) fn next(&self) -> Option<Instant> {
        let firsts = self.nodes.values().filter_map(|node| node.coming.front());
        firsts.map(|(at, _)| *at).min()
    }

    /// What routers serve that have yet to hear of what is new.
    pub(super) fn served(&self, names: &Names) -> Vec<(RouterId, Arc<Served>)> {
        let behind = self.nodes.iter().filter(|(_, node)| {
            // the same would be found the longer way
            !Arc::ptr_eq(&node.news.served, &self.newest.served)
        });
        let of = |(name, node): (&String, &Lagging)| {
            Some((names.router_of(name)?, Arc::clone(&node.news.served)))
        };
        behind.filter_map(of).collect()
    }

    /// How many changes a node has yet to hear of.
    pub(super) fn behind(&self, node: &str) -> usize {
        self.nodes.get(node).map_or(0, |node| node.coming.len())
    }

    /// The health checks that a node answers.
    pub(super) fn checks(&self, node: &str) -> &[HealthCheck] {
        &self.nodes.get(node).map_or(&self.newest, |node| &node.news).checks
    }
}

/// Has nodes hear of changes when it is time, until the lab goes down.
///
/// # Errors
/// The system has no more threads.
pub(super) fn keep(office: &Arc<Office>) -> io::Result<()> {
    let watched = Arc::downgrade(office);
    let kept = threads::start("lags", move || {
        let keeper = thread::current();
        if let Some(office) = watched.upgrade() {
            office.with_running(|running| running.lags.keeper = Some(keeper));
        }
        while let Some(office) = watched.upgrade() {
            let Some(caught_up) = office.with_running(Running::catch_up) else { return };
            drop(office);
            let next = caught_up.unwrap_or_else(|error| {
                tracing::error!("nodes do not hear of a change: {error}");
                None
            });
            let pause = next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()));
            thread::park_timeout(pause);
        }
    });
    kept.map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kswitch_config::load_text;

    use super::*;

    fn cluster(lag: &str) -> Cluster {
        let lag = if lag.is_empty() { String::new() } else { format!("endpoint-lag = {lag:?}\n") };
        let nodes = format!("[[node]]\nname = \"a\"\n{lag}[[node]]\nname = \"b\"\n");
        let text = format!("[lab]\nname = \"t\"\n{nodes}");
        load_text("lab.toml", &text, Path::new("")).unwrap()
    }

    fn news() -> News {
        News::default()
    }

    /// What a node serves.
    fn of<'l>(lags: &'l Lags, node: &str) -> &'l Arc<Served> {
        &lags.nodes.get(node).map_or(&lags.newest, |node| &node.news).served
    }

    #[test]
    fn a_node_hears_of_each_change_in_its_time() {
        let (mut lags, cluster, start) = (Lags::default(), cluster("2s"), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let all = [news(), news(), news()];
        for (news, millis) in all.iter().zip([0, 100, 1000]) {
            lags.publish(&cluster, news.clone(), at(millis));
        }
        assert!(Arc::ptr_eq(of(&lags, "b"), &all[2].served));
        assert!(Arc::ptr_eq(of(&lags, "a"), &all[0].served), "it begins with what there is");
        assert_eq!(lags.next(), Some(at(2100)));
        assert!(!lags.catch_up(at(2099)));
        assert!(lags.catch_up(at(2100)));
        assert!(Arc::ptr_eq(of(&lags, "a"), &all[1].served));
        assert!(lags.catch_up(at(5000)));
        assert!(Arc::ptr_eq(of(&lags, "a"), &all[2].served));
        assert_eq!(lags.next(), None);
    }

    #[test]
    fn what_is_published_again_is_no_change_and_order_is_kept() {
        let (mut lags, start) = (Lags::default(), Instant::now());
        let [old, new, newer] = [news(), news(), news()];
        lags.publish(&cluster("2s"), old.clone(), start);
        lags.publish(&cluster("2s"), old, start);
        assert_eq!(lags.next(), None);
        lags.publish(&cluster("2s"), new, start);
        // a shorter lag from now on does not overtake
        lags.publish(&cluster("1s"), newer.clone(), start);
        assert_eq!(lags.next(), Some(start + Duration::from_secs(2)));
        assert!(lags.catch_up(start + Duration::from_secs(2)));
        assert!(Arc::ptr_eq(of(&lags, "a"), &newer.served));
    }

    #[test]
    fn without_a_lag_everything_is_heard_at_once() {
        let (mut lags, start) = (Lags::default(), Instant::now());
        lags.publish(&cluster("1h"), news(), start);
        lags.publish(&cluster("1h"), news(), start);
        assert!(lags.next().is_some());
        let last = news();
        lags.publish(&cluster(""), last.clone(), start);
        assert!(lags.next().is_none() && Arc::ptr_eq(of(&lags, "a"), &last.served));
    }

    #[test]
    fn what_is_yet_to_hear_is_bounded() {
        let (mut lags, cluster, start) = (Lags::default(), cluster("1h"), Instant::now());
        let last = news();
        (0..2 * CHANGES_MAX).for_each(|_| lags.publish(&cluster, news(), start));
        lags.publish(&cluster, last.clone(), start);
        assert_eq!(lags.nodes["a"].coming.len(), CHANGES_MAX);
        assert!(lags.catch_up(start + Duration::from_hours(1)));
        assert!(Arc::ptr_eq(of(&lags, "a"), &last.served));
    }
}
