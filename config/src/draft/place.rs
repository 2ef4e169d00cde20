//! Where things are written.

use super::{Draft, KeyRef};
use crate::cluster::Pod;
use crate::error::{Origin, Place};
use crate::kind::Kind;
use crate::path::{Field, Step};

impl Draft {
    /// Where an object is written: the field that is named as `spec.ports[0].port`, or as much of
    /// the way there as is written. `None` for objects that nobody wrote.
    ///
    /// **Cost**: reads the object's file again.
    pub fn place(&self, kind: Kind, namespace: &str, name: &str, field: &str) -> Option<Place> {
        let entry = self.of(kind).get(&KeyRef { namespace, name })?;
        Some(place(&entry.origin, &parse(field)))
    }

    /// Where a pod is written: it itself, or else the workload that made it.
    ///
    /// **Cost**: as [`Self::place`].
    pub fn place_of_pod(&self, pod: &Pod) -> Option<Place> {
        let Pod { namespace, name, .. } = pod;
        self.place(Kind::Pod, namespace, name, NAME).or_else(|| {
            let owners = pod.object.metadata.owner_references.iter().flatten();
            let mut owners = owners.filter(|owner| owner.controller == Some(true));
            owners.find_map(|owner| self.place_of_maker(namespace, &owner.kind, &owner.name))
        })
    }

    /// Where a host outside is written.
    ///
    /// **Cost**: as [`Self::place`].
    pub fn place_of_external(&self, name: &str) -> Option<Place> {
        let host = self.hosts.iter().find(|host| host.name == name)?;
        Some(place(host.origin.as_ref()?, &Field::of("name")))
    }

    /// A workload; a ReplicaSet of a Deployment is named after it and a hash.
    fn place_of_maker(&self, namespace: &str, kind: &str, name: &str) -> Option<Place> {
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        self.place(kind, namespace, name, NAME).or_else(|| {
            let (deployment, _) = name.rsplit_once('-').filter(|_| kind == Kind::ReplicaSet)?;
            self.place(Kind::Deployment, namespace, deployment, NAME)
        })
    }
}

/// The field that stands for a whole object.
const NAME: &str = "metadata.name";

fn place(origin: &Origin, field: &Field) -> Place {
    let (trees, _) = origin.document.parse();
    let way = origin.base.then(&origin.written(field));
    let span = trees.get(origin.tree).map_or(origin.document.span, |tree| tree.place(&way));
    Place { source: origin.document.source.clone(), span }
}

/// The way that people write as `spec.ports[0].port`.
fn parse(text: &str) -> Field {
    let mut steps = Vec::new();
    for part in text.split('.').filter(|part| !part.is_empty()) {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        steps.push(Step::Key(key.to_owned()));
        let indices =
            indices.split('[').filter_map(|index| index.trim_end_matches(']').parse().ok());
        steps.extend(indices.map(Step::Index));
    }
    Field(steps)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LAB: &str = r#"[lab]
name = "a"

[[node]]
name = "node-a"

[[pod]]
metadata = { name = "web" }

[[external]]
name = "internet"
address = "198.51.100.7/24"
"#;

    const MANIFEST: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports:
    - { name: http, port: 80 }
    - { name: https, port: 443 }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: front }
spec:
  selector: { matchLabels: { app: front } }
  template: { metadata: { labels: { app: front } }, spec: { containers: [] } }
";

    #[test]
    fn ways_are_read_as_they_are_written() {
        for way in ["", "spec", "spec.ports[2].port", "spec.ingress[0].from[1]"] {
            assert_eq!(parse(way).to_string(), way);
        }
    }

    #[test]
    fn objects_are_found_in_their_files() {
        let mut draft = Draft::read_text("lab.toml", LAB, Path::new("."));
        draft.apply_text("web.yaml", MANIFEST).unwrap();
        let at = |place: Option<Place>| place.map(|place| place.to_string()).unwrap_or_default();
        let service = |field| at(draft.place(Kind::Service, "default", "web", field));
        assert_eq!(service("spec.ports[1]"), "web.yaml:8:7");
        assert_eq!(service("spec.type"), "web.yaml:5:1", "as far as it is written");
        assert_eq!(at(draft.place(Kind::Pod, "default", "web", NAME)), "lab.toml:8:21");
        assert_eq!(at(draft.place(Kind::Node, "", "node-a", NAME)), "lab.toml:5:8");
        assert_eq!(at(draft.place_of_external("internet")), "lab.toml:11:8");
        assert_eq!(at(draft.place(Kind::Pod, "default", "db", "")), "");
        let made = draft.place_of_maker("default", "ReplicaSet", "front-5d8f");
        assert_eq!(at(made), "web.yaml:12:19");
    }
}
