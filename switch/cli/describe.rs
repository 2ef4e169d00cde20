//! `describe`: an object with all that has to do with it.

mod chain;

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get;
use super::lab::Lab;
use super::output;
use crate::control::request::{Kind, Request, Response};

/// Show an object with what has to do with it: policies, endpoints, traffic
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A kind, as for `get`
    #[arg(value_parser = get::kind)]
    kind: Kind,

    /// Its name: NAME or NAMESPACE/NAME; all, where none is written
    name: Option<String>,

    /// Its namespace
    #[arg(short, long)]
    namespace: Option<String>,
}

const EXAMPLES: &str = "\
Example:
  kswitch describe pod client";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { kind, name, namespace } = arguments;
    let select = get::select(*kind, name.as_deref(), namespace.as_deref())?;
    if matches!(kind, Kind::Ingresses | Kind::Gateways) {
        return chain::run(lab, *kind, select);
    }
    match lab.ask_one(&Request::Describe { kind: *kind, select })? {
        Response::Done { lines } => output::lines(&lines)?,
        other => return Err(Error::of(other)),
    }
    Ok(ExitCode::SUCCESS)
}
