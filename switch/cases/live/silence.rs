//! When no answer is taken for an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::format::Transport;
use super::site::Site;

/// How long nothing must come before it is judged that nothing comes.
///
/// Source: the case format, which asks for two seconds of Services and for one of policies.
const SILENCE: Duration = Duration::from_secs(2);

/// How long to wait on if the switch has not dropped anything: it may be slow.
const MOST: Duration = Duration::from_secs(10);

/// How often it is looked whether the wait is over.
const LOOK: Duration = Duration::from_millis(20);

/// Answers once calls will get no answer any more that began when the switch had dropped so many
/// frames, and of which `waiting` frames must have been dropped if nothing is to come.
pub(super) async fn falls(site: &Site, waiting: &AtomicU64, dropped_before: u64) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let elapsed = begun.elapsed();
        let dropped = dropped(site) - dropped_before;
        let is_explained = dropped >= waiting.load(Ordering::Relaxed);
        if site.is_interrupted() || elapsed >= MOST || (elapsed >= SILENCE && is_explained) {
            return;
        }
    }
}

/// Frames that a call sends at least before it is judged that nothing comes: TCP repeats its SYN
/// after a second.
pub(super) const fn frames(transport: Transport) -> u64 {
    match transport {
        Transport::Tcp => 2,
        Transport::Udp | Transport::Sctp => 1,
    }
}

/// Frames that the switch has dropped so far.
pub(super) fn dropped(site: &Site) -> u64 {
    site.drops().values().sum()
}
