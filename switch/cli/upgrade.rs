//! `upgrade`: a running switch goes on as another program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::Request;

/// Have a running switch go on as another program, or begin anew; flows and pods stay
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The program [default: the one that runs, or what was put in its place]
    #[arg(value_name = "BINARY")]
    binary: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch upgrade
  kswitch upgrade target/release/kswitch";

pub(super) fn run(lab: &Lab, Arguments { binary }: &Arguments) -> Result<ExitCode, Error> {
    let absolute = |path: &PathBuf| {
        let error = |error| Error::new(format_args!("{}: {error}", path.display()));
        path.canonicalize().map_err(error)
    };
    let binary = binary.as_ref().map(absolute).transpose()?;
    output::done(lab, &Request::Upgrade { binary })
}
