//! `label`: labels of pods, nodes and namespaces.

use std::process::ExitCode;

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use super::output;
use crate::control::request::{Request, Verb, WorkloadName};

/// Set or remove labels of an object
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Which: KIND/NAME
    object: String,

    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(required = true, value_name = "LABEL")]
    labels: Vec<String>,

    /// Its namespace
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

const EXAMPLES: &str = "\
Examples:
  kswitch label namespace/default tier=front
  kswitch label node/node-a disk-";

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Arguments { object, labels, namespace } = arguments;
    let object = WorkloadName::parse(object, namespace)
        .map_err(|_| Error::new(format_args!("{object}: expected KIND/NAME, as in pod/client")))?;
    let labels = labels.iter().map(|label| change(label)).collect::<Result<_, _>>()?;
    output::done(lab, &Request::Live { verb: Verb::Label { object, labels } })
}

/// A label, and what it is to be; `None` to remove it.
fn change(text: &str) -> Result<(String, Option<String>), Error> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err(Error::new(format_args!("{text}: expected KEY=VALUE or KEY-"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed_as_kubectl_does() {
        let told = |text| change(text).ok();
        assert_eq!(told("a=b"), Some(("a".into(), Some("b".into()))));
        assert_eq!(told("a="), Some(("a".into(), Some(String::new()))));
        assert_eq!(told("a=b-"), Some(("a".into(), Some("b-".into()))));
        assert_eq!(told("a/b-"), Some(("a/b".into(), None)));
        assert!(told("a").is_none() && told("=b").is_none() && told("-").is_none());
    }
}
