//! Why a connection came out as it did: what the tables say of it, step by step.

use kswitch_config::{Compiler, EntryPolicy, Observed};
use kswitch_tables::Generation;

use super::memory::SEED;
use super::stage::Call;
use super::topology::Lab;
use crate::trace::{Hop, Query, Report, Tables, trace};

/// What becomes of a call, a line for each decision; `entry` is the node at which it enters if it
/// comes from outside.
pub fn explain(lab: &Lab, entry: &str, call: &Call) -> Vec<String> {
    let entry = EntryPolicy::everything_at(entry);
    let observed = Observed { entry, ..Observed::default() };
    let compiled = Compiler::new(SEED).compile(lab.cluster(), &observed, Generation(1));
    let tables = Tables::of(&compiled, lab.cluster(), lab.draft());
    let own = call.from.address;
    let from = if own.is_loopback() { call.from.kind.to_string() } else { own.to_string() };
    let query = Query {
        from,
        to: call.to.to_string(),
        protocol: Some(call.transport.name().to_lowercase()),
        source_port: call.source_port,
        backend: None,
        seed: SEED,
    };
    trace(&tables, &query).map_or_else(|why| vec![format!("trace: {why}")], |report| lines(&report))
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.hops.iter().map(line).collect();
    let Report { verdict, reason, meaning, explanation, endpoint, .. } = report;
    let words = [reason, meaning, explanation, endpoint].into_iter().flatten();
    let words: Vec<&str> = words.map(String::as_str).collect();
    lines.push(format!("trace: {verdict}: {}", words.join("; ")));
    lines
}

fn line(hop: &Hop) -> String {
    let Hop { at, table, object, rule, decision, rewrite, .. } = hop;
    let mut line = format!("trace: {at}: {table}: {decision}");
    if let Some(rewrite) = rewrite {
        line.push_str(&format!(", {rewrite}"));
    }
    let source: Vec<&str> = [object, rule].into_iter().flatten().map(String::as_str).collect();
    if !source.is_empty() {
        line.push_str(&format!(" ({})", source.join(": ")));
    }
    line
}
