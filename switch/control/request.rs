//! What the command line asks a running switch, and what it is told.

mod kind;
mod record;
mod verb;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use kswitch_config::link::{Direction, Faults};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use kind::Kind;
pub use record::{
    ConntrackStats, FdbRecord, FlowRecord, LaneRecord, LinkRecord, NeighbourRecord, PortRecord,
    RouteRecord, TollRecord, Traffic, WorkerRecord,
};

use super::flows::FlowFilter;
use super::monitor;
pub use verb::{Power, Verb, WorkloadName};

use crate::trace::Query;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Which objects or records there are. Answered by [`Response::Objects`].
    Get {
        /// Of which kind.
        kind: Kind,
        /// Which of them.
        select: Selector,
    },
    /// Where a pod, node or external host lives. Answered by [`Response::Place`].
    Locate {
        /// Whose place it is.
        host: HostName,
    },
    /// What a container has said. Answered by [`Response::Log`].
    Log {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// Which container; `None`: the first.
        container: Option<String>,
        /// The number of the first line that is wanted.
        from: u64,
    },
    /// The live flows. Answered by [`Response::Flows`], as many as needed.
    ConntrackList {
        /// Which of them.
        filter: FlowFilter,
    },
    /// Forgets flows. Answered by [`Response::Done`].
    ConntrackFlush {
        /// Which of them.
        filter: FlowFilter,
    },
    /// How full conntrack is. Answered by [`Response::ConntrackStats`].
    ConntrackStats,
    /// What would become of a packet. Answered by [`Response::Objects`].
    Trace {
        /// Which packet.
        query: Query,
    },
    /// Which packets would fare differently under another lab file. Answered by
    /// [`Response::Objects`].
    TraceDiff {
        /// The file's absolute path.
        path: PathBuf,
    },
    /// What befalls flows, as it happens, until the client goes. Answered by
    /// [`Response::Objects`], again and again.
    Monitor {
        /// What of it.
        filter: monitor::Filter,
    },
    /// Frames, with what becomes of them, until the client goes. Answered by
    /// [`Response::Objects`], again and again.
    Capture {
        /// The names of the ports; none for all.
        ports: Vec<String>,
        /// Octets of each frame.
        snap: usize,
        /// In pcap's language.
        filter: Option<String>,
        /// One frame in so many; 0 and 1 for all.
        sample: u64,
    },
    /// Every counter. Answered by [`Response::Objects`].
    Counters,
    /// Objects with all that has to do with them, for people. Answered by [`Response::Done`].
    Describe {
        /// Of which kind.
        kind: Kind,
        /// Which of them.
        select: Selector,
    },
    /// Goes on as another program. Answered by [`Response::Done`] before it does.
    Upgrade {
        /// The program's absolute path; `None`: the one that runs.
        binary: Option<PathBuf>,
    },
    /// Has a worker panic. Answered by [`Response::Done`].
    Fault {
        /// Which one.
        worker: usize,
    },
    /// Reads the lab's files again. Answered by [`Response::Done`].
    Reload,
    /// Creates or replaces objects. Answered by [`Response::Done`].
    Apply {
        /// Where they are written.
        manifests: Vec<Manifest>,
    },
    /// What is to befall pods, nodes or what makes pods. Answered by [`Response::Done`].
    Live {
        /// What.
        verb: Verb,
    },
    /// What is logged, and by which filter from now on. Answered by [`Response::Done`].
    Logging {
        /// As `debug`; `None`: as it is.
        filter: Option<String>,
    },
    /// What is to befall the frames on a link. Answered by [`Response::Done`].
    Link {
        /// Whose: `[namespace/]pod`, `node/NAME` or `ext/NAME`.
        of: String,
        /// Which ways.
        directions: Vec<Direction>,
        /// What; `None`: what the lab file says.
        faults: Option<Faults>,
    },
    /// Deletes objects. Answered by [`Response::Done`].
    Delete {
        /// Where they are written.
        manifests: Vec<Manifest>,
    },
}

/// What is answered, whole or as one part of many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Kubernetes objects, or the switch's own records, each with its `kind`.
    Objects {
        /// In the order in which to show them.
        items: Vec<Value>,
    },
    /// Where a host lives.
    Place(Place),
    /// What a container has said.
    Log {
        /// Line by line.
        lines: Vec<String>,
        /// The number of the next line.
        next: u64,
    },
    /// Flows, in no order.
    Flows {
        /// The flows.
        flows: Vec<FlowRecord>,
    },
    /// How full conntrack is.
    ConntrackStats(ConntrackStats),
    /// It is done.
    Done {
        /// What was done, a line each, as `service/web created`.
        lines: Vec<String>,
    },
    /// It cannot be done, and nothing was.
    Failed {
        /// In what way.
        failure: Failure,
        /// For people; several lines where a file is shown.
        message: String,
    },
}

impl Response {
    /// Records as objects: JSON objects with a first member `kind`.
    pub fn records<T: Record>(records: impl IntoIterator<Item = T>) -> Self {
        let items = records.into_iter().map(|record| record.to_object()).collect();
        Self::Objects { items }
    }

    /// A failure.
    pub fn failed(failure: Failure, message: impl Into<String>) -> Self {
        Self::Failed { failure, message: message.into() }
    }
}

/// In what way a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// What is named does not exist.
    NotFound,
    /// The files or objects are wrong.
    Invalid,
    /// The switch does not do that.
    Unsupported,
    /// Something broke.
    Internal,
}

/// Which objects are meant; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Those of one namespace.
    pub namespace: Option<String>,
    /// Those of one name.
    pub name: Option<String>,
}

impl Selector {
    /// Whether it means this object; `namespace` is `None` for objects outside namespaces.
    pub fn takes(&self, namespace: Option<&str>, name: &str) -> bool {
        let Self { namespace: wanted_namespace, name: wanted_name } = self;
        let in_namespace = match (wanted_namespace.as_deref(), namespace) {
            (Some(wanted), Some(found)) => wanted == found,
            (None, _) | (_, None) => true,
        };
        in_namespace && wanted_name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

/// A host of the lab, as people write it: `[namespace/]pod`, `node/NAME` or `ext/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostName {
    /// A pod.
    Pod {
        /// Its namespace; `None` where none is written.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// An external host.
    External {
        /// Its name.
        name: String,
    },
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (before, name) = match text.split_once('/') {
            Some((before, name)) => (Some(before), name),
            None => (None, text),
        };
        if name.is_empty() || name.contains('/') || before.is_some_and(str::is_empty) {
            return Err("expected [namespace/]pod, node/NAME or ext/NAME".into());
        }
        let name = name.to_owned();
        Ok(match before {
            Some("node") => Self::Node { name },
            Some("ext") => Self::External { name },
            namespace => Self::Pod { namespace: namespace.map(str::to_owned), name },
        })
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace: Some(namespace), name } => write!(f, "{namespace}/{name}"),
            Self::Pod { namespace: None, name } => f.write_str(name),
            Self::Node { name } => write!(f, "node/{name}"),
            Self::External { name } => write!(f, "ext/{name}"),
        }
    }
}

/// Where a host lives on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of its network namespace: the file in `/run/netns`, the directory in `/etc/netns`.
    ///
    /// That of the node, for a pod with `hostNetwork`.
    pub network: String,
    /// The host name that a process there is given.
    pub hostname: String,
}

/// A file with Kubernetes objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its path as the user wrote it, for messages; `-` for standard input.
    pub name: String,
    /// What it says, as YAML or JSON.
    pub text: String,
}

/// One of the switch's own records.
pub trait Record: Serialize {
    /// What it is, in the singular.
    const KIND: &'static str;

    /// The record as a JSON object with a first member `kind`.
    fn to_object(&self) -> Value {
        let mut object = serde_json::Map::from_iter([("kind".to_owned(), Self::KIND.into())]);
        if let Ok(Value::Object(members)) = serde_json::to_value(self) {
            object.extend(members);
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_they_are_written() {
        for text in ["client", "shop/web-0", "node/node-a", "ext/internet"] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), text);
        }
        assert_eq!(
            "node/a".parse(),
            Ok(HostName::Node { name: "a".into() }),
            "a namespace called node does not hide the nodes"
        );
        for wrong in ["", "/", "a/", "/a", "a/b/c"] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_selector_ignores_what_it_does_not_say() {
        let all = Selector::default();
        assert!(all.takes(Some("shop"), "web") && all.takes(None, "node-a"));
        let one = Selector { namespace: Some("shop".into()), name: Some("web".into()) };
        assert!(one.takes(Some("shop"), "web"));
        assert!(!one.takes(Some("default"), "web") && !one.takes(Some("shop"), "web-2"));
        assert!(one.takes(None, "web"), "what has no namespace is in each of them");
    }

    #[test]
    fn requests_and_answers_survive_the_wire() {
        let requests = [
            Request::Get { kind: Kind::EndpointSlices, select: Selector::default() },
            Request::Locate { host: HostName::External { name: "internet".into() } },
            Request::ConntrackFlush { filter: FlowFilter::default() },
            Request::Monitor { filter: monitor::Filter::default() },
            Request::Apply {
                manifests: vec![Manifest { name: "-".into(), text: "kind: Pod\n".into() }],
            },
        ];
        for request in requests {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
        }
        let responses = [
            Response::Place(Place { network: "l.default.a".into(), hostname: "a".into() }),
            Response::failed(Failure::NotFound, "no such pod"),
        ];
        for response in responses {
            let text = serde_json::to_string(&response).unwrap();
            assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response, "{text}");
        }
    }

    #[test]
    fn records_begin_with_their_kind() {
        let Response::Objects { items } = Response::records([FdbRecord {
            segment: "node-a".into(),
            mac: "02:00:00:00:00:01".into(),
            port: "default/client".into(),
            age_seconds: None,
        }]) else {
            panic!("not objects")
        };
        let text = items[0].to_string();
        assert!(text.starts_with(r#"{"kind":"FdbEntry","segment":"node-a""#), "{text}");
    }
}
