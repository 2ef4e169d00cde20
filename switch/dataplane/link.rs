//! Links on which frames are lost, late, twice, or other than they were, because somebody asked
//! for it.
//!
//! Where no link is faulty, workers look at one word for each burst and at none for each frame. Where
//! some are, what crosses one is judged here; what is late waits in its worker's [`Line`].

pub(super) mod crossing;
mod ferry;
pub(super) mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kswitch_tables::{PortId, RouterId};

pub use ferry::Ferry;
pub use line::Line;

use super::DropReason;

/// All of them, in the unit of shares: millionths.
const MILLION: u64 = 1_000_000;

/// What befalls the frames of one direction of a link. Times are nanoseconds, shares millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long each is under way.
    pub delay: u64,
    /// By how much that is less or more at most; not more than the delay.
    pub jitter: u64,
    /// Lost.
    pub loss: u32,
    /// Sent twice.
    pub duplicate: u32,
    /// With one bit turned.
    pub corrupt: u32,
    /// Not delayed.
    pub reorder: u32,
    /// Bits in a second; zero: as many as come.
    pub rate: u64,
    /// How long a frame waits for its turn at most.
    pub queue: u64,
    /// None passes.
    pub partition: bool,
    /// What chance follows from.
    pub seed: u64,
}

/// What befell frames on one direction of a link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    /// Came to the link.
    pub frames: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because nothing passes.
    pub cut: u64,
    /// Lost because too many waited.
    pub full: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Changed.
    pub corrupted: u64,
    /// Let past others.
    pub reordered: u64,
    /// Held back.
    pub delayed: u64,
}

/// One direction of a link. **Sharing**: any worker sends over it; its counters and its clock are
/// shared, so that the same frames fare alike however many workers there are.
#[derive(Debug, Default)]
pub struct Lane {
    /// What is wrong with it.
    pub fault: Fault,
    frames: AtomicU64,
    lost: AtomicU64,
    cut: AtomicU64,
    full: AtomicU64,
    duplicated: AtomicU64,
    corrupted: AtomicU64,
    reordered: AtomicU64,
    delayed: AtomicU64,
    /// When the last frame has passed, where there is a rate; nanoseconds.
    free_at: AtomicU64,
}

/// What becomes of a frame that comes to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// When it is through, nanoseconds.
    pub(super) at: u64,
    /// Whether it comes twice.
    pub(super) is_doubled: bool,
    /// What says which bit is turned.
    pub(super) corrupt: Option<u64>,
}

impl Lane {
    /// One with this fault, over which nothing has passed yet.
    pub fn new(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    /// What befell frames so far.
    pub fn toll(&self) -> Toll {
        // Relaxed, here and below: a count orders nothing
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Toll {
            frames: get(&self.frames),
            lost: get(&self.lost),
            cut: get(&self.cut),
            full: get(&self.full),
            duplicated: get(&self.duplicated),
            corrupted: get(&self.corrupted),
            reordered: get(&self.reordered),
            delayed: get(&self.delayed),
        }
    }

    /// Whether each packet of a super-frame fares for itself.
    pub(super) const fn tells_packets_apart(&self) -> bool {
        let Fault { loss, duplicate, corrupt, reorder, rate, .. } = self.fault;
        loss > 0 || duplicate > 0 || corrupt > 0 || reorder > 0 || rate > 0
    }

    /// A frame of so many octets comes at this moment.
    ///
    /// # Errors
    /// [`DropReason::LinkCut`], [`DropReason::LinkLoss`] and [`DropReason::LinkFull`].
    pub(super) fn pass(&self, octets: usize, now: u64) -> Result<Passage, DropReason> {
        let Fault { loss, duplicate, corrupt, reorder, partition, .. } = self.fault;
        let number = self.frames.fetch_add(1, Ordering::Relaxed);
        if partition {
            count(&self.cut);
            return Err(DropReason::LinkCut);
        }
        let chance = |what: u64| draw(self.fault.seed, number, what);
        let happens = |what: u64, share: u32| share > 0 && chance(what) % MILLION < share.into();
        if happens(0, loss) {
            count(&self.lost);
            return Err(DropReason::LinkLoss);
        }
        let sent = self.take_turn(octets, now).ok_or_else(|| {
            count(&self.full);
            DropReason::LinkFull
        })?;
        let delay = if happens(1, reorder) {
            count(&self.reordered);
            0
        } else {
            self.delay(chance(2))
        };
        let at = sent.saturating_add(delay);
        if at > now {
            count(&self.delayed);
        }
        let is_doubled = happens(3, duplicate);
        if is_doubled {
            count(&self.duplicated);
        }
        let corrupt = happens(4, corrupt).then(|| chance(5));
        if corrupt.is_some() {
            count(&self.corrupted);
        }
        Ok(Passage { at, is_doubled, corrupt })
    }

    /// A frame that was to wait found no room.
    pub(super) fn overflow(&self) {
        count(&self.full);
    }

    /// How long a frame is under way.
    const fn delay(&self, chance: u64) -> u64 {
        let Fault { delay, jitter, .. } = self.fault;
        if jitter == 0 {
            return delay;
        }
        delay.saturating_sub(jitter).saturating_add(chance % (2 * jitter + 1))
    }

    /// When a frame of so many octets is sent whole; `None` if it would wait for too long.
    fn take_turn(&self, octets: usize, now: u64) -> Option<u64> {
        let Fault { rate, queue, .. } = self.fault;
        if rate == 0 {
            return Some(now);
        }
        let bits = u128::from(octets as u64) * 8 * 1_000_000_000;
        let time = u64::try_from(bits / u128::from(rate)).ok()?;
        let mut sent = now;
        let taken = self.free_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free_at| {
            let start = free_at.max(now);
            sent = start.saturating_add(time);
            (start - now <= queue).then_some(sent)
        });
        taken.is_ok().then_some(sent)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A number that follows from a seed, from which frame it is, and from what it is for.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
const fn draw(seed: u64, number: u64, what: u64) -> u64 {
    let mut z =
        seed ^ number.wrapping_mul(8).wrapping_add(what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Both directions of a link, as far as anything is wrong with them.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    /// From the machine; from the node into the fabric.
    pub from: Option<Arc<Lane>>,
    /// To the machine; from the fabric to the node.
    pub to: Option<Arc<Lane>>,
}

/// The links with which anything is wrong.
#[derive(Clone, Debug, Default)]
pub struct Links {
    ports: Vec<Lanes>,
    routers: Vec<Lanes>,
}

impl Links {
    /// Says what is wrong with the link of the machine behind a port.
    pub fn port_mut(&mut self, port: PortId) -> &mut Lanes {
        at(&mut self.ports, usize::from(port.0))
    }

    /// Says what is wrong with the link between a router and the others.
    pub fn router_mut(&mut self, router: RouterId) -> &mut Lanes {
        at(&mut self.routers, usize::from(router.0))
    }

    /// The way from the machine behind a port.
    pub(super) fn of_port(&self, port: PortId) -> Option<&Lane> {
        self.ports.get(usize::from(port.0))?.from.as_deref()
    }

    /// The way to the machine behind a port.
    pub(super) fn to_port(&self, port: PortId) -> Option<&Lane> {
        self.ports.get(usize::from(port.0))?.to.as_deref()
    }

    /// The ways from one router to another.
    pub(super) fn between(&self, one: RouterId, other: RouterId) -> [Option<&Lane>; 2] {
        let lanes = |router: RouterId| self.routers.get(usize::from(router.0));
        if one == other {
            return [None, None];
        }
        let out = lanes(one).and_then(|lanes| lanes.from.as_deref());
        [out, lanes(other).and_then(|lanes| lanes.to.as_deref())]
    }
}

fn at(lanes: &mut Vec<Lanes>, index: usize) -> &mut Lanes {
    if lanes.len() <= index {
        lanes.resize(index + 1, Lanes::default());
    }
    #[expect(clippy::indexing_slicing, reason = "there is room for it since the line before")]
    &mut lanes[index]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_follow_from_the_seed() {
        let fault = Fault { loss: 100_000, duplicate: 50_000, corrupt: 10_000, ..Fault::default() };
        let run = |seed| {
            let lane = Lane::new(Fault { seed, ..fault });
            let fates: Vec<_> = (0..10_000).map(|now| lane.pass(100, now)).collect();
            (fates, lane.toll())
        };
        let (fates, toll) = run(7);
        assert_eq!((fates, toll), run(7));
        assert_ne!(toll, run(8).1);
        // four standard deviations
        assert!(toll.lost.abs_diff(1000) < 120, "{toll:?}");
        assert!(toll.duplicated.abs_diff(450) < 83, "{toll:?}");
        assert!(toll.corrupted.abs_diff(90) < 38, "{toll:?}");
        assert_eq!((toll.frames, toll.cut, toll.full, toll.delayed), (10_000, 0, 0, 0));
    }

    #[test]
    fn a_rate_is_kept_and_its_queue_ends() {
        // 1000 octets in a millisecond
        let lane = Lane::new(Fault { rate: 8_000_000, queue: 2_500_000, ..Fault::default() });
        let at = |now| lane.pass(1000, now).map(|passage| passage.at);
        assert_eq!(at(0), Ok(1_000_000));
        assert_eq!(at(0), Ok(2_000_000));
        assert_eq!(at(0), Ok(3_000_000));
        assert_eq!(at(0), Err(DropReason::LinkFull));
        assert_eq!(at(1_000_000), Ok(4_000_000));
        assert_eq!(at(9_000_000), Ok(10_000_000));
        assert_eq!(lane.toll().full, 1);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_what_overtakes_is_not_late() {
        let fault = Fault { delay: 50, jitter: 20, reorder: 250_000, ..Fault::default() };
        let lane = Lane::new(fault);
        let delays: Vec<_> = (0..1000).map(|_| lane.pass(60, 1000).unwrap().at - 1000).collect();
        let late: Vec<_> = delays.iter().filter(|delay| **delay > 0).collect();
        assert!(late.iter().all(|delay| (30..=70).contains(*delay)));
        assert!(late.contains(&&30) && late.contains(&&70));
        assert!((1000 - late.len()).abs_diff(250) < 56);
        assert_eq!(lane.toll().reordered, 1000 - late.len() as u64);
    }
}
