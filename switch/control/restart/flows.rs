//! The shared tables of a lab, in a file that outlives the process.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kswitch_tables::affinity::Affinities;
use kswitch_tables::conntrack::{Adopted, Connection, Counted, LAYOUT, Room};
use kswitch_tables::{
    Address, BackendSetId, Conntrack, Endpoint, Flow, Frontend, LoadId, NodeSets, Protocol,
    Snapshot,
};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::time::{ClockId, clock_gettime};

use crate::control::room;
use crate::control::switch::{AFFINITIES_MAX, Options, shared_of};
use crate::dataplane::Shared;
use crate::port::lasting::Lasting;

/// The name of the file.
const FILE: &str = "flows";

/// The first word of the file: "kswitch" and the number of the header's own form.
const MAGIC: u64 = u64::from_be_bytes(*b"kswitch\x01");

/// Words of the header, so that what follows begins at a multiple of a slot.
const HEADER: usize = 16;

/// The tables of a run, and what makes them meaningful.
#[derive(Debug)]
pub(in crate::control) struct Flows {
    pub(in crate::control) shared: Arc<Shared>,
    /// When the clock of ticks started: in the first of the runs that share these tables.
    pub(in crate::control) start: Instant,
    /// The seed of hashing and of random choices.
    pub(in crate::control) seed: u64,
    is_adopted: bool,
}

/// What must be the same for one run to read what another has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    layout: u64,
    connections: u64,
    affinities: u64,
    seed: u64,
    /// When ticks began, nanoseconds of the monotonic clock.
    start: u64,
    /// The hash of a certain flow: another library, or another processor, may hash otherwise.
    proof: u64,
}

impl Header {
    const NAMES: [&str; 6] = ["layout", "size", "size", "seed", "clock", "hash"];

    fn words(self) -> [u64; 6] {
        let Self { layout, connections, affinities, seed, start, proof } = self;
        [layout, connections, affinities, seed, start, proof]
    }

    fn read(words: &[AtomicU64]) -> Option<Self> {
        let mut values = words.iter().map(|word| word.load(Relaxed));
        let mut next = || values.next();
        if next() != Some(MAGIC) {
            return None;
        }
        Some(Self {
            layout: next()?,
            connections: next()?,
            affinities: next()?,
            seed: next()?,
            start: next()?,
            proof: next()?,
        })
    }

    fn write(self, words: &[AtomicU64]) {
        for (word, value) in words.iter().zip([MAGIC].into_iter().chain(self.words())) {
            word.store(value, Relaxed);
        }
    }

    /// What a run of these options expects, given what only the file can tell.
    fn expected(options: &Options, seed: u64, start: u64) -> Self {
        Self {
            layout: LAYOUT,
            connections: options.connections as u64,
            affinities: AFFINITIES_MAX as u64,
            seed,
            start,
            proof: proof(seed),
        }
    }
}

/// What a certain flow hashes to.
fn proof(seed: u64) -> u64 {
    let end = |last: u32| Endpoint::new(Address::v4(0x0a04_0000 | last), 4_242);
    let flow = Flow { protocol: Protocol::TCP, source: end(1), target: end(2) };
    Conntrack::new(1, 1, seed).hash(&flow)
}

impl Flows {
    /// Tables of this run alone.
    pub(in crate::control) fn fresh(options: &Options) -> Self {
        let shared = crate::control::switch::shared(options.connections, options.seed);
        Self { shared, start: Instant::now(), seed: options.seed, is_adopted: false }
    }

    /// The tables in the file of a directory: those of a killed run, or new ones. Those of a killed
    /// run have nothing in them before [`Self::adopt`].
    ///
    /// A seed that the options insist on (`is_given`) has to be that of the file.
    ///
    /// # Errors
    /// There is not enough memory, or what the system says.
    pub(in crate::control) fn open(
        directory: &Path,
        options: &Options,
        seed: Seed,
    ) -> io::Result<Self> {
        let path = directory.join(FILE);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => match Self::over(&file, options, seed) {
                Ok(flows) => return Ok(flows),
                Err(reason) => {
                    tracing::warn!("the flows of the run before are given up: {reason}");
                    fs::remove_file(&path)?;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        check_memory(octets(options))?;
        let new = directory.join("flows-new");
        let mut create = OpenOptions::new();
        let file =
            create.read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let length = i64::try_from(octets(options)).map_err(io::Error::other)?;
        // all of it now, lest memory run out while frames are carried
        file.set_len(octets(options) as u64)?;
        fallocate(&file, FallocateFlags::empty(), 0, length)?;
        let mut memory = Lasting::map(&file, HEADER * 8)?;
        let header = Header::expected(options, options.seed, monotonic()?);
        memory
            .words(HEADER)
            .map(|words| header.write(words))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        fs::rename(&new, &path)?;
        let flows = Self::over(&file, options, seed).map_err(io::Error::other)?;
        Ok(Self { is_adopted: false, ..flows })
    }

    /// The tables in a file; why they cannot be used, if they cannot.
    fn over(file: &File, options: &Options, seed: Seed) -> Result<Self, String> {
        let unreadable = |error: io::Error| format!("their file cannot be read: {error}");
        let mut memory =
            Lasting::map(file, octets(options)).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => "they were of another size".to_owned(),
                io::ErrorKind::OutOfMemory => {
                    "there are no addresses left to map them: lower `conntrack-flows` in [switch]"
                        .to_owned()
                }
                _ => unreadable(error),
            })?;
        memory.populate().map_err(unreadable)?;
        let short = || "their file is too short".to_owned();
        let words = memory.words(HEADER).ok_or_else(short)?;
        let found = Header::read(words).ok_or("their file is none of ours")?;
        let wanted = if seed == Seed::Given { options.seed } else { found.seed };
        let expected = Header::expected(options, wanted, found.start);
        let odd = { found.words().into_iter().zip(expected.words()) }.position(|(a, b)| a != b);
        if let Some(name) = odd.and_then(|at| Header::NAMES.get(at)) {
            return Err(format!("they were of another {name}"));
        }
        let capacities = [options.connections; 2];
        let [v4, v6] = Room::slots(capacities);
        let room = Room {
            v4: memory.slots(v4).ok_or_else(short)?,
            v6: memory.slots(v6).ok_or_else(short)?,
        };
        let clients = memory.slots(Affinities::slots_for(AFFINITIES_MAX)).ok_or_else(short)?;
        let conntrack = Conntrack::over(capacities, found.seed, room).ok_or_else(short)?;
        let affinity = Affinities::adopt(AFFINITIES_MAX, found.seed, clients).ok_or_else(short)?;
        let since = monotonic().map_err(unreadable)?.checked_sub(found.start);
        let since = since.ok_or("they are from before the machine started")?;
        let start = Instant::now().checked_sub(Duration::from_nanos(since));
        Ok(Self {
            shared: shared_of(conntrack, affinity, found.seed),
            start: start.ok_or("they are from before the machine started")?,
            seed: found.seed,
            is_adopted: true,
        })
    }

    /// Puts the tables of a killed run right. No worker may run yet.
    pub(in crate::control) fn adopt(&self) -> Adopted {
        if self.is_adopted { self.shared.conntrack.adopt() } else { Adopted::default() }
    }

    /// Has the flows counted that backends of a snapshot are chosen by, and those that nobody has
    /// answered for the ports of their sources; forgets clients' backends that are none. No worker may run yet.
    pub(in crate::control) fn settle(&self, snapshot: &Snapshot) {
        if !self.is_adopted {
            return;
        }
        let counted = counters(snapshot);
        self.shared.conntrack.recount(|connection| Counted {
            load: load(snapshot, &counted, connection),
            port: snapshot
                .topology
                .place(connection.original.source.address)
                .ok()
                .map(|home| home.port),
        });
        let mut groups: HashMap<u32, HashSet<Endpoint>> = HashMap::new();
        for (_, frontend) in snapshot.served.frontends.iter() {
            if let Some(affinity) = frontend.affinity {
                groups.entry(affinity.group).or_default().extend(frontend.serving.iter());
            }
        }
        self.shared.affinity.forget_if(|preference| {
            !groups.get(&preference.group).is_some_and(|group| group.contains(&preference.backend))
        });
    }
}

/// Where the seed of a run is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Seed {
    /// The lab file: it must be that.
    Given,
    /// Chance: any will do.
    Random,
}

/// Octets of the file.
pub(in crate::control) fn octets(options: &Options) -> usize {
    let [v4, v6] = Room::slots([options.connections; 2]);
    let clients = Affinities::slots_for(AFFINITIES_MAX);
    HEADER * 8 + v4 * 64 + v6 * 128 + clients * 64
}

/// Refuses to take more memory than there is, which would end some process or other later.
fn check_memory(wanted: usize) -> io::Result<()> {
    let Some(available) = room::available().filter(|available| *available < wanted) else {
        return Ok(());
    };
    let message = format!(
        "they take {} MiB of memory, and {} MiB are available: lower `conntrack-flows` in [switch]",
        room::mib(wanted),
        room::mib(available)
    );
    Err(io::Error::new(io::ErrorKind::OutOfMemory, message))
}

/// Nanoseconds of the monotonic clock, which is that of [`Instant`].
fn monotonic() -> io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    u64::try_from(now.as_nanos()).map_err(io::Error::other)
}

/// The counters of all backends that have one.
fn counters(snapshot: &Snapshot) -> HashMap<Endpoint, LoadId> {
    let sets = (0..snapshot.served.backends.len())
        .filter_map(|at| Some(BackendSetId(at.try_into().ok()?)));
    let members = sets.flat_map(|set| snapshot.served.backends.members(set));
    let counted = members.filter(|backend| backend.load != LoadId::NONE);
    counted.map(|backend| (backend.endpoint, backend.load)).collect()
}

/// The counter of the backend that a connection has: that of the frontend it came by, which is known
/// where the frontend has an address of its own.
fn load(
    snapshot: &Snapshot,
    counted: &HashMap<Endpoint, LoadId>,
    connection: &Connection,
) -> LoadId {
    let Connection { original, forward, .. } = connection;
    let Some(any) = counted.get(&forward.target).filter(|_| original.target != forward.target)
    else {
        return LoadId::NONE;
    };
    let Endpoint { address, port } = original.target;
    let frontend = snapshot.served.frontends.at_address(address, original.protocol, port);
    let frontend = frontend.and_then(|id| snapshot.served.frontends.get(id));
    let own = frontend.and_then(|frontend| {
        let mut sets = sets(frontend);
        sets.find_map(|set| snapshot.served.backends.member(set, forward.target))
    });
    own.map_or(*any, |backend| backend.load)
}

fn sets(frontend: &Frontend) -> impl Iterator<Item = BackendSetId> {
    [&frontend.sets, &frontend.cluster_sets].into_iter().flat_map(|sets| match sets {
        NodeSets::Nowhere => Vec::new(),
        NodeSets::Everywhere(set) => vec![*set],
        NodeSets::PerRouter(sets) => sets.iter().map(|(_, set)| *set).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::batch::Io;

    fn options() -> Options {
        Options {
            workers: 1,
            spin: Duration::ZERO,
            coalesces: false,
            io: Io::ReadWrite,
            connections: 1024,
            seed: 7,
            survives: true,
        }
    }

    #[test]
    fn the_next_run_finds_the_tables_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let open = |options: Options, seed| Flows::open(directory.path(), &options, seed).unwrap();
        let first = open(options(), Seed::Random);
        assert!(!first.is_adopted);
        let client = Address::v4(1);
        let backend = Endpoint::new(Address::v4(2), 80);
        first.shared.affinity.remember(client, 1, backend, kswitch_tables::Tick(5));
        let second = open(Options { seed: 8, ..options() }, Seed::Random);
        assert!(second.is_adopted);
        assert_eq!(second.seed, 7);
        let apart = second.start.max(first.start) - second.start.min(first.start);
        assert!(apart < Duration::from_secs(1), "{apart:?}");
        assert_eq!(second.shared.affinity.len(), 1);
    }

    #[test]
    fn tables_of_another_kind_are_given_up() {
        for (odd, seed) in [
            (Options { connections: 4096, ..options() }, Seed::Random),
            (Options { connections: 1025, ..options() }, Seed::Random),
            (Options { seed: 8, ..options() }, Seed::Given),
        ] {
            let directory = tempfile::tempdir().unwrap();
            Flows::open(directory.path(), &options(), Seed::Random).unwrap();
            let flows = Flows::open(directory.path(), &odd, seed).unwrap();
            assert!(!flows.is_adopted, "{odd:?}");
            // and the new ones are adopted from then on
            assert!(Flows::open(directory.path(), &odd, seed).unwrap().is_adopted);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        Flows::open(directory.path(), &options(), Seed::Random).unwrap();
        let mut text = fs::read(&path).unwrap();
        text[15] ^= 1;
        fs::write(&path, text).unwrap();
        assert!(!Flows::open(directory.path(), &options(), Seed::Random).unwrap().is_adopted);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let error = check_memory(usize::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("conntrack-flows"), "{error}");
    }
}
