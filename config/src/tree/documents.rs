//! Texts cut into documents, so that an error in one hides nothing in the others.

use super::{SyntaxError, Tree, json, toml, yaml};
use crate::source::{Source, Span};

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// lab.toml.
    Toml,
    /// Manifests; several documents to a file.
    Yaml,
    /// Manifests, and objects that programs hand over.
    Json,
}

impl Format {
    /// By the ending of a file's name.
    pub(crate) fn of_manifest(name: &str) -> Self {
        let is_json =
            name.rsplit_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case("json"));
        if is_json { Self::Json } else { Self::Yaml }
    }
}

/// A part of a text that can be read by itself.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) source: Source,
    pub(crate) span: Span,
    pub(crate) format: Format,
}

impl Document {
    /// A whole text.
    pub(crate) fn whole(source: Source, format: Format) -> Self {
        let span = Span::new(0, source.text().len());
        Self { source, span, format }
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        self.source.text().get(self.span.range()).unwrap_or("")
    }

    /// What stands in it, with places in the whole source, and what is wrong with it.
    ///
    /// YAML directives and JSON may bring several trees.
    pub(crate) fn parse(&self) -> (Vec<Tree<'_>>, Vec<SyntaxError>) {
        match self.format {
            Format::Toml => {
                let (tree, errors) = toml::parse(self.text());
                (vec![tree], errors)
            }
            Format::Yaml => {
                let (trees, error) = yaml::parse(self.text(), self.span.start());
                (trees, error.into_iter().collect())
            }
            Format::Json => {
                let (trees, error) = json::parse(self.text());
                (trees, error.into_iter().collect())
            }
        }
    }
}

/// The documents of a text.
pub(crate) fn documents(source: &Source, format: Format) -> Vec<Document> {
    let text = source.text();
    // a directive belongs to the document after it, wherever that begins
    let has_directive = text.starts_with('%') || text.contains("\n%");
    if format != Format::Yaml || has_directive {
        return vec![Document::whole(source.clone(), format)];
    }
    let document =
        |start, end| Document { source: source.clone(), span: Span::new(start, end), format };
    let mut documents = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices("\n---") {
        let at = at + 1;
        // `---` at the start of a line is a mark wherever it stands, within quotes and blocks too
        let after = text.as_bytes().get(at + 3);
        if matches!(after, None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
            documents.push(document(start, at));
            start = at;
        }
    }
    documents.push(document(start, text.len()));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let source = Source::new("x.yaml", text);
        documents(&source, Format::Yaml).iter().map(|at| at.text().to_owned()).collect()
    }

    #[test]
    fn yaml_is_cut_at_its_marks_only() {
        assert_eq!(
            texts("a: 1\n---\nb: 2\n--- # c\nc: 3"),
            ["a: 1\n", "---\nb: 2\n", "--- # c\nc: 3"]
        );
        assert_eq!(texts("a: ---\n----\n ---\n"), ["a: ---\n----\n ---\n"]);
        assert_eq!(texts("%YAML 1.2\n---\na: 1\n---\nb: 2\n").len(), 1);
        assert_eq!(texts("a: 1\r\n---\r\nb: 1\r\n").len(), 2);
    }

    #[test]
    fn an_error_in_one_document_hides_no_other() {
        let source = Source::new("x.yaml", "a: 1\n---\nb: [\n---\nc: é\nd: 4\n");
        let parsed = documents(&source, Format::Yaml);
        let count = |at: &Document| (at.parse().0.len(), at.parse().1.len());
        assert_eq!(parsed.iter().map(count).collect::<Vec<_>>(), [(1, 0), (0, 1), (1, 0)]);
        let (trees, _) = parsed[2].parse();
        let place = trees[0].get("d").unwrap().tree.span;
        assert_eq!(&source.text()[place.range()], "4");
    }

    #[test]
    fn a_manifest_that_ends_in_json_is_json() {
        assert_eq!(Format::of_manifest("a/b.JSON"), Format::Json);
        assert_eq!(Format::of_manifest("json/b.yaml"), Format::Yaml);
        assert_eq!(Format::of_manifest("-"), Format::Yaml);
    }
}
