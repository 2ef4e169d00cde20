//! `logs`: what a container of a pod has said.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Response};

/// How often is looked whether there is more, with `--follow`.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Print what a container of a pod has said, or what a load balancer was asked
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which pod: [NAMESPACE/]POD; or ingress/NAME, gateway/NAME
    pod: String,

    /// Its namespace [default: default]
    #[arg(short, long)]
    namespace: Option<String>,

    /// Which container [default: the first]
    #[arg(short, long)]
    container: Option<String>,

    /// Go on as more is said
    #[arg(short, long)]
    follow: bool,

    /// Only so many lines, the last ones
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch logs worker
  kswitch logs ingress/web -f
  kswitch logs shop/web-0 -c proxy --tail 20 -f";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { pod, namespace, container, follow, tail } = arguments;
    let (within, name) = match pod.split_once('/') {
        // a load balancer, which is told from pods by what stands before it
        Some(("ingress" | "gateway", _)) => (None, pod.as_str()),
        Some((within, name)) => (Some(within), name),
        None => (None, pod.as_str()),
    };
    if within.is_some_and(|within| namespace.as_ref().is_some_and(|own| own != within)) {
        return Err(Error::new("two namespaces are named"));
    }
    let namespace = within.or(namespace.as_deref()).unwrap_or(DEFAULT_NAMESPACE);
    let mut from = 0;
    let mut skip = *tail;
    loop {
        let request = Request::Log {
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
            container: container.clone(),
            from,
        };
        let (lines, next) = match lab.ask_one(&request)? {
            Response::Log { lines, next } => (lines, next),
            other => return Err(Error::of(other)),
        };
        let start = skip.take().map_or(0, |tail| lines.len().saturating_sub(tail));
        output::lines(lines.get(start..).unwrap_or_default())?;
        from = next;
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        thread::sleep(LOOK_AGAIN);
    }
}
