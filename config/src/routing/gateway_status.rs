//! What has become of Gateways, and of routes at them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::attach;
use super::condition::condition;
use super::gateway_tls;
use super::listener::{self, Prepared};
use super::rules::Problem;
use crate::GatewaySettings;
use crate::gateway_api::{
    GROUP, Gateway, GatewayAddress, GatewayStatus, ParentReference, RouteParentStatus,
    StatusAddress,
};

/// What has become of a route at one of its parents.
pub(super) fn parent_status(
    metadata: &ObjectMeta,
    parent: &ParentReference,
    attached: Result<&attach::Attached, &(&'static str, String)>,
    problems: &[Problem],
) -> RouteParentStatus {
    let generation = metadata.generation;
    let accepted = match attached {
        Ok(_) => condition("Accepted", true, "Accepted", "", generation),
        Err((reason, message)) => condition("Accepted", false, reason, message, generation),
    };
    let resolved = match problems.first() {
        None => condition("ResolvedRefs", true, "ResolvedRefs", "", generation),
        Some((reason, message)) => condition("ResolvedRefs", false, reason, message, generation),
    };
    RouteParentStatus {
        // as an API server fills in what is not said
        parent_ref: ParentReference {
            group: parent.group.clone().or_else(|| Some(GROUP.to_owned())),
            kind: parent.kind.clone().or_else(|| Some("Gateway".to_owned())),
            ..parent.clone()
        },
        controller_name: GatewaySettings::GATEWAY_CONTROLLER.to_owned(),
        conditions: vec![accepted, resolved],
    }
}

/// A Gateway with its status, to which so many ListenerSets have attached.
pub(super) fn with_status(prepared: &Prepared, attached_sets: usize) -> Gateway {
    let mut gateway = prepared.object.as_ref().clone();
    let generation = gateway.metadata.generation;
    let own = prepared.listeners.iter().filter(|listener| listener.set.is_none());
    let listeners = own.clone().map(listener::PreparedListener::status).collect();
    let usable = own.clone().filter(|listener| listener.is_usable).count();
    let (is_accepted, reason, message) = match usable {
        0 => (false, "ListenersNotValid", "no listener can be served"),
        count if count < own.clone().count() => {
            (true, "ListenersNotValid", "some listeners cannot be served")
        }
        _ => (true, "Accepted", ""),
    };
    let asked = &gateway.spec.addresses;
    let is_strange = |at: &GatewayAddress| {
        !matches!(at.type_.as_deref(), None | Some("IPAddress" | "NamedAddress"))
    };
    let accepted = match (asked.iter().find(|at| is_strange(at)), &prepared.refused) {
        (_, Some((reason, message))) => condition("Accepted", false, reason, message, generation),
        (Some(strange), None) => {
            let kind = strange.type_.as_deref().unwrap_or_default();
            let message = format!("addresses of the type {kind} are not known here");
            condition("Accepted", false, "UnsupportedAddress", message, generation)
        }
        (None, None) => condition("Accepted", is_accepted, reason, message, generation),
    };
    // one that is an address by itself has to be had; names were told when they were looked up
    let missing = asked.iter().filter_map(|at| at.value.as_deref()).find(|value| {
        let address = value.parse::<std::net::IpAddr>();
        address.is_ok_and(|address| !prepared.addresses.contains(&address))
    });
    let programmed = if let Some(missing) = missing {
        let message = format!("{missing} cannot be had");
        condition("Programmed", false, "AddressNotUsable", message, generation)
    } else if prepared.addresses.is_empty() {
        let message = "the Gateway has no address";
        condition("Programmed", false, "AddressNotAssigned", message, generation)
    } else if usable == 0 {
        condition("Programmed", false, "Invalid", message, generation)
    } else {
        condition("Programmed", true, "Programmed", "", generation)
    };
    let address = |address: &std::net::IpAddr| StatusAddress {
        type_: "IPAddress".to_owned(),
        value: address.to_string(),
    };
    let mut conditions = vec![accepted, programmed];
    match &prepared.identity {
        Some(Ok(_)) => {
            conditions.push(condition("ResolvedRefs", true, "ResolvedRefs", "", generation));
        }
        Some(Err((reason, message))) => {
            conditions.push(condition("ResolvedRefs", false, reason, message, generation));
        }
        None => {}
    }
    if gateway_tls::falls_back(&gateway) {
        let message = "clients without a good certificate are let in";
        let (kind, reason) = ("InsecureFrontendValidationMode", "ConfigurationChanged");
        conditions.push(condition(kind, true, reason, message, generation));
    }
    gateway.status = Some(GatewayStatus {
        addresses: prepared.addresses.iter().map(address).collect(),
        conditions,
        listeners,
        attached_listener_sets: i32::try_from(attached_sets).unwrap_or(i32::MAX),
    });
    gateway
}
