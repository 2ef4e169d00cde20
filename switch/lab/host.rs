//! One host of the lab: a pod, a node's own network stack, or somebody outside.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::record::Record;
use super::sysctl::{self, SharesAddresses};
use super::{Error, adopt, etc, link, namespace};
use crate::port::{self, plain, tap};

/// What a host shall be.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// The name of its network namespace.
    pub namespace: String,
    /// Its host name, as its processes see it.
    pub hostname: String,
    /// The name of its interface, a TAP; usually `eth0`.
    pub interface: String,
    /// The interface's address on its link.
    pub mac: [u8; 6],
    /// The interface's MTU, octets.
    pub mtu: u16,
    /// The interface's addresses with the lengths of their prefixes. Hosts with IPv6 get a
    /// link-local address derived from `mac` as well, unless there is one among these.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Gateways of the default routes, one per family; they need not be in any prefix.
    pub gateways: Vec<IpAddr>,
    /// Further addresses, on the loopback interface: those that the switch's router answers for
    /// on the host's behalf.
    pub loopback: Vec<IpAddr>,
    /// Whether it forwards what is not for itself.
    pub forwards: bool,
    /// Its `/etc/resolv.conf`; the machine's own when absent.
    pub resolv_conf: Option<String>,
    /// Its `/etc/hosts`; the machine's own when absent.
    pub hosts: Option<String>,
    /// Queues of the TAP.
    pub queues: usize,
    /// Whether to make a plain TAP, without offloads and with one queue whatever `queues` says.
    pub plain: bool,
    /// An interface of the machine behind which the host is already: none is made then, and the
    /// namespace stays empty.
    pub existing: Option<Existing>,
}

/// An interface of the calling thread's own network namespace, and how frames are taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// By a packet socket.
    Packet(String),
    /// By AF_XDP.
    Xdp(String),
}

/// A host made: its interface is up, and this is its other end.
#[derive(Debug)]
pub struct Host {
    /// The name of its network namespace.
    pub namespace: String,
    /// The receiving queues of its TAP.
    pub queues: Vec<port::Queue>,
    /// The sending side of its TAP.
    pub sender: port::Sender,
}

/// Makes a host on the calling thread, which stays in the host's namespace: the caller must not
/// use the thread for anything but making hosts.
///
/// On failure the caller removes what the record says.
pub(super) fn make(record: &Record, spec: &HostSpec) -> Result<Host, Error> {
    let name = &spec.namespace;
    // while the thread still is where the interface is
    let existing = spec.existing.as_ref().map(take_over).transpose()?;
    let create = || format!("create namespace {name}");
    let identity = namespace::unshare_thread().map_err(Error::failed(create))?;
    if namespace::path(name).symlink_metadata().is_ok() {
        return Err(Error::Taken { namespace: name.clone() });
    }
    record.add(name, identity)?;
    namespace::name_thread(name).map_err(Error::failed(create))?;
    let HostSpec { hostname, resolv_conf, hosts, .. } = spec;
    let files = files(hostname, resolv_conf.as_deref(), hosts.as_deref());
    etc::write(record.lab(), name, &files)?;

    if let Some((queues, sender)) = existing {
        record.complete(name, adopt::fingerprint(spec))?;
        return Ok(Host { namespace: name.clone(), queues, sender });
    }
    let shares_addresses =
        if spec.loopback.is_empty() { SharesAddresses::No } else { SharesAddresses::WithRouter };
    sysctl::settle(name, shares_addresses)?;
    if spec.forwards {
        sysctl::forward(name)?;
    }
    let (queues, sender) = open_port(spec)
        .map_err(Error::failed(|| format!("make interface {} in {name}", spec.interface)))?;
    link::configure(spec)?;
    record.complete(name, adopt::fingerprint(spec))?;
    Ok(Host { namespace: name.clone(), queues, sender })
}

/// Brings an interface up and opens it.
pub(super) fn take_over(existing: &Existing) -> Result<(Vec<port::Queue>, port::Sender), Error> {
    let (Existing::Packet(name) | Existing::Xdp(name)) = existing;
    link::take_over(name)?;
    let opened = match existing {
        Existing::Packet(_) => {
            port::packet::open(name).map(|(queue, sender)| (vec![port::Queue::Tap(queue)], sender))
        }
        Existing::Xdp(_) => port::xdp::open(name)
            .map(|(queues, sender)| (queues.into_iter().map(port::Queue::Xdp).collect(), sender)),
    };
    let (queues, sender) =
        opened.map_err(Error::failed(|| format!("take interface {name} over")))?;
    Ok((queues, port::Sender::Tap(Arc::new(sender))))
}

/// Makes the host's interface. It stays until the namespace goes, for the sake of a quick end.
pub(super) fn open_port(spec: &HostSpec) -> io::Result<(Vec<port::Queue>, port::Sender)> {
    if spec.plain {
        let device = plain::Plain::open(&spec.interface)?;
        device.outlive_descriptors()?;
        let (queue, sender) = device.into_parts();
        return Ok((vec![port::Queue::Plain(queue)], port::Sender::Plain(Arc::new(sender))));
    }
    let device = tap::Tap::open(&spec.interface, spec.queues)?;
    device.outlive_descriptors()?;
    let (queues, sender) = device.into_parts();
    let queues = queues.into_iter().map(port::Queue::Tap).collect();
    Ok((queues, port::Sender::Tap(Arc::new(sender))))
}

/// The files that a host finds under `/etc`.
pub(super) fn files<'f>(
    hostname: &'f str,
    resolv_conf: Option<&'f str>,
    hosts: Option<&'f str>,
) -> Vec<(&'static str, &'f str)> {
    let hostname = Some(("hostname", hostname));
    let resolv_conf = resolv_conf.map(|text| ("resolv.conf", text));
    let hosts = hosts.map(|text| ("hosts", text));
    [hostname, resolv_conf, hosts].into_iter().flatten().collect()
}
