//! Sending at a rate, and what the other end sees of it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::frames::{self, Stamp, Template};
use crate::histogram::Histogram;
use crate::packet::{MOST, Room, Socket};

/// How much, how fast, how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Frames per second; `None`: as fast as the interface takes them.
    pub rate: Option<u64>,
    /// Flows that take turns.
    pub flows: u32,
    /// Frames handed over at once.
    pub burst: usize,
    /// Frames to send at most; `None`: no bound.
    pub count: Option<u64>,
    /// When to stop.
    pub time: Duration,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that the interface took.
    pub frames: u64,
    /// How long it took, nanoseconds.
    pub nanoseconds: u64,
}

impl Sent {
    /// Frames per second.
    pub fn rate(&self) -> u64 {
        per_second(self.frames, self.nanoseconds)
    }
}

/// So many in so many nanoseconds, per second.
pub fn per_second(count: u64, nanoseconds: u64) -> u64 {
    let exact = u128::from(count) * 1_000_000_000 / u128::from(nanoseconds.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// How many frames a rate allows after so long; no overflow in centuries.
fn due(rate: u64, nanoseconds: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(nanoseconds) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Sends frames of this form until the load is done or `stop` says so.
///
/// # Errors
/// What the kernel says.
pub fn send(socket: &Socket, form: &Template, load: &Load, stop: &AtomicBool) -> io::Result<Sent> {
    let burst = load.burst.clamp(1, MOST);
    let mut templates = vec![form.clone(); burst];
    let (mut frames, mut number) = (0u64, 0u64);
    let start = clock::now();
    let end = start + u64::try_from(load.time.as_nanos()).unwrap_or(u64::MAX / 2);
    let bound = load.count.unwrap_or(u64::MAX);
    loop {
        let now = clock::now();
        if now >= end || frames >= bound || stop.load(Ordering::Relaxed) {
            return Ok(Sent { frames, nanoseconds: now - start });
        }
        let allowed = load.rate.map_or(u64::MAX, |rate| due(rate, now - start));
        let wanted = allowed.saturating_sub(frames).min(bound - frames).min(burst as u64);
        let wanted = usize::try_from(wanted).unwrap_or(burst);
        if wanted == 0 {
            std::hint::spin_loop();
            continue;
        }
        for (offset, template) in templates.iter_mut().take(wanted).enumerate() {
            let place = number + offset as u64;
            let flows = u64::from(load.flows.max(1));
            template.stamp(Stamp {
                flow: u32::try_from(place % flows).unwrap_or(0),
                sequence: u32::try_from((place / flows) & u64::from(u32::MAX)).unwrap_or(0),
                sent: now,
            });
        }
        let taken = socket.send(templates.iter().take(wanted).map(Template::bytes))? as u64;
        frames += taken;
        number += taken;
    }
}

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Frames of the generator.
    pub frames: u64,
    /// Frames that came after a later one of their flow.
    pub reordered: u64,
    /// How long they were under way.
    pub latency: Histogram,
    next: Vec<u32>,
}

impl Seen {
    /// Takes note of the datagrams in a buffer, virtio header first; others than the generator's do
    /// not count.
    pub fn add(&mut self, buffer: &[u8], now: u64) {
        frames::read_all(buffer).for_each(|stamp| self.note(stamp, now));
    }

    fn note(&mut self, Stamp { flow, sequence, sent }: Stamp, now: u64) {
        let flow = usize::try_from(flow).unwrap_or(usize::MAX);
        if self.next.len() <= flow && flow < 1 << 20 {
            self.next.resize(flow + 1, 0);
        }
        if let Some(next) = self.next.get_mut(flow) {
            // half of the circle behind is the past
            if sequence.wrapping_sub(*next) < 1 << 31 {
                *next = sequence.wrapping_add(1);
            } else {
                self.reordered += 1;
            }
        }
        self.frames += 1;
        self.latency.add(now.saturating_sub(sent));
    }
}

/// Receives until `stop` says so, and then until nothing comes any more. `count` grows meanwhile.
///
/// # Errors
/// What the kernel says.
pub fn receive(socket: &Socket, stop: &AtomicBool, count: &AtomicU64) -> io::Result<Seen> {
    const PATIENCE: Duration = Duration::from_millis(100);
    socket.set_patience(PATIENCE)?;
    let (mut seen, mut room) = (Seen::default(), Room::default());
    loop {
        let received = socket.receive(&mut room)?;
        let now = clock::now();
        room.frames().for_each(|frame| seen.add(frame, now));
        count.store(seen.frames, Ordering::Relaxed);
        if received == 0 && stop.load(Ordering::Acquire) {
            return Ok(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Shape;

    #[test]
    fn a_rate_is_kept_over_years() {
        assert_eq!(due(1_000_000, 1_500_000_000), 1_500_000);
        assert_eq!(due(10_000_000, 1_000_000_000 * 86_400 * 365), 10_000_000 * 86_400 * 365);
        assert_eq!(per_second(3, 1_500_000_000), 2);
        assert_eq!(per_second(7, 0), 7_000_000_000);
    }

    #[test]
    fn what_overtakes_is_told_from_what_is_lost() {
        let shape = Shape {
            source_mac: [2; 6],
            target_mac: [4; 6],
            source: "10.0.0.1:1024".parse().unwrap(),
            target: "10.0.0.2:9".parse().unwrap(),
            size: 64,
        };
        let mut template = Template::new(&shape).unwrap();
        let mut seen = Seen::default();
        for (flow, sequence) in [(0, 0), (1, 0), (0, 2), (0, 1), (0, 5), (1, 1), (0, 4)] {
            template.stamp(Stamp { flow, sequence, sent: 100 });
            seen.add(&[&[0; frames::VIRTIO_HEADER], template.bytes()].concat(), 1100);
        }
        seen.add(&[0; 60], 1100);
        assert_eq!((seen.frames, seen.reordered), (7, 2));
        assert_eq!(seen.latency.most(), 1000);
    }
}
