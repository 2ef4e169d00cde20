//! `test`: carries out case files and says what came of them.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::error::{Error, FAILED};
use super::output;
use crate::cases::report::Summary;
use crate::cases::{self, junit};

/// Carry out case files in memory; exit 1 if any fails
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Write a report for continuous integration as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Case files, or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch test cases/
  kswitch test --junit report.xml cases/services/web.yaml";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { junit: junit_file, paths } = arguments;
    let files = cases::files(paths).map_err(Error::new)?;
    let mut reports = Vec::with_capacity(files.len());
    for file in files {
        let report = cases::run_file(&file);
        output::text(&report.to_string())?;
        reports.push(report);
    }
    if let Some(file) = junit_file {
        fs::write(file, junit::document(&reports)).map_err(|error| {
            Error::new(format_args!("cannot write {}: {error}", file.display()))
        })?;
    }
    let summary = Summary::of(&reports);
    output::lines(&[summary.to_string()])?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { FAILED })
}
