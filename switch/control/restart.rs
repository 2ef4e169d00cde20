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

use kswitch_tables::conntrack::Adopted;

use crate::lab::Lab;

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
