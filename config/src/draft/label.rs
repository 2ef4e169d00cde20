//! Labels of objects, changed by command.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::lifecycle::nowhere;
use super::{Draft, Entry, Key, KeyRef};
use crate::check;
use crate::error::Findings;
use crate::kind::Kind;
use crate::object::Object;

impl Draft {
    /// Sets labels of an object, or removes those that come with `None`; `false` if there is no such
    /// object. A namespace that is only spoken of is written down by it.
    pub fn label(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        labels: &[(String, Option<String>)],
    ) -> bool {
        let mut entry = match self.of(kind).get(&KeyRef { namespace, name }) {
            Some(before) => Entry::clone(before),
            None if kind == Kind::Namespace => {
                let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
                let object = Namespace { metadata, ..Namespace::default() };
                let object = Object::Namespace(Arc::new(object));
                Entry { object, origin: nowhere(), findings: Findings::default() }
            }
            None => return false,
        };
        let all = entry.object.metadata_mut().labels.get_or_insert_default();
        for (key, value) in labels {
            match value {
                Some(value) => drop(all.insert(key.clone(), value.clone())),
                None => drop(all.remove(key)),
            }
        }
        let mut findings = Findings::default();
        check::object(&entry.object, &mut findings);
        findings.about(&entry.called(), &entry.origin);
        entry.findings = findings;
        let key = Key { namespace: namespace.into(), name: name.into() };
        self.of_mut(kind).insert(key, Arc::new(entry));
        true
    }
}
