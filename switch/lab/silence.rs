//! Hosts whose own network stack says nothing, because it has no address: who wants to send and
//! receive their frames by hand has the link to himself.

use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;

use super::link::{Netlink, speak};
use super::{Error, namespace, sysctl};

/// Takes every address from a host, and IPv6 as a whole.
///
/// # Errors
/// [`Error::Failed`] with what could not be done.
pub fn silence(name: &str) -> Result<(), Error> {
    let silenced = namespace::enter(name, || {
        sysctl::switch_off_ipv6(name)?;
        speak(name, async |netlink| remove_addresses(&netlink, name).await)
    });
    silenced.map_err(Error::failed(|| format!("enter namespace {name}")))?
}

async fn remove_addresses(netlink: &Netlink<'_>, name: &str) -> Result<(), Error> {
    let list = || format!("list the addresses of namespace {name}");
    let handle = netlink.handle.address();
    let listed = handle.get().execute().try_collect::<Vec<_>>().await;
    let listed = listed.map_err(io::Error::other).map_err(Error::failed(list))?;
    for address in listed.into_iter().filter(|at| at.header.family == AddressFamily::Inet) {
        let task = "remove an address";
        let request = handle.del(address).execute();
        // the second address of a prefix goes with the first
        netlink.ask_unless(io::ErrorKind::AddrNotAvailable, task, request).await?;
    }
    Ok(())
}
