//! The command line: runs a lab, or asks one that runs.
//!
//! One file for each subcommand. All but the run itself are short-lived clients of the socket in
//! `/run/kswitch`; results go to standard output, everything else to standard error.

mod apply;
mod capture;
mod clean;
mod conntrack;
mod cordon;
mod delete;
mod describe;
mod drain;
mod error;
mod exec;
mod fault;
mod get;
mod graph;
mod lab;
mod label;
mod link;
mod log;
mod logs;
mod manifest;
mod monitor;
mod node;
mod output;
mod reload;
mod restart;
mod scale;
mod shell;
mod table;
mod test;
mod top;
mod trace;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use error::{Error, FAILED};
use lab::Lab;

use crate::control::logging::{self, LogFormat};
use crate::control::run;

/// A whole Kubernetes network in one userspace process.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Arguments {
    /// Run the lab this file describes, in the foreground
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Only say whether the file is right: exit 0, or 2
    #[arg(long, requires = "config")]
    check: bool,

    /// How the lab's log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, requires = "config")]
    log_format: Logs,

    /// Which lab to ask, where several run
    #[arg(long, value_name = "NAME", global = true)]
    lab: Option<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Logs {
    #[default]
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  kswitch --config lab.toml
  kswitch get pods
  kswitch exec client -- curl http://10.8.0.80/hostname";

#[derive(Debug, Subcommand)]
enum Command {
    Get(get::Arguments),
    Describe(describe::Arguments),
    Exec(exec::Arguments),
    Logs(logs::Arguments),
    Conntrack(conntrack::Arguments),
    Monitor(monitor::Arguments),
    Capture(capture::Arguments),
    Top(top::Arguments),
    Graph(graph::Arguments),
    Apply(apply::Arguments),
    Delete(delete::Arguments),
    Scale(scale::Arguments),
    Restart(restart::Arguments),
    Cordon(cordon::Arguments),
    Uncordon(cordon::Arguments),
    Drain(drain::Arguments),
    Node(node::Arguments),
    Reload(reload::Arguments),
    Link(link::Arguments),
    Upgrade(upgrade::Arguments),
    Clean(clean::Arguments),
    #[command(hide = true)]
    Fault(fault::Arguments),
    Label(label::Arguments),
    Log(log::Arguments),
    Test(test::Arguments),
    Trace(trace::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Does what the process's arguments ask for.
///
/// Exit codes: 0; 2 for a wrong configuration; 1 for anything else; that of the command, for `exec`.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let Arguments { config, check, log_format, lab, command } = arguments;
    match (config, command) {
        (Some(_), Some(_)) => {
            refuse(&conflict("--config runs a lab: it does not go with a subcommand"))
        }
        (Some(_), None) if lab.is_some() => {
            refuse(&conflict("--lab chooses a running lab: the name of a new one is in its file"))
        }
        (Some(config), None) => {
            logging::start(match log_format {
                Logs::Text => LogFormat::Text,
                Logs::Json => LogFormat::Json,
            });
            if check { run::check(&config) } else { run::run(&config) }
        }
        (None, Some(Command::Test(_))) if lab.is_some() => {
            refuse(&conflict("--lab chooses a running lab: `test` makes its own"))
        }
        (None, Some(command)) => match ask(command, lab) {
            Ok(code) => code,
            Err(error) => error.report(),
        },
        (None, None) => {
            let mut command = Arguments::command();
            refuse(&command.error(
                ErrorKind::MissingSubcommand,
                "either --config FILE to run a lab, or a subcommand to ask one; see --help",
            ))
        }
    }
}

fn ask(command: Command, lab: Option<String>) -> Result<ExitCode, Error> {
    let lab = || Lab::choose(lab);
    match command {
        Command::Get(arguments) => get::run(&lab()?, &arguments),
        Command::Describe(arguments) => describe::run(&lab()?, &arguments),
        Command::Top(arguments) => top::run(&lab()?, &arguments),
        Command::Graph(arguments) => graph::run(lab, &arguments),
        Command::Completions(arguments) => shell::completions(Arguments::command(), &arguments),
        Command::Man(arguments) => shell::man(Arguments::command(), &arguments),
        Command::Exec(arguments) => exec::run(&lab()?, &arguments),
        Command::Logs(arguments) => logs::run(&lab()?, &arguments),
        Command::Conntrack(arguments) => conntrack::run(&lab()?, &arguments),
        Command::Monitor(arguments) => monitor::run(&lab()?, &arguments),
        Command::Capture(arguments) => capture::run(&lab()?, &arguments),
        Command::Apply(arguments) => apply::run(&lab()?, &arguments),
        Command::Delete(arguments) => delete::run(&lab()?, &arguments),
        Command::Scale(arguments) => scale::run(&lab()?, &arguments),
        Command::Restart(arguments) => restart::run(&lab()?, &arguments),
        Command::Cordon(arguments) => cordon::run(&lab()?, &arguments, true),
        Command::Uncordon(arguments) => cordon::run(&lab()?, &arguments, false),
        Command::Drain(arguments) => drain::run(&lab()?, &arguments),
        Command::Node(arguments) => node::run(&lab()?, &arguments),
        Command::Reload(arguments) => reload::run(&lab()?, &arguments),
        Command::Label(arguments) => label::run(&lab()?, &arguments),
        Command::Log(arguments) => log::run(&lab()?, &arguments),
        Command::Link(arguments) => link::run(&lab()?, &arguments),
        Command::Upgrade(arguments) => upgrade::run(&lab()?, &arguments),
        Command::Clean(arguments) => clean::run(&arguments),
        Command::Fault(arguments) => fault::run(&lab()?, &arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Trace(arguments) => trace::run(lab, &arguments),
    }
}

fn conflict(message: &str) -> clap::Error {
    Arguments::command().error(ErrorKind::ArgumentConflict, message)
}

/// Says what is wrong with the arguments, or the help that was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    // Help goes to a pipe that may be closed; there is nobody to tell then.
    let _ = error.print();
    if error.use_stderr() { FAILED } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_a_screen_and_has_an_example() {
        let command = Arguments::command().term_width(100);
        let names = command.get_subcommands().map(|sub| vec![sub.get_name().to_owned()]);
        for names in std::iter::once(vec![]).chain(names) {
            let line =
                ["kswitch".to_owned()].into_iter().chain(names.clone()).chain(["--help".into()]);
            let help = command.clone().try_get_matches_from(line).unwrap_err().to_string();
            // the overview has a line for each of them
            let lines = if names.is_empty() { 52 } else { 24 };
            assert!(help.lines().count() <= lines, "{help}");
            assert!(help.contains("Example"), "{help}");
            assert!(help.contains("kswitch "), "{help}");
        }
    }

    #[test]
    fn a_lab_may_be_named_on_either_side() {
        for line in ["kswitch --lab a get pods", "kswitch get pods --lab a"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.lab.as_deref(), Some("a"), "{line}");
        }
    }

    #[test]
    fn the_command_of_exec_is_taken_as_it_is() {
        for (line, expected) in [
            ("kswitch exec client -- curl -s --lab x", "curl -s --lab x"),
            ("kswitch exec client -n shop -- ls -n a", "ls -n a"),
            ("kswitch exec -n shop client -- ls", "ls"),
            ("kswitch exec shop/client -- sh -c true", "sh -c true"),
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let Some(Command::Exec(exec)) = arguments.command else { panic!("{line}") };
            assert_eq!(exec.command().join(" "), expected, "{line}");
        }
        for line in ["kswitch exec client", "kswitch exec -- ls", "kswitch exec a/b/c -- ls"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
