//! The tables a frame is judged by: mechanism only.
//!
//! Nothing here does I/O, reads a clock, starts a thread, writes a log or knows a word of
//! Kubernetes. State lives in two places: the [`Snapshot`], which is never changed once published,
//! and the shared tables ([`Conntrack`] and its kin, all built on [`slots`]), which are never freed
//! while a worker runs. Time, randomness and seeds are arguments.
#![forbid(unsafe_code)]

mod address;
pub mod affinity;
mod backends;
pub mod conntrack;
mod contests;
mod fdb;
mod flow;
mod forwarding;
mod frontends;
mod hash;
mod limits;
mod loads;
pub mod maglev;
mod murmur;
mod neighbours;
pub mod policy;
mod prefix_map;
pub mod slots;
mod snapshot;
mod source_ranges;
mod tally;
mod tick;
mod topology;

pub use address::{Address, MacAddress, Prefix};
pub use backends::{Backend, BackendSet, BackendSetId, BackendSets, Method};
pub use conntrack::{Binding, Conntrack};
pub use contests::{Contest, Contests, DEFEND_INTERVAL};
pub use fdb::{Fdb, Learned, Station};
pub use flow::{Endpoint, Flow, Protocol};
pub use forwarding::{
    Candidate, Forwarding, ForwardingRule, ForwardingRules, NodeGroup, Scope, Stickiness,
};
pub use frontends::{Affinity, Frontend, FrontendId, Frontends, NodeSets, Policy};
pub use limits::Limits;
pub use loads::{LoadId, Loads};
pub use murmur::murmur3_x64_128;
pub use neighbours::{ASK_AGAIN, Asked, Neighbour, Neighbours, Reachability};
pub use policy::Policies;
pub use prefix_map::PrefixMap;
pub use snapshot::{Served, Snapshot};
pub use source_ranges::{SourceRanges, SourceRangesId};
pub use tick::{Generation, Tick};
pub use topology::{
    Astray, Attachment, Gateway, Hop, HopId, Port, PortId, PortRole, Route, Router, RouterId,
    RouterRole, Segment, SegmentId, Topology,
};
