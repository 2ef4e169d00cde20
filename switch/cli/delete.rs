//! `delete`: delete objects from a running lab, or let a pod end in peace.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use super::{manifest, output};
use crate::control::request::{Request, Verb};

/// Delete objects from a running lab, at once; or a pod, which ends in peace and is replaced
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// File or directory with Kubernetes objects, - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required_unless_present = "what")]
    files: Vec<PathBuf>,

    /// Which pod, as in: pod web-0
    #[arg(num_args = 2, value_names = ["pod", "NAME"], conflicts_with = "files")]
    what: Vec<String>,

    /// The pod's namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,

    /// Seconds that the pod may take to end [default: what it says]
    #[arg(long, value_name = "SECONDS", requires = "what")]
    grace_period: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch delete -f shop.yaml
  kswitch delete pod web-0 --grace-period 5";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { files, what, namespace, grace_period } = arguments;
    match what.as_slice() {
        [kind, name] if matches!(kind.as_str(), "pod" | "pods" | "po") => {
            let (namespace, name) = (namespace.clone(), name.clone());
            let verb = Verb::DeletePod { namespace, name, grace_seconds: *grace_period };
            output::done(lab, &Request::Live { verb })
        }
        [kind, _] => Err(Error::new(format_args!("{kind}: write pod NAME, or -f FILE"))),
        _ => {
            let manifests = manifest::read_all(files)?;
            output::done(lab, &Request::Delete { manifests })
        }
    }
}
