//! The desired state as it was written, before anybody has judged the whole of it.

mod change;
mod files;
mod label;
mod lifecycle;
mod place;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use indexmap::Equivalent;
use indexmap::IndexMap;
use ipnet::IpNet;

pub use change::{Applied, Change, ObjectName, Outcome};

pub use lifecycle::Ending;
use lifecycle::Replaced;
pub(crate) use rollout::Rollout;
use rollout::Rollouts;
pub use rollout::{Availability, Progress};

use crate::cluster::{Cluster, External, HostNetwork};
use crate::error::{Errors, Findings, Origin, resolve};
use crate::interface::Interface;
use crate::kind::Kind;
use crate::lab::Lab;
use crate::link::{Direction, Faults};
use crate::manifest::Manifests;
use crate::object::{Object, called};
use crate::path::{Field, Path as FieldPath};
use crate::settings::Settings;
use crate::validate;

/// Settings and objects with the places they were written at; changes object by object.
///
/// A copy costs next to nothing, so a change is tried on a copy, which is kept if it validates.
#[derive(Clone)]
pub struct Draft {
    pub(crate) settings: Settings,
    /// The lab file, if there is one.
    pub(crate) lab: Option<Origin>,
    /// By [`Kind`].
    objects: [Arc<Entries>; Kind::ALL.len()],
    pub(crate) hosts: Vec<Host>,
    pub(crate) links: Vec<WrittenLink>,
    /// What is wrong beside the objects.
    pub(crate) findings: Findings,
    /// Pods that are made no more.
    pub(crate) replaced: Arc<Replaced>,
    /// Workloads on the way from one template or number of pods to another.
    rollouts: Arc<Rollouts>,
    /// Nodes that have been silent for too long.
    pub(crate) lost: Arc<BTreeSet<String>>,
    /// Kinds that are not carried, and how many objects of each there were.
    pub(crate) not_carried: BTreeMap<String, usize>,
    /// Whether something could not be read at all, so that what is missing may have been in it.
    pub(crate) is_broken: bool,
}

/// Objects of one kind, in the order they were written.
pub(crate) type Entries = IndexMap<Key, Arc<Entry>, ahash::RandomState>;

/// An object as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    pub(crate) origin: Origin,
    /// What is wrong with it alone.
    pub(crate) findings: Findings,
}

/// A host outside as it was written; with each address the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) addresses: Vec<(Field, IpNet)>,
    pub(crate) gateways: Vec<(Field, IpAddr)>,
    pub(crate) routes: Vec<(Field, IpNet)>,
    pub(crate) mtu: Option<u16>,
    pub(crate) interface: Option<Interface>,
    pub(crate) network: HostNetwork,
    pub(crate) origin: Option<Origin>,
}

/// What is wrong with a link, as it was written.
#[derive(Clone, Debug)]
pub(crate) struct WrittenLink {
    pub(crate) of: String,
    pub(crate) directions: Vec<Direction>,
    pub(crate) faults: Faults,
    pub(crate) origin: Origin,
}

/// Namespace and name of an object of a known kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

/// A [`Key`] to look up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyRef<'k> {
    pub(crate) namespace: &'k str,
    pub(crate) name: &'k str,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.name == *key.name && *self.namespace == *key.namespace
    }
}

impl Entry {
    pub(crate) fn key(&self) -> KeyRef<'_> {
        KeyRef { namespace: self.object.namespace(), name: self.object.name() }
    }

    /// What messages call it.
    pub(crate) fn called(&self) -> String {
        let KeyRef { namespace, name } = self.key();
        called(self.object.kind(), namespace, name)
    }
}

impl Draft {
    /// A draft without objects.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            lab: None,
            objects: std::array::from_fn(|_| Arc::default()),
            hosts: Vec::new(),
            links: Vec::new(),
            findings: Findings::default(),
            replaced: Arc::default(),
            rollouts: Arc::default(),
            lost: Arc::default(),
            not_carried: BTreeMap::new(),
            is_broken: false,
        }
    }

    /// Reads a lab file and its manifests. What is wrong with them, validation tells.
    pub fn read(path: &Path) -> Self {
        files::read(path)
    }

    /// Reads the text of a lab file; its manifests are looked for in `directory`.
    pub fn read_text(name: &str, text: &str, directory: &Path) -> Self {
        files::read_text(name, text.to_owned(), directory)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a host outside; its gateways are those that the host names, or none to have them chosen.
    pub fn add_external(&mut self, external: External) {
        let External { name, addresses, gateways, routes, mtu, interface, network } = external;
        let addresses = addresses.into_iter().enumerate();
        let gateways = gateways.into_iter().enumerate();
        let routes = routes.into_iter().enumerate();
        self.hosts.push(Host {
            name,
            addresses: addresses
                .map(|(at, item)| (Field::of("addresses").index(at), item))
                .collect(),
            gateways: gateways.map(|(at, item)| (Field::of("gateways").index(at), item)).collect(),
            routes: routes.map(|(at, item)| (Field::of("routes").index(at), item)).collect(),
            mtu,
            interface,
            network,
            origin: None,
        });
    }

    /// Judges the whole.
    ///
    /// What `previous` had assigned (nodes of pods, addresses, node ports) stays as it is where the
    /// rules still allow it.
    ///
    /// # Errors
    /// Everything that is wrong, with its place.
    pub fn validate(&self, previous: Option<&Cluster>) -> Result<Cluster, Errors> {
        validate::validate(self, previous)
            .map_err(|findings| Errors { problems: resolve(findings.0) })
    }

    /// The objects of a kind.
    pub(crate) fn of(&self, kind: Kind) -> &Entries {
        let [first, ..] = &self.objects;
        self.objects.get(kind as usize).unwrap_or(first)
    }

    fn of_mut(&mut self, kind: Kind) -> &mut Entries {
        #[expect(clippy::indexing_slicing, reason = "the array is as long as there are kinds")]
        Arc::make_mut(&mut self.objects[kind as usize])
    }

    /// Every object.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects.iter().flat_map(|entries| entries.values())
    }

    /// Adds an object while files are read: one that is there already was written twice.
    fn add(&mut self, entry: Entry) {
        let kind = entry.object.kind();
        let KeyRef { namespace, name } = entry.key();
        let key = Key { namespace: namespace.into(), name: name.into() };
        let Some(first) = self.of(kind).get(&key) else {
            self.of_mut(kind).insert(key, Arc::new(entry));
            return;
        };
        if name.is_empty() {
            // that it has no name was told already
            self.findings.0.extend(entry.findings.0);
            return;
        }
        let first = first.origin.clone();
        let at: Field = FieldPath::Root.key("metadata").key("name").into();
        let message = format!("{} is written twice", entry.called());
        let help = "give one of the two another name, or remove it";
        self.findings.error(at.clone(), message, help).of(entry.called(), &entry.origin).beside(
            &first,
            at,
            "the first",
        );
    }

    fn add_lab(&mut self, lab: Lab) {
        let Lab { settings, entries, hosts, links, findings, origin, is_broken } = lab;
        self.settings = settings;
        self.lab = Some(origin);
        self.hosts = hosts;
        self.links = links;
        self.findings.0.extend(findings.0);
        self.is_broken |= is_broken;
        entries.into_iter().for_each(|entry| self.add(entry));
    }

    fn add_manifests(&mut self, manifests: Manifests) {
        let Manifests { entries, findings, not_carried, is_broken } = manifests;
        self.findings.0.extend(findings.0);
        self.is_broken |= is_broken;
        for (kind, count) in not_carried {
            *self.not_carried.entry(kind).or_default() += count;
        }
        entries.into_iter().for_each(|entry| self.add(entry));
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.entries().map(|entry| entry.called());
        formatter.debug_list().entries(names).finish()
    }
}
