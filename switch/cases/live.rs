//! Cases on real TAPs: each in a lab of its own, made by this process and gone with the case.
//!
//! [`OnTaps`] makes the labs. A [`Site`] is one: namespaces, TAPs, workers and echo servers, as
//! `kswitch --config` would make them, changed as `kswitch apply` would change them. On it stand
//! - [`Sockets`], a [`Stage`](super::stage::Stage): connections by real sockets inside the
//!   namespaces, answered by the echo servers (`whoami`);
//! - [`Frames`], a [`Wire`](super::wire::Wire): frames sent and received by hand through packet
//!   sockets on the machines' interfaces, whose own stacks are silenced.
//!
//! For judges of other areas: [`Sockets::site`] has [`Site::inside`], which opens whatever socket
//! in the namespace of a machine (the socket works from any thread afterwards),
//! [`Site::block_on`] for asynchronous work on such sockets, and [`Site::serve`], which has an
//! echo server listen at one more port of a machine.
//!
//! Time that a case lets pass is not waited for: the switch's clock is put forward
//! ([`Ahead`](crate::dataplane::clock::Ahead)).

mod connection;
mod edge;
mod fetch;
mod frames;
mod packet;
mod questions;
mod silence;
mod site;
mod sockets;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::runtime::Runtime;

pub use edge::Balancers;
pub use frames::Frames;
pub use packet::PacketSocket;
pub use site::Site;
pub use sockets::Sockets;

use super::Ground;
use super::format::{Area, File};
use super::topology::{Broken, Lab, Step};
use crate::agents::echo::Echo;
use crate::lab;
use crate::rights::keeper;
use crate::threads;

/// Connections that all echo servers of a lab hold together.
const ECHO_CONNECTIONS: usize = 16_384;

/// What the names of labs begin with; the process and a number follow.
const NAME: &str = "test-";

/// The exit code of a run that is broken off twice.
const BROKEN_OFF: i32 = 130;

/// Makes a lab on real TAPs for each case.
#[derive(Debug)]
pub struct OnTaps {
    shared: Arc<Shared>,
}

/// Threads that a run of cases has beside those of its labs, and those of a lab.
const LAB_THREADS: usize = 16;

/// What the labs of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    /// How many labs were made.
    labs: AtomicU32,
    runtime: Runtime,
    echo: Echo,
    interrupted: Arc<AtomicBool>,
}

impl OnTaps {
    /// Checks that labs can be made, and removes those of killed runs; from here on SIGINT and SIGTERM end a case early and leave
    /// nothing of its lab. A second one ends the process at once.
    ///
    /// # Errors
    /// This process may make no labs, or what else the system says.
    pub fn new() -> Result<Self, Broken> {
        lab::check_capabilities().map_err(|error| site::broken(&error))?;
        lab::reclaim_killed(NAME).map_err(|error| site::broken(&error))?;
        let broken = |error: io::Error| Broken(format!("cannot start: {error}"));
        // load balancers give up their rights, and enter namespaces by it
        keeper::start().map_err(broken)?;
        threads::check(LAB_THREADS).map_err(broken)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("agents")
            .enable_all()
            .build()
            .map_err(broken)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let flag = || Arc::clone(&interrupted);
            // in this order, lest the first signal be taken for the second
            signal_hook::flag::register_conditional_shutdown(signal, BROKEN_OFF, flag())
                .map_err(broken)?;
            signal_hook::flag::register(signal, flag()).map_err(broken)?;
        }
        let echo = Echo::new(runtime.handle().clone(), ECHO_CONNECTIONS);
        Ok(Self {
            shared: Arc::new(Shared { labs: AtomicU32::new(0), runtime, echo, interrupted }),
        })
    }

    /// Makes the lab of a case under a name that no other lab has.
    fn site<S: Step>(&self, case: &File<S>) -> Result<(Lab, Site), Broken> {
        let number = self.shared.labs.fetch_add(1, Ordering::Relaxed);
        let mut lab = Lab::new(&format!("{NAME}{}-{number}", std::process::id()), case)?;
        if case.area == Area::Dns {
            lab.add_name_servers()?;
        }
        let site = Site::start(Arc::clone(&self.shared), &lab);
        Ok((lab, site.map_err(|error| site::broken(&error))?))
    }
}

impl Ground for OnTaps {
    type Stage = Sockets;
    type Wire = Frames;
    type Edge = Balancers;

    fn stage<S: Step>(&self, case: &File<S>) -> Result<(Lab, Sockets), Broken> {
        let (lab, site) = self.site(case)?;
        let sockets = Sockets::new(site, &lab)?;
        Ok((lab, sockets))
    }

    fn wire<S: Step>(&self, case: &File<S>) -> Result<(Lab, Frames), Broken> {
        let (lab, site) = self.site(case)?;
        let frames = Frames::new(site, frames::Hosts::Silent)?;
        Ok((lab, frames))
    }

    fn edge<S: Step>(&self, case: &File<S>) -> Result<(Lab, Balancers), Broken> {
        let (lab, site) = self.site(case)?;
        let balancers = Balancers::new(site, &lab)?;
        Ok((lab, balancers))
    }

    fn is_interrupted(&self) -> bool {
        self.shared.is_interrupted()
    }
}

impl Shared {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
