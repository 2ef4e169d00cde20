//! What the tables said to the first packet of a flow, one after the other, for those who ask why.
//!
//! A pipeline keeps none of it unless it was told to; the frames of known flows leave nothing.

use kswitch_tables::policy::{Allowed, Contact, Denied};
use kswitch_tables::{
    Address, Attachment, BackendSetId, Binding, Endpoint, FrontendId, PortId, RouterId, Stickiness,
};

use super::pipeline::Refusal;
use super::walk::ROUTERS_MAX;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// A load balancer chose a node.
    Forwarded {
        /// The label of the frontend there.
        label: u32,
        /// The node.
        node: RouterId,
        /// Among how many.
        among: usize,
        /// What of the flow was asked.
        stickiness: Stickiness,
    },
    /// A router serves the target: this frontend.
    Frontend {
        /// The router.
        router: RouterId,
        /// The frontend.
        frontend: FrontendId,
    },
    /// The frontend's source ranges were asked.
    SourceRanges {
        /// The router.
        router: RouterId,
        /// The frontend.
        frontend: FrontendId,
        /// Whether the source is within them.
        is_admitted: bool,
    },
    /// A backend was chosen.
    Chosen {
        /// The router.
        router: RouterId,
        /// The frontend.
        frontend: FrontendId,
        /// The backends there are for this traffic at this router.
        set: BackendSetId,
        /// The one.
        backend: Endpoint,
        /// Whether the client was sent there before, and sticks to it.
        is_remembered: bool,
    },
    /// A machine was found, over these routers.
    Way {
        /// The address that is there.
        target: Address,
        /// The routers, in order.
        crossed: Crossed,
        /// Where it is.
        egress: Attachment,
    },
    /// A machine was found on the sender's own bridge.
    Bridged {
        /// Its port.
        port: PortId,
    },
    /// The policies were asked.
    Policy {
        /// What about.
        contact: Contact,
        /// What they said.
        verdict: Result<Allowed, Denied>,
    },
    /// The flow was recorded.
    Bound {
        /// What becomes of its frames.
        binding: Binding,
        /// Whether the source's address is replaced.
        masquerade: Option<Address>,
    },
    /// It was refused.
    Refused(Refusal),
}

/// Routers that were crossed, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    routers: [RouterId; ROUTERS_MAX],
    count: usize,
}

impl Crossed {
    /// These routers, [`ROUTERS_MAX`] of them at most.
    pub fn new(routers: &[RouterId]) -> Self {
        let mut crossed = Self { routers: [RouterId(0); ROUTERS_MAX], count: 0 };
        for (room, router) in crossed.routers.iter_mut().zip(routers) {
            *room = *router;
            crossed.count += 1;
        }
        crossed
    }

    /// The routers.
    pub fn routers(&self) -> &[RouterId] {
        self.routers.get(..self.count).unwrap_or(&[])
    }
}

/// The decisions about a packet, and what was decided for it beforehand.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// The decisions so far, in order.
    pub decisions: Vec<Decision>,
    /// The backend to choose wherever it may be chosen.
    pub choice: Option<Endpoint>,
}
