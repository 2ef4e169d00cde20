//! Ingress and Gateway API: requests, and who answers them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::{Change, PodName, Transport};

/// A certificate that is made for a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Names that it is for.
    pub hosts: Vec<String>,
}

/// A step of a case about load balancers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What is changed first.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Requests, each for itself.
    #[serde(default)]
    pub requests: Vec<Exchange>,
    /// Many requests, connections or datagrams alike.
    #[serde(default)]
    pub distributions: Vec<Distribution>,
}

/// A request and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Where to.
    pub via: Via,
    /// What is asked.
    pub request: Asked,
    /// What must come of it.
    pub expect: Expect,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// A load balancer and how it is spoken to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Via {
    /// A Gateway, at its first address.
    pub gateway: Option<PodName>,
    /// The address of an Ingress.
    pub ingress: Option<IpAddr>,
    /// The port, host order; `None`: 80.
    pub port: Option<u16>,
    /// `http` or `https`; `None`: `http`.
    pub scheme: Option<String>,
    /// The name that TLS is asked for.
    pub sni: Option<String>,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The method; `None`: `GET`.
    pub method: Option<String>,
    /// Path and query.
    pub path: String,
    /// The host; `None`: the address.
    pub host: Option<String>,
    /// Further fields of the head.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Fields of the answer's head that the backend is to set.
    #[serde(default)]
    pub backend_sets: BTreeMap<String, String>,
}

/// What must come of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Its status, any of these.
    pub status: Option<Statuses>,
    /// The Service that answers.
    pub backend: Option<PodName>,
    /// What arrives there.
    #[serde(default)]
    pub at_backend: AtBackend,
    /// What comes back.
    #[serde(default)]
    pub response: Response,
    /// Where the client is sent.
    pub redirect: Option<Redirect>,
    /// Services that get a copy.
    #[serde(default)]
    pub mirrored_to: Vec<PodName>,
    /// A name that the certificate carries.
    pub certificate_for: Option<String>,
}

/// One status, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Statuses {
    /// This.
    One(u16),
    /// Any of these.
    Any(Vec<u16>),
}

impl Statuses {
    /// All of them.
    pub fn all(&self) -> &[u16] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Any(all) => all,
        }
    }
}

/// What arrives at a backend.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtBackend {
    /// Path and query.
    pub path: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// Fields, several values joined by `,`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Fields that must not be there.
    #[serde(default)]
    pub absent_headers: Vec<String>,
}

/// What comes back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Fields, several values joined by `,`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Fields with one of several values.
    #[serde(default)]
    pub headers_any: BTreeMap<String, Vec<String>>,
    /// Fields that must not be there.
    #[serde(default)]
    pub absent_headers: Vec<String>,
}

/// Parts of where a client is sent; those not written are not judged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The port.
    #[serde(default, deserialize_with = "written")]
    pub port: RedirectPort,
    /// The path.
    pub path: Option<String>,
}

/// A port in where a client is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectPort {
    /// Not judged.
    #[default]
    Any,
    /// None, or the scheme's own.
    Usual,
    /// This, host order.
    Named(u16),
}

/// Tells what is written as `null` from what is not written.
fn written<'de, D: Deserializer<'de>>(reader: D) -> Result<RedirectPort, D::Error> {
    let port = Option::deserialize(reader)?;
    Ok(port.map_or(RedirectPort::Usual, RedirectPort::Named))
}

/// Many requests, connections or datagrams alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Where to.
    pub via: Via,
    /// What is asked; without it, connections or datagrams are sent.
    pub request: Option<Asked>,
    /// By which protocol, without a request.
    pub protocol: Option<Transport>,
    /// How many.
    pub count: u32,
    /// What must come of them.
    pub expect: Shares,
    /// Whether the expectation is its source's own.
    #[serde(default)]
    pub expected_from: String,
}

/// Who answers how many.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The share of each Service.
    pub shares: BTreeMap<PodName, f64>,
    /// The share of requests of which each Service gets a copy.
    #[serde(default)]
    pub mirrored: BTreeMap<PodName, f64>,
    /// How far off a share may be.
    #[serde(default)]
    pub tolerance: f64,
    /// Answers of a status that are wanted.
    pub errors: Option<Errors>,
    /// At least so many different pods.
    pub pods_min: Option<usize>,
    /// What arrives at each Service.
    #[serde(default)]
    pub at_backend_per_share: BTreeMap<PodName, AtBackend>,
}

/// Answers of a status that are wanted.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// The status.
    pub status: u16,
    /// Their share.
    pub share: f64,
}
