//! `trace`: what would become of a packet, and why.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use kswitch_config::{Cluster, Compiled, Compiler, Draft, Observed};
use kswitch_tables::Generation;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::lab::Lab;
use super::output::{self, Format};
use super::table::Table;
use crate::control::request::{Record, Request, Response};
use crate::trace::{Changes, Hop, Query, Report, Tables};

/// Exit code for a bad config.
const BAD_CONFIG: u8 = 2;

/// Say what would become of a packet, hop by hop, and why; sends nothing
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Who sends it: [NAMESPACE/]POD, node/NAME, ext/NAME or an address
    #[arg(long, value_name = "X", required_unless_present = "diff")]
    from: Option<String>,

    /// Whom it is for: the same, or [NAMESPACE/]SERVICE; by default at the first port there is
    #[arg(long, value_name = "Y[:PORT]", required_unless_present = "diff")]
    to: Option<String>,

    /// tcp, udp, sctp or icmp; by default that of the port
    #[arg(long)]
    protocol: Option<String>,

    /// The port it is sent from
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,

    /// Have this backend chosen wherever it may be
    #[arg(long, value_name = "ADDRESS:PORT")]
    backend: Option<SocketAddr>,

    /// Decides what is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Trace in the lab of this file, which need not run; needs no rights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Say which verdicts would change under this file, over all pods, services and ports
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to"])]
    diff: Option<PathBuf>,

    /// How to show it; by default as a table
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch trace --config config/labs/quickstart.toml --from client --to frontend:80
  kswitch trace --from ext/internet --to node/node-a:30080 -o json";

pub(super) fn run(
    choose: impl FnOnce() -> Result<Lab, Error>,
    arguments: &Arguments,
) -> Result<ExitCode, Error> {
    let Arguments { config, diff, output, .. } = arguments;
    let asked = match (config, diff) {
        (Some(config), None) => offline(config, &arguments.query())?,
        (Some(config), Some(diff)) => offline_changes(config, diff)?,
        (None, None) => ask(&choose()?, &Request::Trace { query: arguments.query() })?,
        (None, Some(diff)) => {
            let path = std::path::absolute(diff).map_err(Error::new)?;
            ask(&choose()?, &Request::TraceDiff { path })?
        }
    };
    match (output, diff) {
        (Some(Format::Json), _) => output::json(&asked)?,
        (Some(Format::Yaml), _) => output::yaml(&asked)?,
        (_, None) => show(&read(asked)?)?,
        (_, Some(_)) => show_changes(&read(asked)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn query(&self) -> Query {
        Query {
            from: self.from.clone().unwrap_or_default(),
            to: self.to.clone().unwrap_or_default(),
            protocol: self.protocol.clone(),
            source_port: self.source_port,
            backend: self.backend,
            seed: self.seed,
        }
    }
}

fn ask(lab: &Lab, request: &Request) -> Result<Value, Error> {
    match lab.ask_one(request)? {
        Response::Objects { items } => items.into_iter().next().ok_or_else(misfit),
        other => Err(Error::of(other)),
    }
}

fn misfit() -> Error {
    Error::new("the switch gave an answer that does not fit: is it of another version?")
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|_| misfit())
}

/// A lab that does not run.
fn compile(path: &Path) -> Result<(Draft, Arc<Cluster>, Compiled), Error> {
    let draft = Draft::read(path).with_addons();
    let cluster = draft.validate(None);
    let cluster = Arc::new(cluster.map_err(|errors| Error::with_code(errors, BAD_CONFIG))?);
    let compiled = Compiler::new(0).compile(&cluster, &Observed::default(), Generation(1));
    Ok((draft, cluster, compiled))
}

fn offline(config: &Path, query: &Query) -> Result<Value, Error> {
    let (draft, cluster, compiled) = compile(config)?;
    let report = crate::trace::trace(&Tables::of(&compiled, &cluster, &draft), query);
    Ok(report.map_err(Error::new)?.to_object())
}

fn offline_changes(before: &Path, after: &Path) -> Result<Value, Error> {
    let (first, second) = (compile(before)?, compile(after)?);
    let before = Tables::of(&first.2, &first.1, &first.0);
    let after = Tables::of(&second.2, &second.1, &second.0);
    Ok(crate::trace::changes(&before, &after).to_object())
}

/// Writes a report for people.
fn show(report: &Report) -> Result<(), Error> {
    let Report { from, to, protocol, source, target, hops, reply, candidates, .. } = report;
    let mut text = format!("{protocol} {from} {source} -> {to} {target}\n\n");
    text.push_str(&table(hops));
    text.push_str(&format!("\n{}\n", outcome(report)));
    let differing = candidates.iter().any(|other| other.verdict != report.verdict);
    for candidate in candidates.iter().filter(|_| differing) {
        let name = candidate.name.as_deref().unwrap_or_default();
        let why = candidate.explanation.as_ref().or(candidate.reason.as_ref());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        text.push_str(&format!(
            "  with {name} {}: {}{why}\n",
            candidate.endpoint, candidate.verdict
        ));
    }
    if let Some(reply) = reply {
        text.push_str(&format!("\nanswer {} -> {}\n\n", reply.source, reply.target));
        text.push_str(&table(&reply.hops));
        let why = reply.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let arrives = match (&reply.rewritten_source, &reply.rewritten_target) {
            (Some(source), Some(target)) => format!(", arrives as {source} -> {target}"),
            _ => String::new(),
        };
        text.push_str(&format!("\n{}{arrives}{why}\n", reply.verdict));
    }
    output::text(&text)
}

/// The verdict in a line.
fn outcome(report: &Report) -> String {
    let Report { verdict, reason, meaning, explanation, endpoint, endpoint_name, .. } = report;
    let mut line = verdict.clone();
    if let Some(reason) = reason {
        line.push_str(&format!(" ({reason})"));
    }
    if let Some(name) = endpoint_name {
        line.push_str(&format!(" to {name}"));
    }
    if let Some(endpoint) = endpoint {
        line.push_str(&format!(" at {endpoint}"));
    }
    match &report.rewritten_source {
        Some(source) if *source != report.source => line.push_str(&format!(", from {source}")),
        _ => {}
    }
    if let Some(spent) = report.ttl_spent.filter(|spent| *spent > 0) {
        line.push_str(&format!(", TTL -{spent}"));
    }
    if let Some(why) = explanation.as_ref().or(meaning.as_ref()) {
        line.push_str(&format!(": {why}"));
    }
    line
}

/// The hops, each decision with what it follows from below it.
fn table(hops: &[Hop]) -> String {
    let mut table = Table::new(["AT", "TABLE", "DECISION"]);
    for hop in hops {
        let Hop { at, table: name, object, rule, file, line, decision, rewrite } = hop;
        table.push(vec![at.clone(), name.clone(), decision.clone()]);
        let place = match (file, line) {
            (Some(file), Some(line)) => Some(format!("{file}:{line}")),
            _ => None,
        };
        let why: Vec<_> = [object, rule, &place].into_iter().flatten().cloned().collect();
        for more in [Some(why.join(", ")), rewrite.clone()].into_iter().flatten() {
            if !more.is_empty() {
                table.push(vec![String::new(), String::new(), format!("  {more}")]);
            }
        }
    }
    table.render()
}

/// Writes for people what would change.
fn show_changes(changes: &Changes) -> Result<(), Error> {
    let Changes { pairs, changed } = changes;
    let mut text = String::new();
    if !changed.is_empty() {
        let mut table = Table::new(["FROM", "TO", "TARGET", "BEFORE", "AFTER", "WHY"]);
        for pair in changed {
            let why = pair.after.explanation.as_ref().or(pair.after.reason.as_ref());
            table.push(vec![
                pair.from.clone(),
                pair.to.clone(),
                pair.target.clone(),
                pair.before.verdict.clone(),
                pair.after.verdict.clone(),
                why.cloned().unwrap_or_default(),
            ]);
        }
        text = table.render() + "\n";
    }
    text.push_str(&format!("{} of {pairs} pairs change\n", changed.len()));
    output::text(&text)
}
