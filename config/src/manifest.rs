//! Manifests: documents of Kubernetes objects, as any Kubernetes user writes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use crate::check;
use crate::draft::Entry;
use crate::error::{Findings, Origin};
use crate::kind::{Found, Kind};
use crate::object::{DEFAULT_NAMESPACE, Object, called};
use crate::path::{Field, Step};
use crate::source::Source;
use crate::suggest;
use crate::tree::{Document, Format, Reading, Tree, Unknown, Value, Wrong, documents};

/// What manifests hold, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) entries: Vec<Entry>,
    pub(crate) findings: Findings,
    /// Kinds that are not carried, and how many objects of each there were.
    pub(crate) not_carried: BTreeMap<String, usize>,
    /// Whether a document could not be read at all, so that others may miss what it holds.
    pub(crate) is_broken: bool,
}

impl Manifests {
    fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.findings.0.extend(other.findings.0);
        for (kind, count) in other.not_carried {
            *self.not_carried.entry(kind).or_default() += count;
        }
        self.is_broken |= other.is_broken;
    }
}

/// Octets from which reading is worth a second thread.
const LARGE: usize = 256 * 1024;

/// Reads texts, on several threads where there is much of them. The order is that of the texts.
pub(crate) fn read(sources: &[(Source, Format)]) -> Manifests {
    let documents: Vec<_> =
        sources.iter().flat_map(|(source, format)| documents(source, *format)).collect();
    let octets: usize = documents.iter().map(|document| document.span.range().len()).sum();
    let threads = match thread::available_parallelism() {
        Ok(threads) if octets >= LARGE => threads.get().min(8).min(documents.len()),
        _ => 1,
    };
    let share = documents.len().div_ceil(threads.max(1)).max(1);
    let mut documents = documents.into_iter().map(Arc::new);
    let shares = std::iter::repeat_with(|| documents.by_ref().take(share).collect::<Vec<_>>())
        .take_while(|share| !share.is_empty());
    let shares: Vec<_> = shares.collect();
    let mut manifests = Manifests::default();
    if let [share] = shares.as_slice() {
        share.iter().for_each(|document| read_document(document, &mut manifests));
        return manifests;
    }
    thread::scope(|scope| {
        let read_share = |share: Vec<Arc<Document>>| {
            let mut manifests = Manifests::default();
            share.iter().for_each(|document| read_document(document, &mut manifests));
            manifests
        };
        let running: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || read_share(share))).collect();
        for share in running {
            match share.join() {
                Ok(share) => manifests.extend(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    manifests
}

fn read_document(document: &Arc<Document>, manifests: &mut Manifests) {
    let (trees, errors) = document.parse();
    let origin =
        Origin { document: document.clone(), tree: 0, base: Field::default(), short: false };
    for error in errors {
        manifests.is_broken = true;
        manifests
            .findings
            .error(Field::default(), error.message, error.help.unwrap_or_default())
            .within(&origin)
            .at(error.span);
    }
    for (tree, value) in trees.into_iter().enumerate() {
        let origin = Origin { tree, ..origin.clone() };
        read_tree(value, "", origin, manifests);
    }
}

/// Reads an object, or a list of them; `kind` is that of an item of a typed list.
fn read_tree(mut tree: Tree<'_>, kind: &str, origin: Origin, manifests: &mut Manifests) {
    match tree.value {
        // a document of comments
        Value::Null => return,
        Value::Table(_) => {}
        _ => {
            let message = format!("expected a Kubernetes object, found {}", tree.value);
            let help = "begin with `apiVersion:` and `kind:`";
            manifests.findings.error(Field::default(), message, help).within(&origin).at(tree.span);
            return;
        }
    }
    let name = tree.text("kind").unwrap_or(kind).to_owned();
    let api_version = tree.text("apiVersion").map(str::to_owned);
    if let Some(items) = name.strip_suffix("List")
        && tree.get("items").is_some()
    {
        read_items(tree, items, &origin, manifests);
        return;
    }
    for (key, is_missing) in
        [("kind", name.is_empty()), ("apiVersion", kind.is_empty() && api_version.is_none())]
    {
        if is_missing {
            let help = format!("write `{key}: {}`", if key == "kind" { "Service" } else { "v1" });
            let error =
                manifests.findings.error(Field::of(key), format!("`{key}` is missing"), help);
            error.within(&origin);
            return;
        }
    }
    let found = match &api_version {
        Some(version) => Kind::find(version, &name),
        None => Kind::ALL
            .into_iter()
            .find(|at| at.name() == name)
            .map_or(Found::NotCarried, Found::Kind),
    };
    match found {
        Found::Kind(kind) => match entry(kind, &mut tree, origin) {
            Ok(entry) => manifests.entries.push(entry),
            Err(findings) => manifests.findings.0.extend(findings.0),
        },
        Found::OtherVersion(kind) => {
            let version = api_version.unwrap_or_default();
            let message = format!("Kubernetes has no {name} in {version}");
            let help = format!("write `apiVersion: {}`", kind.api_version());
            manifests.findings.error(Field::of("apiVersion"), message, help).within(&origin);
        }
        Found::NotCarried => *manifests.not_carried.entry(name).or_default() += 1,
    }
}

fn read_items(tree: Tree<'_>, kind: &str, origin: &Origin, manifests: &mut Manifests) {
    let Value::Table(members) = tree.value else { return };
    let items = members.into_iter().find(|member| member.key == "items").map(|at| at.tree.value);
    let Some(Value::List(items)) = items else { return };
    for (index, item) in items.into_iter().enumerate() {
        let base = origin.base.clone().key("items").index(index);
        read_tree(item, kind, origin.part(base), manifests);
    }
}

/// Reads an object of a known kind, and checks what can be said of it alone.
///
/// # Errors
/// What is wrong, where so much is wrong that no object came of it.
pub(crate) fn entry(kind: Kind, tree: &mut Tree<'_>, origin: Origin) -> Result<Entry, Findings> {
    let mut findings = Findings::default();
    let metadata = tree.get("metadata").map(|member| &member.tree);
    let text = |key| metadata.and_then(|tree| tree.text(key)).unwrap_or("");
    let namespace = match text("namespace") {
        "" if kind.is_namespaced() => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    let called = called(kind, namespace, text("name"));
    let Document { source, format, .. } = origin.document.as_ref();
    let Reading { object, wrong, unknown } = Object::read(kind, tree, source.text(), *format);
    if let Some(object) = &object {
        check::object(object, &mut findings);
        // what was wrong was taken out: that it is missing follows from that
        findings
            .0
            .retain(|finding| !wrong.iter().any(|wrong| finding.field.is_within(&wrong.field)));
    }
    for Wrong { message, help, field, span } in wrong {
        findings.error(field, message, help.unwrap_or_default()).at(span);
    }
    for unknown in unknown {
        unknown_field(unknown, &mut findings);
    }
    findings.about(&called, &origin);
    match object {
        Some(object) => Ok(Entry { object, origin, findings }),
        None => Err(findings),
    }
}

fn unknown_field(unknown: Unknown, findings: &mut Findings) {
    let Unknown { field, span, meant } = unknown;
    let name = match field.0.last() {
        Some(Step::Key(key)) => key.clone(),
        _ => field.to_string(),
    };
    let help = match meant {
        Some(meant) => format!("did you mean {}?", suggest::listed([meant], "or")),
        None => "it has no effect".to_owned(),
    };
    let message = format!("Kubernetes has no field `{name}` here, it is ignored");
    findings.warning(field, message, help).at(span);
}
