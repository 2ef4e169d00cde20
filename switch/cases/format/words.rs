//! The small words of case files: references, spans of numbers, protocols.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use kswitch_tables::Protocol;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::Value;

use super::{Change, Namespace, Pod};

/// A transport protocol that Services know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// As Kubernetes writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// As tables have it.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::TCP,
            Self::Udp => Protocol::UDP,
            Self::Sctp => Protocol::SCTP,
        }
    }

    /// That of this number.
    pub fn of(protocol: Protocol) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|at| at.protocol() == protocol)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// `namespace/name` of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl TryFrom<String> for PodName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not `namespace/name`")),
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A reference to a machine, and to one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HostFields")]
pub struct HostRef {
    /// The machine.
    pub host: Host,
    /// Which of its addresses; `None`: the first of the family that is needed.
    pub ip: Option<IpAddr>,
}

/// A machine that sends or receives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A pod.
    Pod(PodName),
    /// The pod that was saved under this name.
    SavedPod(String),
    /// A process on a node.
    Node(String),
    /// A process on a node that uses the loopback address.
    Localhost(String),
    /// A host outside.
    External(String),
    /// Some host outside, of this address.
    Outside(IpAddr),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFields {
    pod: Option<String>,
    node: Option<String>,
    localhost: Option<String>,
    external: Option<String>,
    ip: Option<IpAddr>,
}

impl TryFrom<HostFields> for HostRef {
    type Error = String;

    fn try_from(fields: HostFields) -> Result<Self, String> {
        let HostFields { pod, node, localhost, external, ip } = fields;
        Self::from_words(pod, node, localhost, external, ip)
    }
}

impl HostRef {
    /// The reference of these words, of which one must be there.
    pub(super) fn from_words(
        pod: Option<String>,
        node: Option<String>,
        localhost: Option<String>,
        external: Option<String>,
        ip: Option<IpAddr>,
    ) -> Result<Self, String> {
        let host = match (pod, node, localhost, external, ip) {
            (Some(pod), None, None, None, _) => match pod.strip_prefix('$') {
                Some(name) => Host::SavedPod(name.to_owned()),
                None => Host::Pod(pod.try_into()?),
            },
            (None, Some(node), None, None, _) => Host::Node(node),
            (None, None, Some(node), None, _) => Host::Localhost(node),
            (None, None, None, Some(name), _) => Host::External(name),
            (None, None, None, None, Some(ip)) => Host::Outside(ip),
            _ => {
                let words = "`pod`, `node`, `localhost`, `external`, or `ip` alone";
                return Err(format!("a reference names one host: {words}"));
            }
        };
        Ok(Self { host, ip })
    }
}

impl fmt::Display for HostRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Pod(name) => write!(formatter, "pod {name}")?,
            Host::SavedPod(name) => write!(formatter, "pod ${name}")?,
            Host::Node(name) => write!(formatter, "node {name}")?,
            Host::Localhost(name) => write!(formatter, "localhost of {name}")?,
            Host::External(name) => write!(formatter, "external {name}")?,
            Host::Outside(ip) => return write!(formatter, "{ip}"),
        }
        self.ip.map_or(Ok(()), |ip| write!(formatter, " ({ip})"))
    }
}

/// A word that may look like a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor).map(Self)
    }
}

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a word or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// A number, or a span of numbers as `1..1023`, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Word")]
pub struct Span(pub RangeInclusive<u32>);

impl Span {
    /// Whether the number is in it.
    pub fn holds(&self, number: impl Into<u32>) -> bool {
        self.0.contains(&number.into())
    }
}

impl TryFrom<Word> for Span {
    type Error = String;

    fn try_from(Word(text): Word) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((&text, &text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!("{text:?} is neither a number nor a span as in 1..1023")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.start() == self.0.end() {
            write!(formatter, "{}", self.0.start())
        } else {
            write!(formatter, "{}..{}", self.0.start(), self.0.end())
        }
    }
}

/// A change as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeFields {
    op: Op,
    object: Option<Value>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    pod: Option<Pod>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Op {
    Apply,
    Delete,
    SetNamespaceLabels,
    SetPodLabels,
    AddPod,
    DeletePod,
    AddNamespace,
    DeleteNamespace,
}

impl TryFrom<ChangeFields> for Change {
    type Error = String;

    fn try_from(fields: ChangeFields) -> Result<Self, String> {
        let ChangeFields { op, object, kind, namespace, name, labels, pod } = fields;
        let named = |name: Option<String>| name.ok_or_else(|| "`name` is missing".to_owned());
        let pod_name = |namespace: Option<String>, name| {
            let namespace = namespace.ok_or_else(|| "`namespace` is missing".to_owned())?;
            Ok::<_, String>(PodName { namespace, name: named(name)? })
        };
        Ok(match op {
            Op::Apply => Self::Apply(object.ok_or("`object` is missing")?),
            Op::Delete => Self::Delete {
                kind: kind.ok_or("`kind` is missing")?,
                namespace: namespace.unwrap_or_default(),
                name: named(name)?,
            },
            Op::SetNamespaceLabels => Self::SetNamespaceLabels(Namespace {
                name: named(name)?,
                labels: labels.ok_or("`labels` is missing")?,
            }),
            Op::SetPodLabels => Self::SetPodLabels {
                pod: pod_name(namespace, name)?,
                labels: labels.ok_or("`labels` is missing")?,
            },
            Op::AddPod => Self::AddPod(pod.ok_or("`pod` is missing")?),
            Op::DeletePod => Self::DeletePod(pod_name(namespace, name)?),
            Op::AddNamespace => Self::AddNamespace(Namespace {
                name: named(name)?,
                labels: labels.unwrap_or_default(),
            }),
            Op::DeleteNamespace => Self::DeleteNamespace(named(name)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn references_name_one_host() {
        let host = |text| read::<HostRef>(text).map(|at| at.to_string());
        assert_eq!(host("{pod: a/b}").unwrap(), "pod a/b");
        assert_eq!(host("{pod: $b}").unwrap(), "pod $b");
        assert_eq!(host("{localhost: n, ip: '::1'}").unwrap(), "localhost of n (::1)");
        assert_eq!(host("{ip: 192.0.2.1}").unwrap(), "192.0.2.1");
        assert!(host("{pod: a}").unwrap_err().contains("namespace/name"));
        assert!(host("{pod: a/b, node: c}").unwrap_err().contains("one host"));
        assert!(host("{pods: a/b}").unwrap_err().contains("pods"));
    }

    #[test]
    fn spans_are_numbers_or_ranges() {
        let span = |text| read::<Span>(text);
        assert!(span("1..1023").unwrap().holds(1023_u16));
        assert!(!span("62..63").unwrap().holds(64_u8));
        assert!(span("5002").unwrap().holds(5002_u16));
        assert!(span("9..1").is_err() && span("x").is_err());
    }

    #[test]
    fn changes_say_what_they_lack() {
        let change = |text| read::<Change>(text);
        assert!(matches!(
            change("{op: delete-namespace, name: x}"),
            Ok(Change::DeleteNamespace(_))
        ));
        assert!(change("{op: apply}").unwrap_err().contains("`object` is missing"));
        assert!(change("{op: explode}").unwrap_err().contains("explode"));
        assert!(change("{op: delete, kind: Pod, nam: x}").unwrap_err().contains("nam"));
    }
}
