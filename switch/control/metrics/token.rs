//! Who may read the counters where others than this machine can ask.

use std::io;
use std::path::Path;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::{StatusCode, Uri};

use crate::agents::http::{self, Answer};

/// The cookie in which a browser keeps the token that it was opened with.
const NAME: &str = "kswitch-token";

/// Octets of a token at least: what is shorter can be guessed.
const LEAST: usize = 16;

/// What whoever asks has to know.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The one in a file, without the white space around it.
    ///
    /// # Errors
    /// The file cannot be read, or holds fewer than 16 characters, or others than visible ones.
    pub fn read(path: &Path) -> io::Result<Self> {
        let wrong = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
        let text = std::fs::read_to_string(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let text = text.trim();
        // as a cookie may have them
        let is_plain =
            text.bytes().all(|octet| octet.is_ascii_graphic() && !b"\",;\\".contains(&octet));
        if text.len() < LEAST || !is_plain {
            let path = path.display();
            return Err(wrong(format!("{path}: a token has {LEAST} or more letters and digits")));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a request knows it: as `Authorization: Bearer`, `?token=`, or a cookie.
    ///
    /// Source: RFC 6750 §2.1.
    pub(super) fn is_known(&self, uri: &Uri, head: &HeaderMap) -> bool {
        let said = |name| head.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let bearer = said(AUTHORIZATION).filter_map(|value| value.strip_prefix("Bearer "));
        let cookies = said(COOKIE).flat_map(|value| value.split("; "));
        let cookies = cookies.filter_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='));
        bearer.chain(cookies).any(|said| self.is(said)) || self.is_in(uri)
    }

    /// Whether it stands in the address itself, as when a person opens the page.
    pub(super) fn is_in(&self, uri: &Uri) -> bool {
        let query = uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).any(|(key, value)| key == "token" && self.is(&value))
    }

    /// Compares all octets, so that time tells nothing of where they differ.
    fn is(&self, said: &str) -> bool {
        let differing = self.0.bytes().zip(said.bytes()).fold(0, |bits, (a, b)| bits | (a ^ b));
        said.len() == self.0.len() && differing == 0
    }

    /// Has the browser keep it for what the page asks for.
    pub(super) fn keep(&self, mut answer: Answer) -> Answer {
        let cookie = format!("{NAME}={}; HttpOnly; SameSite=Strict; Path=/", self.0);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        answer
    }
}

/// What whoever does not know it is told.
pub(super) fn refusal() -> Answer {
    let message =
        "this takes the lab's token, as `Authorization: Bearer TOKEN` or `?token=TOKEN`\n";
    let mut answer = http::text(StatusCode::UNAUTHORIZED, message);
    let challenge = HeaderValue::from_static("Bearer realm=\"kswitch\"");
    answer.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, challenge);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token("0123456789abcdef".into())
    }

    fn knows(uri: &str, header: Option<(&'static str, &str)>) -> bool {
        let mut head = HeaderMap::new();
        if let Some((name, value)) = header {
            head.insert(name, value.parse().unwrap());
        }
        token().is_known(&uri.parse().unwrap(), &head)
    }

    #[test]
    fn a_token_is_known_in_three_places() {
        assert!(knows("/metrics", Some(("authorization", "Bearer 0123456789abcdef"))));
        assert!(knows("/metrics?token=0123456789abcdef", None));
        assert!(knows("/lab.json", Some(("cookie", "a=b; kswitch-token=0123456789abcdef"))));
        assert!(!knows("/metrics", None));
        assert!(!knows("/metrics?token=0123456789abcdeX", None));
        assert!(!knows("/metrics?token=0123456789abcdef0", None));
        assert!(!knows("/metrics", Some(("authorization", "Basic 0123456789abcdef"))));
        assert!(!knows("/metrics", Some(("cookie", "other=0123456789abcdef"))));
    }

    #[test]
    fn a_token_is_read_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, is_good) in
            [("0123456789abcdef\n", true), ("short\n", false), ("0123456789 abcdef", false)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Token::read(&path).is_ok(), is_good, "{text:?}");
        }
        assert!(Token::read(&directory.path().join("none")).is_err());
    }
}
