//! From a received frame to its fate.
//!
//! A frame's path, in the order of the files: [`worker`] receives a burst and hands each frame to
//! [`pipeline`]'s `forward`, which finds the flow's binding in conntrack and rewrites the frame
//! ([`rewrite`]); the first frame of a flow goes through `admit` ([`admit`]) instead. Neighbours,
//! echoes and errors are answered here too ([`neighbour`], [`icmp`]).
//!
//! Imports `tables` and the ports only: no Kubernetes, no lab, no async runtime.
#![forbid(unsafe_code)]

pub mod admit;
pub mod bridge;
pub mod burst;
pub mod capture;
pub mod checksum;
pub mod clock;
mod coalesce;
pub mod counters;
pub mod cut;
pub mod decision;
pub mod drops;
mod egress;
pub mod forwarding;
pub mod fragment;
pub mod frame;
pub mod icmp;
pub mod icmp_error;
pub mod keeper;
pub mod link;
pub mod mailbox;
pub mod masquerade;
pub mod neighbour;
pub mod pending;
mod pieces;
pub mod pipeline;
pub mod policy;
pub mod readmit;
pub mod reject;
mod resolve;
pub mod rewrite;
pub mod segment;
mod solicit;
pub mod stages;
pub mod translate;
pub mod vnet;
pub mod walk;
mod warm;
pub mod watch;
pub mod worker;

pub use counters::Counters;
pub use drops::DropReason;
pub use frame::{Frame, Kind, Packet, Parsed};
pub use pipeline::{Output, Pipeline, Shared, Verdict};
pub use vnet::Vnet;
