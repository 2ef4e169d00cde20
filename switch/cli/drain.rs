//! `drain`: a node is left by its pods.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Verb};

/// Keep new pods away from a node and let those on it end in peace
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which node
    node: String,

    /// Seconds that pods may take to end [default: what they say]
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u64>,
}

const EXAMPLES: &str = "\
Example:
  kswitch drain node-a --grace-period 5";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { node, grace_period } = arguments;
    let verb = Verb::Drain { node: node.clone(), grace_seconds: *grace_period };
    output::done(lab, &Request::Live { verb })
}
