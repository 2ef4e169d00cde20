//! What a subcommand can fail with.

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::control::request::{Failure, Response};

/// Anything but a wrong configuration.
pub(super) const FAILED: ExitCode = ExitCode::FAILURE;

/// A wrong configuration.
const INVALID: u8 = 2;

/// What went wrong, for the user, and the exit code that goes with it.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    code: ExitCode,
    is_broken_pipe: bool,
}

impl Error {
    pub(super) fn new(message: impl Display) -> Self {
        Self { message: message.to_string(), code: FAILED, is_broken_pipe: false }
    }

    /// An error of another exit code.
    pub(super) fn with_code(message: impl Display, code: u8) -> Self {
        Self { code: code.into(), ..Self::new(message) }
    }

    /// What the switch answered, where it is none of the answers there are to the request.
    pub(super) fn of(response: Response) -> Self {
        match response {
            Response::Failed { failure: Failure::Invalid, message } => {
                Self::with_code(message, INVALID)
            }
            Response::Failed {
                failure: Failure::NotFound | Failure::Unsupported | Failure::Internal,
                message,
            } => Self::new(message),
            Response::Objects { .. }
            | Response::Place(_)
            | Response::Log { .. }
            | Response::Flows { .. }
            | Response::ConntrackStats(_)
            | Response::Done { .. } => {
                Self::new("the switch gave an answer that does not fit: is it of another version?")
            }
        }
    }

    /// Says it on standard error. A reader who has gone, as `head` does, is no error.
    pub(super) fn report(&self) -> ExitCode {
        if self.is_broken_pipe {
            return ExitCode::SUCCESS;
        }
        // Where standard error is closed too, the exit code has to do.
        let _ = writeln!(io::stderr(), "error: {}", self.message);
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Of writing to standard output.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let is_broken_pipe = error.kind() == ErrorKind::BrokenPipe;
        Self { is_broken_pipe, ..Self::new(format_args!("standard output: {error}")) }
    }
}
