//! What the kernel of a namespace knows of the way to a target: asked of iproute2's `ip`, since the
//! generator's own frames pass the kernel by.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long the next hop may take to say where it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// The way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// The address of this machine on it.
    pub source: IpAddr,
    /// The machine to which frames go first.
    pub next: IpAddr,
}

/// What `ip` prints.
pub(crate) fn ip(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("ip").args(arguments).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("ip {}: {text}", arguments.join(" "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The word after `key`.
fn after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.split_whitespace().skip_while(|word| *word != key).nth(1)
}

fn parse(text: &str, target: IpAddr) -> Option<Way> {
    Some(Way {
        interface: after(text, "dev")?.to_owned(),
        source: after(text, "src")?.parse().ok()?,
        next: after(text, "via").map_or(Some(target), |via| via.parse().ok())?,
    })
}

/// The way to a target from the calling thread's namespace.
///
/// # Errors
/// If there is none, or no `ip`.
pub fn way(target: IpAddr) -> io::Result<Way> {
    let text = ip(&["route", "get", &target.to_string()])?;
    parse(&text, target).ok_or_else(|| io::Error::other(format!("no way to {target}: {text}")))
}

/// The Ethernet address of a machine on a link, asked for if it is not known yet.
///
/// # Errors
/// If the machine does not say.
pub fn mac_of(way: &Way) -> io::Result<[u8; 6]> {
    let next = way.next.to_string();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let any: SocketAddr = (way.source, 0).into();
        // whatever becomes of it, the kernel asks for the address first
        let _ = UdpSocket::bind(any)?.send_to(&[], (way.next, 9));
        let text = ip(&["neigh", "show", &next, "dev", &way.interface])?;
        if let Some(mac) = after(&text, "lladdr").and_then(mac) {
            return Ok(mac);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!("{next} on {} does not answer", way.interface)))
}

/// An Ethernet address as people write it.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

/// The Ethernet address of an interface of this namespace.
///
/// # Errors
/// If there is no such interface.
pub fn own_mac(interface: &str) -> io::Result<[u8; 6]> {
    let text = ip(&["link", "show", "dev", interface])?;
    let found = after(&text, "link/ether").and_then(mac);
    found.ok_or_else(|| io::Error::other(format!("{interface} has no Ethernet address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read() {
        let text = "10.8.0.80 via 10.4.0.1 dev eth0 src 10.4.0.3 uid 0 \n    cache \n";
        let way = parse(text, "10.8.0.80".parse().unwrap()).unwrap();
        assert_eq!((way.interface.as_str(), way.next.to_string()), ("eth0", "10.4.0.1".into()));
        let near = parse("10.4.0.2 dev eth0 src 10.4.0.3", "10.4.0.2".parse().unwrap()).unwrap();
        assert_eq!(near.next.to_string(), "10.4.0.2");
        assert_eq!(parse("unreachable 10.4.0.2", near.next), None);
    }

    #[test]
    fn ethernet_addresses_are_read() {
        assert_eq!(mac("02:00:5e:0a:ff:01"), Some([2, 0, 0x5e, 10, 255, 1]));
        assert_eq!((mac("02:00:5e:0a:ff"), mac("02:00:5e:0a:ff:01:02")), (None, None));
    }
}
