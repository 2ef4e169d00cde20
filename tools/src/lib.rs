//! What exercises the switch from outside: a packet generator and sink, a forwarder without tables,
//! measurements side by side, and a lab kept busy for hours.
//!
//! None of it is linked into the switch.

pub mod beds;
pub mod beside;
pub mod clock;
pub mod floods;
pub mod frames;
pub mod histogram;
pub mod lab;
pub mod link;
pub mod measure;
pub mod packet;
pub mod report;
pub mod search;
mod sink;
pub mod soak;
pub mod stream;
