//! Changes to a lab that is there already.

use std::sync::Arc;

use serde_json::Value;

use super::{Draft, Entry, Key, KeyRef};
use crate::error::{Errors, Problem, resolve};
use crate::kind::Kind;
use crate::manifest::{self, Manifests};
use crate::object::Object;
use crate::source::Source;
use crate::tree::Format;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What has become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It is another now.
    Configured,
    /// It was the same before.
    Unchanged,
    /// It is gone.
    Deleted,
    /// There was none.
    NotFound,
}

/// An object and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which object.
    pub object: ObjectName,
    /// What has become of it.
    pub outcome: Outcome,
}

/// What a manifest has changed.
#[derive(Clone, Debug)]
pub struct Applied {
    /// By object, in the order of the manifest.
    pub changes: Vec<Change>,
    /// What of it has no effect.
    pub warnings: Vec<Problem>,
}

impl Draft {
    /// Creates or replaces the objects of a manifest in YAML, or in JSON if its name ends so.
    ///
    /// # Errors
    /// What is wrong with objects by themselves; nothing is changed then. What is wrong with the whole,
    /// [`Draft::validate`] tells.
    pub fn apply_text(&mut self, name: &str, text: &str) -> Result<Applied, Errors> {
        let source = Source::new(name, text);
        self.apply_source(source, Format::of_manifest(name))
    }

    /// Creates or replaces an object, or the objects of a `List`. `origin` is what messages call it.
    ///
    /// # Errors
    /// As [`Draft::apply_text`].
    pub fn apply(&mut self, object: &Value, origin: &str) -> Result<Applied, Errors> {
        // its lines are those that messages point to
        let source = Source::new(origin, format!("{object:#}"));
        self.apply_source(source, Format::Json)
    }

    fn apply_source(&mut self, source: Source, format: Format) -> Result<Applied, Errors> {
        let Manifests { entries, mut findings, not_carried, is_broken: _ } =
            manifest::read(&[(source, format)]);
        for (kind, count) in not_carried {
            let message = format!("{count} × {kind} has no effect here");
            findings.warning(crate::path::Path::Root, message, "");
        }
        findings.0.extend(entries.iter().flat_map(|entry| entry.findings.0.iter().cloned()));
        if findings.has_errors() {
            return Err(Errors { problems: resolve(findings.0) });
        }
        let changes = entries.into_iter().map(|entry| self.put(entry)).collect();
        Ok(Applied { changes, warnings: resolve(findings.0) })
    }

    fn put(&mut self, entry: Entry) -> Change {
        let kind = entry.object.kind();
        let KeyRef { namespace, name } = entry.key();
        let object = ObjectName { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let outcome = match self.of(kind).get(&entry.key()) {
            Some(before) if same(&before.object, &entry.object) => Outcome::Unchanged,
            before => {
                let outcome = if before.is_some() { Outcome::Configured } else { Outcome::Created };
                let key = Key { namespace: namespace.into(), name: name.into() };
                self.of_mut(kind).insert(key, Arc::new(entry));
                outcome
            }
        };
        Change { object, outcome }
    }

    /// Removes an object; with a namespace, everything in it.
    pub fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> Outcome {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        let mut is_gone = false;
        if kind == Kind::Namespace {
            for inside in Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
                if self.of(inside).keys().any(|key| *key.namespace == *name) {
                    self.of_mut(inside).retain(|key, _| *key.namespace != *name);
                    is_gone = true;
                }
            }
        }
        let key = KeyRef { namespace, name };
        if self.of(kind).contains_key(&key) {
            // the others stay in the order they were written
            self.of_mut(kind).shift_remove(&key);
            is_gone = true;
        }
        if is_gone { Outcome::Deleted } else { Outcome::NotFound }
    }

    /// Removes the objects that a manifest names.
    ///
    /// # Errors
    /// What of the manifest cannot be read; nothing is removed then.
    pub fn delete_text(&mut self, name: &str, text: &str) -> Result<Vec<Change>, Errors> {
        let source = Source::new(name, text);
        let Manifests { entries, findings, .. } =
            manifest::read(&[(source, Format::of_manifest(name))]);
        if findings.has_errors() {
            return Err(Errors { problems: resolve(findings.0) });
        }
        let delete = |entry: &Entry| {
            let KeyRef { namespace, name } = entry.key();
            let kind = entry.object.kind();
            let outcome = self.delete(kind, namespace, name);
            let object =
                ObjectName { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            Change { object, outcome }
        };
        Ok(entries.iter().map(delete).collect())
    }

    /// Removes a host outside.
    pub fn remove_external(&mut self, name: &str) -> Outcome {
        let before = self.hosts.len();
        self.hosts.retain(|host| host.name != name);
        if self.hosts.len() < before { Outcome::Deleted } else { Outcome::NotFound }
    }
}

/// Whether two objects say the same.
fn same(a: &Object, b: &Object) -> bool {
    match (a, b) {
        (Object::Namespace(a), Object::Namespace(b)) => a == b,
        (Object::Node(a), Object::Node(b)) => a == b,
        (Object::Pod(a), Object::Pod(b)) => a == b,
        (Object::Service(a), Object::Service(b)) => a == b,
        (Object::EndpointSlice(a), Object::EndpointSlice(b)) => a == b,
        (Object::Endpoints(a), Object::Endpoints(b)) => a == b,
        (Object::NetworkPolicy(a), Object::NetworkPolicy(b)) => a == b,
        (Object::ClusterNetworkPolicy(a), Object::ClusterNetworkPolicy(b)) => a == b,
        (Object::Deployment(a), Object::Deployment(b)) => a == b,
        (Object::ReplicaSet(a), Object::ReplicaSet(b)) => a == b,
        (Object::StatefulSet(a), Object::StatefulSet(b)) => a == b,
        (Object::DaemonSet(a), Object::DaemonSet(b)) => a == b,
        (Object::Ingress(a), Object::Ingress(b)) => a == b,
        (Object::IngressClass(a), Object::IngressClass(b)) => a == b,
        (Object::Secret(a), Object::Secret(b)) => a == b,
        (Object::GatewayClass(a), Object::GatewayClass(b)) => a == b,
        (Object::Gateway(a), Object::Gateway(b)) => a == b,
        (Object::ListenerSet(a), Object::ListenerSet(b)) => a == b,
        (Object::HttpRoute(a), Object::HttpRoute(b)) => a == b,
        (Object::GrpcRoute(a), Object::GrpcRoute(b)) => a == b,
        (Object::TlsRoute(a), Object::TlsRoute(b)) => a == b,
        (Object::TcpRoute(a), Object::TcpRoute(b)) => a == b,
        (Object::UdpRoute(a), Object::UdpRoute(b)) => a == b,
        (Object::ReferenceGrant(a), Object::ReferenceGrant(b)) => a == b,
        (Object::ConfigMap(a), Object::ConfigMap(b)) => a == b,
        (Object::BackendTlsPolicy(a), Object::BackendTlsPolicy(b)) => a == b,
        (Object::BackendConfig(a), Object::BackendConfig(b)) => a == b,
        (Object::FrontendConfig(a), Object::FrontendConfig(b)) => a == b,
        (Object::GcpBackendPolicy(a), Object::GcpBackendPolicy(b)) => a == b,
        (Object::GcpGatewayPolicy(a), Object::GcpGatewayPolicy(b)) => a == b,
        (Object::HealthCheckPolicy(a), Object::HealthCheckPolicy(b)) => a == b,
        (Object::SecurityPolicy(a), Object::SecurityPolicy(b)) => a == b,
        (Object::SslPolicy(a), Object::SslPolicy(b)) => a == b,
        (Object::ManagedCertificate(a), Object::ManagedCertificate(b)) => a == b,
        _ => false,
    }
}
