//! Why a lab could not be made or removed.

use std::{fmt, io};

/// What a lab can fail on, each with the name of the thing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The process may not make namespaces and links.
    NotRoot {
        /// The capability it lacks.
        capability: &'static str,
    },
    /// A name that cannot be a file name in `/run/netns`.
    Name {
        /// The name as given.
        name: String,
    },
    /// Another process runs a lab of this name.
    Running {
        /// The lab's name.
        lab: String,
        /// The other process, where it said so.
        process: Option<u32>,
    },
    /// A namespace of this name exists, and it is not this lab's to replace.
    Taken {
        /// The namespace's name.
        namespace: String,
    },
    /// The lab has no such namespace.
    Unknown {
        /// The namespace's name.
        namespace: String,
    },
    /// The system refused.
    Failed {
        /// What was tried, as it reads after "cannot".
        task: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Makes a system's error ours, with what was tried: reads as "cannot {task}".
    pub(super) fn failed<E: Into<io::Error>>(
        task: impl FnOnce() -> String,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Failed { task: task(), source: source.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot { capability } => {
                write!(f, "a lab needs root rights: this process lacks {capability}")
            }
            Self::Name { name } => write!(
                f,
                "{name:?} cannot name a namespace: it takes letters, digits, '.', '_' and '-', \
                 and starts with a letter or digit"
            ),
            Self::Running { lab, process: Some(process) } => {
                write!(f, "lab {lab} is running already, as process {process}")
            }
            Self::Running { lab, process: None } => write!(f, "lab {lab} is running already"),
            Self::Taken { namespace } => write!(f, "namespace {namespace} exists already"),
            Self::Unknown { namespace } => write!(f, "this lab has no namespace {namespace}"),
            Self::Failed { task, source: _ } => write!(f, "cannot {task}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::NotRoot { .. }
            | Self::Name { .. }
            | Self::Running { .. }
            | Self::Taken { .. }
            | Self::Unknown { .. } => None,
        }
    }
}
