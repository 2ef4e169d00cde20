//! Conditions of security policies: the part of the rules language of Cloud Armor that can be known
//! here.
//!
//! What cannot be known (where on earth a client is, say) has no value, and neither has what is asked
//! of a field that is not there: a condition without a value matches nobody.
//!
//! Source: Google Cloud Armor, "Configure custom rules language attributes".

mod parse;
mod token;

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use regex::Regex;

use super::matching::Request;

/// A client with its request.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'r> {
    /// The client's address.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// What it asks.
    pub request: &'r Request<'r>,
}

/// A condition.
#[derive(Clone, Debug)]
pub struct Condition {
    text: String,
    root: Term,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The letter at which it is seen, from 1.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) message: String,
    /// What would be right.
    pub(crate) help: String,
}

/// What a term is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Truth,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Truth => "true or false",
        }
    }
}

/// A part of a condition.
#[derive(Clone, Debug)]
enum Term {
    Text(String),
    Number(f64),
    Truth(bool),
    Attribute(Attribute),
    /// A field of the request's head, by name in lower case.
    Header(String),
    /// What is not known here.
    Unknown(Kind),
    Not(Box<Term>),
    And(Box<Term>, Box<Term>),
    Or(Box<Term>, Box<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    Sum(Box<Term>, Box<Term>),
    /// Whether a part has a value.
    Has(Box<Term>),
    InRange(Box<Term>, IpNet),
    Search(Search, Box<Term>, Box<Term>),
    Matches(Box<Term>, Regex),
    Change(Change, Box<Term>),
    Size(Box<Term>),
    Int(Box<Term>),
}

#[derive(Clone, Copy, Debug)]
enum Attribute {
    Address,
    Method,
    Path,
    Query,
    Scheme,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Search {
    Contains,
    Begins,
    Ends,
}

/// What a text becomes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Lower,
    Upper,
    UrlDecoded,
    Base64Decoded,
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Value<'v> {
    Text(Cow<'v, str>),
    Number(f64),
    Truth(bool),
}

impl Condition {
    /// Reads one; what of it is known, but has no value here, comes back beside it.
    pub(crate) fn new(text: &str) -> Result<(Self, Vec<String>), Wrong> {
        let (root, unknown) = parse::parse(text)?;
        Ok((Self { text: text.to_owned(), root }, unknown))
    }

    /// Whether a client is one of those that are meant. **Cost**: linear in the condition.
    pub fn matches(&self, visit: &Visit<'_>) -> bool {
        self.root.value(visit) == Some(Value::Truth(true))
    }
}

impl Term {
    const fn kind(&self) -> Kind {
        match self {
            Self::Text(_) | Self::Attribute(_) | Self::Header(_) | Self::Change(..) => Kind::Text,
            Self::Number(_) | Self::Size(_) | Self::Int(_) => Kind::Number,
            Self::Unknown(kind) => *kind,
            // both of its parts are alike
            Self::Sum(a, _) => a.kind(),
            Self::Truth(_)
            | Self::Not(_)
            | Self::And(..)
            | Self::Or(..)
            | Self::Compare(..)
            | Self::Has(_)
            | Self::InRange(..)
            | Self::Search(..)
            | Self::Matches(..) => Kind::Truth,
        }
    }

    fn value<'v>(&'v self, visit: &'v Visit<'_>) -> Option<Value<'v>> {
        Some(match self {
            Self::Text(text) => Value::Text(text.into()),
            Self::Number(number) => Value::Number(*number),
            Self::Truth(truth) => Value::Truth(*truth),
            Self::Attribute(attribute) => Value::Text(attribute.of(visit)),
            Self::Header(name) => Value::Text(header(name, visit)?),
            Self::Unknown(_) => return None,
            Self::Not(term) => Value::Truth(!term.truth(visit)?),
            Self::And(a, b) => match (a.truth(visit), b.truth(visit)) {
                (Some(false), _) | (_, Some(false)) => Value::Truth(false),
                (a, b) => Value::Truth(a? && b?),
            },
            Self::Or(a, b) => match (a.truth(visit), b.truth(visit)) {
                (Some(true), _) | (_, Some(true)) => Value::Truth(true),
                (a, b) => Value::Truth(a? || b?),
            },
            Self::Compare(comparison, a, b) => {
                let (a, b) = (a.value(visit)?, b.value(visit)?);
                Value::Truth(comparison.holds(&a, &b))
            }
            Self::Sum(a, b) => match (a.value(visit)?, b.value(visit)?) {
                (Value::Number(a), Value::Number(b)) => Value::Number(a + b),
                (Value::Text(a), Value::Text(b)) => Value::Text(a + b),
                _ => return None,
            },
            Self::Has(term) => Value::Truth(term.value(visit).is_some()),
            Self::InRange(term, range) => {
                let address: IpAddr = term.text(visit)?.parse().ok()?;
                Value::Truth(range.contains(&address.to_canonical()))
            }
            Self::Search(how, term, wanted) => {
                let (text, wanted) = (term.text(visit)?, wanted.text(visit)?);
                Value::Truth(match how {
                    Search::Contains => text.contains(&*wanted),
                    Search::Begins => text.starts_with(&*wanted),
                    Search::Ends => text.ends_with(&*wanted),
                })
            }
            Self::Matches(term, expression) => {
                Value::Truth(expression.is_match(&term.text(visit)?))
            }
            Self::Change(change, term) => Value::Text(change.of(&term.text(visit)?)?.into()),
            Self::Size(term) => {
                Value::Number(u32::try_from(term.text(visit)?.chars().count()).ok()?.into())
            }
            Self::Int(term) => Value::Number(term.text(visit)?.trim().parse::<i32>().ok()?.into()),
        })
    }

    fn truth(&self, visit: &Visit<'_>) -> Option<bool> {
        match self.value(visit)? {
            Value::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    fn text<'v>(&'v self, visit: &'v Visit<'_>) -> Option<Cow<'v, str>> {
        match self.value(visit)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The host is a field under HTTP/2, too.
fn header<'v>(name: &str, visit: &'v Visit<'_>) -> Option<Cow<'v, str>> {
    let request = visit.request;
    let found = request.headers.value(name);
    found.or_else(|| (name == "host").then_some(Cow::Borrowed(request.host)))
}

impl Attribute {
    fn of<'v>(self, visit: &'v Visit<'_>) -> Cow<'v, str> {
        let Visit { client, scheme, request } = visit;
        match self {
            Self::Address => client.to_canonical().to_string().into(),
            Self::Method => request.method.into(),
            Self::Path => request.path.into(),
            Self::Query => request.query.unwrap_or_default().into(),
            Self::Scheme => (*scheme).into(),
        }
    }
}

impl Comparison {
    fn holds(self, a: &Value<'_>, b: &Value<'_>) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Unequal => a != b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::More => a > b,
            Self::MoreOrEqual => a >= b,
        }
    }
}

impl Change {
    fn of(self, text: &str) -> Option<String> {
        match self {
            Self::Lower => Some(text.to_lowercase()),
            Self::Upper => Some(text.to_uppercase()),
            Self::UrlDecoded => Some(percent_decode_str(text).decode_utf8_lossy().into_owned()),
            Self::Base64Decoded => {
                let octets = BASE64_STANDARD.decode(text).ok()?;
                Some(String::from_utf8_lossy(&octets).into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
