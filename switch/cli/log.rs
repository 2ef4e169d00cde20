//! `log`: what a running lab logs.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::Request;

/// Show what a running lab logs, or change it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// error, warn, info, debug or trace, also by part: kswitch::control=debug,warn
    filter: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch log
  kswitch log debug";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    output::done(lab, &Request::Logging { filter: arguments.filter.clone() })
}
