//! `monitor`: what befalls flows, as it happens.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::error::Error;
use super::lab::Lab;
use super::output::{self, Format};
use crate::control::monitor::{EventRecord, Filter};
use crate::control::request::{Request, Response};
use crate::rights;

/// Show flows as they begin, end and are refused, until interrupted
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only what concerns this pod, node/NAME or ext/NAME
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Only what concerns this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only flows to this service
    #[arg(long)]
    service: Option<String>,
    /// Only refusals by this policy
    #[arg(long)]
    policy: Option<String>,
    /// Only forward, drop or audit
    #[arg(long)]
    verdict: Option<String>,
    /// Only new, closed, refused or audited
    #[arg(long)]
    event: Option<String>,
    /// Only drops of this reason, as policy_ingress
    #[arg(long)]
    reason: Option<String>,
    /// Only tcp, udp, sctp, icmp or icmpv6
    #[arg(long)]
    protocol: Option<String>,
    /// Only flows with this port, before or after rewriting
    #[arg(long)]
    port: Option<u16>,
    /// Only flows with this address, before or after rewriting
    #[arg(long)]
    address: Option<IpAddr>,
    /// One flow in so many
    #[arg(long, value_name = "N", default_value_t = 1)]
    sample: u64,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// json for an object on each line
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

const EXAMPLES: &str = "\
Example:
  kswitch monitor --of client --verdict drop";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    rights::stand_back(rights::SHOWER);
    let filter = Filter {
        machine: arguments.of.clone(),
        namespace: arguments.namespace.clone(),
        service: arguments.service.clone(),
        policy: arguments.policy.clone(),
        verdict: arguments.verdict.clone(),
        event: arguments.event.clone(),
        reason: arguments.reason.clone(),
        protocol: arguments.protocol.clone(),
        port: arguments.port,
        address: arguments.address,
        sample: arguments.sample,
    };
    let is_coloured = io::stdout().is_terminal();
    let mut left = arguments.count;
    for response in lab.ask(&Request::Monitor { filter })? {
        let items = match response? {
            Response::Objects { items } => items,
            other => return Err(Error::of(other)),
        };
        let mut text = String::new();
        for item in items {
            if left == Some(0) {
                break;
            }
            left = left.map(|left| left - 1);
            match arguments.output {
                Some(Format::Json) => text.push_str(&format!("{item}\n")),
                Some(Format::Yaml) => {
                    let yaml = serde_saphyr::to_string(&item).map_err(Error::new)?;
                    text.push_str(&format!("---\n{yaml}"));
                }
                Some(Format::Wide) | None => text.push_str(&line(item, is_coloured)?),
            }
        }
        output::text(&text)?;
        if left == Some(0) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An event for people.
fn line(item: Value, is_coloured: bool) -> Result<String, Error> {
    let event: EventRecord = serde_json::from_value(item).map_err(|_| {
        Error::new("the switch gave an answer that does not fit: is it of another version?")
    })?;
    let end = |name: &Option<String>, end: &Option<String>| match (name, end) {
        (Some(name), Some(end)) => format!("{name} {end}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => String::new(),
    };
    // the day is of no use to who looks on
    let clock = event.time.split('T').nth(1).unwrap_or(&event.time).trim_end_matches('Z');
    let colour = match (event.event.as_str(), event.verdict.as_str()) {
        _ if !is_coloured => "",
        ("refused" | "lost", _) | (_, "drop") => "\u{1b}[31m",
        (_, "audit") => "\u{1b}[33m",
        ("new", _) => "\u{1b}[32m",
        _ => "",
    };
    let reset = if colour.is_empty() { "" } else { "\u{1b}[0m" };
    let mut line = format!("{clock} {colour}{:<7}{reset}", event.event);
    if let Some(count) = event.count {
        line.push_str(&format!(" {count} events"));
    }
    if let Some(protocol) = &event.protocol {
        let target = match (&event.service, &event.target) {
            (Some(service), Some(target)) => format!("{service} {target}"),
            _ => end(&event.target_name, &event.target),
        };
        // writing to a string does not fail
        let _ = write!(line, " {protocol} {} -> {target}", end(&event.source_name, &event.source));
    } else if matches!(event.event.as_str(), "health" | "machine") {
        let _ = write!(line, " {}", event.source_name.as_deref().unwrap_or_default());
    } else if let Some(name) = &event.source_name {
        let _ = write!(line, " from {name}");
    }
    if event.rewritten_target.is_some() {
        line.push_str(&format!(" => {}", end(&event.endpoint_name, &event.rewritten_target)));
    }
    if let Some(source) = &event.rewritten_source {
        line.push_str(&format!(" as {source}"));
    }
    if let Some(reason) = event.reason.as_ref().or(event.cause.as_ref()) {
        line.push_str(&format!(", {reason}"));
    }
    if let Some(meaning) = &event.meaning {
        let colon = if event.event == "health" { "" } else { ":" };
        line.push_str(&format!("{colon} {meaning}"));
    }
    line.push('\n');
    Ok(line)
}
