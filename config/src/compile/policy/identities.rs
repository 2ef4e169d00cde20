//! From pods and nodes to identities.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kswitch_tables::Protocol;
use kswitch_tables::policy::{Addresses, IdentityId, PortName, PortNumber};

use super::super::Map;
use super::selection::{Selection, Selector};
use crate::endpoints::{number, protocol};
use crate::labels::matches;
use crate::{Node, Pod};

/// Labels of an object.
type Labels = BTreeMap<String, String>;

/// Labels of the namespaces, by name.
pub(super) type Namespaces = BTreeMap<String, Labels>;

/// What policies can tell machines apart by.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    /// The namespace of pods; nodes have none.
    pub(super) namespace: Option<String>,
    pub(super) labels: Labels,
    /// Their named ports, sorted.
    pub(super) ports: Vec<PortNumber>,
}

#[derive(Debug)]
struct Entry {
    traits: Arc<Traits>,
    /// How many machines have it.
    members: usize,
}

/// The identities of a cluster. A freed number is given to another identity.
#[derive(Debug, Default)]
pub(super) struct Identities {
    ids: Map<Arc<Traits>, IdentityId>,
    entries: Vec<Option<Entry>>,
    free: Vec<IdentityId>,
    by_namespace: Map<String, BTreeSet<IdentityId>>,
    by_label: Map<(String, String), BTreeSet<IdentityId>>,
    nodes: BTreeSet<IdentityId>,
    port_names: Map<String, PortName>,
    pub(super) addresses: Arc<Addresses>,
    /// Those that came or went since [`Identities::take_touched`].
    touched: BTreeSet<IdentityId>,
}

impl Identities {
    pub(super) fn new(seed: u64) -> Self {
        Self { addresses: Arc::new(Addresses::new(seed)), ..Self::default() }
    }

    /// Those of which it has to be looked up again who selects them.
    pub(super) fn take_touched(&mut self) -> BTreeSet<IdentityId> {
        std::mem::take(&mut self.touched)
    }

    /// States that the labels of a namespace changed.
    pub(super) fn touch_namespace(&mut self, namespace: &str) {
        self.touched.extend(self.by_namespace.get(namespace).into_iter().flatten());
    }

    /// A pod came. Pods in their node's network are the node; those that ended are nobody.
    pub(super) fn add_pod(&mut self, pod: &Pod) {
        if is_selectable(pod) {
            let traits = self.pod_traits(pod);
            self.add(traits, &pod.addresses);
        }
    }

    /// A pod went.
    pub(super) fn remove_pod(&mut self, pod: &Pod) {
        if is_selectable(pod) {
            let traits = self.pod_traits(pod);
            self.remove(&traits, &pod.addresses);
        }
    }

    /// A node came.
    pub(super) fn add_node(&mut self, node: &Node) {
        self.add(node_traits(node), &node.addresses);
    }

    /// A node went.
    pub(super) fn remove_node(&mut self, node: &Node) {
        self.remove(&node_traits(node), &node.addresses);
    }

    /// What an identity stands for, if any machine has it.
    pub(super) fn traits(&self, id: IdentityId) -> Option<&Arc<Traits>> {
        self.entries.get(id.0 as usize)?.as_ref().map(|entry| &entry.traits)
    }

    /// One more than the highest number.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number for the name of a port.
    pub(super) fn port_name(&mut self, name: &str) -> PortName {
        if let Some(known) = self.port_names.get(name) {
            return *known;
        }
        let fresh = PortName(number(self.port_names.len()));
        self.port_names.insert(name.to_owned(), fresh);
        fresh
    }

    /// Whether an identity is selected.
    pub(super) fn is_selected(
        &self,
        id: IdentityId,
        selection: &Selection,
        namespaces: &Namespaces,
    ) -> bool {
        let Some(Traits { namespace, labels, .. }) = self.traits(id).map(|traits| &**traits) else {
            return false;
        };
        match (selection, namespace) {
            (Selection::Own { namespace: own, pods }, Some(namespace)) => {
                own == namespace && matches(&pods.0, labels)
            }
            (Selection::Pods { namespaces: wanted, pods }, Some(namespace)) => {
                let of_namespace = namespaces.get(namespace);
                matches(&pods.0, labels)
                    && of_namespace.is_some_and(|labels| matches(&wanted.0, labels))
            }
            (Selection::Nodes(nodes), None) => matches(&nodes.0, labels),
            _ => false,
        }
    }

    /// Everyone who is selected.
    ///
    /// **Cost**: of those that have the rarest label the selector asks for, or are in the
    /// namespaces it asks for.
    pub(super) fn select(
        &self,
        selection: &Selection,
        namespaces: &Namespaces,
    ) -> impl Iterator<Item = IdentityId> {
        let candidates: Vec<&BTreeSet<IdentityId>> = match selection {
            Selection::Own { namespace, .. } => {
                self.by_namespace.get(namespace).into_iter().collect()
            }
            Selection::Nodes(_) => vec![&self.nodes],
            Selection::Pods { namespaces: wanted, pods } => match self.rarest(pods) {
                Some(with_label) => with_label.into_iter().collect(),
                None => namespaces
                    .iter()
                    .filter(|(_, labels)| matches(&wanted.0, labels))
                    .filter_map(|(name, _)| self.by_namespace.get(name))
                    .collect(),
            },
        };
        let ids: Vec<IdentityId> = candidates
            .into_iter()
            .flatten()
            .copied()
            .filter(|id| self.is_selected(*id, selection, namespaces))
            .collect();
        ids.into_iter()
    }

    /// The pods with the label that fewest have of those that a selector asks for, which may be
    /// none; `None` where it asks for no certain value.
    #[expect(clippy::option_option, reason = "nothing asked for, and nobody has it, differ")]
    fn rarest(&self, pods: &Selector) -> Option<Option<&BTreeSet<IdentityId>>> {
        let labels = pods.0.match_labels.iter().flatten();
        let sets = labels.map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())));
        sets.min_by_key(|set| set.map_or(0, BTreeSet::len))
    }

    fn add(&mut self, traits: Traits, addresses: &[IpAddr]) {
        let id = match self.ids.get(&traits) {
            Some(known) => *known,
            None => self.introduce(traits),
        };
        if let Some(Some(entry)) = self.entries.get_mut(id.0 as usize) {
            entry.members += 1;
        }
        let all = Arc::make_mut(&mut self.addresses);
        addresses.iter().for_each(|ip| all.insert((*ip).into(), id));
    }

    fn introduce(&mut self, traits: Traits) -> IdentityId {
        let traits = Arc::new(traits);
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            IdentityId(number(self.entries.len() - 1))
        });
        match &traits.namespace {
            Some(namespace) => {
                self.by_namespace.entry_ref(namespace).or_default().insert(id);
                for (key, value) in &traits.labels {
                    self.by_label.entry((key.clone(), value.clone())).or_default().insert(id);
                }
            }
            None => {
                self.nodes.insert(id);
            }
        }
        self.touched.insert(id);
        self.ids.insert(Arc::clone(&traits), id);
        if let Some(place) = self.entries.get_mut(id.0 as usize) {
            *place = Some(Entry { traits, members: 0 });
        }
        id
    }

    fn remove(&mut self, traits: &Traits, addresses: &[IpAddr]) {
        let Some(id) = self.ids.get(traits).copied() else { return };
        let all = Arc::make_mut(&mut self.addresses);
        for ip in addresses {
            let address = (*ip).into();
            if all.find(address) == Some(id) {
                all.remove(address);
            }
        }
        let Some(place) = self.entries.get_mut(id.0 as usize) else { return };
        let Some(entry) = place else { return };
        entry.members -= 1;
        if entry.members > 0 {
            return;
        }
        *place = None;
        self.ids.remove(traits);
        self.free.push(id);
        self.touched.insert(id);
        self.nodes.remove(&id);
        if let Some(namespace) = &traits.namespace {
            forget(&mut self.by_namespace, namespace, id);
        }
        for (key, value) in &traits.labels {
            forget(&mut self.by_label, &(key.clone(), value.clone()), id);
        }
    }

    fn pod_traits(&mut self, pod: &Pod) -> Traits {
        let mut ports: Vec<PortNumber> = Vec::new();
        for (name, protocol, port) in named_ports(pod) {
            let name = self.port_name(name);
            // of two ports of one name the first is meant
            if !ports.iter().any(|known| known.name == name && known.protocol == protocol) {
                ports.push(PortNumber { name, protocol, port });
            }
        }
        ports.sort_unstable();
        let labels = pod.object.metadata.labels.clone().unwrap_or_default();
        Traits { namespace: Some(pod.namespace.clone()), labels, ports }
    }
}

/// Takes an identity out of an index.
fn forget<K: std::hash::Hash + Eq>(
    index: &mut Map<K, BTreeSet<IdentityId>>,
    key: &K,
    id: IdentityId,
) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// Whether a pod has a network, and so an identity, of its own.
fn is_selectable(pod: &Pod) -> bool {
    !pod.host_network && !pod.is_finished()
}

/// The named ports of a pod: name, protocol, number in host order.
fn named_ports(pod: &Pod) -> impl Iterator<Item = (&str, Protocol, u16)> {
    pod.container_ports().filter_map(|port| {
        let name = port.name.as_deref().filter(|name| !name.is_empty())?;
        Some((name, protocol(port.protocol.as_deref())?, u16::try_from(port.container_port).ok()?))
    })
}

fn node_traits(node: &Node) -> Traits {
    let labels = node.object.metadata.labels.clone().unwrap_or_default();
    Traits { namespace: None, labels, ports: Vec::new() }
}
