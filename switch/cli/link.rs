//! `link`: what befalls the frames on a link.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kswitch_config::link::{Direction, Faults, Rate, Share, duration};

use super::error::Error;
use super::lab::Lab;
use super::output;
use crate::control::request::Request;

/// Delay, lose, double, change or slow down what crosses a link, or cut it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Whose: [NAMESPACE/]POD or ext/NAME; node/NAME is the node's link to the fabric
    of: String,

    /// Which way: from the machine, to it, or both
    #[arg(long, value_enum, value_name = "WAY", default_value_t = Which::Both, hide_possible_values = true)]
    direction: Which,

    /// How long frames are under way, as 20ms; --jitter TIME: by how much that varies
    #[arg(long, value_parser = duration, value_name = "TIME")]
    delay: Option<Duration>,

    /// By how much that varies
    #[arg(long, value_parser = duration, value_name = "TIME", hide = true)]
    jitter: Option<Duration>,

    /// How many are lost, as 1%; --seed NUMBER: what chance follows from
    #[arg(long, value_name = "SHARE")]
    loss: Option<Share>,

    /// How many come twice
    #[arg(long, value_name = "SHARE")]
    duplicate: Option<Share>,

    /// How many have a bit turned
    #[arg(long, value_name = "SHARE")]
    corrupt: Option<Share>,

    /// How many are not delayed, and overtake
    #[arg(long, value_name = "SHARE")]
    reorder: Option<Share>,

    /// Bits in a second, as 10mbit; --queue TIME: how long frames wait at most
    #[arg(long)]
    rate: Option<Rate>,

    /// How long frames wait for their turn at most
    #[arg(long, value_parser = duration, value_name = "TIME", hide = true)]
    queue: Option<Duration>,

    /// Let nothing pass
    #[arg(long)]
    partition: bool,

    /// What chance follows from
    #[arg(long, hide = true)]
    seed: Option<u64>,

    /// Nothing is wrong any more; --reset: as the lab file has it
    #[arg(long, conflicts_with_all = FAULTS)]
    clear: bool,

    /// As the lab file has it again
    #[arg(long, conflicts_with_all = FAULTS, conflicts_with = "clear", hide = true)]
    reset: bool,
}

const FAULTS: [&str; 10] = [
    "delay",
    "jitter",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "queue",
    "partition",
    "seed",
];

const EXAMPLES: &str = "\
Examples:
  kswitch link ext/internet --direction from --delay 20ms --jitter 5ms --loss 1%
  kswitch link node/node-a --rate 10mbit";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Both,
    From,
    To,
}

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let directions = match arguments.direction {
        Which::Both => Direction::ALL.to_vec(),
        Which::From => vec![Direction::From],
        Which::To => vec![Direction::To],
    };
    let faults = arguments.faults();
    if faults.is_none() && !arguments.clear && !arguments.reset {
        return Err(Error::new("nothing is asked of the link: see kswitch link --help"));
    }
    let faults = (!arguments.reset).then_some(faults);
    output::done(lab, &Request::Link { of: arguments.of.clone(), directions, faults })
}

impl Arguments {
    fn faults(&self) -> Faults {
        Faults {
            delay: self.delay.unwrap_or_default(),
            jitter: self.jitter.unwrap_or_default(),
            loss: self.loss.unwrap_or_default(),
            duplicate: self.duplicate.unwrap_or_default(),
            corrupt: self.corrupt.unwrap_or_default(),
            reorder: self.reorder.unwrap_or_default(),
            rate: self.rate,
            queue: self.queue,
            partition: self.partition,
            seed: self.seed,
        }
    }
}
