//! Which places may be used: those that answer their checks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use kswitch_config::routing::{Backend, BackendKey, HealthCheckSpec, Place};
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::agents::check;
use crate::agents::streak::{Streak, Thresholds};

/// How long a place that could not be connected to is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// How often it is looked which checks are due.
const TICK: Duration = Duration::from_millis(100);

/// What is known of places.
#[derive(Debug, Default)]
pub struct Health {
    checked: RwLock<HashMap<BackendKey, HashMap<SocketAddr, Streak>>>,
    /// Hears whenever a place is seen to be other than before.
    changed: OnceLock<Sender<()>>,
    /// Places that could not be connected to, and since when.
    failed: RwLock<HashMap<SocketAddr, Instant>>,
}

impl Health {
    /// Chooses among the places of a backend that may be used, without setting them apart first.
    pub fn choose<'b, T>(&self, backend: &'b Backend, by: impl FnOnce(&Usable<'b, '_>) -> T) -> T {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner);
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        let (streaks, failed) = (checked.get(&backend.key), &*failed);
        let mut usable = Usable { places: &backend.places, streaks, failed, passes_over: false };
        // where none is left they are tried all the same
        usable.passes_over =
            !failed.is_empty() && usable.iter().any(|place| !usable.is_passed_over(place));
        by(&usable)
    }

    /// Whether a place is healthy; `None` if it was never checked.
    pub fn of(&self, backend: &BackendKey, place: SocketAddr) -> Option<bool> {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner);
        checked.get(backend)?.get(&place).map(|streak| streak.is_healthy)
    }

    /// Notes that a place could not be connected to.
    pub fn failed(&self, place: SocketAddr) {
        let mut failed = self.failed.write().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, since| since.elapsed() < PASSED_OVER);
        failed.insert(place, Instant::now());
    }

    /// Notes the result of a check.
    fn note(&self, backend: &Backend, place: &Place, is_good: bool) {
        let HealthCheckSpec { healthy, unhealthy, .. } = backend.health_check;
        let thresholds = Thresholds { healthy, unhealthy };
        let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        let streaks = checked.entry(backend.key.clone()).or_default();
        let before = streaks.get(&place.address).copied();
        let streak = before.unwrap_or(Streak::new(!place.is_waiting)).after(is_good, thresholds);
        streaks.insert(place.address, streak);
        drop(checked);
        let is_news = before.is_none_or(|before| before.is_healthy != streak.is_healthy);
        if let Some(changed) = self.changed.get().filter(|_| is_news) {
            // nobody listens any more when the lab goes down
            let _ = changed.send(());
        }
    }

    /// Tells whenever a place is seen to be other than before.
    pub fn tell(&self, changed: Sender<()>) {
        // who is told is settled once
        let _ = self.changed.set(changed);
    }

    fn keep(&self, backends: &[Arc<Backend>]) {
        let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|key, states| {
            let backend = backends.iter().find(|backend| backend.key == *key);
            states.retain(|place, _| {
                backend.is_some_and(|backend| backend.places.iter().any(|at| at.address == *place))
            });
            !states.is_empty()
        });
    }
}

/// The places of a backend that may be used.
#[derive(Debug)]
pub struct Usable<'b, 'h> {
    places: &'b [Place],
    streaks: Option<&'h HashMap<SocketAddr, Streak>>,
    failed: &'h HashMap<SocketAddr, Instant>,
    /// Whether those that could not be connected to are passed over.
    passes_over: bool,
}

impl<'b> Usable<'b, '_> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &'b Place> {
        let usable = self.places.iter().filter(|place| self.is_healthy(place));
        usable.filter(|place| !self.passes_over || !self.is_passed_over(place))
    }

    /// What was never checked may be used: a lab is not kept waiting at its start.
    fn is_healthy(&self, place: &Place) -> bool {
        let streak = self.streaks.and_then(|streaks| streaks.get(&place.address));
        streak.map_or(!place.is_waiting, |streak| streak.is_healthy)
    }

    fn is_passed_over(&self, place: &Place) -> bool {
        self.failed.get(&place.address).is_some_and(|since| since.elapsed() < PASSED_OVER)
    }
}

/// Checks the places of all backends, each as its check says, until the task is aborted.
pub(super) async fn check(shared: Arc<Shared>) {
    let mut due: HashMap<(BackendKey, SocketAddr), Instant> = HashMap::new();
    loop {
        let table = shared.table();
        let from = table.routing.sockets.first().map(|socket| socket.address);
        let backends: Vec<_> = table.routing.backends.values().cloned().collect();
        shared.health.keep(&backends);
        due.retain(|(key, _), _| backends.iter().any(|backend| backend.key == *key));
        let now = Instant::now();
        for backend in backends.iter().filter(|backend| backend.is_checked()) {
            for place in &backend.places {
                let next = due.entry((backend.key.clone(), place.address)).or_insert(now);
                let Some(from) = from.filter(|_| *next <= now) else { continue };
                *next = now + backend.health_check.interval;
                let (shared, backend) = (Arc::clone(&shared), Arc::clone(backend));
                let (address, place) = (place.address, place.clone());
                tokio::spawn(async move {
                    let spec = &backend.health_check;
                    let asking = ask(&shared, from, address, spec);
                    let is_good = timeout(spec.timeout, asking).await.unwrap_or(false);
                    shared.health.note(&backend, &place, is_good);
                });
            }
        }
        drop(table);
        sleep(TICK).await;
    }
}

/// Whether a place answers its check.
async fn ask(shared: &Shared, from: IpAddr, place: SocketAddr, spec: &HealthCheckSpec) -> bool {
    let place = SocketAddr::new(place.ip(), spec.port.unwrap_or(place.port()));
    let Ok(stream) = shared.network.probe(from, place).await else { return false };
    if !spec.is_http {
        return true;
    }
    let host = if spec.host.is_empty() { place.to_string() } else { spec.host.clone() };
    check::is_ok(stream, &spec.path, &host).await
}
