//! Restart without loss of flows: what outlives the process, and how the next one takes it over.
//!
//! A lab ends in one of two ways. On SIGINT and SIGTERM it removes everything it made. Ended in any
//! other way (`kill -9`, a panic, an upgrade) it leaves everything as it is, and the next run of the
//! same lab goes on with it:
//!
//! | what | why it outlives the process | what the next run does |
//! |---|---|---|
//! | namespaces, TAPs, addresses | they have names, and TAPs are persistent | opens the TAPs again ([`crate::lab`]); a host whose spec is another is made anew |
//! | programs of pods | they are processes of their own; what they say goes to a pipe with a name | knows them by number and start time, and looks after them as before |
//! | connections, affinity | they lie in a file in memory ([`flows`]) | maps the file, mends what was cut off, judges each flow anew |
//! | what clients applied and deleted, addresses and node ports given | written down after each change ([`wishes`]) | does it again on top of the lab file |
//! | the way to move frames that was found the faster | it is written down | moves them so, and does not try again |
//! | echo servers, name servers, proxies | they do not: they live in this process | starts them; connections *to them* are gone |
//!
//! Nothing read-only is kept: the snapshot is compiled from the lab file as ever. What a binding says in
//! terms of a snapshot (ports, hops, counters) is therefore void; so the first generation is one
//! later than any that a flow was judged under, and each flow goes through `readmit` at its next frame,
//! which keeps its backend and its source port and finds the rest by the new tables. A flow that
//! they forbid stops there, as after a reload.
//!
//! Everything is found under `/run/kswitch/<lab>.kept`, a file system in memory. The file of flows
//! has a header: the number of the layout, sizes, the seed of hashing, when ticks began. If any of it is
//! not as this run would have it, the run begins without flows, and says so.

pub(super) mod flows;
pub(super) mod upgrade;
pub(super) mod wishes;

use std::fs;
use std::path::Path;

use kswitch_tables::conntrack::Adopted;

use crate::lab::Lab;
use crate::port::batch::Io;
use crate::port::choice;

/// The name of the way to move frames, in the directory of what is kept.
const IO: &str = "io";

/// How workers move frames, where the lab leaves it to the switch: as the run before did that this one
/// goes on with, since trying takes as long as all the rest; else as is found out now.
pub(super) fn frame_io(directory: &Path, wanted: Io) -> Io {
    if wanted != Io::Auto {
        return wanted;
    }
    let path = directory.join(IO);
    let before = fs::read_to_string(&path).unwrap_or_default();
    if let Some(io) = [Io::IoUring, Io::ReadWrite].into_iter().find(|io| io.name() == before) {
        return io;
    }
    let found = choice::settle(wanted);
    if let Err(error) = fs::write(&path, found.name()) {
        tracing::warn!("the next run will have to try how to move frames: {error}");
    }
    found
}

/// Says what was taken over.
pub(super) fn tell(lab: &Lab, adopted: Adopted) {
    if lab.adopted() > 0 {
        tracing::info!(
            "took {} machines and {} flows over from a run that was killed",
            lab.adopted(),
            adopted.connections
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_move_frames_is_the_one_of_the_run_before_unless_one_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        for io in [Io::IoUring, Io::ReadWrite] {
            fs::write(directory.path().join(IO), io.name()).unwrap();
            assert_eq!(frame_io(directory.path(), Io::Auto), io);
        }
        assert_eq!(frame_io(directory.path(), Io::IoUring), Io::IoUring);
    }
}
