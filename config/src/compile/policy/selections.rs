//! From selectors to sets of identities, each made once however many rules have it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kswitch_tables::policy::{IdentityId, IdentitySet, PolicyId, SelectionId};

use super::super::Map;
use super::identities::{Identities, Namespaces};
use super::selection::Selection;
use crate::endpoints::number;

/// Beyond so many changed identities sets are made anew.
const FEW: usize = 32;

#[derive(Debug)]
struct Entry {
    selection: Selection,
    /// How many rules and subjects have it.
    users: usize,
    /// The policies that are about it.
    subject_of: Vec<PolicyId>,
}

/// Every selection in use. A freed number is given to another selection.
#[derive(Debug, Default)]
pub(super) struct Selections {
    ids: Map<Selection, SelectionId>,
    entries: Vec<Option<Entry>>,
    free: Vec<SelectionId>,
    pub(super) sets: Arc<Vec<Arc<IdentitySet>>>,
}

/// An identity that a policy now selects, or no longer does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) policy: PolicyId,
    pub(super) identity: IdentityId,
}

/// Who came under which policy and who left one.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) joined: Vec<Move>,
    pub(super) left: Vec<Move>,
}

impl Selections {
    /// The number of a selection, which has to be released as often as it was acquired.
    pub(super) fn acquire(
        &mut self,
        selection: Selection,
        identities: &Identities,
        namespaces: &Namespaces,
    ) -> SelectionId {
        if let Some(id) = self.ids.get(&selection).copied() {
            if let Some(entry) = self.entry_mut(id) {
                entry.users += 1;
            }
            return id;
        }
        let set = Arc::new(identities.select(&selection, namespaces).collect());
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Arc::make_mut(&mut self.sets).push(Arc::default());
            SelectionId(number(self.entries.len() - 1))
        });
        self.put(id, set);
        self.ids.insert(selection.clone(), id);
        if let Some(place) = self.entries.get_mut(id.0 as usize) {
            *place = Some(Entry { selection, users: 1, subject_of: Vec::new() });
        }
        id
    }

    /// Gives a selection back.
    pub(super) fn release(&mut self, id: SelectionId) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if let Some(entry) = self.entries.get_mut(id.0 as usize).and_then(Option::take) {
            self.ids.remove(&entry.selection);
        }
        self.put(id, Arc::default());
        self.free.push(id);
    }

    /// States that a policy is about a selection.
    pub(super) fn add_subject(&mut self, id: SelectionId, policy: PolicyId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.subject_of.push(policy);
        }
    }

    /// States that it no longer is.
    pub(super) fn remove_subject(&mut self, id: SelectionId, policy: PolicyId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.subject_of.retain(|other| *other != policy);
        }
    }

    /// Those who are selected.
    pub(super) fn set(&self, id: SelectionId) -> Option<&Arc<IdentitySet>> {
        self.sets.get(id.0 as usize)
    }

    /// Looks up again which of the touched identities are selected.
    pub(super) fn update(
        &mut self,
        touched: &BTreeSet<IdentityId>,
        identities: &Identities,
        namespaces: &Namespaces,
    ) -> Moves {
        let mut moves = Moves::default();
        if touched.is_empty() {
            return moves;
        }
        let entries = std::mem::take(&mut self.entries);
        for (id, entry) in (0..).map(SelectionId).zip(&entries) {
            let (Some(entry), Some(before)) = (entry, self.set(id)) else { continue };
            let before = Arc::clone(before);
            let is_selected =
                |id: &IdentityId| identities.is_selected(*id, &entry.selection, namespaces);
            let after: IdentitySet = if touched.len() > FEW {
                identities.select(&entry.selection, namespaces).collect()
            } else if touched.iter().all(|id| is_selected(id) == before.contains(*id)) {
                continue;
            } else {
                let others = before.iter().filter(|id| !touched.contains(id));
                others.chain(touched.iter().copied().filter(is_selected)).collect()
            };
            for policy in &entry.subject_of {
                let moved = |identity| Move { policy: *policy, identity };
                moves.left.extend(before.iter().filter(|id| !after.contains(*id)).map(moved));
                moves.joined.extend(after.iter().filter(|id| !before.contains(*id)).map(moved));
            }
            self.put(id, Arc::new(after));
        }
        self.entries = entries;
        moves
    }

    fn put(&mut self, id: SelectionId, set: Arc<IdentitySet>) {
        if let Some(place) = Arc::make_mut(&mut self.sets).get_mut(id.0 as usize) {
            *place = set;
        }
    }

    fn entry_mut(&mut self, id: SelectionId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }
}
