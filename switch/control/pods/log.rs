//! What a container has said, as far as there is room.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Octets that are kept of a container; the oldest lines go.
const OCTETS_MAX: usize = 256 * 1_024;

/// Octets of the longest line; what is longer is cut into several.
pub(super) const LINE_MAX: u64 = 16 * 1_024;

/// The last lines of a container, over all its runs.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    octets: usize,
    /// How many lines went.
    gone: u64,
}

impl Log {
    /// Adds a line.
    pub(super) fn push(&self, line: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.octets += line.len();
        kept.lines.push_back(line);
        while kept.octets > OCTETS_MAX {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.octets -= oldest.len();
            kept.gone += 1;
        }
    }

    /// The lines from that number on that are still there, and the number of the next one.
    pub(crate) fn since(&self, from: u64) -> (Vec<String>, u64) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.saturating_sub(kept.gone)).unwrap_or(usize::MAX);
        let lines = kept.lines.iter().skip(skip).cloned().collect();
        (lines, kept.gone + kept.lines.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room() {
        let log = Log::default();
        for n in 0..100 {
            log.push(format!("{n:08192}"));
        }
        let (lines, next) = log.since(0);
        assert_eq!((lines.len(), next), (OCTETS_MAX / 8_192, 100));
        assert_eq!(lines.last().unwrap().trim_start_matches('0'), "99");
        assert_eq!(log.since(99).0.len(), 1);
        assert_eq!(log.since(next), (vec![], next));
        assert_eq!(log.since(1_000), (vec![], next));
    }
}
