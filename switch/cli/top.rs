//! `top`: what the switch carries, live.

mod picture;
mod rates;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use serde::Deserialize;
use serde_json::Value;

use super::error::Error;
use super::lab::Lab;
use super::output::{self, Format};
use super::table::Table;
use crate::control::capture::FrameRecord;
use crate::control::request::{Request, Response};
use rates::{Rates, rates};

/// One frame in so many is looked at, to know the busiest flows.
const SAMPLE: u64 = 16;

/// Octets of each of those: enough for the headers.
const SNAP: usize = 96;

/// Show rates of ports, drops, flows and workers, until q is pressed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Show the rates of one interval as text, and end
    #[arg(long)]
    once: bool,

    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
    interval: f64,

    /// json or yaml, with --once
    #[arg(short, long, value_name = "FORMAT", requires = "once")]
    output: Option<Format>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch top
  kswitch top --once -o json";

/// Every counter at one moment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counters {
    pub(super) generation: u64,
    pub(super) ports: Vec<PortCounters>,
    pub(super) drops: Vec<(String, u64)>,
    pub(super) workers: Vec<WorkerCounters>,
    pub(super) conntrack: Occupancy,
}

/// What one port carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortCounters {
    pub(super) name: String,
    pub(super) received_frames: u64,
    pub(super) received_octets: u64,
    pub(super) sent_frames: u64,
    pub(super) sent_octets: u64,
    pub(super) send_busy: u64,
}

/// What one worker did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkerCounters {
    pub(super) core: usize,
    pub(super) busy_turns: u64,
    pub(super) idle_turns: u64,
    pub(super) sleeps: u64,
    pub(super) frames: u64,
    #[serde(default)]
    pub(super) stages: StageCounters,
}

/// What the timed bursts of a worker took, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StageCounters {
    pub(super) frames: u64,
    pub(super) receive: u64,
    pub(super) pipeline: u64,
    pub(super) sent_frames: u64,
    pub(super) send: u64,
}

/// How full conntrack is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Occupancy {
    pub(super) entries: u64,
    pub(super) capacity: u64,
}

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let interval = Duration::try_from_secs_f64(arguments.interval.max(0.1)).map_err(Error::new)?;
    if arguments.once {
        return once(lab, interval, arguments.output);
    }
    if !io::stdout().is_terminal() {
        return Err(Error::new("standard output is no terminal: see --once"));
    }
    let flows = sampled(lab.clone());
    let mut before = counters(lab)?;
    let mut seen = Instant::now();
    let mut terminal = ratatui::try_init().map_err(Error::from)?;
    let ended = (|| {
        let mut now = rates(&before, &before, interval);
        loop {
            terminal.draw(|frame| picture::draw(frame, &now))?;
            if !wait(seen + interval)? {
                return Ok(ExitCode::SUCCESS);
            }
            let after = counters(lab)?;
            let took = seen.elapsed();
            seen = Instant::now();
            now = rates(&before, &after, took);
            now.count_flows(flows.try_iter(), SAMPLE, took);
            before = after;
        }
    })();
    ratatui::restore();
    ended
}

/// Waits until this moment; `false` if somebody wants to leave.
fn wait(until: Instant) -> Result<bool, Error> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        if event::poll(left)?
            && let Event::Key(key) = event::read()?
        {
            let is_interrupt =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(false);
            }
        }
    }
}

/// Frames of flows, one of [`SAMPLE`], as they come: their flow and octets.
fn sampled(lab: Lab) -> Receiver<(String, u64)> {
    let (found, flows) = mpsc::sync_channel(65_536);
    // it ends with the process, or with the lab
    let _ = thread::Builder::new().name("flows".into()).spawn(move || {
        let request =
            Request::Capture { ports: Vec::new(), snap: SNAP, filter: None, sample: SAMPLE };
        let Ok(responses) = lab.ask(&request) else { return };
        for response in responses {
            let Ok(Response::Objects { items }) = response else { return };
            for frame in items.into_iter().filter_map(|item| serde_json::from_value(item).ok()) {
                let FrameRecord { is_inbound, comment, octets, .. } = frame;
                if let (true, Some(flow)) = (is_inbound, flow_of(&comment)) {
                    // what finds no room is not missed: it is a sample
                    let _ = found.try_send((flow.to_owned(), octets as u64));
                }
            }
        }
    });
    flows
}

/// The flow in a frame's comment.
fn flow_of(comment: &str) -> Option<&str> {
    let (_, flow) = comment.split_once("; flow ")?;
    let (_, flow) = flow.split_once(' ')?;
    Some(flow)
}

fn counters(lab: &Lab) -> Result<Counters, Error> {
    serde_json::from_value(raw(lab)?).map_err(|_| misfit())
}

fn raw(lab: &Lab) -> Result<Value, Error> {
    match lab.ask_one(&Request::Counters)? {
        Response::Objects { items } => items.into_iter().next().ok_or_else(misfit),
        other => Err(Error::of(other)),
    }
}

fn misfit() -> Error {
    Error::new("the switch gave an answer that does not fit: is it of another version?")
}

/// The rates of one interval.
fn once(lab: &Lab, interval: Duration, format: Option<Format>) -> Result<ExitCode, Error> {
    let (before, seen) = (counters(lab)?, Instant::now());
    thread::sleep(interval);
    let after = counters(lab)?;
    let rates = rates(&before, &after, seen.elapsed());
    match format {
        Some(Format::Json) => output::json(&rates.to_object())?,
        Some(Format::Yaml) => output::yaml(&rates.to_object())?,
        Some(Format::Wide) | None => output::text(&text(&rates))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Rates as tables.
fn text(rates: &Rates) -> String {
    let mut ports = Table::new(["PORT", "RX-PPS", "RX-BPS", "TX-PPS", "TX-BPS", "BUSY"]);
    for port in &rates.ports {
        let numbers =
            [port.received_frames, port.received_bits, port.sent_frames, port.sent_bits, port.busy];
        let mut row = vec![port.name.clone()];
        row.extend(numbers.map(rates::human));
        ports.push(row);
    }
    let mut workers =
        Table::new(["WORKER", "CORE", "PPS", "BUSY", "RECEIVE", "PIPELINE", "SEND", "SLEEPS"]);
    for (number, worker) in rates.workers.iter().enumerate() {
        workers.push(vec![
            number.to_string(),
            worker.core.to_string(),
            rates::human(worker.frames),
            rates::percent(worker.busy),
            rates::percent(worker.split.receive),
            rates::percent(worker.split.pipeline),
            rates::percent(worker.split.send),
            rates::human(worker.sleeps),
        ]);
    }
    let mut drops = Table::new(["DROPS", "PER-SECOND", "TOTAL"]);
    for drop in &rates.drops {
        drops.push(vec![drop.reason.clone(), rates::human(drop.rate), drop.total.to_string()]);
    }
    [ports.render(), workers.render(), drops.render()].join("\n")
}

/// Octets by flow.
pub(super) type Flows = BTreeMap<String, u64>;
