//! Policies: from NetworkPolicies and ClusterNetworkPolicies to who may talk to whom.
//!
//! Three layers, each of which only looks at what changed below it: machines become *identities*
//! ([`identities`]), selectors become sets of identities ([`selections`]), and policies become rules
//! that refer to sets by number ([`rules`], [`cluster_rules`]). A label that changes therefore
//! touches a few sets, and a policy that changes touches the identities it selects.

mod cluster_rules;
mod identities;
mod names;
mod rules;
mod selection;
mod selections;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kswitch_tables::Policies;
use kswitch_tables::policy::{
    Fallback, Identity, IdentityId, Policy, PolicyId, PortName, SelectionId, Side,
};

use super::changes::{are_same, between};
use super::ids::Ids;
use crate::Cluster;
use crate::cluster_policy::ClusterNetworkPolicy;
use crate::policy_settings::PolicySettings;
use identities::{Identities, Namespaces};
pub use names::{PolicyNames, PolicyObject};
pub(crate) use rules::Isolates;
use rules::Numbers;
use selection::Selection;
use selections::{Move, Selections};

/// Where a policy stands among those that select an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// In no order.
    Isolation(Isolates),
    /// Asked first, by rising priority.
    Admin(i32),
    /// Asked last, by rising priority.
    Baseline(i32),
}

/// A policy in force.
#[derive(Debug)]
struct Entry {
    object: PolicyObject,
    rank: Rank,
    subject: Option<SelectionId>,
    /// The selections its rules have.
    held: Vec<SelectionId>,
}

/// The policies of a lab, compiled piece by piece.
#[derive(Debug)]
pub(super) struct Engine {
    seed: u64,
    settings: PolicySettings,
    identities: Identities,
    selections: Selections,
    ids: Ids<(String, String)>,
    /// By [`PolicyId`].
    entries: Vec<Option<Entry>>,
    /// The policies that select an identity, by [`IdentityId`].
    selected_by: Vec<BTreeSet<PolicyId>>,
    policies: Arc<Vec<Arc<Policy>>>,
    compiled: Arc<Vec<Arc<Identity>>>,
    names: Arc<PolicyNames>,
}

impl Engine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            settings: PolicySettings::default(),
            identities: Identities::new(seed),
            selections: Selections::default(),
            ids: Ids::default(),
            entries: Vec::new(),
            selected_by: Vec::new(),
            policies: Arc::default(),
            compiled: Arc::default(),
            names: Arc::default(),
        }
    }

    /// The policies of a state; `previous` is the state that was given last.
    ///
    /// **Cost**: proportional to what differs from the state before: of a pod the selections in
    /// use, of a policy the identities that it selects.
    pub(super) fn update(
        &mut self,
        cluster: &Cluster,
        previous: Option<&Cluster>,
    ) -> (Policies, Arc<PolicyNames>) {
        let nothing = Cluster::default();
        let before = previous.unwrap_or(&nothing);
        self.update_identities(cluster, before);
        let mut dirty = self.identities.take_touched();
        let namespaces = &cluster.namespaces;
        let moves = self.selections.update(&dirty, &self.identities, namespaces);
        for Move { policy, identity } in moves.left {
            self.leave(policy, identity, &mut dirty);
        }
        for Move { policy, identity } in moves.joined {
            self.join(policy, identity, &mut dirty);
        }
        self.update_policies(cluster, before, &mut dirty);
        if self.settings.default != cluster.settings.policy.default {
            dirty.extend((0..).map(IdentityId).take(self.identities.len()));
        }
        self.settings = cluster.settings.policy;
        self.compile(&dirty);
        (self.tables(), Arc::clone(&self.names))
    }

    fn update_identities(&mut self, cluster: &Cluster, before: &Cluster) {
        let (gone, new) = between(&before.pods, &cluster.pods);
        gone.into_iter().for_each(|pod| self.identities.remove_pod(pod));
        new.into_iter().for_each(|pod| self.identities.add_pod(pod));
        let (gone, new) = between(&before.nodes, &cluster.nodes);
        gone.into_iter().for_each(|node| self.identities.remove_node(node));
        new.into_iter().for_each(|node| self.identities.add_node(node));
        for namespace in changed(&before.namespaces, &cluster.namespaces) {
            self.identities.touch_namespace(namespace);
        }
    }

    fn update_policies(
        &mut self,
        cluster: &Cluster,
        before: &Cluster,
        dirty: &mut BTreeSet<IdentityId>,
    ) {
        let Cluster { network_policies, cluster_network_policies, .. } = cluster;
        if are_same(&before.network_policies, network_policies)
            && are_same(&before.cluster_network_policies, cluster_network_policies)
        {
            return;
        }
        let (gone, new) = differences(before, cluster);
        let gone: BTreeSet<_> = gone.iter().map(PolicyObject::address).collect();
        for id in (0..).map(PolicyId).take(self.entries.len()) {
            let is_gone = |entry: &Entry| gone.contains(&entry.object.address());
            if self.entry(id).is_some_and(is_gone) {
                self.remove(id, dirty);
            }
        }
        let keys = network_policies.iter().map(|policy| key(&policy.metadata));
        let cluster_keys = cluster_network_policies.iter().map(|policy| key(&policy.metadata));
        let ids = self.ids.assign(keys.chain(cluster_keys)).into_iter().map(PolicyId);
        let new: BTreeMap<_, _> =
            new.into_iter().map(|object| (object.address(), object)).collect();
        let addresses = network_policies.iter().map(|policy| Arc::as_ptr(policy).addr());
        let cluster_addresses =
            cluster_network_policies.iter().map(|policy| Arc::as_ptr(policy).addr());
        for (id, address) in ids.zip(addresses.chain(cluster_addresses)) {
            if let Some(object) = new.get(&address) {
                self.add(id, object.clone(), &cluster.namespaces, dirty);
            }
        }
        self.names = Arc::new(PolicyNames::new(
            self.entries.iter().map(|entry| entry.as_ref().map(|entry| entry.object.clone())),
        ));
    }

    fn add(
        &mut self,
        id: PolicyId,
        object: PolicyObject,
        namespaces: &Namespaces,
        dirty: &mut BTreeSet<IdentityId>,
    ) {
        let mut numbers = Held { engine: self, namespaces, held: Vec::new() };
        let (subject, rank, (ingress, egress)) = match &object {
            PolicyObject::Network(policy) => {
                let Some(spec) = &policy.spec else { return };
                let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
                let subject = Selection::own(namespace, spec.pod_selector.as_ref());
                let isolates = Isolates::of(spec);
                let rules = rules::rules(policy, isolates, &mut numbers);
                (Some(subject), Rank::Isolation(isolates), rules)
            }
            PolicyObject::Cluster(policy) => {
                let priority = policy.spec.priority.unwrap_or_default();
                let rank = match policy.spec.tier.as_str() {
                    "Baseline" => Rank::Baseline(priority),
                    _ => Rank::Admin(priority),
                };
                let subject = Selection::of_subject(&policy.spec.subject);
                (subject, rank, cluster_rules::rules(policy, &mut numbers))
            }
        };
        let subject = subject.map(|selection| numbers.selection(selection));
        let held = numbers.held;
        let (ingress, egress) = (ingress.into(), egress.into());
        let policy = Policy { is_audited: object.is_audited(), egress, ingress };
        let at = id.0 as usize;
        let policies = Arc::make_mut(&mut self.policies);
        if policies.len() <= at {
            policies.resize_with(at + 1, Arc::default);
            self.entries.resize_with(at + 1, || None);
        }
        if let (Some(place), Some(entry)) = (policies.get_mut(at), self.entries.get_mut(at)) {
            *place = Arc::new(policy);
            *entry = Some(Entry { object, rank, subject, held });
        }
        let Some(subject) = subject else { return };
        self.selections.add_subject(subject, id);
        for identity in self.selections.set(subject).cloned().iter().flat_map(|set| set.iter()) {
            self.join(id, identity, dirty);
        }
    }

    fn remove(&mut self, id: PolicyId, dirty: &mut BTreeSet<IdentityId>) {
        let at = id.0 as usize;
        let Some(entry) = self.entries.get_mut(at).and_then(Option::take) else { return };
        if let Some(subject) = entry.subject {
            let set = self.selections.set(subject).cloned();
            for identity in set.iter().flat_map(|set| set.iter()) {
                self.leave(id, identity, dirty);
            }
            self.selections.remove_subject(subject, id);
        }
        // what rules and subject had acquired
        entry.held.into_iter().for_each(|selection| self.selections.release(selection));
        if let Some(place) = Arc::make_mut(&mut self.policies).get_mut(at) {
            *place = Arc::default();
        }
    }

    fn join(&mut self, policy: PolicyId, identity: IdentityId, dirty: &mut BTreeSet<IdentityId>) {
        let at = identity.0 as usize;
        if self.selected_by.len() <= at {
            self.selected_by.resize_with(at + 1, BTreeSet::new);
        }
        if let Some(policies) = self.selected_by.get_mut(at) {
            policies.insert(policy);
            dirty.insert(identity);
        }
    }

    fn leave(&mut self, policy: PolicyId, identity: IdentityId, dirty: &mut BTreeSet<IdentityId>) {
        if let Some(policies) = self.selected_by.get_mut(identity.0 as usize) {
            policies.remove(&policy);
            dirty.insert(identity);
        }
    }

    /// Puts identities together again of which the policies, or the traits, changed.
    fn compile(&mut self, dirty: &BTreeSet<IdentityId>) {
        if dirty.is_empty() {
            return;
        }
        let mut compiled = std::mem::take(&mut self.compiled);
        let all = Arc::make_mut(&mut compiled);
        all.resize_with(self.identities.len(), Arc::default);
        for id in dirty {
            if let Some(place) = all.get_mut(id.0 as usize) {
                *place = Arc::new(self.identity(*id));
            }
        }
        self.compiled = compiled;
    }

    fn identity(&self, id: IdentityId) -> Identity {
        let Some(traits) = self.identities.traits(id) else { return Identity::default() };
        let fallback = match traits.namespace {
            Some(_) => self.settings.default,
            None => Fallback::Allow,
        };
        let empty = Side { fallback, ..Side::default() };
        let (mut egress, mut ingress) = (empty.clone(), empty);
        let mut ordered = Vec::new();
        let mut isolating = (Vec::new(), Vec::new());
        for id in self.selected_by.get(id.0 as usize).into_iter().flatten() {
            let Some(entry) = self.entry(*id) else { continue };
            let Rank::Isolation(isolates) = entry.rank else {
                ordered.push((*id, entry));
                continue;
            };
            let is_audited = entry.object.is_audited();
            if isolates.egress {
                isolating.0.push(*id);
                egress.has_audited |= is_audited;
            }
            if isolates.ingress {
                isolating.1.push(*id);
                ingress.has_audited |= is_audited;
            }
        }
        egress.isolation = isolating.0.into();
        ingress.isolation = isolating.1.into();
        self.put_in_order(ordered, &mut egress, &mut ingress);
        Identity { names: traits.ports.clone().into(), egress, ingress }
    }

    /// Puts policies with priorities in their tiers: the lowest first, of equal ones by name.
    fn put_in_order(
        &self,
        mut policies: Vec<(PolicyId, &Entry)>,
        egress: &mut Side,
        ingress: &mut Side,
    ) {
        policies.sort_by_key(|(_, entry)| match entry.rank {
            Rank::Admin(priority) | Rank::Baseline(priority) => (priority, entry.object.name()),
            Rank::Isolation(_) => (0, ""),
        });
        let of = |is_wanted: fn(&Rank) -> bool, has_rules: fn(&Policy) -> bool| {
            let ids = policies.iter().filter(|(_, entry)| is_wanted(&entry.rank));
            let rules = |id: &PolicyId| self.policies.get(id.0 as usize);
            ids.map(|(id, _)| *id).filter(|id| rules(id).is_some_and(|p| has_rules(p))).collect()
        };
        let is_admin = |rank: &Rank| matches!(rank, Rank::Admin(_));
        let is_baseline = |rank: &Rank| matches!(rank, Rank::Baseline(_));
        egress.admin = of(is_admin, |policy| !policy.egress.is_empty());
        egress.baseline = of(is_baseline, |policy| !policy.egress.is_empty());
        ingress.admin = of(is_admin, |policy| !policy.ingress.is_empty());
        ingress.baseline = of(is_baseline, |policy| !policy.ingress.is_empty());
        let has_audited = policies.iter().any(|(_, entry)| entry.object.is_audited());
        egress.has_audited |= has_audited;
        ingress.has_audited |= has_audited;
    }

    fn tables(&self) -> Policies {
        let PolicySettings { enabled, default, audit, established, icmp_echo } = self.settings;
        let has_policies = self.entries.iter().any(Option::is_some);
        if !enabled || (!has_policies && default == Fallback::Allow) {
            return Policies::default();
        }
        Policies {
            addresses: Arc::clone(&self.identities.addresses),
            identities: Arc::clone(&self.compiled),
            policies: Arc::clone(&self.policies),
            selections: Arc::clone(&self.selections.sets),
            echo: icmp_echo,
            established,
            is_audit: audit,
        }
    }

    fn entry(&self, id: PolicyId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_ref()
    }
}

/// The policies that went, and those that came; one that was replaced did both.
fn differences(before: &Cluster, after: &Cluster) -> (Vec<PolicyObject>, Vec<PolicyObject>) {
    let (gone, new) = between(&before.network_policies, &after.network_policies);
    let (cluster_gone, cluster_new) =
        between(&before.cluster_network_policies, &after.cluster_network_policies);
    let objects = |network: Vec<&Arc<NetworkPolicy>>, cluster: Vec<&Arc<ClusterNetworkPolicy>>| {
        let network = network.into_iter().cloned().map(PolicyObject::Network);
        network.chain(cluster.into_iter().cloned().map(PolicyObject::Cluster)).collect()
    };
    (objects(gone, cluster_gone), objects(new, cluster_new))
}

/// Numbers for one policy, which notes what it has to give back.
struct Held<'e> {
    engine: &'e mut Engine,
    namespaces: &'e Namespaces,
    held: Vec<SelectionId>,
}

impl Numbers for Held<'_> {
    fn selection(&mut self, selection: Selection) -> SelectionId {
        let Engine { selections, identities, .. } = &mut *self.engine;
        let id = selections.acquire(selection, identities, self.namespaces);
        self.held.push(id);
        id
    }

    fn port_name(&mut self, name: &str) -> PortName {
        self.engine.identities.port_name(name)
    }

    fn seed(&self) -> u64 {
        self.engine.seed
    }
}

/// Namespace and name; of policies of the cluster the namespace is empty.
fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Namespaces that came, went, or have other labels.
fn changed<'n>(before: &'n Namespaces, after: &'n Namespaces) -> impl Iterator<Item = &'n str> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let other = after.iter().filter(|(name, labels)| before.get(*name) != Some(labels));
    gone.chain(other.map(|(name, _)| name)).map(String::as_str)
}
