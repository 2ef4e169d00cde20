//! What listens inside the lab on the switch's behalf.
//!
//! Agents live in the switch's own process; only their sockets are inside the namespaces. They run
//! on one shared runtime, apart from the workers, so that a busy agent costs no frame.

pub(crate) mod check;
pub(crate) mod datagrams;
pub mod dns;
pub mod echo;
pub(crate) mod grpc;
pub mod health;
pub(crate) mod http;
pub(crate) mod listen;
pub mod loopback;
pub mod namespace;
pub mod prober;
pub mod proxy;
pub mod streak;
