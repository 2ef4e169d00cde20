//! kswitch: a whole Kubernetes network in one userspace process.
//!
//! [`control`] owns the cluster and publishes snapshots; [`dataplane`] carries frames by them;
//! [`port`] moves frames in and out; [`lab`] makes the namespaces and links; [`agents`] listens
//! inside the lab; [`cli`] talks to a running switch. [`rights`] says what each thread may do, and
//! [`threads`] starts them.

pub mod agents;
pub mod cases;
pub mod cli;
pub mod control;
pub mod dataplane;
pub mod lab;
pub mod port;
pub mod rights;
pub mod sim;
pub mod threads;
pub mod trace;
