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
    /// Frames per second.
    pub rate: u64,
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

/// How many frames are due at a rate that were not sent yet.
fn due(rate: u64, sent: u64, nanoseconds: u64, most: usize) -> usize {
    let wanted = u128::from(rate) * u128::from(nanoseconds) / 1_000_000_000;
    let left = wanted.saturating_sub(u128::from(sent));
    usize::try_from(left).unwrap_or(most).min(most)
}

/// Sends both for so long.
///
/// # Errors
/// What the kernel says.
pub fn send(stream: Stream<'_>, flood: Option<Flood<'_>>, time: Duration) -> io::Result<[Sent; 2]> {
    let mut templates = vec![stream.form.clone(); STREAM_BURST];
    let (mut sent, mut flooded, mut place) = (0, 0, 0);
    let start = clock::now();
    let end = start + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
    loop {
        let now = clock::now();
        let nanoseconds = now - start;
        if now >= end {
            return Ok([sent, flooded].map(|frames| Sent { frames, nanoseconds }));
        }
        let wanted = due(stream.rate, sent, nanoseconds, STREAM_BURST);
        for (number, template) in (sent..).zip(templates.iter_mut().take(wanted)) {
            let sequence = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
            template.stamp(Stamp { flow: 0, sequence, sent: now });
        }
        if wanted > 0 {
            let frames = templates.iter().take(wanted).map(Template::bytes);
            sent += stream.socket.send(frames)? as u64;
        }
        let Some(flood) = flood else { continue };
        let wanted = due(flood.rate, flooded, nanoseconds, FLOOD_BURST);
        if wanted > 0 {
            let turn = flood.frames.iter().cycle().skip(place).take(wanted);
            let taken = flood.socket.send(turn.map(Vec::as_slice))?;
            // what the interface has no room for is lost: a flood does not wait
            flooded += wanted as u64;
            place = (place + taken.max(1)) % flood.frames.len().max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_follows_the_clock_and_the_burst() {
        assert_eq!(due(1_000_000, 0, 5_000, 16), 5);
        assert_eq!(due(1_000_000, 4, 5_000, 16), 1);
        assert_eq!(due(1_000_000, 9, 5_000, 16), 0);
        assert_eq!(due(1_000_000, 0, 1_000_000_000, 16), 16);
    }
}
