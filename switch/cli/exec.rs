//! `exec`: a command inside a host's namespace.
//!
//! The switch only says where the host lives. This process itself enters, and becomes the command:
//! what it started with (rights, terminal, descriptors) is what the command has.

use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use crate::control::request::{HostName, Place, Request, Response};
use crate::lab::process;

/// Exit codes of a command that was not found, and of one that cannot be executed.
///
/// Source: POSIX, Shell Command Language §2.8.2.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Run a command inside a pod, node or external host; the exit code is the command's
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Where: [NAMESPACE/]POD, node/NAME or ext/NAME
    #[arg(value_name = "POD")]
    host: HostName,

    /// The pod's namespace [default: default]
    #[arg(short, long)]
    namespace: Option<String>,

    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  kswitch exec client -- curl http://10.8.0.80/hostname
  kswitch exec frontend-a -n default -- ip address
  kswitch exec ext/internet -- ip route";

impl Arguments {
    #[cfg(test)]
    pub(super) fn command(&self) -> &[String] {
        &self.command
    }

    /// The host, a pod with its namespace.
    fn host(&self) -> Result<HostName, Error> {
        match (&self.host, &self.namespace) {
            (HostName::Pod { namespace: Some(within), .. }, Some(namespace))
                if within != namespace =>
            {
                Err(Error::new(format_args!("two namespaces: {within} and {namespace}")))
            }
            (HostName::Pod { namespace: within, name }, namespace) => {
                let namespace = within.as_deref().or(namespace.as_deref());
                let namespace = Some(namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned());
                Ok(HostName::Pod { namespace, name: name.clone() })
            }
            (HostName::Node { .. } | HostName::External { .. }, Some(_)) => {
                Err(Error::new("-n goes with a pod; nodes and external hosts are in no namespace"))
            }
            (host, None) => Ok(host.clone()),
        }
    }
}

pub(super) fn run(lab: &Lab, arguments: &Arguments) -> Result<ExitCode, Error> {
    let place = match lab.ask_one(&Request::Locate { host: arguments.host()? })? {
        Response::Place(place) => place,
        other => return Err(Error::of(other)),
    };
    enter(&place)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Error::new("no command"));
    };
    // Returns only if the command could not be started.
    let error = Command::new(program).args(rest).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err(Error::with_code(format_args!("{program}: {error}"), code))
}

/// Enters the host's network, under its name and with its files, as `ip netns exec` does.
fn enter(place: &Place) -> Result<(), Error> {
    let Place { network, hostname } = place;
    let missing = process::become_host(network, Some(hostname))
        .map_err(|error| failed(&format!("enter {network}"), &error))?;
    // The command may do without what could not be had.
    for text in missing {
        let _ = writeln!(io::stderr(), "warning: {text}");
    }
    Ok(())
}

fn failed(what: &str, error: &io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => " (exec takes root rights)",
        _ => "",
    };
    Error::new(format_args!("{what}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str, namespace: Option<&str>) -> Result<String, String> {
        let arguments = Arguments {
            host: text.parse().unwrap(),
            namespace: namespace.map(str::to_owned),
            command: vec!["true".into()],
        };
        arguments.host().map(|host| host.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_is_in_one_namespace() {
        assert_eq!(host("client", None).unwrap(), "default/client");
        assert_eq!(host("client", Some("shop")).unwrap(), "shop/client");
        assert_eq!(host("shop/client", None).unwrap(), "shop/client");
        assert_eq!(host("shop/client", Some("shop")).unwrap(), "shop/client");
        assert!(host("shop/client", Some("default")).is_err());
        assert_eq!(host("node/a", None).unwrap(), "node/a");
        assert!(host("ext/a", Some("shop")).is_err());
    }
}
