//! `clean`: what switches left that were killed goes.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::output;
use crate::control::socket;
use crate::lab;

/// Remove what labs left behind whose switches were killed; running labs are left alone
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which labs [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch clean
  kswitch clean quickstart";

pub(super) fn run(Arguments { names }: &Arguments) -> Result<ExitCode, Error> {
    let names = if names.is_empty() { lab::killed() } else { names.clone() };
    let mut lines = Vec::new();
    for name in names {
        // to have the socket is to be the only switch of the lab
        let bound = match socket::bind(Path::new(socket::DIRECTORY), &name) {
            Ok(bound) => bound,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::new("what labs left is removed with root rights: try sudo"));
            }
            Err(_) => {
                lines.push(format!("lab {name} runs, and is left alone"));
                continue;
            }
        };
        let removed = lab::Lab::open(&name).and_then(|lab| {
            let count = lab.reclaimed();
            lab.close().map(|()| count)
        });
        drop(bound);
        match removed {
            Ok(count) => lines.push(format!("lab {name}: {count} namespaces removed")),
            Err(error) => return Err(Error::new(format_args!("lab {name}: {error}"))),
        }
    }
    output::lines(&lines)?;
    Ok(ExitCode::SUCCESS)
}
