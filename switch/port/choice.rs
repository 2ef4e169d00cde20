//! Which way of moving frames is the faster one here, found out by trying both.
//!
//! By io_uring a burst takes one system call instead of two a frame, but every request in it costs
//! something of its own. Which of the two is dearer differs from machine to machine by a factor of
//! two, with the processor's cost of entering the kernel: nobody can know without trying.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::batch::{Batch, Io};
use super::{VNET_HEADER, packet, tap};
use crate::threads;

/// The TAP that is tried, in a namespace where there is nothing else.
const NAME: &str = "try";

/// Frames read and written together.
const BURST: usize = 32;

/// Bursts that wait in the TAP at once: not more than a TAP of this length of queue takes.
const BURSTS: usize = 8;

/// How often either way is tried. The quickest time counts, since others use the processor as well.
const ROUNDS: usize = 8;

/// Octets of a frame that is tried: the shortest, of which there are the most a second.
const OCTETS: usize = 60;

/// The longest that trying may take: a machine this busy tells nothing.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a frame takes, in by one TAP and out by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// By io_uring, nanoseconds; `None` where the kernel forbids it.
    pub io_uring: Option<u64>,
    /// By a call for each frame read and each frame written, nanoseconds.
    pub read_write: u64,
}

impl Tried {
    /// The faster one.
    pub const fn better(self) -> Io {
        match self.io_uring {
            Some(nanos) if nanos < self.read_write => Io::IoUring,
            _ => Io::ReadWrite,
        }
    }
}

/// What workers are to do where the lab leaves it to the switch: the faster way, tried once in the
/// life of the process; [`Io::Auto`] still, where nothing could be tried.
pub fn settle(wanted: Io) -> Io {
    static TRIED: OnceLock<Option<Tried>> = OnceLock::new();
    if wanted != Io::Auto {
        return wanted;
    }
    let tried = TRIED.get_or_init(|| match measure() {
        Ok(tried) => {
            let (name, Tried { io_uring, read_write }) = (tried.better().name(), tried);
            tracing::info!(
                ?io_uring,
                read_write,
                "frames are moved by {name}: nanoseconds a frame"
            );
            Some(tried)
        }
        Err(error) => {
            tracing::warn!("ways to move frames could not be tried: {error}");
            None
        }
    });
    tried.map_or(Io::Auto, Tried::better)
}

/// Tries both ways on a TAP of a namespace that ends with the trial; takes some ten milliseconds.
///
/// # Errors
/// What the kernel says: making namespaces and TAPs takes root's rights.
pub fn measure() -> io::Result<Tried> {
    let trial = threads::start("try-io", || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Trial::new()?.run()
    })?;
    trial.join().map_err(|_| io::Error::other("the trial panicked"))?
}

/// A TAP, and somebody in its namespace who sends through it.
struct Trial {
    queue: tap::Queue,
    sender: tap::Sender,
    feeder: tap::Sender,
    rooms: Vec<[u8; 2048]>,
    octets: [usize; BURST],
}

impl Trial {
    fn new() -> io::Result<Self> {
        // whatever the kernel of this namespace has to say of IPv6 is not what is measured
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let (queues, sender) = tap::Tap::open(NAME, 1)?.into_parts();
        let queue = queues.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        tap::raise(NAME)?;
        let feeder = packet::open_to_send(NAME)?;
        Ok(Self { queue, sender, feeder, rooms: vec![[0; 2048]; BURST], octets: [0; BURST] })
    }

    fn run(mut self) -> io::Result<Tried> {
        let begun = Instant::now();
        let mut batch = Batch::new().ok();
        let mut best: [Option<u64>; 2] = [None; 2];
        let [by_batch, by_call] = &mut best;
        for _ in 0..ROUNDS {
            if let Some(batch) = &mut batch {
                keep(by_batch, self.round(|trial| trial.together(batch))?);
            }
            keep(by_call, self.round(Self::one_by_one)?);
            if begun.elapsed() > PATIENCE {
                break;
            }
        }
        let [io_uring, read_write] = best;
        let read_write = read_write.ok_or_else(|| io::Error::other("no frame came through"))?;
        Ok(Tried { io_uring, read_write })
    }

    /// Nanoseconds a frame takes when all that wait are carried by `work`, which answers how many
    /// it carried; `None` if there were none.
    fn round(
        &mut self,
        mut work: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> io::Result<Option<u64>> {
        let mut frame = [0u8; VNET_HEADER + OCTETS];
        if let Some(header) = frame.get_mut(VNET_HEADER..) {
            // to somebody else, of a type that nobody knows: as little as possible is done with it
            header.fill(2);
        }
        for _ in 0..BURSTS * BURST {
            self.feeder.send(&frame);
        }
        let (start, mut carried) = (Instant::now(), 0);
        loop {
            match work(self)? {
                0 => break,
                more => carried += more,
            }
        }
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(nanos.checked_div(carried as u64))
    }

    fn one_by_one(&mut self) -> io::Result<usize> {
        let mut count = 0;
        for (room, octets) in self.rooms.iter_mut().zip(&mut self.octets) {
            match self.queue.receive(room) {
                Ok(received) => *octets = received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            count += 1;
        }
        for (room, octets) in self.rooms.iter().zip(&self.octets).take(count) {
            self.sender.send(room.get(..*octets).unwrap_or(room));
        }
        Ok(count)
    }

    fn together(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let (from, to) = (self.queue.as_fd(), self.sender.descriptor_of(0));
        let rooms = self.rooms.iter_mut().map(|room| (from, &mut room[..]));
        let done = batch.exchange(std::iter::empty(), rooms)?;
        let mut count = 0;
        for (octets, read) in self.octets.iter_mut().zip(done.reads) {
            let Ok(read) = usize::try_from(*read) else { break };
            *octets = read;
            count += 1;
        }
        let frames = self.rooms.iter().zip(&self.octets).take(count);
        let writes = frames.map(|(room, octets)| (to, room.get(..*octets).unwrap_or(room)));
        batch.exchange(writes, std::iter::empty())?;
        Ok(count)
    }
}

/// Keeps the least.
fn keep(best: &mut Option<u64>, nanos: Option<u64>) {
    *best = match (*best, nanos) {
        (Some(best), Some(nanos)) => Some(best.min(nanos)),
        (best, nanos) => best.or(nanos),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_chosen_and_the_one_there_is() {
        let tried = |io_uring, read_write| Tried { io_uring, read_write }.better();
        assert_eq!(tried(Some(400), 500), Io::IoUring);
        assert_eq!(tried(Some(500), 400), Io::ReadWrite);
        assert_eq!(tried(None, 400), Io::ReadWrite);
    }

    #[test]
    fn the_least_is_kept() {
        let mut best = None;
        for (nanos, expect) in
            [(None, None), (Some(7), Some(7)), (Some(9), Some(7)), (None, Some(7))]
        {
            keep(&mut best, nanos);
            assert_eq!(best, expect);
        }
    }
}
