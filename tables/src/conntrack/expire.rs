//! Which connections end, and when.

use super::binding::Layout;
use super::table::Table;
use super::{Connection, Conntrack, Direction, Found, Timeouts};
use crate::slots::{BLOCK, WINDOW};
use crate::{Flow, Tick};

/// How long a half-open connection must have been silent to make room for another, ticks.
///
/// Its first SYN may have been lost: by now it was sent again, and its silence is its own.
/// Source: RFC 6298 §2.1 and §5.5 (one second, then two).
pub const HALF_OPEN_GRACE: Tick = Tick::from_secs(3);

/// How many slots [`Conntrack::reclaim`] looks at.
const RECLAIM_SLOTS: u32 = WINDOW;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was silent for longer than its state allows.
    Silent,
    /// It made room for another.
    Displaced,
    /// It was asked to.
    Removed,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// As it was last seen.
    pub connection: Connection,
    /// Why it ended.
    pub cause: Cause,
}

/// How far the walk of [`Conntrack::expire`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    /// Times the walk has gone through the whole table.
    pub rounds: u64,
}

impl Conntrack {
    /// Removes silent connections among the next `slots` slots of the walk, in whole blocks of
    /// [`BLOCK`]; answers how many. There must be one walk at a time.
    ///
    /// A connection of which a frame is seen meanwhile stays. There are at most four slots per
    /// connection of the table's capacity, up to twice as many where that is no power of two.
    ///
    /// **Cost**: a bit of each block, and a read of every slot of those that have connections.
    pub fn expire(
        &self,
        cursor: &mut Cursor,
        slots: usize,
        now: Tick,
        timeouts: &Timeouts,
        mut on_death: impl FnMut(Death),
    ) -> usize {
        let mut ended = 0;
        let mut end = |connection| {
            ended += 1;
            on_death(Death { connection, cause: Cause::Silent });
        };
        let [v4, v6] = self.slots();
        for _ in 0..slots.div_ceil(BLOCK as usize) {
            let next = cursor.next;
            let index = |next| u32::try_from(next).unwrap_or(u32::MAX);
            if next < v4 {
                self.v4.expire_block(index(next), now, timeouts, &mut end);
            } else {
                self.v6.expire_block(index(next - v4), now, timeouts, &mut end);
            }
            cursor.next += u64::from(BLOCK);
            if cursor.next >= v4 + v6 {
                cursor.next = 0;
                cursor.rounds += 1;
            }
        }
        ended
    }

    /// How many slots there are for IPv4 and for IPv6: those that one round of
    /// [`Self::expire`] walks.
    pub fn slots(&self) -> [u64; 2] {
        [self.v4.slots.slots().into(), self.v6.slots.slots().into()]
    }

    /// Makes room near where `flow` would be recorded: ends one connection that is over, or one
    /// that is half open or closing and has been silent for [`HALF_OPEN_GRACE`], in this order, the
    /// longest silent first.
    ///
    /// Connections established in both directions are never ended, so a flood of new ones cannot
    /// push them out; nor are half-open ones that just began, so of those it is the newest that is
    /// refused.
    ///
    /// **Cost**: a read of [`WINDOW`] slots in a row.
    pub fn reclaim(&self, flow: &Flow, now: Tick) -> Option<Death> {
        let hash = self.hash(flow);
        let connection =
            if flow.is_v4() { self.v4.reclaim(hash, now) } else { self.v6.reclaim(hash, now) }?;
        Some(Death { connection, cause: Cause::Displaced })
    }

    /// Removes every connection that is `unwanted`; answers how many.
    pub fn remove_where(
        &self,
        mut unwanted: impl FnMut(&Connection) -> bool,
        mut on_death: impl FnMut(Death),
    ) -> usize {
        let mut ended = 0;
        let mut end = |connection| {
            ended += 1;
            on_death(Death { connection, cause: Cause::Removed });
        };
        self.v4.remove_where(&mut unwanted, &mut end);
        self.v6.remove_where(&mut unwanted, &mut end);
        ended
    }
}

impl<L: Layout<KEY, VALUE>, const KEY: usize, const VALUE: usize> Table<L, KEY, VALUE> {
    fn expire_block(
        &self,
        first: u32,
        now: Tick,
        timeouts: &Timeouts,
        end: &mut impl FnMut(Connection),
    ) {
        self.slots.walk_block(first, |index| {
            self.expire(index, now, timeouts).into_iter().for_each(&mut *end);
        });
    }

    fn expire(&self, index: u32, now: Tick, timeouts: &Timeouts) -> Option<Connection> {
        let (flow, found) = self.direction(index)?;
        if !timeouts.are_over(found.life, now) {
            return None;
        }
        if found.binding.direction() == Direction::Reply {
            // A silent copy says nothing about the connection, but what it is a copy of may be
            // gone: who removed that could not read this slot while another thread rewrote it.
            if self.is_orphan(&found) {
                self.bury(&found);
            }
            return None;
        }
        let connection = self.connection(flow, &found);
        self.remove_as(&found).then_some(connection)
    }

    fn reclaim(&self, hash: u64, now: Tick) -> Option<Connection> {
        let home = self.slots.home(hash);
        let last = self.slots.slots() - 1;
        let (_, flow, found) = (0..RECLAIM_SLOTS)
            .filter_map(|distance| self.original(home.wrapping_add(distance) & last))
            .filter_map(|(flow, found)| Some((worth(&found, now)?, flow, found)))
            .min_by_key(|(worth, ..)| *worth)?;
        let connection = self.connection(flow, &found);
        self.remove_as(&found).then_some(connection)
    }

    fn remove_where(
        &self,
        unwanted: &mut impl FnMut(&Connection) -> bool,
        end: &mut impl FnMut(Connection),
    ) {
        for index in 0..self.slots.slots() {
            let Some((flow, found)) = self.original(index) else { continue };
            let connection = self.connection(flow, &found);
            if unwanted(&connection) && self.remove(&found) {
                end(connection);
            }
        }
    }
}

/// What a connection is worth when there is no room, least first; `None` if it must stay.
fn worth(found: &Found, now: Tick) -> Option<(Rank, Tick)> {
    let life = found.life;
    let rank = match life.state {
        state if state.is_over() => Rank::Over,
        _ if now.since(life.seen) < HALF_OPEN_GRACE.0 => return None,
        state if state.is_unreplied() => Rank::Unreplied,
        state if state.is_half_open() => Rank::HalfOpen,
        state if state.is_closing() => Rank::Closing,
        _ => return None,
    };
    Some((rank, life.seen))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Over,
    Unreplied,
    HalfOpen,
    /// One side may still have something to say.
    Closing,
}
