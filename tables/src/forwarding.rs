//! Forwarding rules: from an address outside the nodes to one of several nodes. Packets are passed
//! on as they are, so that a node has to take what is for an address that it does not own.

use std::sync::Arc;

use crate::hash::{Map, map};
use crate::{Address, Flow, PrefixMap, Protocol, RouterId, maglev};

/// What of a flow chooses its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stickiness {
    /// Both addresses, both ports and the protocol.
    #[default]
    Flow,
    /// Both addresses and the protocol.
    ClientAndProtocol,
    /// Both addresses.
    Client,
}

/// Whom a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everyone.
    Everyone,
    /// Those of the network that the nodes are in, and of its own region.
    Region,
    /// Those of the network that the nodes are in.
    Network,
}

/// A node that may be chosen, and its share against those beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The node's router.
    pub router: RouterId,
    /// What its places in the table follow from; no two alike.
    pub name: String,
    /// Its share.
    pub weight: u32,
}

/// Nodes among which one is chosen: mostly the same ones for the same flows, whoever comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGroup {
    /// In the order given.
    routers: Box<[RouterId]>,
    /// `None` where there is nothing to choose.
    table: Option<maglev::Table>,
}

/// Sizes of tables: primes, the smallest of which has a hundred slots for each node.
///
/// Source: "Maglev", NSDI 2016, §3.4: shares differ by one in a hundred at most.
const SIZES: [usize; 5] = [251, 1_021, 4_093, 16_381, 65_521];

impl NodeGroup {
    /// A group of these nodes.
    pub fn new(candidates: &[Candidate]) -> Self {
        let routers: Box<[RouterId]> = candidates.iter().map(|at| at.router).collect();
        let [.., largest] = SIZES;
        let wanted = candidates.len().saturating_mul(100);
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(largest);
        let named: Vec<(String, u32)> =
            candidates.iter().map(|at| (at.name.clone(), at.weight)).collect();
        let table = (routers.len() > 1)
            .then(|| maglev::Table::of_names(size, maglev::SEED, &named))
            .flatten();
        Self { routers, table }
    }

    /// The nodes.
    pub fn routers(&self) -> &[RouterId] {
        &self.routers
    }

    /// The node for a flow; `None` if there is none. **Cost**: a hash and a look-up.
    pub fn choose(&self, flow: &Flow, stickiness: Stickiness) -> Option<RouterId> {
        let mut key = *flow;
        if stickiness != Stickiness::Flow {
            (key.source.port, key.target.port) = (0, 0);
        }
        if stickiness == Stickiness::Client {
            key.protocol = Protocol(0);
        }
        let at = self.table.as_ref().map_or(0, |table| table.member(&key, maglev::SEED));
        self.routers.get(at).copied()
    }
}

/// What becomes of packets for an address and port.
#[derive(Clone, Debug)]
pub struct ForwardingRule {
    /// Whom it is for.
    pub scope: Scope,
    /// What of a flow chooses its node.
    pub stickiness: Stickiness,
    /// Nodes for new flows.
    pub nodes: Arc<NodeGroup>,
    /// Nodes that keep the connections they have, in order: also such as take no new ones.
    pub keepers: Arc<[RouterId]>,
    /// What the control side calls it: the label of the frontend that nodes serve there.
    pub label: u32,
}

impl ForwardingRule {
    /// Whether a flow that goes through `router` may go on so. What is not a settled connection
    /// goes where new flows go.
    pub fn keeps(&self, router: RouterId, is_settled: bool) -> bool {
        if is_settled {
            self.keepers.binary_search(&router).is_ok()
        } else {
            self.nodes.routers().contains(&router)
        }
    }
}

/// What is found at an address and port.
#[derive(Clone, Copy, Debug)]
pub enum Forwarding<'r> {
    /// This rule.
    Rule(&'r ForwardingRule),
    /// The address is a load balancer's, but the port is not served.
    NoPort,
}

/// Every rule of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct ForwardingRules {
    by_port: Map<(Address, Protocol, u16), ForwardingRule>,
    addresses: Map<Address, ()>,
    /// Machines beyond the edge that only the nodes' network reaches.
    inner: Map<Address, ()>,
    /// Hosts of the nodes' network that are in another region.
    elsewhere: PrefixMap<()>,
}

impl ForwardingRules {
    /// No rules; maps hash by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            by_port: map(seed),
            addresses: map(seed),
            inner: map(seed),
            elsewhere: PrefixMap::new(seed),
        }
    }

    /// Adds a rule. The first to claim an address and port keeps it.
    pub fn add(&mut self, address: Address, protocol: Protocol, port: u16, rule: ForwardingRule) {
        self.addresses.insert(address, ());
        self.by_port.entry((address, protocol, port)).or_insert(rule);
    }

    /// Says that a host of the nodes' network is in another region.
    pub fn add_elsewhere(&mut self, address: Address) {
        self.elsewhere.insert(crate::Prefix::host(address), ());
    }

    /// Says that a machine beyond the edge is for the nodes' network alone.
    pub fn add_inner(&mut self, address: Address) {
        self.inner.insert(address, ());
    }

    /// Whether a machine beyond the edge is for the nodes' network alone.
    pub fn is_inner(&self, address: Address) -> bool {
        self.inner.contains_key(&address)
    }

    /// What is at the target of a flow; `None` where the address is no load balancer's.
    ///
    /// **Cost**: two look-ups.
    pub fn find(&self, flow: &Flow) -> Option<Forwarding<'_>> {
        let key = (flow.target.address, flow.protocol, flow.target.port);
        match self.by_port.get(&key) {
            Some(rule) => Some(Forwarding::Rule(rule)),
            None => self.addresses.contains_key(&key.0).then_some(Forwarding::NoPort),
        }
    }

    /// Whether `address` is a load balancer's.
    pub fn owns(&self, address: Address) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Whether a rule is for a source; `is_near` says whether that is of the nodes' network.
    pub fn admits(&self, rule: &ForwardingRule, source: Address, is_near: bool) -> bool {
        match rule.scope {
            Scope::Everyone => true,
            Scope::Network => is_near,
            Scope::Region => is_near && self.elsewhere.find(source).is_none(),
        }
    }

    /// Every rule, with where it is.
    pub fn iter(&self) -> impl Iterator<Item = ((Address, Protocol, u16), &ForwardingRule)> {
        self.by_port.iter().map(|(key, rule)| (*key, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;
    use std::collections::BTreeMap;

    fn candidates(numbers: impl IntoIterator<Item = u16>) -> Vec<Candidate> {
        let one = |n: u16| Candidate { router: RouterId(n), name: format!("node-{n}"), weight: 1 };
        numbers.into_iter().map(one).collect()
    }

    fn flow(protocol: Protocol, client: u16, port: u16) -> Flow {
        let source = Endpoint::new(Address::v4(0xc633_6400 + u32::from(client)), port);
        Flow { protocol, source, target: Endpoint::new(Address::v4(0xcb00_7101), 80) }
    }

    #[test]
    fn each_node_has_about_its_share() {
        for (count, weight) in [(2, 1), (3, 1), (40, 1), (3, 5)] {
            let mut all = candidates(1..=count);
            all[0].weight = weight;
            let group = NodeGroup::new(&all);
            let mut seen: BTreeMap<RouterId, u32> = BTreeMap::new();
            for port in 0..20_000 {
                let router = group.choose(&flow(Protocol::TCP, 1, port), Stickiness::Flow).unwrap();
                *seen.entry(router).or_default() += 1;
            }
            assert_eq!(seen.len(), usize::from(count));
            let sum = u32::from(count) - 1 + weight;
            for (router, flows) in seen {
                let share = 20_000 * if router == RouterId(1) { weight } else { 1 } / sum;
                assert!(flows.abs_diff(share) < share / 3, "{count} {weight}: {router:?} {flows}");
            }
        }
    }

    #[test]
    fn most_flows_stay_when_a_node_goes() {
        let (all, fewer) =
            (NodeGroup::new(&candidates(1..=10)), NodeGroup::new(&candidates(2..=10)));
        let flows: Vec<Flow> = (0..5_000).map(|port| flow(Protocol::TCP, 2, port)).collect();
        let moved = flows.iter().filter(|flow| {
            let before = all.choose(flow, Stickiness::Flow);
            before != Some(RouterId(1)) && before != fewer.choose(flow, Stickiness::Flow)
        });
        assert!(moved.count() < 500);
    }

    #[test]
    fn clients_stick_as_far_as_asked() {
        let group = NodeGroup::new(&candidates(1..=7));
        let nodes = |stickiness| {
            let all = (0..200).flat_map(|port| {
                [Protocol::TCP, Protocol::UDP].map(|protocol| {
                    group.choose(&flow(protocol, 9, port), stickiness).map(|router| router.0)
                })
            });
            all.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(nodes(Stickiness::Client), 1);
        assert!(nodes(Stickiness::ClientAndProtocol) <= 2);
        assert_eq!(nodes(Stickiness::Flow), 7);
        let of = |client| {
            group.choose(&flow(Protocol::TCP, client, 1), Stickiness::Client).map(|router| router.0)
        };
        let clients: std::collections::BTreeSet<_> = (0..100).map(of).collect();
        assert_eq!(clients.len(), 7, "other clients go elsewhere");
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        assert_eq!(NodeGroup::new(&[]).choose(&flow(Protocol::TCP, 1, 1), Stickiness::Flow), None);
    }

    #[test]
    fn connections_stay_where_datagrams_do_not() {
        let rule = ForwardingRule {
            scope: Scope::Everyone,
            stickiness: Stickiness::Flow,
            nodes: Arc::new(NodeGroup::new(&candidates([2]))),
            keepers: [RouterId(1), RouterId(2)].into(),
            label: 0,
        };
        assert!(rule.keeps(RouterId(1), true) && !rule.keeps(RouterId(1), false));
        assert!(rule.keeps(RouterId(2), false) && !rule.keeps(RouterId(3), true));
    }

    #[test]
    fn other_ports_of_the_address_are_nobodys_and_some_rules_are_for_the_network_alone() {
        let mut rules = ForwardingRules::new(1);
        let rule = |scope| ForwardingRule {
            scope,
            stickiness: Stickiness::Flow,
            nodes: Arc::new(NodeGroup::new(&[])),
            keepers: Arc::new([]),
            label: 0,
        };
        let served = flow(Protocol::TCP, 1, 1);
        rules.add(served.target.address, Protocol::TCP, 80, rule(Scope::Region));
        assert!(matches!(rules.find(&served), Some(Forwarding::Rule(_))));
        assert!(matches!(rules.find(&flow(Protocol::UDP, 1, 1)), Some(Forwarding::NoPort)));
        assert!(rules.find(&served.reversed()).is_none());
        let far = Address::v4(0x0a80_0909);
        rules.add_elsewhere(far);
        let near = Address::v4(0x0a80_0908);
        let admits = |scope, source, is_near| rules.admits(&rule(scope), source, is_near);
        assert!(admits(Scope::Region, near, true) && !admits(Scope::Region, near, false));
        assert!(!admits(Scope::Region, far, true) && admits(Scope::Network, far, true));
        assert!(admits(Scope::Everyone, far, false));
    }
}
