//! What befalls pods, nodes and what makes pods, by command of a client.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kswitch_config::link::duration;
use kswitch_config::{Draft, Ending, Kind, Outcome};

use super::answer::Office;
use super::request::{Failure, Response, Verb, WorkloadName};
use crate::threads;

impl Office {
    /// Does what a client wants of the lab's life. What is to end does so in the background.
    pub(super) fn live(&self, verb: &Verb) -> Response {
        let _turn = self.turn();
        let now = now();
        let (mut draft, before) = {
            let desk = self.desk();
            let Some(running) = &desk.running else { return super::answer::closing() };
            (desk.draft.clone(), Arc::clone(&running.cluster))
        };
        let not_found = |what: String| Response::failed(Failure::NotFound, format!("no {what}"));
        let mut ending = Vec::new();
        let line = match verb {
            Verb::DeletePod { namespace, name, grace_seconds } => {
                let Some(pod) = draft.end_pod(&before, namespace, name, *grace_seconds, &now)
                else {
                    let what = format!("pod {name} in namespace {namespace} that is not ending");
                    return not_found(what);
                };
                ending.push(pod);
                format!("pod/{name} deleted")
            }
            Verb::Scale { workload, replicas } => {
                let Some(kind) = workload.kind() else { return not_found(workload.to_string()) };
                if !draft.scale(kind, &workload.namespace, &workload.name, *replicas) {
                    return not_found(workload.to_string());
                }
                format!("{workload} scaled")
            }
            Verb::Restart { workload } => {
                let Some(kind) = workload.kind() else { return not_found(workload.to_string()) };
                if !draft.restart(kind, &workload.namespace, &workload.name, &now) {
                    return not_found(workload.to_string());
                }
                format!("{workload} restarted")
            }
            Verb::Cordon { node, is_closed } => {
                if !draft.cordon(node, *is_closed) {
                    return not_found(format!("node {node}"));
                }
                format!("node/{node} {}", if *is_closed { "cordoned" } else { "uncordoned" })
            }
            Verb::Drain { node, grace_seconds } => {
                if !draft.cordon(node, true) {
                    return not_found(format!("node {node}"));
                }
                let is_daemon = |pod: &kswitch_config::Pod| {
                    let owners = pod.object.metadata.owner_references.iter().flatten();
                    { owners }.any(|owner| owner.kind == Kind::DaemonSet.name())
                };
                let index = before.node_index(node);
                let here = before.pods.iter().filter(|pod| Some(pod.node) == index);
                for pod in here.filter(|pod| !is_daemon(pod)) {
                    let (namespace, name) = (&pod.namespace, &pod.name);
                    ending.extend(draft.end_pod(&before, namespace, name, *grace_seconds, &now));
                }
                format!("node/{node} drained")
            }
            Verb::Label { object, labels } => {
                let WorkloadName { namespace, name, .. } = object;
                let Some(kind) = object.any_kind() else { return not_found(object.to_string()) };
                let namespace = if kind.is_namespaced() { namespace.as_str() } else { "" };
                let is_unknown = kind == Kind::Namespace && !before.namespaces.contains_key(name);
                if is_unknown || !draft.label(kind, namespace, name, labels) {
                    let is_made = kind == Kind::Pod && before.pod(namespace, name).is_some();
                    let hint =
                        if is_made { " of its own: something makes it, label that" } else { "" };
                    return not_found(format!("{object}{hint}"));
                }
                format!("{object} labeled")
            }
            Verb::Lag { node, lag } => {
                let told = match lag.as_deref().map(|lag| (lag, duration(lag))) {
                    Some((_, Err(message))) => {
                        return Response::failed(Failure::Invalid, message);
                    }
                    Some((lag, Ok(_))) => format!("node/{node} hears of endpoints {lag} later"),
                    None => format!("node/{node} hears of endpoints at once"),
                };
                if !draft.lag(node, lag.as_deref()) {
                    return not_found(format!("node {node}"));
                }
                told
            }
            // has its own way, as it changes what is seen, too
            Verb::Node { .. } => return super::answer::closing(),
        };
        // what a workload has no use for any more ends too
        draft.begin_rollouts(&self.desk().draft, &before);
        match draft.validate(Some(&before)) {
            Ok(after) => ending.extend(draft.end_missing(&before, &after, &now)),
            Err(errors) => return Response::failed(Failure::Invalid, errors.to_string()),
        }
        match self.become_draft(draft) {
            Response::Done { lines } => {
                let told = ending.iter().map(|pod| format!("pod/{} terminating", pod.name));
                let mut told: Vec<_> = [line].into_iter().chain(told).collect();
                self.end_later(ending);
                told.extend(self.roll_on());
                Response::Done { lines: told.into_iter().chain(lines).collect() }
            }
            failed => failed,
        }
    }

    /// Has the sweeper of pods take these away when their time is over.
    pub(super) fn end_later(&self, ending: Vec<Ending>) {
        let now = Instant::now();
        let mut desk = self.desk();
        for pod in ending {
            if pod.grace_seconds > 0 && desk.is_out_of_reach(&pod.namespace, &pod.name) {
                // nobody there can say that it has ended, until the node is back
                continue;
            }
            let deadline = now + Duration::from_secs(pod.grace_seconds);
            desk.ending.push((pod.namespace, pod.name, deadline));
        }
    }

    /// Takes away the pods whose programs have ended or whose time is over; answers when to look
    /// again.
    pub(super) fn take_ended_away(&self) -> Option<Instant> {
        let _turn = self.turn();
        let now = Instant::now();
        let (draft, gone) = {
            let mut desk = self.desk();
            if desk.ending.is_empty() {
                return None;
            }
            let running = desk.running.as_ref()?;
            let has_ended = |namespace: &str, name: &str| {
                let pod = running.cluster.pod(namespace, name);
                pod.is_none_or(|pod| running.pods.has_ended(pod))
            };
            let (gone, rest): (Vec<_>, Vec<_>) =
                desk.ending.iter().cloned().partition(|(namespace, name, deadline)| {
                    *deadline <= now || has_ended(namespace, name)
                });
            let mut draft: Draft = desk.draft.clone();
            for (namespace, name, _) in &gone {
                let _: Outcome = draft.delete(Kind::Pod, namespace, name);
            }
            desk.ending = rest;
            (draft, gone)
        };
        if !gone.is_empty()
            && let Response::Failed { message, .. } = self.become_draft(draft)
        {
            tracing::error!("pods that ended are still there: {message}");
        }
        self.desk().ending.iter().map(|(.., deadline)| *deadline).min()
    }
}

/// The time, as Kubernetes writes it.
pub(super) fn now() -> String {
    rfc3339(SystemTime::now())
}

/// A time as Kubernetes writes it.
///
/// Source: RFC 3339 §5.6; the days of a date by Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Takes away pods that have ended, and makes up for what was left undone, until the lab goes down.
///
/// # Errors
/// The system has no more threads.
pub(super) fn take_away(office: &Arc<Office>) -> io::Result<()> {
    let watched = Arc::downgrade(office);
    let taken = threads::start("endings", move || {
        loop {
            let Some(office) = watched.upgrade() else { return };
            office.look_after_nodes();
            office.look_after_machines();
            office.catch_up_with_threads();
            // what a worker still held when it was published anew, as interfaces of pods that have gone
            office.with_running(|running| running.switch.free());
            office.look_after_rollouts();
            let next = office.take_ended_away();
            drop(office);
            let pause = next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()));
            thread::sleep(pause.min(IDLE));
        }
    });
    taken.map(drop)
}

/// How often is looked whether programs of pods that are deleted have ended.
const IDLE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_does() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_767_323_045, "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
