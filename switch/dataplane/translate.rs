//! From a frontend's address to a backend's: who is served where, and as whom.

use kswitch_tables::{
    Backend, Endpoint, Flow, Frontend, FrontendId, LoadId, NodeSets, Policy, PortRole, Router,
    RouterId, Snapshot, Tick,
};

use super::decision::Decision;
use super::pipeline::At;
use super::{DropReason, Pipeline};

/// A frontend's answer to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The frontend that was asked.
    pub frontend: FrontendId,
    /// Where the flow goes instead.
    pub backend: Endpoint,
    /// What counts the backend's flows.
    pub load: LoadId,
    /// Whether the router's own address must stand in for the source's.
    pub masquerade: bool,
}

/// Where a flow comes from, as the router that serves it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The router's own host stack.
    Router,
    /// A machine of the cluster.
    Inside,
    /// Anything else.
    Outside,
}

/// The frontend that `router` serves at the flow's target, if any.
///
/// A port of one router's own (host port) comes before addresses, and these before ports that all
/// routers serve (node ports).
pub fn frontend_at(
    snapshot: &Snapshot,
    id: RouterId,
    router: &Router,
    flow: &Flow,
) -> Option<FrontendId> {
    let Endpoint { address, port } = flow.target;
    let frontends = &snapshot.served_at(id).frontends;
    let (protocol, is_v4) = (flow.protocol, address.is_v4());
    if !protocol.has_ports() {
        return None;
    }
    if router.addresses.contains(&address)
        && let Some(found) = frontends.at_router(id, address, protocol, port)
    {
        return Some(found);
    }
    frontends.at_address(address, protocol, port).or_else(|| {
        router
            .frontend_addresses
            .contains(&address)
            .then(|| frontends.at_local_port(is_v4, protocol, port))
            .flatten()
    })
}

impl Pipeline {
    /// Chooses a backend for a new flow that `router` serves.
    ///
    /// # Errors
    /// [`DropReason::SourceRange`], [`DropReason::NoLocalEndpoints`] and
    /// [`DropReason::NoEndpoints`].
    pub(super) fn translate(
        &mut self,
        at: At<'_>,
        router: RouterId,
        flow: &Flow,
        id: FrontendId,
    ) -> Result<Translation, DropReason> {
        let At { snapshot, now, port, .. } = at;
        let served = snapshot.served_at(router);
        let frontend = served.frontends.get(id).ok_or(DropReason::NoEndpoints)?;
        self.account.frontend = Some(frontend.label);
        self.note(|| Decision::Frontend { router, frontend: id });
        let source = flow.source.address;
        if let Some(ranges) = frontend.source_ranges {
            let is_admitted = served.source_ranges(ranges).is_some_and(|r| r.admits(source));
            self.note(|| Decision::SourceRanges { router, frontend: id, is_admitted });
            if !is_admitted {
                return Err(DropReason::SourceRange);
            }
        }
        let origin = match port.role {
            PortRole::Host(own) if own == router => Origin::Router,
            _ if snapshot.is_inside(source) => Origin::Inside,
            _ => Origin::Outside,
        };
        let (sets, masquerade) = sets_for(frontend, origin);
        let set = sets.at(router).ok_or(if frontend.has_backends {
            DropReason::NoLocalEndpoints
        } else {
            DropReason::NoEndpoints
        })?;
        let remembered = frontend.affinity.and_then(|affinity| {
            let timeout = Tick::from_secs(affinity.timeout_seconds).0;
            self.shared.affinity.find(source, affinity.group, now, timeout)
        });
        let choice = self.trail.as_ref().and_then(|trail| trail.choice);
        let remembered = choice.or(remembered);
        let remembered = remembered.and_then(|backend| served.backends.member(set, backend));
        let Backend { endpoint: backend, load } = if let Some(backend) = remembered {
            backend
        } else {
            let random = self.random.next();
            let loads = self.shared.conntrack.loads();
            let chosen = served.backends.choose(set, flow, random, loads);
            chosen.ok_or(DropReason::NoEndpoints)?
        };
        let is_remembered = remembered.is_some();
        self.note(|| Decision::Chosen { router, frontend: id, set, backend, is_remembered });
        if let Some(affinity) = frontend.affinity {
            // a full table forgets: the next flow is balanced like a first one
            self.shared.affinity.remember(source, affinity.group, backend, now);
        }
        // a machine balanced to itself must see another source, or it would answer itself
        let hairpin = backend.address == source;
        Ok(Translation { frontend: id, backend, load, masquerade: masquerade || hairpin })
    }
}

/// Which backends traffic of this origin may use, and whether it is masqueraded.
///
/// Source: `ServiceSpec.internalTrafficPolicy`, `ServiceSpec.externalTrafficPolicy`; KEP-2086.
fn sets_for(frontend: &Frontend, origin: Origin) -> (&NodeSets, bool) {
    match (frontend.policy, origin) {
        (Policy::Internal { masquerade_all }, origin) => {
            (&frontend.sets, masquerade_all || origin != Origin::Inside)
        }
        (Policy::External, _) => (&frontend.sets, true),
        (Policy::ExternalLocal, Origin::Outside) => (&frontend.sets, false),
        (Policy::ExternalLocal, Origin::Inside) => (&frontend.cluster_sets, false),
        (Policy::ExternalLocal, Origin::Router) => (&frontend.cluster_sets, true),
        (Policy::HostPort, origin) => (&frontend.sets, origin == Origin::Router),
    }
}
