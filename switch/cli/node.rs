//! `node`: nodes are switched off and on, come and go.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kswitch_config::link::duration;
use serde_json::json;

use super::error::Error;
use super::lab::Lab;
use super::{manifest, output};
use crate::control::request::{Manifest, Power, Request, Verb};

/// Switch a node off or on, add one or take one away
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Switch it off: its programs end, nothing gets to it, and after a while that is noticed
    Down {
        /// Which node
        node: String,
        /// Seconds until it counts as not ready [default: node-monitor-grace-period of the lab]
        #[arg(long, value_name = "SECONDS", value_parser = millis)]
        grace_period: Option<u64>,
        /// Seconds from then until its pods end [default: default-unreachable-toleration]
        #[arg(long, value_name = "SECONDS", value_parser = millis)]
        toleration: Option<u64>,
    },
    /// Switch it on again
    Up {
        /// Which node
        node: String,
    },
    /// Add one
    Add {
        /// What it is called
        #[arg(required_unless_present = "files")]
        node: Option<String>,
        /// Its zone
        #[arg(long, requires = "node")]
        zone: Option<String>,
        /// File with Node objects instead, - for standard input
        #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "node")]
        files: Vec<PathBuf>,
    },
    /// Have it hear of changes of Services and endpoints so much later, as 500ms; 0s: at once
    Lag {
        /// Which node
        node: String,
        /// How much later
        #[arg(value_name = "TIME", value_parser = time)]
        lag: String,
    },
    /// Take it away for good, and what is on it; what made its pods makes others
    Remove {
        /// Which node
        node: String,
    },
}

const EXAMPLES: &str = "\
Examples:
  kswitch node down node-a --grace-period 2 --toleration 1
  kswitch node up node-a
  kswitch node add node-c --zone zone-2
  kswitch node lag node-a 500ms
  kswitch node remove node-c";

/// Seconds as milliseconds.
fn millis(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    let time = std::time::Duration::try_from_secs_f64(seconds);
    let millis = time.ok().and_then(|time| u64::try_from(time.as_millis()).ok());
    millis.ok_or_else(|| format!("{text:?} is no time"))
}

/// A time, as it was written.
fn time(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let power = |node: &str, power| {
        let verb = Verb::Node { node: node.to_owned(), power };
        output::done(lab, &Request::Live { verb })
    };
    match &arguments.action {
        Action::Down { node, grace_period, toleration } => {
            let (grace_millis, toleration_millis) = (*grace_period, *toleration);
            power(node, Power::Down { grace_millis, toleration_millis })
        }
        Action::Up { node } => power(node, Power::Up),
        Action::Lag { node, lag } => {
            let is_none = duration(lag).is_ok_and(|lag| lag.is_zero());
            let (node, lag) = (node.clone(), (!is_none).then(|| lag.clone()));
            output::done(lab, &Request::Live { verb: Verb::Lag { node, lag } })
        }
        Action::Remove { node } => power(node, Power::Gone),
        Action::Add { node, zone, files } => {
            let manifests = match node {
                Some(node) => vec![written(node, zone.as_deref())],
                None => manifest::read_all(files)?,
            };
            output::done(lab, &Request::Apply { manifests })
        }
    }
}

/// A node as a manifest.
fn written(name: &str, zone: Option<&str>) -> Manifest {
    let mut labels = serde_json::Map::new();
    if let Some(zone) = zone {
        labels.insert(kswitch_config::ZONE_LABEL.to_owned(), zone.into());
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": labels },
    });
    Manifest { name: "node.json".into(), text: object.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_or_without_a_fraction() {
        assert_eq!(millis("2"), Ok(2_000));
        assert_eq!(millis("0.25"), Ok(250));
        for wrong in ["", "-1", "1s", "nan", "1e30"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }
}
