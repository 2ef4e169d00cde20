//! Keeps a lab busy for minutes or hours by seed, and says what did not hold.
//!
//! ```text
//! soak --seed 1 --minutes 60 --kswitch target/release/kswitch
//! ```

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use kswitch_tools::soak::schedule::Schedule;
use kswitch_tools::soak::{run, serve};

/// Pods come, go and are replaced, Services and policies change, links and nodes fail, the switch is
/// killed and upgraded, while clients see to it that each answer is from the pod that was asked.
#[derive(Debug, Parser)]
#[command(after_help = "Needs root. Exit code 1 if something did not hold.")]
struct Arguments {
    /// What the schedule follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long; the round under way is ended
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The program to be tried
    #[arg(long, default_value = "target/release/kswitch")]
    kswitch: PathBuf,
    /// Print the first so many rounds of the schedule, and do nothing
    #[arg(long, value_name = "ROUNDS")]
    schedule: Option<usize>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// What pods of the lab run
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    match go(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // a closed standard error is the reader's choice
            let _ = writeln!(io::stderr(), "soak: {error}");
            ExitCode::from(2)
        }
    }
}

/// Answers whether everything held.
fn go(arguments: &Arguments) -> io::Result<bool> {
    if matches!(arguments.part, Some(Part::Serve)) {
        return serve::serve().map(|()| true);
    }
    if let Some(rounds) = arguments.schedule {
        for round in Schedule::new(arguments.seed).take(rounds) {
            writeln!(io::stdout(), "{round}")?;
        }
        return Ok(true);
    }
    let program = arguments.kswitch.canonicalize()?;
    let time = Duration::from_secs(60 * arguments.minutes);
    let report = run::run(arguments.seed, time, &program, &|line| {
        let _ = writeln!(io::stderr(), "{line}");
    })?;
    write!(io::stdout(), "{report}")?;
    Ok(report.is_clean())
}
