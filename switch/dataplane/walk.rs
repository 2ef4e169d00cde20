//! The way of a packet from router to router.

use kswitch_tables::{
    Address, Attachment, Port, PortRole, Route, Router, RouterId, RouterRole, Topology,
};

use super::DropReason;
use super::pipeline::Refusal;

/// Routers that a packet may cross inside the switch: there and back again through both of its
/// nodes and the edge, and no loop.
pub const ROUTERS_MAX: usize = 8;

/// Where one step led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The router has the target on one of its links.
    Arrived(Attachment),
    /// The router itself is the target, and has no host stack to hand the packet to.
    Router,
    /// The packet is at the next router now.
    Onward,
}

/// A packet under way.
#[derive(Clone, Debug)]
pub struct Walk<'s> {
    topology: &'s Topology,
    at: RouterId,
    crossed: [RouterId; ROUTERS_MAX],
    count: usize,
    /// The table that the first router looks it up in, if not its own.
    first_table: Option<usize>,
    /// The last node before the edge, once the packet has gone out to it.
    left_through: Option<RouterId>,
}

impl<'s> Walk<'s> {
    /// A packet that came in at `port`. Its router is a hop unless the port is the router's own
    /// host stack.
    pub fn new(topology: &'s Topology, port: &Port) -> Self {
        let is_host = matches!(port.role, PortRole::Host(_));
        Self {
            topology,
            at: port.router,
            crossed: [port.router; ROUTERS_MAX],
            count: usize::from(!is_host),
            first_table: port.table,
            left_through: None,
        }
    }

    /// Where the packet is.
    pub const fn at(&self) -> RouterId {
        self.at
    }

    /// The router where the packet is.
    pub fn router(&self) -> Option<&'s Router> {
        self.topology.router(self.at)
    }

    /// The node through which the packet went out to the edge.
    pub const fn left_through(&self) -> Option<RouterId> {
        self.left_through
    }

    /// The routers crossed so far, in order; each takes one off the TTL.
    pub fn crossed(&self) -> &[RouterId] {
        self.crossed.get(..self.count).unwrap_or(&[])
    }

    /// One step towards `target`.
    ///
    /// # Errors
    /// [`DropReason::NoRoute`], [`DropReason::HostUnreachable`], [`DropReason::NoService`],
    /// [`DropReason::Blackhole`] as the routing table has it, with the neighbour that would have to
    /// be asked for; [`DropReason::NodeDown`] where the next router is switched off;
    /// [`DropReason::TtlExceeded`] for a loop of routes.
    pub fn step(&mut self, target: Address) -> Result<Step, Refusal> {
        let host = self.topology.hosts.get(&target).copied();
        if let Some(host) = host.filter(|host| host.router == self.at) {
            return Ok(Step::Arrived(host));
        }
        let router = self.router().ok_or(DropReason::NoRoute)?;
        if host.is_none() && router.addresses.contains(&target) {
            return Ok(Step::Router);
        }
        // the first router may know other ways for what comes from this port
        let table = self.first_table.take().unwrap_or(router.table);
        let next = match self.topology.route_by(table, target).ok_or(DropReason::NoRoute)? {
            Route::Router(next) if next == self.at => {
                return Err(DropReason::HostUnreachable.into());
            }
            Route::Router(next) => next,
            Route::Connected if router.role == RouterRole::Edge => {
                return Err(Refusal::of_neighbour(DropReason::HostUnreachable, target));
            }
            Route::Connected => return Err(DropReason::HostUnreachable.into()),
            Route::Via(next) => {
                let gateway = self.topology.hosts.get(&next).filter(|host| host.router == self.at);
                let gateway = gateway
                    .ok_or_else(|| Refusal::of_neighbour(DropReason::HostUnreachable, next))?;
                return Ok(Step::Arrived(*gateway));
            }
            Route::Discard => return Err(DropReason::NoService.into()),
            Route::Blackhole => return Err(DropReason::Blackhole.into()),
        };
        let is_edge =
            self.topology.router(next).is_some_and(|router| router.role == RouterRole::Edge);
        let leaves = is_edge && router.role == RouterRole::Node;
        let before = self.at;
        self.hand_to(next)?;
        if leaves {
            self.left_through = Some(before);
        }
        Ok(Step::Onward)
    }

    /// One step to a router that was chosen otherwise than by a routing table.
    ///
    /// # Errors
    /// [`DropReason::NodeDown`] where it is switched off, [`DropReason::TtlExceeded`] for a loop.
    pub fn hand_to(&mut self, next: RouterId) -> Result<(), DropReason> {
        if self.topology.router(next).is_some_and(|next| next.is_down) {
            return Err(DropReason::NodeDown);
        }
        *self.crossed.get_mut(self.count).ok_or(DropReason::TtlExceeded)? = next;
        self.count += 1;
        self.at = next;
        self.first_table = None;
        Ok(())
    }

    /// All steps to `target`: its attachment.
    ///
    /// # Errors
    /// As [`Walk::step`]; [`DropReason::HostUnreachable`] where a router itself is the target.
    pub fn to(&mut self, target: Address) -> Result<Attachment, Refusal> {
        loop {
            match self.step(target)? {
                Step::Arrived(host) => return Ok(self.arrive(host)),
                Step::Router => return Err(DropReason::HostUnreachable.into()),
                Step::Onward => {}
            }
        }
    }

    /// Ends the walk at `host`; a router is no hop for its own host stack.
    pub fn arrive(&mut self, host: Attachment) -> Attachment {
        if host.is_host && self.crossed().last() == Some(&host.router) {
            self.count -= 1;
        }
        host
    }
}
