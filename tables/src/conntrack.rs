//! The connections there are: what each looks like in both directions, and how long it lives.
//!
//! A connection is two entries of a [`SlotTable`](crate::slots::SlotTable), one per direction,
//! each found by the flow of the frames that come in. Whichever worker gets a frame finds all that
//! forwarding it needs in one slot.
//!
//! The life of a connection is one word, in the slot of its original direction. Frames of the reply
//! direction refresh that word too, at most once per tick and state, so removal is one
//! compare-and-swap of that word: whatever was heard from since it was judged dead stays. The slot
//! of the reply direction holds a copy, so that most answers need not look at the other slot.

mod adopt;
mod bind;
mod binding;
mod expire;
mod follow;
#[cfg(test)]
#[cfg(loom)]
mod loom_models;
mod state;
mod table;
mod tcp;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod timeouts;

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use ahash::RandomState;

use crate::slots::{self, SlotRef};
use crate::{Flow, Loads, PortId, Protocol, Tick, hash};
use binding::{V4, V6};
pub(crate) use binding::{halves, joined};
use table::{Counts, Table};

pub use adopt::{Adopted, Counted, LAYOUT, Room};
pub use bind::Held;
pub use binding::{Binding, BindingFlags};
pub use expire::{Cause, Cursor, Death, HALF_OPEN_GRACE};
pub use state::{Life, State};
pub use tcp::{TcpFlags, Transition};
pub use timeouts::Timeouts;

/// Which way a frame goes on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As the first frame.
    Original,
    /// As the answers.
    Reply,
}

/// A direction of a connection, as a look-up found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What to do with its frames.
    pub binding: Binding,
    /// How the connection stands. Of the reply direction this is a copy, at most a tick behind
    /// where only the tick differs.
    pub life: Life,
    /// Where it was found.
    pub handle: FlowRef,
}

/// Where a direction of a connection lies, and which version of it was seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRef {
    protocol: Protocol,
    is_v4: bool,
    at: SlotRef,
    life: slots::Life,
    peer: u32,
}

/// What came of [`Conntrack::bind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The connection is new; this is its original direction.
    New(Found),
    /// Another thread was first: its binding is the one to use.
    Existing(Found),
}

/// Why a connection could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// The answers would be taken for those of another connection: try another source port.
    ReplyTaken,
    /// There is no room. [`Conntrack::reclaim`] may make some.
    Full,
    /// Another thread is recording the same flow and did not finish in time.
    Contended,
}

/// What [`Conntrack::follow`] makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the connection.
    Accept,
    /// It cannot belong to the connection.
    Invalid,
    /// It begins a new connection in place of this one, which has ended: remove this one.
    Reopen,
    /// The connection was removed since it was found.
    Gone,
}

/// What a frame says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// That it lives, no more.
    Frame,
    /// A TCP segment with these flags.
    Tcp(TcpFlags),
    /// An SCTP packet whose first chunk is of this type.
    Sctp(u8),
}

/// A connection as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The flow of its first frame.
    pub original: Flow,
    /// What is done with frames of the original direction.
    pub forward: Binding,
    /// What is done with frames of the reply direction, which come in as
    /// [`Binding::answered_by`] of `forward`. `None` if it was just being removed.
    pub backward: Option<Binding>,
    /// How it stands.
    pub life: Life,
}

/// How full the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections there are, those just being recorded among them.
    pub connections: usize,
    /// Connections there may be.
    pub capacity: usize,
}

/// The connections of all workers.
///
/// **Sharing**: every worker finds, binds, refreshes and removes; control expires and lists. There
/// are no locks; nothing is allocated or freed after [`Self::new`].
#[derive(Debug)]
pub struct Conntrack {
    v4: Table<V4, 2, 4>,
    v6: Table<V6, 5, 7>,
    hasher: RandomState,
    counts: Counts,
}

/// Does the same for the table of one family or the other.
macro_rules! of_family {
    ($self:ident, $is_v4:expr, $table:ident => $what:expr) => {
        if $is_v4 {
            let $table = &$self.v4;
            $what
        } else {
            let $table = &$self.v6;
            $what
        }
    };
}

impl Conntrack {
    /// A table for so many connections of each family, hashing by `seed`.
    ///
    /// Takes 256 octets per IPv4 connection and 512 per IPv6 connection, at once; up to twice that
    /// where twice the capacity is no power of two.
    pub fn new(capacity_v4: usize, capacity_v6: usize, seed: u64) -> Self {
        Self::advised(capacity_v4, capacity_v6, seed, &|_| {})
    }

    /// As [`Self::new`]; `advise` hears of the addresses that the table will lie at before any of
    /// them is written to, so that it may have them in pages of its choice. Flows at random are
    /// mostly misses of the translation cache otherwise.
    pub fn advised(
        capacity_v4: usize,
        capacity_v6: usize,
        seed: u64,
        advise: &dyn Fn(Range<usize>),
    ) -> Self {
        let counts = Counts::new();
        Self {
            v4: Table::new(capacity_v4, &counts, advise),
            v6: Table::new(capacity_v6, &counts, advise),
            hasher: hash::state(seed),
            counts,
        }
    }

    /// How many connections each backend has that [`Binding::load`] names.
    pub fn loads(&self) -> &Loads {
        &self.counts.loads
    }

    /// How many connections there are whose first frame came in at this port and that nobody has
    /// answered, or whose handshake is not done.
    pub fn half_open(&self, port: PortId) -> u32 {
        self.counts.half_open.get(port.0)
    }

    /// The hash by which this flow is found here.
    #[inline]
    pub fn hash(&self, flow: &Flow) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        if flow.is_v4() {
            let addresses = u64::from(flow.source.address.low32()) << 32;
            hasher.write_u64(addresses | u64::from(flow.target.address.low32()));
        } else {
            hasher.write_u128(flow.source.address.bits());
            hasher.write_u128(flow.target.address.bits());
        }
        let ports = u64::from(flow.source.port) << 48 | u64::from(flow.target.port) << 32;
        hasher.write_u64(ports | u64::from(flow.protocol.0));
        hasher.finish()
    }

    /// Reads where the flow of this hash would be, so that [`Self::find`] soon after is quick.
    #[inline]
    pub fn warm(&self, flow: &Flow, hash: u64) {
        of_family!(self, flow.is_v4(), table => table.warm(hash));
    }

    /// The direction of a connection whose frames look like `flow`.
    ///
    /// **Cost**: one slot, which is one cache line for IPv4 and two for IPv6; no writes; no
    /// allocation.
    #[inline]
    pub fn find(&self, flow: &Flow, hash: u64) -> Option<Found> {
        of_family!(self, flow.is_v4(), table => table.find(flow, hash))
    }

    /// Records a connection in both directions.
    ///
    /// `reply` is the flow of its answers as they come in, which is what `forward` makes of
    /// `original`, reversed. Both directions become visible, or neither; the reply's first.
    ///
    /// # Errors
    /// [`BindError`], as it says. Nothing is recorded then.
    pub fn bind(
        &self,
        original: &Flow,
        forward: Binding,
        reply: &Flow,
        backward: Binding,
        now: Tick,
        state: State,
    ) -> Result<Bound, BindError> {
        debug_assert_eq!(*reply, forward.answered_by(original.protocol));
        debug_assert_eq!(*original, backward.answered_by(original.protocol));
        let hashes = [self.hash(original), self.hash(reply)];
        let life = Life::begin(state, now);
        of_family!(self, original.is_v4(), table =>
            table.bind([original, reply], hashes, [forward, backward], life))
    }

    /// Replaces what is done with frames of this direction, the rewritten endpoints excepted.
    ///
    /// Answers whether it was done: not if another thread did the like first, or the connection is
    /// gone.
    pub fn rebind(&self, found: &Found, binding: Binding) -> bool {
        debug_assert_eq!(
            (binding.source, binding.target),
            (found.binding.source, found.binding.target)
        );
        of_family!(self, found.handle.is_v4, table => table.rebind(found, binding))
    }

    /// Takes note of a frame: refreshes the connection and moves its state on.
    ///
    /// **Cost**: nothing but a comparison if neither the tick nor the state changes; otherwise a
    /// compare-and-swap, and for the reply direction a look at the other slot.
    #[inline]
    pub fn follow(&self, found: &Found, signal: Signal, now: Tick) -> Verdict {
        of_family!(self, found.handle.is_v4, table => table.follow(found, signal, now))
    }

    /// Takes note of a frame that says nothing more than that the connection lives.
    #[inline]
    pub fn touch(&self, found: &Found, now: Tick) {
        self.follow(found, Signal::Frame, now);
    }

    /// Removes the connection in both directions; answers whether this call did.
    pub fn remove(&self, found: &Found) -> bool {
        of_family!(self, found.handle.is_v4, table => table.remove(found))
    }

    /// How full the IPv4 and the IPv6 table are.
    pub fn occupancy(&self) -> [Occupancy; 2] {
        [self.v4.occupancy(), self.v6.occupancy()]
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.occupancy().iter().map(|table| table.connections).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every connection that is there from the beginning of the walk to its end.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        self.v4.connections().chain(self.v6.connections())
    }
}
