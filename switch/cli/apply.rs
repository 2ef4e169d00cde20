//! `apply`: create or replace objects in a running lab.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::lab::Lab;
use super::{manifest, output};
use crate::control::request::{Request, Response};

/// Create or replace objects in a running lab
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// File or directory with Kubernetes objects, - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Example:
  kswitch apply -f shop.yaml";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let manifests = manifest::read_all(&arguments.files)?;
    match lab.ask_one(&Request::Apply { manifests })? {
        Response::Done { lines } => output::lines(&lines)?,
        other => return Err(Error::of(other)),
    }
    Ok(ExitCode::SUCCESS)
}
