//! The socket by which the command line reaches a running switch: `/run/kswitch/<lab>.sock`.
//!
//! A client sends one line, a [`Request`] in JSON, and reads lines, [`Response`]s in JSON, until one
//! of them says it is the last; then both close. Each client has a thread of its own, so that one
//! which stops reading holds up nobody else; it is cut off after [`PATIENCE`].

mod client;
mod line;
mod server;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use client::{Answers, ask, ask_one, running_labs};
pub use server::{Bound, Server, bind};

use super::request::{Request, Response};

/// The directory of the sockets.
pub const DIRECTORY: &str = "/run/kswitch";

/// Octets of a request at most.
pub const MAX_REQUEST: usize = 16 * 1_024 * 1_024;

/// Octets of one line of an answer at most.
pub const MAX_LINE: usize = 256 * 1_024 * 1_024;

/// Clients served at a time; the newest beyond are told so.
pub const MAX_CLIENTS: usize = 64;

/// How long a client may take to send its request, and to read what it was sent.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What answers.
///
/// **Sharing**: asked by several threads at a time. A stream is pulled by its client's thread, as
/// fast as that client reads, and dropped when the client goes.
pub trait Control: Send + Sync {
    /// Answers a request, or begins to.
    fn answer(&self, request: Request) -> Answer;
}

/// An answer: one response, or as many as there will be.
pub enum Answer {
    /// The one response.
    One(Response),
    /// One response after another; `next` may block until there is another.
    Many(Box<dyn Iterator<Item = Response> + Send>),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::One(response)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(response) => f.debug_tuple("One").field(response).finish(),
            Self::Many(_) => f.debug_tuple("Many").finish_non_exhaustive(),
        }
    }
}

/// A line from the switch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// More lines follow.
    More(Response),
    /// The last line.
    Last(Response),
    /// There was no more.
    End,
}

/// The socket of a lab.
pub(crate) fn path_of(directory: &Path, lab: &str) -> PathBuf {
    directory.join(format!("{lab}.sock"))
}

#[cfg(test)]
mod tests;
