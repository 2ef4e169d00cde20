//! `scale`: a workload makes another number of pods.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Verb, WorkloadName};

/// Set how many pods a Deployment, ReplicaSet or StatefulSet makes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which: KIND/NAME
    workload: String,

    /// How many pods
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..=100_000))]
    replicas: i32,

    /// Its namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

const EXAMPLES: &str = "\
Example:
  kswitch scale deployment/web --replicas 5";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { workload, replicas, namespace } = arguments;
    let workload = WorkloadName::parse(workload, namespace).map_err(Error::new)?;
    output::done(lab, &Request::Live { verb: Verb::Scale { workload, replicas: *replicas } })
}
