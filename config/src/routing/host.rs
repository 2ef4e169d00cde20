//! Names of hosts, with wildcards.

use std::fmt;

/// Hosts that something is for; in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// All.
    #[default]
    Any,
    /// One.
    Exact(String),
    /// Those with one or more labels before this, which begins with a dot.
    ///
    /// Source: Gateway API, `Listener.hostname`.
    Below(String),
    /// Those with exactly one label before this, which begins with a dot.
    ///
    /// Source: `IngressRule.host`.
    OneBelow(String),
}

impl HostPattern {
    /// As a Gateway or a route writes it.
    pub fn of_gateway(text: Option<&str>) -> Self {
        Self::new(text, Self::Below)
    }

    /// As an Ingress writes it.
    pub fn of_ingress(text: Option<&str>) -> Self {
        Self::new(text, Self::OneBelow)
    }

    fn new(text: Option<&str>, wild: impl Fn(String) -> Self) -> Self {
        match text.map(str::to_ascii_lowercase) {
            None => Self::Any,
            Some(text) if text.is_empty() || text == "*" => Self::Any,
            Some(text) => match text.strip_prefix('*') {
                Some(end) => wild(end.to_owned()),
                None => Self::Exact(text),
            },
        }
    }

    /// Whether a host, in lower case and without a port, is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == host,
            Self::Below(end) => {
                host.strip_suffix(end.as_str()).is_some_and(|first| !first.is_empty())
            }
            Self::OneBelow(end) => host
                .strip_suffix(end.as_str())
                .is_some_and(|first| !first.is_empty() && !first.contains('.')),
        }
    }

    /// The more, the fewer hosts it is for: names without a wildcard first, then the longest.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Below(end) | Self::OneBelow(end) => (1, end.len()),
            Self::Exact(exact) => (2, exact.len()),
        }
    }

    /// The hosts that both are for.
    ///
    /// Source: Gateway API, `HTTPRouteSpec.hostnames`.
    pub fn both(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, that) | (that, Self::Any) => Some(that.clone()),
            (Self::Exact(name), that) | (that, Self::Exact(name)) => {
                that.matches(name).then(|| Self::Exact(name.clone()))
            }
            (Self::Below(a) | Self::OneBelow(a), Self::Below(b) | Self::OneBelow(b)) => {
                if a.ends_with(b.as_str()) {
                    Some(self.clone())
                } else {
                    b.ends_with(a.as_str()).then(|| other.clone())
                }
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Exact(name) => formatter.write_str(name),
            Self::Below(end) | Self::OneBelow(end) => write!(formatter, "*{end}"),
        }
    }
}

/// The name in a `Host` field, in lower case and without its port.
pub fn host_of(field: &str) -> String {
    let name = match field.strip_prefix('[') {
        // an IPv6 address
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => field.split(':').next().unwrap_or(field),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(text: &str) -> HostPattern {
        HostPattern::of_gateway(Some(text))
    }

    #[test]
    fn wildcards_cover_what_their_api_says() {
        let rows = [
            ("*.foo.com", "bar.foo.com", true, true),
            ("*.foo.com", "baz.bar.foo.com", true, false),
            ("*.foo.com", "foo.com", false, false),
            ("foo.com", "foo.com", true, true),
            ("*", "anything", true, true),
        ];
        for (pattern, host, in_gateway, in_ingress) in rows {
            assert_eq!(gateway(pattern).matches(host), in_gateway, "{pattern} {host}");
            let ingress = HostPattern::of_ingress(Some(pattern));
            assert_eq!(ingress.matches(host), in_ingress, "{pattern} {host}");
        }
    }

    #[test]
    fn both_is_the_narrower_of_two_that_meet() {
        let rows = [
            ("*.wildcard.io", "foo.wildcard.io", Some("foo.wildcard.io")),
            ("very.specific.com", "*.specific.com", Some("very.specific.com")),
            ("*.a.io", "*.b.a.io", Some("*.b.a.io")),
            ("*.a.io", "*.a.io", Some("*.a.io")),
            ("*.wildcard.io", "wildcard.io", None),
            ("a.com", "b.com", None),
            ("*", "b.com", Some("b.com")),
        ];
        for (a, b, both) in rows {
            let found = gateway(a).both(&gateway(b)).map(|at| at.to_string());
            assert_eq!(found.as_deref(), both, "{a} {b}");
        }
    }

    #[test]
    fn hosts_are_read_without_port_and_case() {
        assert_eq!(host_of("API.example.com:80"), "api.example.com");
        assert_eq!(host_of("[2001:db8::1]:80"), "2001:db8::1");
        assert_eq!(host_of("example.com."), "example.com");
    }
}
