//! Whether a flow may be: the question that admission puts to the policies.
//!
//! Asked of the first packet of a flow, after its target was translated and before its source is
//! masqueraded, on bridged and routed ways alike; and again under every new generation. Answers,
//! and ICMP errors about a flow, belong to the flow and are not asked about.

use kswitch_tables::policy::{Allowed, Contact, Denied, Direction, Established, Party, Place};
use kswitch_tables::{Address, Endpoint, Flow, Policies, Port, PortRole, Snapshot};

use super::admit::Way;
use super::decision::Decision;
use super::{DropReason, Pipeline};

impl From<Denied> for DropReason {
    fn from(denied: Denied) -> Self {
        match denied.direction {
            Direction::Egress => Self::PolicyEgress,
            Direction::Ingress => Self::PolicyIngress,
        }
    }
}

impl Pipeline {
    /// Refuses a flow from the machine on `port` that the policies of either end forbid; `target`
    /// is its target after translation.
    ///
    /// # Errors
    /// [`DropReason::PolicyEgress`], [`DropReason::PolicyIngress`].
    pub(super) fn permit(
        &mut self,
        snapshot: &Snapshot,
        port: &Port,
        flow: &Flow,
        target: Endpoint,
        way: &Way,
    ) -> Result<(), DropReason> {
        self.ask(&snapshot.policies, &contact(snapshot, port, flow, target, way))
    }

    /// Refuses a packet that a router of the network itself would answer.
    ///
    /// # Errors
    /// [`DropReason::PolicyEgress`].
    pub(super) fn permit_to_router(
        &mut self,
        snapshot: &Snapshot,
        port: &Port,
        flow: &Flow,
    ) -> Result<(), DropReason> {
        let policies = &snapshot.policies;
        let contact = Contact {
            source: sender(policies, port, flow.source.address),
            target: Policies::stranger(flow.target.address),
            protocol: flow.protocol,
            port: flow.target.port,
            is_translated: false,
        };
        self.ask(policies, &contact)
    }

    /// Refuses a flow under way that new policies forbid, unless flows are to be kept.
    ///
    /// # Errors
    /// [`DropReason::PolicyEgress`], [`DropReason::PolicyIngress`].
    pub(super) fn permit_known(
        &mut self,
        snapshot: &Snapshot,
        port: &Port,
        flow: &Flow,
        target: Endpoint,
        way: &Way,
    ) -> Result<(), DropReason> {
        match snapshot.policies.established {
            Established::Recheck => self.permit(snapshot, port, flow, target, way),
            Established::Keep => Ok(()),
        }
    }

    fn ask(&mut self, policies: &Policies, contact: &Contact) -> Result<(), DropReason> {
        let verdict = policies.check(contact);
        self.note(|| Decision::Policy { contact: *contact, verdict });
        match verdict {
            Ok(Allowed { audited: None, .. }) => Ok(()),
            Ok(Allowed { audited: Some(denied), .. }) => {
                self.counters.audited.add(1);
                self.account.denied = Some((*contact, denied));
                Ok(())
            }
            Err(denied) => {
                self.account.denied = Some((*contact, denied));
                Err(denied.into())
            }
        }
    }
}

/// A flow as policies see it.
pub(super) fn contact(
    snapshot: &Snapshot,
    port: &Port,
    flow: &Flow,
    target: Endpoint,
    way: &Way,
) -> Contact {
    let policies = &snapshot.policies;
    let mut receiver = policies.party(target.address, &way.egress);
    if way.is_bridged {
        receiver.identity = identity_behind(snapshot, target.address, way);
    }
    Contact {
        source: sender(policies, port, flow.source.address),
        target: receiver,
        protocol: flow.protocol,
        port: target.port,
        is_translated: target.address != flow.target.address,
    }
}

/// The machine on a port, under one of its addresses.
fn sender(policies: &Policies, port: &Port, address: Address) -> Party {
    let place = match port.role {
        PortRole::Host(router) => Place::Host(router),
        PortRole::Bridged(_) | PortRole::Routed(_) => Place::Behind(port.router),
    };
    Party { address, identity: policies.addresses.find(address), place }
}

/// Who gets what is sent to an Ethernet address, whoever's IP address stands on it: else isolation
/// would end where a frame names another one.
fn identity_behind(
    snapshot: &Snapshot,
    target: Address,
    way: &Way,
) -> Option<kswitch_tables::policy::IdentityId> {
    let addresses = &snapshot.topology.port(way.egress.port)?.addresses;
    let own = addresses.iter().find(|address| **address == target).or(addresses.first())?;
    snapshot.policies.addresses.find(*own)
}
