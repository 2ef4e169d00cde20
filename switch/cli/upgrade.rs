//! `upgrade`: a running switch goes on as another program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

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

/// How long the switch may take to answer again, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    let before = lab.incarnation();
    let done = output::done(lab, &Request::Upgrade { binary })?;
    // whoever calls next is to meet the one that goes on
    let end = Instant::now() + PATIENCE;
    while lab.incarnation() == before || lab.ask_one(&Request::ConntrackStats).is_err() {
        if Instant::now() > end {
            return Err(Error::new("the switch does not answer again"));
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(done)
}
