//! How a connection comes into the table: in both directions, and once.

use super::binding::{Layout, Record, V4, V6};
use super::table::Table;
use super::{BindError, Binding, BindingFlags, Bound, Conntrack, Direction, Found, Life};
use crate::Flow;
use crate::slots::{Plant, Refused, Reservation, Reserved};

/// How often an attempt is made anew because another thread is not done yet.
const ATTEMPTS: u32 = 64;

impl<L: Layout<KEY, VALUE>, const KEY: usize, const VALUE: usize> Table<L, KEY, VALUE> {
    pub(super) fn bind(
        &self,
        flows: [&Flow; 2],
        hashes: [u64; 2],
        [forward, backward]: [Binding; 2],
        life: Life,
    ) -> Result<Bound, BindError> {
        let [original, _] = flows;
        let (first, answers) = match self.reserve(flows, hashes)? {
            Both::Reserved(first, answers) => (first, answers),
            Both::Existing(found) => return Ok(Bound::Existing(found)),
        };
        let indices = [first.index(), answers.index()];
        let records = Self::records(indices, [forward, backward]);
        // before the connection can be found, and so be removed
        self.loads.add(forward.load);
        if life.is_counted {
            self.half_open.add(forward.ingress.0);
        }
        let [forward, backward] = records.map(|record| L::value(&record));
        let life = life.to_bits();
        let entry = if self.slots.has_planted(Plant::OriginalFirst) {
            let entry = first.commit(&forward, life);
            answers.commit(&backward, life);
            entry
        } else {
            // Whoever finds the original and forwards a frame must find the answers, too.
            answers.commit(&backward, life);
            first.commit(&forward, life)
        };
        Ok(Bound::New(Self::found(original, &entry)))
    }

    fn records([first, answers]: [u32; 2], [forward, backward]: [Binding; 2]) -> [Record; 2] {
        let forward = Binding { flags: forward.flags.without(BindingFlags::REPLY), ..forward };
        let backward = Binding { flags: backward.flags.and(BindingFlags::REPLY), ..backward };
        [Record { binding: forward, peer: answers }, Record { binding: backward, peer: first }]
    }

    /// Reserves both flows, or finds that another thread has recorded the connection.
    ///
    /// The lesser key goes first, whichever direction it is of: threads that want the same two
    /// keys, be it the other way round, cannot each hold one and wait for the other.
    fn reserve(
        &self,
        [original, reply]: [&Flow; 2],
        [original_hash, reply_hash]: [u64; 2],
    ) -> Result<Both<'_, KEY, VALUE>, BindError> {
        let keys = [L::key(original), L::key(reply)];
        let [original_key, reply_key] = &keys;
        if original_key == reply_key {
            // an endpoint that talks to itself: its frames and their answers look the same
            return Err(BindError::ReplyTaken);
        }
        for _ in 0..ATTEMPTS {
            let mut first = None;
            if original_key < reply_key || self.slots.has_planted(Plant::CallOrder) {
                match self.slots.reserve(original_hash, original_key)? {
                    Reserved::New(reservation) => first = Some(reservation),
                    Reserved::Exists(entry) => {
                        return Ok(Both::Existing(Self::found(original, &entry)));
                    }
                }
            }
            let answers = match self.slots.reserve(reply_hash, reply_key)? {
                Reserved::New(reservation) => reservation,
                Reserved::Exists(entry) => {
                    let held = first.as_ref().map(Reservation::index);
                    let holder = Self::found(reply, &entry);
                    match self.holder_of_reply(original, original_hash, &holder, held) {
                        Holder::Twin(found) => return Ok(Both::Existing(found)),
                        Holder::Unfinished => std::hint::spin_loop(),
                        Holder::Orphan => self.bury(&holder),
                        Holder::Stranger => return Err(BindError::ReplyTaken),
                    }
                    continue;
                }
            };
            if let Some(first) = first {
                return Ok(Both::Reserved(first, answers));
            }
            return Ok(match self.slots.reserve(original_hash, original_key)? {
                Reserved::New(first) => Both::Reserved(first, answers),
                Reserved::Exists(entry) => Both::Existing(Self::found(original, &entry)),
            });
        }
        Err(BindError::Contended)
    }

    /// Whose the entry is that stands where the answers to `original` would be recorded.
    ///
    /// `held` is the index of the slot reserved for `original`, if it already is.
    fn holder_of_reply(
        &self,
        original: &Flow,
        original_hash: u64,
        holder: &Found,
        held: Option<u32>,
    ) -> Holder {
        if let Some(found) = self.find(original, original_hash) {
            return Holder::Twin(found);
        }
        if holder.binding.direction() == Direction::Original {
            return Holder::Stranger;
        }
        if held == Some(holder.handle.peer) || self.is_orphan(holder) {
            return Holder::Orphan;
        }
        if holder.binding.answered_by(original.protocol) == *original {
            return Holder::Unfinished;
        }
        Holder::Stranger
    }
}

/// What came of reserving two flows.
enum Both<'t, const KEY: usize, const VALUE: usize> {
    Reserved(Reservation<'t, KEY, VALUE>, Reservation<'t, KEY, VALUE>),
    Existing(Found),
}

/// Who holds the flow that answers would come by.
enum Holder {
    /// The same connection, recorded by another thread.
    Twin(Found),
    /// The same connection, which another thread is still recording.
    Unfinished,
    /// A connection of which the other half was removed already.
    Orphan,
    /// Another connection.
    Stranger,
}

/// The place of a flow while somebody records it, or only seems to. Given up when dropped.
#[derive(Debug)]
pub struct Held<'t>(#[expect(dead_code, reason = "held, not looked at")] Place<'t>);

#[derive(Debug)]
#[expect(dead_code, reason = "held, not looked at")]
enum Place<'t> {
    V4(Reservation<'t, 2, 4>),
    V6(Reservation<'t, 5, 7>),
}

impl Conntrack {
    /// Holds the place of a flow, as a thread does that is suspended while it records it; `None` if
    /// the flow is there or somebody else holds it. For tests of those who wait meanwhile.
    pub fn hold(&self, flow: &Flow) -> Option<Held<'_>> {
        fn new<const K: usize, const V: usize>(
            reserved: Result<Reserved<'_, K, V>, Refused>,
        ) -> Option<Reservation<'_, K, V>> {
            match reserved {
                Ok(Reserved::New(reservation)) => Some(reservation),
                Ok(Reserved::Exists(_)) | Err(_) => None,
            }
        }
        let hash = self.hash(flow);
        let place = if flow.is_v4() {
            Place::V4(new(self.v4.slots.reserve(hash, &V4::key(flow)))?)
        } else {
            Place::V6(new(self.v6.slots.reserve(hash, &V6::key(flow)))?)
        };
        Some(Held(place))
    }
}

impl From<Refused> for BindError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Contended => Self::Contended,
        }
    }
}
