//! `reload`: the lab's files are read again.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Response};

/// Read a running lab's files again; what is wrong in them is refused whole, exit 2
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

const EXAMPLES: &str = "\
Example:
  kswitch reload";

pub(super) fn run(lab: &Lab, Arguments {}: &Arguments) -> Result<ExitCode, Error> {
    match lab.ask_one(&Request::Reload)? {
        Response::Done { lines } => output::lines(&lines)?,
        other => return Err(Error::of(other)),
    }
    Ok(ExitCode::SUCCESS)
}
