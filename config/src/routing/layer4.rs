//! Listeners that pass connections and datagrams on.

use std::sync::Arc;

use super::host::HostPattern;
use super::listener::PreparedListener;
use super::model::{Rule, Serve};

/// What a listener of connections or datagrams does: of several routes for the same hosts, the oldest
/// is met.
pub(super) fn serve(listener: &mut PreparedListener) -> Serve {
    let mut streams = std::mem::take(&mut listener.streams);
    streams.sort_by(|(a, _, _), (b, _, _)| (a.0.is_none(), a).cmp(&(b.0.is_none(), b)));
    let mut by_host: Vec<(HostPattern, Arc<Rule>)> = Vec::new();
    for (_, host, rule) in streams {
        if !by_host.iter().any(|(have, _)| *have == host) {
            by_host.push((host, rule));
        }
    }
    by_host.sort_by_key(|(host, _)| std::cmp::Reverse(host.specificity()));
    let tls = listener.spec.tls.as_ref();
    match tls.and_then(|tls| tls.mode.as_deref()) {
        Some("Passthrough") => Serve::Passthrough(by_host),
        _ => Serve::Stream(by_host),
    }
}
