//! `restart`: a workload makes its pods anew.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Verb, WorkloadName};

/// Have a Deployment, StatefulSet or DaemonSet make its pods anew
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which: KIND/NAME
    workload: String,

    /// Its namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

const EXAMPLES: &str = "\
Example:
  kswitch restart deployment/web -n shop";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { workload, namespace } = arguments;
    let workload = WorkloadName::parse(workload, namespace).map_err(Error::new)?;
    output::done(lab, &Request::Live { verb: Verb::Restart { workload } })
}
