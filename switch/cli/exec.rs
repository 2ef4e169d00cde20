//! `exec`: a command inside a host's namespace.
//!
//! The switch only says where the host lives. This process itself enters, and becomes the command:
//! what it started with (rights, terminal, descriptors) is what the command has.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ExitCode};

use clap::Args;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::sethostname;

use super::error::Error;
use super::get::DEFAULT_NAMESPACE;
use super::lab::Lab;
use crate::control::request::{HostName, Place, Request, Response};

/// Where network namespaces have their names.
///
/// Source: `NETNS_RUN_DIR` of iproute2.
const NETWORKS: &str = "/run/netns";

/// Where the files are that stand in for those of `/etc`, in a directory for each namespace.
///
/// Source: `NETNS_ETC_DIR` of iproute2.
const FILES: &str = "/etc/netns";

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
  kswitch exec client -- curl http://10.8.0.20/hostname
  kswitch exec web-0 -n shop -- ip address
  kswitch exec ext/internet -- ping 192.0.2.1";

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
    let error = process::Command::new(program).args(rest).exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err(Error::with_code(format_args!("{program}: {error}"), code))
}

/// Enters the host's network, under its name and with its files, as `ip netns exec` does.
fn enter(place: &Place) -> Result<(), Error> {
    let path = Path::new(NETWORKS).join(&place.network);
    let network = File::open(&path).map_err(|error| failed(&path.display().to_string(), error))?;
    setns(&network, CloneFlags::CLONE_NEWNET)
        .map_err(|error| failed("enter the network", error))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .map_err(|error| failed("make a mount namespace", error))?;
    sethostname(&place.hostname).map_err(|error| failed("set the host name", error))?;
    // Nothing that is mounted from here on may reach the machine's own mounts.
    remount("/", MsFlags::MS_SLAVE | MsFlags::MS_REC)
        .map_err(|error| failed("make the mounts private", error))?;
    if let Err(error) = show_own_devices(&place.network) {
        warn(format_args!("/sys shows the machine's devices, not the host's own: {error}"));
    }
    bind_files(&place.network)
}

fn failed(what: &str, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => " (exec takes root rights)",
        _ => "",
    };
    Error::new(format_args!("{what}: {error}{hint}"))
}

/// The command may do without what could not be had.
fn warn(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "warning: {message}");
}

const NO_TEXT: Option<&str> = None;

fn remount(path: &str, flags: MsFlags) -> nix::Result<()> {
    mount(NO_TEXT, path, NO_TEXT, flags, NO_TEXT)
}

/// Mounts a `/sys` that shows the devices of this network; a mount of it belongs to the network it
/// was made in.
fn show_own_devices(network: &str) -> nix::Result<()> {
    let mut flags = MsFlags::empty();
    if umount2("/sys", MntFlags::MNT_DETACH).is_err() {
        // It has to be covered then, and one that can be written cannot cover one that cannot.
        let read_only =
            statvfs("/sys").is_ok_and(|status| status.flags().contains(FsFlags::ST_RDONLY));
        flags.set(MsFlags::MS_RDONLY, read_only);
    }
    mount(Some(network), "/sys", Some("sysfs"), flags, NO_TEXT)
}

/// Puts the host's files in the place of those in `/etc`.
fn bind_files(network: &str) -> Result<(), Error> {
    let directory = Path::new(FILES).join(network);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed(&directory.display().to_string(), error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed(&directory.display().to_string(), error))?;
        let target = Path::new("/etc").join(entry.file_name());
        let bound = mount(Some(&entry.path()), &target, NO_TEXT, MsFlags::MS_BIND, NO_TEXT);
        match bound {
            Ok(()) => {}
            Err(Errno::ENOENT) => {
                let target = target.display();
                warn(format_args!("{target} is not there to be replaced by the host's own"));
            }
            Err(error) => return Err(failed(&target.display().to_string(), error)),
        }
    }
    Ok(())
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
