//! `conntrack`: the live flows.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::error::Error;
use super::lab::Lab;
use super::output::{self, Format};
use super::table::Table;
use crate::control::flows::FlowFilter;
use crate::control::request::{FlowRecord, Record, Request, Response};

/// Show or forget the live flows
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// List them, flush (what goes on is judged anew), or show how full the table is
    action: Action,

    /// How to show it; by default as a table
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,

    /// Only flows of this protocol: tcp, udp, sctp, icmp or icmpv6
    #[arg(long)]
    protocol: Option<String>,

    /// Only flows in this state, as ESTABLISHED
    #[arg(long)]
    state: Option<String>,

    /// Only flows with this address, before or after rewriting
    #[arg(long)]
    address: Option<IpAddr>,

    /// Only flows with this port, before or after rewriting
    #[arg(long)]
    port: Option<u16>,

    /// Only flows of this pod, node/NAME or ext/NAME
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    List,
    Flush,
    Stats,
}

const EXAMPLES: &str = "\
Examples:
  kswitch conntrack list --of client --protocol tcp
  kswitch conntrack stats -o json";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { action, output, protocol, state, address, port, of } = arguments;
    let filter = FlowFilter {
        protocol: protocol.clone(),
        state: state.clone(),
        address: *address,
        port: *port,
        machine: of.clone(),
    };
    let output = *output;
    match *action {
        Action::List => list(lab, filter, output)?,
        Action::Flush => match lab.ask_one(&Request::ConntrackFlush { filter })? {
            Response::Done { lines } => output::lines(&lines)?,
            other => return Err(Error::of(other)),
        },
        Action::Stats => stats(lab, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(lab: &Lab, filter: FlowFilter, format: Option<Format>) -> Result<(), Error> {
    let mut objects = Vec::new();
    let mut table = Table::new([
        "PROTOCOL",
        "STATE",
        "EXPIRES",
        "SOURCE",
        "TARGET",
        "REPLY-SOURCE",
        "REPLY-TARGET",
    ]);
    for response in lab.ask(&Request::ConntrackList { filter })? {
        let flows = match response? {
            Response::Flows { flows } => flows,
            other => return Err(Error::of(other)),
        };
        match format {
            Some(Format::Json | Format::Yaml) => {
                objects.extend(flows.iter().map(Record::to_object));
            }
            // There may be millions, so what has come is shown before the rest comes.
            Some(Format::Wide) | None => {
                for flow in flows {
                    table.push(row(flow));
                }
                output::text(&table.render())?;
            }
        }
    }
    match format {
        Some(Format::Json) => output::json(&output::list(&objects)),
        Some(Format::Yaml) => output::yaml(&output::list(&objects)),
        Some(Format::Wide) | None => output::text(&table.render()),
    }
}

fn row(flow: FlowRecord) -> Vec<String> {
    let FlowRecord { protocol, state, source, target, reply_source, reply_target, expires_seconds } =
        flow;
    let expires = format!("{expires_seconds:.0}s");
    vec![protocol, state, expires, source, target, reply_source, reply_target]
}

fn stats(lab: &Lab, format: Option<Format>) -> Result<(), Error> {
    let stats = match lab.ask_one(&Request::ConntrackStats)? {
        Response::ConntrackStats(stats) => stats,
        other => return Err(Error::of(other)),
    };
    match format {
        Some(Format::Json) => output::json(&stats.to_object()),
        Some(Format::Yaml) => output::yaml(&stats.to_object()),
        Some(Format::Wide) | None => {
            let mut table = Table::new(["NAME", "VALUE"]);
            let fixed = [("entries", stats.entries), ("capacity", stats.capacity)];
            let events = stats.events.iter().map(|(name, &count)| (name.as_str(), count));
            for (name, value) in fixed.into_iter().chain(events) {
                table.push(vec![name.to_owned(), Value::from(value).to_string()]);
            }
            output::text(&table.render())
        }
    }
}
