//! `completions` and `man`: what a shell and its users want to know of this command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::error::Error;
use super::output;

/// Write what makes a shell complete this command
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

const COMPLETIONS: &str = "\
Example:
  kswitch completions bash > kswitch.bash";

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = MAN)]
pub(super) struct Man {
    /// Where to write a page for each subcommand; by default the first page, to standard output
    directory: Option<PathBuf>,
}

const MAN: &str = "\
Example:
  kswitch man > kswitch.1";

pub(super) fn completions(
    mut command: Command,
    arguments: &Completions,
) -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "kswitch", &mut text);
    output::text(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(command: Command, arguments: &Man) -> Result<ExitCode, Error> {
    match &arguments.directory {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            let mut stdout = io::stdout().lock();
            stdout.write_all(&text)?;
            stdout.flush()?;
        }
        Some(directory) => pages(command, directory)
            .map_err(|error| Error::new(format_args!("{}: {error}", directory.display())))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn pages(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}
