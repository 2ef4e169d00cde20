//! `cordon` and `uncordon`: new pods stay away from a node, or no longer.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Verb};

/// Keep new pods away from a node, or let them come again
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which node
    node: String,
}

const EXAMPLES: &str = "\
Examples:
  kswitch cordon node-a
  kswitch uncordon node-a";

pub(super) fn run(lab: &Lab, arguments: &Arguments, is_closed: bool) -> Result<ExitCode, Error> {
    let node = arguments.node.clone();
    output::done(lab, &Request::Live { verb: Verb::Cordon { node, is_closed } })
}
