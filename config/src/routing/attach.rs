//! Which listeners a route attaches to, and who may refer to what.

use std::collections::BTreeMap;

use super::host::HostPattern;
use super::listener::{Prepared, PreparedListener};
use crate::gateway_api::{GROUP, ParentReference, ReferenceGrant, RouteNamespaces};
use crate::{Cluster, labels};

/// Who may refer to objects of other namespaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grants<'c>(&'c [std::sync::Arc<ReferenceGrant>]);

impl<'c> Grants<'c> {
    pub(super) fn new(cluster: &'c Cluster) -> Self {
        Self(&cluster.gateway_api.grants)
    }

    /// Whether an object of a kind of the Gateway API in one namespace may refer to an object, by
    /// group and kind, of another; within a namespace any may.
    pub(super) fn permit(
        &self,
        (kind, namespace): (&str, &str),
        (to_group, to_kind): (&str, &str),
        to_namespace: &str,
        to_name: &str,
    ) -> bool {
        if namespace == to_namespace {
            return true;
        }
        self.0.iter().any(|grant| {
            let from = grant.spec.from.iter().any(|from| {
                from.group == GROUP && from.kind == kind && from.namespace == namespace
            });
            let to = grant.spec.to.iter().any(|to| {
                let is_named =
                    to.name.as_deref().is_none_or(|name| name.is_empty() || name == to_name);
                to.group == to_group && to.kind == to_kind && is_named
            });
            grant.metadata.namespace.as_deref() == Some(to_namespace) && from && to
        })
    }
}

/// A route that wants to attach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'r> {
    pub(super) kind: &'static str,
    pub(super) namespace: &'r str,
    pub(super) hostnames: &'r [String],
}

/// The listeners of one Gateway that take a route, each with the hosts for which they do.
pub(super) type Attached = Vec<(usize, Vec<HostPattern>)>;

/// The Gateway that a parent reference names, among those served, and the ListenerSet of it if the
/// reference names that.
pub(super) fn parent<'g>(
    gateways: &'g mut [Prepared],
    parent: &ParentReference,
    namespace: &str,
) -> Option<(&'g mut Prepared, Option<usize>)> {
    if parent.group.as_deref().is_some_and(|group| group != GROUP) {
        return None;
    }
    let namespace = parent.namespace.as_deref().unwrap_or(namespace);
    let is_it = |name: &str, of: &str| name == parent.name && of == namespace;
    match parent.kind.as_deref() {
        None | Some("Gateway") => {
            let mut gateways = gateways.iter_mut();
            gateways.find(|at| is_it(&at.name, &at.namespace)).map(|at| (at, None))
        }
        Some("ListenerSet") => gateways.iter_mut().find_map(|gateway| {
            let at = gateway.sets.iter().position(|set| is_it(&set.name, &set.namespace))?;
            Some((gateway, Some(at)))
        }),
        Some(_) => None,
    }
}

/// Attaches a route to the listeners of a Gateway itself, or to those of a ListenerSet of it.
///
/// # Errors
/// The reason of the condition `Accepted`, and a sentence.
///
/// Source: Gateway API, `ParentReference`, `Listener.allowedRoutes`, `RouteConditionReason`.
pub(super) fn attach(
    (gateway, set): (&Prepared, Option<usize>),
    parent: &ParentReference,
    route: Applicant<'_>,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Attached, (&'static str, String)> {
    let section = parent.section_name.as_deref();
    let is_named = |listener: &PreparedListener| {
        listener.set == set
            && section.is_none_or(|name| name == listener.spec.name)
            && parent.port.is_none_or(|port| port == listener.spec.port)
    };
    let named: Vec<_> =
        gateway.listeners.iter().enumerate().filter(|(_, at)| is_named(at)).collect();
    if named.is_empty() {
        return Err(("NoMatchingParent", "it has no such listener".to_owned()));
    }
    let allowed: Vec<_> = named
        .into_iter()
        .filter(|(_, at)| at.kinds.contains(&route.kind))
        .filter(|(_, at)| admits(at, route.namespace, namespaces))
        .collect();
    if allowed.is_empty() {
        let message = format!("no listener admits {}s of {}", route.kind, route.namespace);
        return Err(("NotAllowedByListeners", message));
    }
    let hosts = |listener: &PreparedListener| -> Vec<HostPattern> {
        let of_listener = HostPattern::of_gateway(listener.spec.hostname.as_deref());
        if route.hostnames.is_empty() {
            return vec![of_listener];
        }
        let of_route = route.hostnames.iter().map(|host| HostPattern::of_gateway(Some(host)));
        of_route.filter_map(|host| of_listener.both(&host)).collect()
    };
    let attached: Attached = allowed
        .into_iter()
        .map(|(at, listener)| (at, hosts(listener)))
        .filter(|(_, hosts)| !hosts.is_empty())
        .collect();
    if attached.is_empty() {
        let message = "no host of the route is one of a listener".to_owned();
        return Err(("NoMatchingListenerHostname", message));
    }
    Ok(attached)
}

/// Those of the listeners at which no route of another type came first for any of the hosts.
///
/// # Errors
/// The reason of the condition `Accepted`, and a sentence, where none is left.
///
/// Source: Gateway API, `GRPCRouteSpec.hostnames`.
pub(super) fn apart(
    gateway: &Prepared,
    kind: &'static str,
    attached: Attached,
) -> Result<Attached, (&'static str, String)> {
    let is_free = |(at, hosts): &(usize, Vec<HostPattern>)| {
        let requests = gateway.listeners.get(*at).map_or(&[][..], |listener| &listener.requests);
        let mut others = requests.iter().filter(|(other, _)| *other != kind);
        others.all(|(_, theirs)| hosts.iter().all(|host| host.both(theirs).is_none()))
    };
    let free: Attached = attached.into_iter().filter(is_free).collect();
    if free.is_empty() {
        let message = "a route of another type, which is older, is for the same hosts".to_owned();
        return Err(("HostnameConflict", message));
    }
    Ok(free)
}

fn admits(
    listener: &PreparedListener,
    namespace: &str,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> bool {
    let allowed = listener.spec.allowed_routes.as_ref();
    let rule = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    are_admitted((rule, "Same"), &listener.namespace, namespace, namespaces)
}

/// Whether an object admits those of a namespace, by its rule or by what is usual where it has none.
pub(super) fn are_admitted(
    (rule, usual): (Option<&RouteNamespaces>, &str),
    own: &str,
    namespace: &str,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> bool {
    match rule.and_then(|rule| rule.from.as_deref()).unwrap_or(usual) {
        "All" => true,
        "Same" => namespace == own,
        "Selector" => {
            let selector = rule.and_then(|rule| rule.selector.as_ref());
            let none = BTreeMap::new();
            let have = namespaces.get(namespace).unwrap_or(&none);
            selector.is_some_and(|selector| labels::matches(selector, have))
        }
        _ => false,
    }
}
