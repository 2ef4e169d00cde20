//! `describe`: an object with all that has to do with it.

mod chain;

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get::{self, DEFAULT_NAMESPACE};
use super::lab::Lab;
use super::output;
use crate::control::request::{Kind, Request, Response, Selector};

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
    let (within, name) = match name.as_deref().map(|name| (name.split_once('/'), name)) {
        Some((Some((within, name)), _)) if kind.is_namespaced() => (Some(within), Some(name)),
        Some((_, name)) => (None, Some(name)),
        None => (None, None),
    };
    let default = name.filter(|_| kind.is_namespaced()).map(|_| DEFAULT_NAMESPACE);
    let namespace = within.or(namespace.as_deref()).or(default).map(str::to_owned);
    let select = Selector { namespace, name: name.map(str::to_owned) };
    if matches!(kind, Kind::Ingresses | Kind::Gateways) {
        return chain::run(lab, *kind, select);
    }
    match lab.ask_one(&Request::Describe { kind: *kind, select })? {
        Response::Done { lines } => output::lines(&lines)?,
        other => return Err(Error::of(other)),
    }
    Ok(ExitCode::SUCCESS)
}
