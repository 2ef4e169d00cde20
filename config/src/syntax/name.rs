//! Names as Kubernetes allows them.

use super::Refused;

/// A name of at most 63 lower-case letters, digits and hyphens.
///
/// Source: RFC 1123 §2.1; Kubernetes `IsDNS1123Label`.
pub(crate) fn dns_label(text: &str) -> Result<(), Refused> {
    if is_dns_label(text) {
        return Ok(());
    }
    Err(Refused::new(
        complaint(text, "a name", 63),
        format!(
            "use up to 63 of a-z, 0-9 and `-`, with a letter or digit at both ends{}",
            meant(text)
        ),
    ))
}

/// Such names joined by dots, at most 253 octets.
///
/// Source: Kubernetes `IsDNS1123Subdomain`.
pub(crate) fn dns_subdomain(text: &str) -> Result<(), Refused> {
    if text.len() <= 253 && text.split('.').all(|part| !part.is_empty() && is_label_like(part)) {
        return Ok(());
    }
    Err(Refused::new(
        complaint(text, "a name", 253),
        format!(
            "use up to 253 of a-z, 0-9, `-` and `.`, with a letter or digit at both ends{}",
            meant(text)
        ),
    ))
}

/// A name of a port: at most 15 lower-case letters, digits and single hyphens, one letter at least.
///
/// Source: RFC 6335 §5.1; Kubernetes `IsValidPortName`.
pub(crate) fn port_name(text: &str) -> Result<(), Refused> {
    let is_name = text.len() <= 15
        && is_label_like(text)
        && !text.contains("--")
        && text.bytes().any(|octet| octet.is_ascii_lowercase());
    if is_name {
        return Ok(());
    }
    Err(Refused::new(
        complaint(text, "the name of a port", 15),
        "use up to 15 of a-z, 0-9 and single `-`, with a letter or digit at both ends",
    ))
}

/// A key of a label: a name, with the domain of whoever defines it before a slash.
///
/// Source: Kubernetes `IsQualifiedName`.
pub(crate) fn label_key(text: &str) -> Result<(), Refused> {
    qualified_name(text, "the key of a label")
}

/// `example.com/name` or `name`.
pub(crate) fn qualified_name(text: &str, what: &str) -> Result<(), Refused> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    let is_domain = domain.is_none_or(|domain| dns_subdomain(domain).is_ok());
    if is_domain && !name.is_empty() && is_value_like(name) {
        return Ok(());
    }
    Err(Refused::new(
        complaint(text, what, 63),
        "write it as in `app` or `example.com/app`, with up to 63 of A-Z, a-z, 0-9, `-`, `_` and `.`",
    ))
}

/// A value of a label; may be empty.
///
/// Source: Kubernetes `IsValidLabelValue`.
pub(crate) fn label_value(text: &str) -> Result<(), Refused> {
    if is_value_like(text) {
        return Ok(());
    }
    Err(Refused::new(
        complaint(text, "the value of a label", 63),
        "use up to 63 of A-Z, a-z, 0-9, `-`, `_` and `.`, with a letter or digit at both ends",
    ))
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label_like(text)
}

fn is_label_like(text: &str) -> bool {
    let is_end =
        |octet: Option<&u8>| octet.is_some_and(|at| at.is_ascii_lowercase() || at.is_ascii_digit());
    let octets = text.as_bytes();
    is_end(octets.first())
        && is_end(octets.last())
        && octets.iter().all(|at| at.is_ascii_lowercase() || at.is_ascii_digit() || *at == b'-')
}

fn is_value_like(text: &str) -> bool {
    let is_end = |octet: &u8| octet.is_ascii_alphanumeric();
    let octets = text.as_bytes();
    octets.len() <= 63
        && octets.first().is_none_or(is_end)
        && octets.last().is_none_or(is_end)
        && octets.iter().all(|at| at.is_ascii_alphanumeric() || matches!(at, b'-' | b'_' | b'.'))
}

fn complaint(text: &str, what: &str, most: usize) -> String {
    if text.is_empty() {
        format!("{what} is missing")
    } else if text.len() > most {
        format!("{text:?} is {} characters long, {what} may have {most}", text.len())
    } else {
        format!("{text:?} cannot be {what}")
    }
}

/// The nearest name that would do.
fn meant(text: &str) -> String {
    let mend = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '-',
    };
    let mended: String = text.chars().map(mend).collect();
    let mended = mended.trim_matches('-');
    if mended.is_empty() || mended == text || !is_dns_label(mended) {
        String::new()
    } else {
        format!(": `{mended}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes() {
        let long = "a".repeat(64);
        for name in ["a", "node-a", "0", "a--b"] {
            assert_eq!(dns_label(name), Ok(()), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a_b", "a.b", "ä", long.as_str()] {
            assert!(dns_label(name).is_err(), "{name}");
        }
        assert!(dns_subdomain("ip-10-0-0-1.internal").is_ok());
        assert!(dns_subdomain("a..b").is_err() && dns_subdomain("a.").is_err());
        assert!(port_name("http").is_ok() && port_name("8").is_err() && port_name("a--b").is_err());
        assert!(port_name("sixteen-letters-").is_err());
        assert!(label_key("app.kubernetes.io/name").is_ok() && label_key("/a").is_err());
        assert!(
            label_value("").is_ok() && label_value("a b").is_err() && label_value("v1.0_x").is_ok()
        );
    }

    #[test]
    fn a_name_that_would_do_is_offered() {
        assert!(dns_label("My_Lab").unwrap_err().help.ends_with(": `my-lab`"));
        assert!(dns_label("---").unwrap_err().help.ends_with("both ends"));
        assert_eq!(dns_label("").unwrap_err().message, "a name is missing");
    }
}
