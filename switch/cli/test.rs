//! `test`: carries out case files and says what came of them; tells which pods of a lab may talk to
//! which.

mod matrix;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use clap::Args;

use super::error::{Error, FAILED};
use super::output;
use crate::cases::live::OnTaps;
use crate::cases::report::{CaseReport, Summary};
use crate::cases::{self, Ground, InMemory, junit};

/// Cases on real TAPs wait for silence most of the time.
const LIVE_JOBS_PER_PROCESSOR: usize = 4;

/// Exit code where labs cannot be made at all.
const CANNOT: u8 = 2;

/// Carry out case files, in memory or on real TAPs; exit 1 if any fails
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Carry them out on real TAPs with real sockets, a lab for each: needs root
    #[arg(long)]
    live: bool,

    /// Carry out so many cases at a time
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,

    /// Print which pods may talk to which at this port, of the lab file that PATH is; needs no rights
    #[arg(long, value_name = "PORT[/PROTOCOL]", conflicts_with_all = ["live", "jobs", "junit"])]
    matrix: Option<matrix::Port>,

    /// Compare with a table of this form; exit 1 where it differs
    #[arg(long, value_name = "FILE", requires = "matrix")]
    expected: Option<PathBuf>,

    /// Write a report for continuous integration as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,

    /// Case files, or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch test tests/conformance/services
  kswitch test --live tests/conformance/networkpolicy/np-ingress-named-port.yaml
  kswitch test --matrix 80 lab.toml > table.txt
  kswitch test --junit report.xml tests/conformance/maglev";

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { live, jobs, matrix, expected, junit: junit_file, paths } = arguments;
    if let Some(port) = matrix {
        let [lab] = paths.as_slice() else {
            return Err(Error::new("--matrix wants one lab file"));
        };
        return matrix::run(lab, *port, expected.as_deref());
    }
    let files = cases::files(paths).map_err(Error::new)?;
    let reports = if *live {
        let ground = OnTaps::new().map_err(|error| Error::with_code(error, CANNOT))?;
        let jobs = jobs.map_or_else(|| processors() * LIVE_JOBS_PER_PROCESSOR, NonZero::get);
        carry_out(&ground, &files, jobs)
    } else {
        carry_out(&InMemory, &files, jobs.map_or_else(processors, NonZero::get))
    }?;
    if let Some(file) = junit_file {
        fs::write(file, junit::document(&reports)).map_err(|error| {
            Error::new(format_args!("cannot write {}: {error}", file.display()))
        })?;
    }
    let summary = Summary::of(&reports);
    output::lines(&[summary.to_string()])?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { FAILED })
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Carries out cases, so many at a time, and tells of each in the order of the files; ends early if
/// that is asked for.
fn carry_out(
    ground: &(impl Ground + Sync),
    files: &[PathBuf],
    jobs: usize,
) -> Result<Vec<CaseReport>, Error> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (done, reports) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.min(files.len()) {
            let (done, next, stopped) = (done.clone(), &next, &stopped);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) && !ground.is_interrupted() {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(file) = files.get(at) else { break };
                    if done.send((at, cases::run_on(ground, file))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let told = tell(reports);
        // who cannot be told needs no more cases
        stopped.store(true, Ordering::Relaxed);
        told
    })
}

/// Tells of each report once those before it have been told.
fn tell(reports: mpsc::Receiver<(usize, CaseReport)>) -> Result<Vec<CaseReport>, Error> {
    let mut told = Vec::new();
    let mut waiting = BTreeMap::new();
    for (at, report) in reports {
        waiting.insert(at, report);
        while let Some(report) = waiting.remove(&told.len()) {
            output::text(&report.to_string())?;
            told.push(report);
        }
    }
    // where the run was broken off, some before them are missing
    for report in waiting.into_values() {
        output::text(&report.to_string())?;
        told.push(report);
    }
    Ok(told)
}
