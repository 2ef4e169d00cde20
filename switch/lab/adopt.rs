//! Hosts that a killed run left, taken over as they are.
//!
//! A host is its namespace, which has a name, and a TAP, which outlives its descriptors: both are there
//! after a kill, with addresses, routes and the processes inside. Who adopts them opens the TAP again;
//! what processes sent meanwhile was lost, and nothing else. A host is adopted only if it was whole,
//! was made by the same spec, and has the namespace that it had; any other is made anew.

use std::fmt::Write;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use kswitch_tables::murmur3_x64_128;
use nix::net::if_::if_nametoindex;

use super::record::{Fingerprint, Record};
use super::{Error, Host, HostSpec, etc, host, namespace};

/// How long to wait for the kernel to let go of a TAP whose process has ended.
///
/// A process is gone before its io_uring is: what that had open is closed by a thread of the kernel.
const RELEASE: Duration = Duration::from_secs(5);

/// How often is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_micros(500);

/// Tells specs apart that make different hosts. The files under `/etc` do not count: they are
/// written anew.
pub(super) fn fingerprint(spec: &HostSpec) -> Fingerprint {
    let HostSpec {
        namespace,
        hostname: _,
        interface,
        mac,
        mtu,
        addresses,
        gateways,
        loopback,
        resolv_conf: _,
        hosts: _,
        queues,
        plain,
        existing,
        forwards,
    } = spec;
    let mut text = String::new();
    // writing to a string cannot fail
    let _ = write!(
        text,
        "{namespace} {interface} {mac:?} {mtu} {addresses:?} {gateways:?} {loopback:?} {queues} \
         {plain} {existing:?} {forwards}"
    );
    Fingerprint(murmur3_x64_128(text.as_bytes(), 0).0)
}

/// Whether the record knows a whole host made by this spec, and it is still there.
pub(super) fn is_adoptable(record: &Record, spec: &HostSpec) -> bool {
    let name = &spec.namespace;
    record.made_by(name) == Some(fingerprint(spec))
        && record.identity(name).is_some_and(|expected| {
            namespace::identity(name).is_ok_and(|found| found == Some(expected))
        })
}

/// Takes a host over on the calling thread, which stays in the host's namespace.
///
/// # Errors
/// Whatever keeps the host from being used as it is; it should be made anew then.
pub(super) fn adopt(record: &Record, spec: &HostSpec) -> Result<Host, Error> {
    let name = &spec.namespace;
    let HostSpec { hostname, resolv_conf, hosts, existing, .. } = spec;
    let files = host::files(hostname, resolv_conf.as_deref(), hosts.as_deref());
    if let Some(existing) = existing {
        // while the thread still is where the interface is
        let (queues, sender) = host::take_over(existing)?;
        etc::write(record.lab(), name, &files)?;
        return Ok(Host { namespace: name.clone(), queues, sender });
    }
    let open = || format!("open interface {} in {name} again", spec.interface);
    namespace::join_thread(name).map_err(Error::failed(open))?;
    // to open one that is not there is to make it
    if_nametoindex(spec.interface.as_str()).map_err(Error::failed(open))?;
    let begun = Instant::now();
    let (queues, sender) = loop {
        match host::open_port(spec) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < RELEASE =>
            {
                thread::sleep(LOOK_AGAIN);
            }
            result => break result.map_err(Error::failed(open))?,
        }
    };
    etc::write(record.lab(), name, &files)?;
    Ok(Host { namespace: name.clone(), queues, sender })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> HostSpec {
        HostSpec {
            namespace: "demo.default.a".into(),
            hostname: "a".into(),
            interface: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1460,
            addresses: vec![("10.4.0.2".parse().unwrap(), 24)],
            gateways: vec!["10.4.0.1".parse().unwrap()],
            loopback: Vec::new(),
            resolv_conf: None,
            hosts: None,
            queues: 1,
            plain: false,
            existing: None,
            forwards: false,
        }
    }

    #[test]
    fn what_makes_another_host_has_another_fingerprint_and_files_do_not() {
        let own = fingerprint(&spec());
        assert_eq!(own, fingerprint(&HostSpec { hosts: Some("x".into()), ..spec() }));
        for other in [
            HostSpec { mtu: 1400, ..spec() },
            HostSpec { mac: [2, 0, 0, 0, 0, 2], ..spec() },
            HostSpec { addresses: vec![("10.4.0.3".parse().unwrap(), 24)], ..spec() },
            HostSpec { queues: 2, ..spec() },
            HostSpec { plain: true, ..spec() },
            HostSpec { forwards: true, ..spec() },
        ] {
            assert_ne!(own, fingerprint(&other), "{other:?}");
        }
    }
}
