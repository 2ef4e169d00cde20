//! Which endpoints a router may use, by the state they are in and the wishes about distance.

use crate::endpoints::{Candidate, NOWHERE, NodeIndex, Places};

/// Groups of candidates, and which node uses which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Categories {
    /// Indices of candidates; no group is empty.
    pub(super) groups: Vec<Vec<usize>>,
    /// Who uses them.
    pub(super) users: Users,
}

/// Which node uses which group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Users {
    /// There is no group.
    #[default]
    Nobody,
    /// Every node uses the only group.
    Everybody,
    /// Nodes with the index of their group; others have none.
    Some(Vec<(NodeIndex, usize)>),
}

/// Whether anything is usable by anybody: something ready, or something to fall back on.
pub(super) fn any_usable(candidates: &[Candidate]) -> bool {
    candidates.iter().any(|c| c.conditions.ready || c.conditions.is_fallback())
}

/// What each node uses of the whole cluster: what is ready, as hints allow; if nothing is ready,
/// whatever still serves while it terminates, and then hints do not count.
///
/// Source: KEP-1669, KEP-2433, KEP-3015.
pub(super) fn of_cluster(candidates: &[Candidate], places: &Places) -> Categories {
    let ready = indices(candidates, |c| c.conditions.ready);
    if ready.is_empty() {
        let fallback = indices(candidates, |c| c.conditions.is_fallback());
        return everybody(fallback);
    }
    // hints of a kind count only if every ready endpoint has one
    let all_have =
        |has: fn(&Candidate) -> bool| ready.iter().filter_map(|at| candidates.get(*at)).all(has);
    let by_node = all_have(|c| c.hints.as_ref().is_some_and(|hints| !hints.nodes.is_empty()));
    let by_zone = all_have(|c| c.hints.as_ref().is_some_and(|hints| !hints.zones.is_empty()));
    if !by_node && !by_zone {
        return everybody(ready);
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut users = Vec::new();
    for node in 0..places.nodes() {
        let zone = places.zone_of(node);
        let for_node = || hinted(candidates, &ready, |hints| hints.nodes.contains(&node));
        let for_zone = || hinted(candidates, &ready, |hints| hints.zones.contains(&zone));
        let own = Some(for_node).filter(|_| by_node).map(|group| group());
        let own = own.filter(|group| !group.is_empty()).or_else(|| {
            let group = Some(for_zone).filter(|_| by_zone && zone != NOWHERE)?();
            (!group.is_empty()).then_some(group)
        });
        let group = own.unwrap_or_else(|| ready.clone());
        let at = groups.iter().position(|have| *have == group).unwrap_or_else(|| {
            groups.push(group);
            groups.len() - 1
        });
        users.push((node, at));
    }
    match groups.len() {
        0 => everybody(ready),
        1 => Categories { groups, users: Users::Everybody },
        _ => Categories { groups, users: Users::Some(users) },
    }
}

/// What each node uses of its own endpoints: those that are ready; if none of its own is, those
/// that still serve while they terminate.
///
/// Source: KEP-1669, KEP-2086.
pub(super) fn of_nodes(candidates: &[Candidate]) -> Categories {
    let mut nodes: Vec<NodeIndex> =
        candidates.iter().map(|c| c.node).filter(|node| *node != NOWHERE).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let (mut groups, mut users) = (Vec::new(), Vec::new());
    for node in nodes {
        let mut group = indices(candidates, |c| c.node == node && c.conditions.ready);
        if group.is_empty() {
            group = indices(candidates, |c| c.node == node && c.conditions.is_fallback());
        }
        if !group.is_empty() {
            users.push((node, groups.len()));
            groups.push(group);
        }
    }
    let users = if users.is_empty() { Users::Nobody } else { Users::Some(users) };
    Categories { groups, users }
}

fn everybody(group: Vec<usize>) -> Categories {
    if group.is_empty() {
        return Categories::default();
    }
    Categories { groups: vec![group], users: Users::Everybody }
}

fn indices(candidates: &[Candidate], wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
    let numbered = candidates.iter().enumerate();
    numbered.filter(|(_, candidate)| wanted(candidate)).map(|(at, _)| at).collect()
}

fn hinted(
    candidates: &[Candidate],
    among: &[usize],
    wanted: impl Fn(&crate::endpoints::Hints) -> bool,
) -> Vec<usize> {
    let is_hinted = |at: &usize| {
        candidates.get(*at).and_then(|c| c.hints.as_ref()).is_some_and(|hints| wanted(hints))
    };
    among.iter().copied().filter(is_hinted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixture::{cluster, endpoint, node};
    use crate::endpoints::{Conditions, Hints};

    const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
    const NOT_READY: Conditions = Conditions { ready: false, serving: false, terminating: false };
    const DRAINING: Conditions = Conditions { ready: false, serving: true, terminating: true };
    const GONE: Conditions = Conditions { ready: false, serving: false, terminating: true };

    /// Candidates at ports from 1 on.
    fn candidates(all: &[(NodeIndex, Conditions, &[NodeIndex], &[u32])]) -> Vec<Candidate> {
        (1..)
            .zip(all)
            .map(|(n, (node, conditions, nodes, zones))| Candidate {
                endpoint: endpoint(&format!("10.4.0.9:{n}")),
                node: *node,
                conditions: *conditions,
                hints: Some(Box::new(Hints { nodes: nodes.to_vec(), zones: zones.to_vec() })),
            })
            .collect()
    }

    fn plain(all: &[(NodeIndex, Conditions)]) -> Vec<Candidate> {
        let all: Vec<_> =
            all.iter().map(|(node, state)| (*node, *state, &[][..], &[][..])).collect();
        candidates(&all)
    }

    /// Two nodes in zones 0 and 1, and one without a zone.
    fn places() -> Places {
        let mut cluster = cluster();
        cluster.nodes.push(node("node-c", "", &["10.128.0.4"], &[]));
        Places::new(&cluster)
    }

    fn group(categories: &Categories, node: NodeIndex) -> Vec<usize> {
        let at = match &categories.users {
            Users::Nobody => return Vec::new(),
            Users::Everybody => 0,
            Users::Some(users) => match users.iter().find(|(user, _)| *user == node) {
                Some((_, at)) => *at,
                None => return Vec::new(),
            },
        };
        categories.groups[at].clone()
    }

    #[test]
    fn only_the_ready_are_used_while_there_are_any() {
        let all = plain(&[(0, READY), (0, NOT_READY), (1, DRAINING), (1, READY)]);
        let of_cluster = of_cluster(&all, &places());
        assert_eq!(of_cluster.users, Users::Everybody);
        assert_eq!(of_cluster.groups, [[0, 3]]);
    }

    #[test]
    fn the_draining_stand_in_where_none_is_ready_but_never_the_gone() {
        let all = plain(&[(0, DRAINING), (0, GONE), (1, DRAINING), (1, NOT_READY)]);
        assert_eq!(of_cluster(&all, &places()).groups, [[0, 2]]);
        assert!(any_usable(&all));
        let all = plain(&[(0, GONE), (1, NOT_READY)]);
        assert_eq!(of_cluster(&all, &places()), Categories::default());
        assert!(!any_usable(&all));
    }

    #[test]
    fn nodes_fall_back_each_for_itself() {
        let all = plain(&[(0, DRAINING), (0, GONE), (1, READY), (1, DRAINING), (NOWHERE, READY)]);
        let of_nodes = of_nodes(&all);
        assert_eq!([0, 1, 2].map(|node| group(&of_nodes, node)), [vec![0], vec![2], vec![]]);
    }

    #[test]
    fn zone_hints_are_for_those_in_the_zone() {
        let all =
            candidates(&[(0, READY, &[], &[0]), (1, READY, &[], &[1]), (1, READY, &[], &[0, 1])]);
        let of_cluster = of_cluster(&all, &places());
        let groups = [0, 1, 2].map(|node| group(&of_cluster, node));
        assert_eq!(groups, [vec![0, 2], vec![1, 2], vec![0, 1, 2]]);
    }

    #[test]
    fn node_hints_come_before_zone_hints() {
        let all =
            candidates(&[(0, READY, &[0], &[0]), (1, READY, &[2], &[0]), (1, READY, &[2], &[1])]);
        let of_cluster = of_cluster(&all, &places());
        let groups = [0, 1, 2].map(|node| group(&of_cluster, node));
        assert_eq!(groups, [vec![0], vec![2], vec![1, 2]]);
    }

    #[test]
    fn one_ready_endpoint_without_a_hint_switches_hints_off() {
        let all = candidates(&[(0, READY, &[], &[0]), (1, READY, &[], &[])]);
        assert_eq!(of_cluster(&all, &places()).users, Users::Everybody);
        // what is not ready has no say
        let all =
            candidates(&[(0, READY, &[], &[0]), (1, READY, &[], &[1]), (1, NOT_READY, &[], &[])]);
        assert_eq!(group(&of_cluster(&all, &places()), 0), [0]);
    }

    #[test]
    fn hints_for_nobody_here_count_for_nothing() {
        let all =
            candidates(&[(0, READY, &[NOWHERE], &[NOWHERE]), (1, READY, &[NOWHERE], &[NOWHERE])]);
        for node in [0, 1, 2] {
            assert_eq!(group(&of_cluster(&all, &places()), node), [0, 1]);
        }
    }

    #[test]
    fn fallback_ignores_hints() {
        let all = candidates(&[(0, DRAINING, &[], &[0]), (1, DRAINING, &[], &[1])]);
        assert_eq!(of_cluster(&all, &places()).users, Users::Everybody);
    }
}
