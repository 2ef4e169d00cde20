//! Requests that load balancers were sent, as far as there is room.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use kswitch_config::routing::Listener;

use crate::agents::proxy::record::Record;

/// Requests that are kept of one Ingress or Gateway; the oldest go.
const REQUESTS_MAX: usize = 4_096;

/// What an Ingress or a Gateway is called: its kind, namespace and name.
type Owner = (String, String, String);

/// The last requests of every Ingress and Gateway; a line is made of one when somebody looks.
#[derive(Debug, Default)]
pub(super) struct RequestLog(Mutex<HashMap<Owner, Requests>>);

#[derive(Debug, Default)]
struct Requests {
    kept: VecDeque<Record>,
    /// How many went.
    gone: u64,
}

impl RequestLog {
    /// Notes a request; those that met no listener are nobody's.
    pub(super) fn push(&self, record: Record) {
        let Some(listener) = record.listener.clone() else { return };
        let Listener { owner, .. } = &*listener;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = match all.get_mut(owner) {
            Some(requests) => requests,
            None => all.entry(owner.clone()).or_default(),
        };
        if requests.kept.len() == REQUESTS_MAX {
            requests.kept.pop_front();
            requests.gone += 1;
        }
        requests.kept.push_back(record);
    }

    /// The lines from that number on that are still there, and the number of the next one.
    pub(super) fn since(&self, owner: &Owner, from: u64) -> (Vec<String>, u64) {
        let (kept, next) = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(requests) = all.get(owner) else { return (Vec::new(), 0) };
            let skip = usize::try_from(from.saturating_sub(requests.gone)).unwrap_or(usize::MAX);
            let kept: Vec<Record> = requests.kept.iter().skip(skip).cloned().collect();
            (kept, requests.gone + requests.kept.len() as u64)
        };
        (kept.iter().map(|record| record.to_json().to_string()).collect(), next)
    }
}

/// Where load balancers tell of requests: here, and to those who asked to see them all
/// (`KSWITCH_LOG=requests=debug`).
pub(super) fn log(requests: &Arc<RequestLog>) -> crate::agents::proxy::Log {
    let requests = Arc::clone(requests);
    Arc::new(move |record: Record| {
        if tracing::enabled!(target: "requests", tracing::Level::DEBUG) {
            tracing::debug!(target: "requests", "{}", record.to_json());
        }
        requests.push(record);
    })
}
