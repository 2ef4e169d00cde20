//! Which places may be used: those that answer their checks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kswitch_config::routing::{Backend, BackendKey, HealthCheckSpec, Place};
use tokio::time::{sleep, timeout};

use super::Shared;

/// How long a place that could not be connected to is passed over.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// How often it is looked which checks are due.
const TICK: Duration = Duration::from_millis(100);

/// What is known of places.
#[derive(Debug, Default)]
pub struct Health {
    checked: RwLock<HashMap<BackendKey, HashMap<SocketAddr, State>>>,
    /// Places that could not be connected to, and since when.
    failed: RwLock<HashMap<SocketAddr, Instant>>,
}

/// What the checks of a place have shown.
#[derive(Clone, Copy, Debug)]
struct State {
    is_healthy: bool,
    /// Answers in a row that say otherwise.
    contrary: u32,
}

impl Default for State {
    /// What was never checked may be used: a lab is not kept waiting at its start.
    fn default() -> Self {
        Self { is_healthy: true, contrary: 0 }
    }
}

impl Health {
    /// The places of a backend that may be used.
    pub fn usable<'b>(&self, backend: &'b Backend) -> Vec<&'b Place> {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner);
        let states = checked.get(&backend.key);
        let is_healthy = |place: &&Place| {
            let state = states.and_then(|states| states.get(&place.address));
            state.is_none_or(|state| state.is_healthy)
        };
        let mut usable: Vec<_> = backend.places.iter().filter(is_healthy).collect();
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        if failed.is_empty() {
            return usable;
        }
        let is_passed_over = |place: &&Place| {
            failed.get(&place.address).is_some_and(|since| since.elapsed() < PASSED_OVER)
        };
        if !usable.iter().all(is_passed_over) {
            usable.retain(|place| !is_passed_over(place));
        }
        usable
    }

    /// Whether a place is healthy; `None` if it was never checked.
    pub fn of(&self, backend: &BackendKey, place: SocketAddr) -> Option<bool> {
        let checked = self.checked.read().unwrap_or_else(PoisonError::into_inner);
        checked.get(backend)?.get(&place).map(|state| state.is_healthy)
    }

    /// Notes that a place could not be connected to.
    pub fn failed(&self, place: SocketAddr) {
        let mut failed = self.failed.write().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, since| since.elapsed() < PASSED_OVER);
        failed.insert(place, Instant::now());
    }

    /// Notes the result of a check.
    fn note(&self, backend: &Backend, place: SocketAddr, is_good: bool) {
        let spec = &backend.health_check;
        let mut checked = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        let state = checked.entry(backend.key.clone()).or_default().entry(place).or_default();
        *state = state.after(is_good, spec);
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

impl State {
    /// The state after one more check.
    fn after(self, is_good: bool, spec: &HealthCheckSpec) -> Self {
        if is_good == self.is_healthy {
            return Self { contrary: 0, ..self };
        }
        let contrary = self.contrary + 1;
        let needed = if is_good { spec.healthy } else { spec.unhealthy };
        if contrary >= needed {
            Self { is_healthy: is_good, contrary: 0 }
        } else {
            Self { contrary, ..self }
        }
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
        for backend in &backends {
            for place in &backend.places {
                let next = due.entry((backend.key.clone(), place.address)).or_insert(now);
                let Some(from) = from.filter(|_| *next <= now) else { continue };
                *next = now + backend.health_check.interval;
                let (shared, backend) = (Arc::clone(&shared), Arc::clone(backend));
                let address = place.address;
                tokio::spawn(async move {
                    let spec = &backend.health_check;
                    let asking = ask(&shared, from, address, spec);
                    let is_good = timeout(spec.timeout, asking).await.unwrap_or(false);
                    shared.health.note(&backend, address, is_good);
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
    let Ok(stream) = shared.network.connect(from, place).await else { return false };
    if !spec.is_http {
        return true;
    }
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = handshake else { return false };
    let driver = tokio::spawn(connection);
    let host = if spec.host.is_empty() { place.to_string() } else { spec.host.clone() };
    let request = Request::get(&spec.path)
        .header("host", host)
        .header("user-agent", "GoogleHC/1.0")
        .body(Empty::<Bytes>::new());
    let Ok(request) = request else { return false };
    let answer = sender.send_request(request).await;
    driver.abort();
    answer.is_ok_and(|answer| answer.status() == 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_answer_drains_nothing_and_two_do() {
        let spec = HealthCheckSpec { healthy: 2, unhealthy: 2, ..HealthCheckSpec::default() };
        let mut state = State::default();
        let mut told = Vec::new();
        for is_good in [false, true, false, true, false, false, true, false, true, true] {
            state = state.after(is_good, &spec);
            told.push(state.is_healthy);
        }
        assert_eq!(told, [true, true, true, true, true, false, false, false, false, true]);
    }
}
