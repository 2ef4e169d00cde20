//! A stream whose fate is measured, and beside it a flood; one thread sends both, so that on a
//! machine with few processors neither takes time from the other but in the switch.

use std::io;
use std::time::Duration;

use crate::clock;
use crate::frames::{Stamp, Template};
use crate::packet::{MOST, Socket};
use crate::stream::Sent;

/// Frames of the stream handed over at once, at most: so few that no queue is filled by one turn.
const STREAM_BURST: usize = 16;

/// Frames of a stream that a queue of the usual length may be late by.
pub const LATE: u64 = STREAM_BURST as u64;

/// Frames of a flood handed over at once.
const FLOOD_BURST: usize = 64;
const _: () = assert!(FLOOD_BURST <= MOST && STREAM_BURST <= MOST);

/// The measured stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'s> {
    /// Where it leaves.
    pub socket: &'s Socket,
    /// What it looks like.
    pub form: &'s Template,
    /// Flows that take turns.
    pub flows: u32,
    /// Frames per second.
    pub rate: u64,
    /// Frames that it may be late by and make up for, as many as the interface's queue has room for.
    pub late: u64,
}

/// What is sent beside it.
#[derive(Clone, Copy, Debug)]
pub struct Flood<'s> {
    /// Where it leaves.
    pub socket: &'s Socket,
    /// Frames that take turns.
    pub frames: &'s [Vec<u8>],
    /// Frames per second.
    pub rate: u64,
}

/// What became of one of them at the sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    /// What the interface took.
    pub sent: Sent,
    /// How often it took none, as its queue was full.
    pub refused: u64,
}

/// Frames that are due: a sender that was kept waiting sends later, not more at once, as no queue
/// would take it.
#[derive(Debug, Default)]
struct Pace {
    sent: u64,
    refused: u64,
    forgone: u64,
}

impl Pace {
    /// How many to send now, at most `most`.
    fn due(&mut self, rate: u64, nanoseconds: u64, most: usize, late: u64) -> usize {
        let all = u128::from(rate) * u128::from(nanoseconds) / 1_000_000_000;
        let left = u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(self.sent + self.forgone);
        let now = left.min(most as u64);
        self.forgone += (left - now).saturating_sub(late);
        usize::try_from(now).unwrap_or(most)
    }
}

/// Sends both for so long.
///
/// # Errors
/// What the kernel says.
pub fn send(
    stream: Stream<'_>,
    flood: Option<Flood<'_>>,
    time: Duration,
) -> io::Result<[Offered; 2]> {
    let mut templates = vec![stream.form.clone(); STREAM_BURST];
    let (mut sent, mut flooded, mut place) = (Pace::default(), Pace::default(), 0);
    let flows = u64::from(stream.flows.max(1));
    let start = clock::now();
    let end = start + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
    loop {
        let now = clock::now();
        let nanoseconds = now - start;
        if now >= end {
            return Ok([sent, flooded].map(|Pace { sent: frames, refused, .. }| Offered {
                sent: Sent { frames, nanoseconds },
                refused,
            }));
        }
        let wanted = sent.due(stream.rate, nanoseconds, STREAM_BURST, stream.late);
        for (number, template) in (sent.sent..).zip(templates.iter_mut().take(wanted)) {
            template.stamp(Stamp {
                flow: u32::try_from(number % flows).unwrap_or(0),
                sequence: u32::try_from((number / flows) & u64::from(u32::MAX)).unwrap_or(0),
                sent: now,
            });
        }
        if wanted > 0 {
            let frames = templates.iter().take(wanted).map(Template::bytes);
            let taken = stream.socket.send(frames)?;
            sent.sent += taken as u64;
            sent.refused += (wanted - taken) as u64;
        }
        let Some(flood) = flood else { continue };
        let wanted = flooded.due(flood.rate, nanoseconds, FLOOD_BURST, FLOOD_BURST as u64);
        if wanted > 0 {
            let turn = flood.frames.iter().cycle().skip(place).take(wanted);
            let taken = flood.socket.send(turn.map(Vec::as_slice))?;
            // what the interface has no room for is lost: a flood does not wait
            flooded.sent += wanted as u64;
            place = (place + taken.max(1)) % flood.frames.len().max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_follows_the_clock_and_what_is_late_is_not_made_up_for() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(1_000_000, 5_000, 16, 16), 5);
        pace.sent += 4;
        assert_eq!(pace.due(1_000_000, 5_000, 16, 16), 1);
        pace.sent += 1;
        assert_eq!(pace.due(1_000_000, 5_000, 16, 16), 0);
        // a second late: a burst now and one more
        assert_eq!(pace.due(1_000_000, 1_000_000_000, 16, 16), 16);
        pace.sent += 16;
        assert_eq!(pace.due(1_000_000, 1_000_000_000, 16, 16), 16);
        pace.sent += 16;
        assert_eq!(pace.due(1_000_000, 1_000_000_000, 16, 16), 0);
    }
}
