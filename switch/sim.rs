//! A lab in memory on a virtual clock: the real tables, pipeline and worker, with memory ports
//! where the TAPs would be.
//!
//! What runs case files without root, and what the tests are written against.

pub mod craft;
pub mod fragment;
pub mod host;
pub mod icmp;
pub mod link;
pub mod read;
pub mod sctp;
mod world;

pub use world::World;
