//! Where a client is sent.

use super::path::PathChange;

/// Where a client is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; `None`: that of the request.
    pub scheme: Option<String>,
    /// The host; `None`: that of the request.
    pub host: Option<String>,
    /// The port; `None`: that of the scheme if one is named, else that of the listener.
    pub port: Option<u16>,
    /// The path; `None`: that of the request.
    pub path: Option<PathChange>,
    /// The status, 301 to 308.
    pub status: u16,
}

/// A request as it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'r> {
    /// `http` or `https`.
    pub scheme: &'r str,
    /// The host, without a port.
    pub host: &'r str,
    /// The port of the listener, host order.
    pub port: u16,
    /// The path.
    pub path: &'r str,
    /// The prefix of it that was asked for.
    pub matched: &'r str,
    /// The query, without its `?`.
    pub query: Option<&'r str>,
}

impl Redirect {
    /// What `Location` says.
    ///
    /// Source: Gateway API, `HTTPRequestRedirectFilter.port`.
    pub fn location(&self, seen: Seen<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(seen.scheme);
        let usual = if scheme == "https" { 443 } else { 80 };
        let port = match (self.port, &self.scheme) {
            (Some(port), _) => port,
            (None, Some(_)) => usual,
            (None, None) => seen.port,
        };
        let host = self.host.as_deref().unwrap_or(seen.host);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let path = match &self.path {
            Some(change) => change.apply(seen.path, seen.matched),
            None => seen.path.to_owned(),
        };
        let port = if port == usual { String::new() } else { format!(":{port}") };
        let query = seen.query.map_or_else(String::new, |query| format!("?{query}"));
        format!("{scheme}://{host}{port}{path}{query}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_unless_they_go_without_saying() {
        let at = |port| Seen {
            scheme: "http",
            host: "a.example",
            port,
            path: "/x/y",
            matched: "/x",
            query: Some("q=1"),
        };
        let plain = Redirect { status: 302, ..Redirect::default() };
        let https = Redirect { scheme: Some("https".into()), ..plain.clone() };
        let eight = Redirect { port: Some(8080), ..plain.clone() };
        let rows = [
            (&plain, 80, "http://a.example/x/y?q=1"),
            (&plain, 8080, "http://a.example:8080/x/y?q=1"),
            (&https, 8080, "https://a.example/x/y?q=1"),
            (&eight, 80, "http://a.example:8080/x/y?q=1"),
        ];
        for (redirect, port, expected) in rows {
            assert_eq!(redirect.location(at(port)), expected);
        }
        let path = Some(PathChange::Prefix("/z".into()));
        let moved = Redirect { path, host: Some("b.example".into()), ..plain };
        assert_eq!(moved.location(at(80)), "http://b.example/z/y?q=1");
    }
}
