//! How a connection learns from its frames that it lives, and what it has come to.

use super::binding::Layout;
use super::table::Table;
use super::{Direction, Found, Life, Signal, Verdict};
use crate::Tick;
use crate::slots::Plant;

/// How often a change is tried anew because another thread changed the same word first.
const ATTEMPTS: u32 = 64;

impl<L: Layout<KEY, VALUE>, const KEY: usize, const VALUE: usize> Table<L, KEY, VALUE> {
    #[inline]
    pub(super) fn follow(&self, found: &Found, signal: Signal, now: Tick) -> Verdict {
        if found.life.is_unmoved_by(found.binding.direction(), signal, now) {
            return Verdict::Accept;
        }
        // a copy, so that what was found need not lie in memory where nothing changes
        self.follow_on(&{ *found }, signal, now)
    }

    /// What may move the connection on.
    #[inline(never)]
    fn follow_on(&self, found: &Found, signal: Signal, now: Tick) -> Verdict {
        match found.life.after(found.binding.direction(), signal, now) {
            Ok(life) if life == found.life => Verdict::Accept,
            // what a copy forbids, the original may allow
            Ok(_) | Err(_) => self.progress(found, signal, now),
        }
    }

    /// The part of `follow` that writes.
    fn progress(&self, found: &Found, signal: Signal, now: Tick) -> Verdict {
        let direction = found.binding.direction();
        for _ in 0..ATTEMPTS {
            let Some(owner) = self.owner(found) else { return Verdict::Gone };
            let life = match owner.life.after(direction, signal, now) {
                Ok(life) => life,
                Err(verdict) => return verdict,
            };
            if life == owner.life || self.set(&owner, life) {
                if owner.life.is_counted && !life.is_counted {
                    self.half_open.remove(owner.binding.ingress.0);
                }
                if direction == Direction::Reply {
                    self.copy_life(found);
                } else if life.state != owner.life.state
                    && let Some(reply) = self.peer(found)
                {
                    self.copy_life(&reply);
                }
                return Verdict::Accept;
            }
        }
        // so many others have written the word meanwhile that it is as good as refreshed
        Verdict::Accept
    }

    /// Makes the life in the slot of the reply direction that of the original's.
    fn copy_life(&self, reply: &Found) {
        let attempts = if self.slots.has_planted(Plant::CopyOnce) { 1 } else { ATTEMPTS };
        for _ in 0..attempts {
            // The copy is read first: the life read then is that which it was copied from, or a
            // later one.
            let (Some(copy), Some(owner)) = (self.again(reply), self.peer(reply)) else { return };
            if owner.life == copy.life {
                return;
            }
            self.set(&copy, owner.life);
        }
    }

    pub(super) fn set(&self, found: &Found, life: Life) -> bool {
        self.slots.refresh(found.handle.at, found.handle.life, life.to_bits()).is_ok()
    }
}
