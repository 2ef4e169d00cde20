//! Paths as backends and redirects see them.

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The whole of it.
    Full(String),
    /// The part that was matched.
    Prefix(String),
}

impl PathChange {
    /// The new path in place of `path`, of which `matched` was the prefix that a rule asked for.
    ///
    /// Source: Gateway API, `HTTPPathModifier.replacePrefixMatch`, its table.
    pub fn apply(&self, path: &str, matched: &str) -> String {
        match self {
            Self::Full(full) => full.clone(),
            Self::Prefix(new) => {
                let rest = path.strip_prefix(matched.trim_end_matches('/')).unwrap_or("");
                let changed = format!("{}{rest}", new.trim_end_matches('/'));
                if changed.starts_with('/') { changed } else { format!("/{changed}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matched_prefix_is_replaced_as_the_table_says() {
        let rows = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
        ];
        for (path, matched, new, expected) in rows {
            let change = PathChange::Prefix(new.to_owned());
            assert_eq!(change.apply(path, matched), expected, "{path} {matched} {new}");
        }
        assert_eq!(PathChange::Full("/one".into()).apply("/a/b", "/a"), "/one");
    }
}
