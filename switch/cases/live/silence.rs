//! When no answer is taken for an answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::site::Site;

/// How long nothing must come before it is judged that nothing comes.
///
/// Source: the case format, which asks for two seconds of Services and for one of policies.
const SILENCE: Duration = Duration::from_secs(2);

/// How long to wait on if the switch has not dropped anything: it may be slow.
const MOST: Duration = Duration::from_secs(10);

/// How often it is looked whether the wait is over.
const LOOK: Duration = Duration::from_millis(20);

/// Answers once `waiting` calls, of those that began when the switch had dropped so many frames,
/// will get no answer any more.
pub(super) async fn falls(site: &Site, waiting: &AtomicUsize, dropped_before: u64) {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let elapsed = begun.elapsed();
        let dropped = dropped(site) - dropped_before;
        let is_explained = dropped >= waiting.load(Ordering::Relaxed) as u64;
        if site.is_interrupted() || elapsed >= MOST || (elapsed >= SILENCE && is_explained) {
            return;
        }
    }
}

/// Frames that the switch has dropped so far.
pub(super) fn dropped(site: &Site) -> u64 {
    site.drops().values().sum()
}
