//! `fault`: has a running switch fail, for those who want to see how it gets on.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::Request;

/// Have a worker panic, in a switch that was started with KSWITCH_FAULTS=1
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which worker, from 0
    #[arg(value_name = "WORKER")]
    worker: usize,
}

const EXAMPLES: &str = "\
Example:
  kswitch fault 0";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    output::done(lab, &Request::Fault { worker: arguments.worker })
}
