//! Problems while they are looked for: cheap, and without their place in the text until they are told.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Place, Problem, Severity};
use crate::path::Field;
use crate::source::Span;
use crate::tree::Document;

/// What something was read from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Its text.
    pub(crate) document: Arc<Document>,
    /// Which of the trees of that text.
    pub(crate) tree: usize,
    /// The way to it within the tree.
    pub(crate) base: Field,
    /// Whether its fields go by other names there than in the Kubernetes object.
    pub(crate) short: bool,
}

impl Origin {
    /// The whole of a text.
    pub(crate) fn whole(document: Document) -> Self {
        Self { document: Arc::new(document), tree: 0, base: Field::default(), short: false }
    }

    /// How a field of the Kubernetes object is written here.
    pub(crate) fn written(&self, field: &Field) -> Field {
        if self.short { crate::lab::short_field(field) } else { field.clone() }
    }

    /// A part of it.
    pub(crate) fn part(&self, base: Field) -> Self {
        Self { document: self.document.clone(), tree: self.tree, base, short: self.short }
    }
}

/// The object a finding is about.
pub(crate) type Subject = String;

/// A problem without its place.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) object: Option<Subject>,
    /// Way to the field, from the object.
    pub(crate) field: Field,
    pub(crate) origin: Option<Origin>,
    /// Where it is, if that is known already.
    pub(crate) span: Option<Span>,
    /// Another object that has to do with it, and what that is.
    pub(crate) also: Option<(Origin, Field, String)>,
}

impl Finding {
    fn new(severity: Severity, field: Field, message: String, help: String) -> Self {
        let help = if help.is_empty() { None } else { Some(help) };
        Self { severity, message, help, object: None, field, origin: None, span: None, also: None }
    }

    /// The same, exactly there.
    pub(crate) fn at(&mut self, span: Span) -> &mut Self {
        self.span = Some(span);
        self
    }

    /// The same, about an object.
    pub(crate) fn of(&mut self, object: impl Into<Subject>, origin: &Origin) -> &mut Self {
        self.object = Some(object.into());
        self.origin = Some(origin.clone());
        self
    }

    /// The same, in a text.
    pub(crate) fn within(&mut self, origin: &Origin) -> &mut Self {
        self.origin = Some(origin.clone());
        self
    }

    /// The same, with something that it has to do with.
    pub(crate) fn beside(
        &mut self,
        origin: &Origin,
        field: impl Into<Field>,
        what: impl Into<String>,
    ) -> &mut Self {
        self.also = Some((origin.clone(), field.into(), what.into()));
        self
    }
}

/// A list of findings that grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    /// Something that has to be put right.
    pub(crate) fn error(
        &mut self,
        field: impl Into<Field>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.add(Severity::Error, field.into(), message.into(), help.into())
    }

    /// Something that one should know of.
    pub(crate) fn warning(
        &mut self,
        field: impl Into<Field>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.add(Severity::Warning, field.into(), message.into(), help.into())
    }

    #[expect(clippy::indexing_slicing, reason = "it was pushed the line before")]
    fn add(
        &mut self,
        severity: Severity,
        field: Field,
        message: String,
        help: String,
    ) -> &mut Finding {
        self.0.push(Finding::new(severity, field, message, help));
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// Whether anything in it has to be put right.
    pub(crate) fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// States what all findings are about.
    pub(crate) fn about(&mut self, object: &str, origin: &Origin) {
        for finding in &mut self.0 {
            finding.object = Some(object.to_owned());
            // a part of the object knows its place better
            finding.origin.get_or_insert_with(|| origin.clone());
        }
    }
}

/// Looks up where the findings are in their texts, and puts them in order.
pub(crate) fn resolve(findings: Vec<Finding>) -> Vec<Problem> {
    let findings = condensed(findings);
    let spans = spans(&findings);
    let mut problems: Vec<_> =
        findings.into_iter().zip(spans).map(|(finding, spans)| problem(finding, spans)).collect();
    problems.sort_by_cached_key(|problem| {
        let place = problem.place.as_ref();
        (problem.severity, place.map(|at| (at.source.name().to_owned(), at.span)))
    });
    problems
}

fn problem(finding: Finding, (span, also_span): Spans) -> Problem {
    let Finding { severity, message, help, object, field, origin, span: _, also } = finding;
    let place = |origin: &Origin, span| Place { source: origin.document.source.clone(), span };
    let field = match &origin {
        // beside the objects, a field is told from the top of the file
        Some(origin) if object.is_none() => origin.base.then(&field),
        Some(origin) => origin.written(&field),
        None => field,
    };
    let field = Some(field.to_string()).filter(|field| !field.is_empty());
    let also = also.map(|(origin, _, what)| (place(&origin, also_span), what));
    let place = origin.as_ref().map(|origin| place(origin, span));
    Problem { severity, message, object, field, help, place, also }
}

/// Warnings that say the same of a field are told so often; how many more there are is told.
const ALIKE: usize = 3;

fn condensed(findings: Vec<Finding>) -> Vec<Finding> {
    let mut seen: HashMap<(String, String), (usize, usize), ahash::RandomState> =
        HashMap::default();
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        if finding.severity == Severity::Warning {
            let key = (finding.message.clone(), finding.field.pattern());
            let (count, last) = seen.entry(key).or_insert((0, 0));
            *count += 1;
            if *count > ALIKE {
                continue;
            }
            *last = kept.len();
        }
        kept.push(finding);
    }
    for (count, last) in seen.into_values() {
        if let Some(more @ 1..) = count.checked_sub(ALIKE)
            && let Some(finding) = kept.get_mut(last)
        {
            finding.message.push_str(&format!(" (and so {more} times more)"));
        }
    }
    kept
}

/// Where a finding is, and where the other thing is.
type Spans = (Span, Span);

/// Reading a text again is only paid for when something is wrong in it, and then once.
fn spans(findings: &[Finding]) -> Vec<Spans> {
    let mut spans: Vec<Spans> = vec![Spans::default(); findings.len()];
    let mut wanted = Vec::new();
    for ((index, finding), (span, _)) in findings.iter().enumerate().zip(&mut spans) {
        match (&finding.origin, finding.span) {
            (_, Some(known)) => *span = known,
            (Some(origin), None) => wanted.push((origin, &finding.field, index, false)),
            (None, None) => {}
        }
        if let Some((origin, field, _)) = &finding.also {
            wanted.push((origin, field, index, true));
        }
    }
    wanted.sort_by_key(|(origin, ..)| Arc::as_ptr(&origin.document));
    for same in wanted.chunk_by(|(a, ..), (b, ..)| Arc::ptr_eq(&a.document, &b.document)) {
        let Some((first, ..)) = same.first() else { continue };
        let (trees, _) = first.document.parse();
        for (origin, field, index, is_other) in same {
            let way = origin.base.then(&origin.written(field));
            let span = trees.get(origin.tree).map_or(origin.document.span, |tree| tree.place(&way));
            if let Some((here, other)) = spans.get_mut(*index) {
                *(if *is_other { other } else { here }) = span;
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::tree::Format;

    fn origin(text: &str) -> Origin {
        Origin::whole(Document::whole(Source::new("a.yaml", text), Format::Yaml))
    }

    #[test]
    fn findings_get_their_places_and_stand_in_order() {
        let origin = origin("a: 1\nb: [2, 3]\n");
        let mut findings = Findings::default();
        findings.warning(Field::of("a"), "low", "").of("X y", &origin);
        findings.error(Field::of("b").index(1), "high", "lower").within(&origin).beside(
            &origin,
            Field::of("a"),
            "see",
        );
        findings.error(Field::of("c"), "missing", "").within(&origin);
        let problems: Vec<_> = resolve(findings.0).iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "a.yaml:1:1: missing (c)",
                "a.yaml:2:8: high (b[1]); lower",
                "a.yaml:1:4: low (X y, a)"
            ]
        );
    }

    #[test]
    fn many_alike_are_told_a_few_times() {
        let origin = origin("a: 1\n");
        let mut findings = Findings::default();
        for at in 0..10 {
            findings.warning(Field::of("x").index(at), "odd", "").within(&origin);
            findings.error(Field::of("x").index(at), "bad", "").within(&origin);
        }
        let problems = resolve(findings.0);
        assert_eq!(problems.len(), 10 + ALIKE);
        assert_eq!(problems.last().unwrap().message, "odd (and so 7 times more)");
    }
}
