//! Interfaces of the machine that stand in for the TAP of a host or pod.

use kswitch_tables::MacAddress;

use crate::suggest;
use crate::syntax::Refused;

/// How frames are taken from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfaceKind {
    /// By a packet socket: any interface, large segments and unfinished checksums included.
    Packet,
    /// By AF_XDP: small frames of interfaces whose drivers know it, at the least cost.
    Xdp,
}

/// An interface of the machine that is taken over: `{ kind = "packet", interface = "eth1" }`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface {
    /// How.
    pub kind: InterfaceKind,
    /// Its name.
    pub name: String,
    /// Ethernet address of the machine on its other end; made up like any other's if absent.
    pub mac: Option<MacAddress>,
}

/// Longest name of an interface, octets.
///
/// Source: Linux `IFNAMSIZ`, which counts the zero at the end.
const NAME_MAX: usize = 15;

impl Interface {
    /// The annotation of a pod that names its interface: `packet/eth1`, or
    /// `packet/eth1/02:00:00:00:00:01`.
    pub const ANNOTATION: &str = "kswitch/port";

    /// Reads the value of [`Self::ANNOTATION`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_annotation(text: &str) -> Result<Self, Refused> {
        let mut parts = text.splitn(3, '/');
        let kind = kind(parts.next().unwrap_or_default())?;
        let name = interface_name(parts.next().unwrap_or_default())?;
        let mac = parts.next().map(mac).transpose()?;
        Ok(Self { kind, name, mac })
    }
}

/// The words for kinds.
pub(crate) const KINDS: [(&str, InterfaceKind); 2] =
    [("packet", InterfaceKind::Packet), ("xdp", InterfaceKind::Xdp)];

fn kind(text: &str) -> Result<InterfaceKind, Refused> {
    let known = KINDS.iter().find(|(word, _)| *word == text);
    known.map(|(_, kind)| *kind).ok_or_else(|| Refused {
        message: format!("{text:?} is no kind of port"),
        help: format!("write {}", suggest::listed(KINDS.iter().map(|(word, _)| *word), "or")),
    })
}

/// The name of an interface.
pub(crate) fn interface_name(text: &str) -> Result<String, Refused> {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(is_plain) {
        return Err(Refused {
            message: format!("{text:?} cannot be the name of an interface"),
            help: format!("write one of `ip link`, of at most {NAME_MAX} octets"),
        });
    }
    Ok(text.to_owned())
}

/// The Ethernet address of one machine.
pub(crate) fn mac(text: &str) -> Result<MacAddress, Refused> {
    let parts: Vec<_> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    let octets: Option<Vec<u8>> = parts.into_iter().map(Result::ok).collect();
    let mac = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok()).map(MacAddress);
    mac.filter(|mac| !mac.is_group()).ok_or_else(|| Refused {
        message: format!("{text:?} is not the Ethernet address of one machine"),
        help: "write it as in \"02:00:00:00:00:01\"".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read() {
        let read = Interface::from_annotation("packet/eth1").unwrap();
        assert_eq!(
            (read.kind, read.name.as_str(), read.mac),
            (InterfaceKind::Packet, "eth1", None)
        );
        let read = Interface::from_annotation("packet/veth0/02:00:00:00:0a:01").unwrap();
        assert_eq!(read.mac, Some(MacAddress([2, 0, 0, 0, 10, 1])));
        let read = Interface::from_annotation("xdp/eth1").unwrap();
        assert_eq!(read.kind, InterfaceKind::Xdp);
        for bad in ["", "tap/eth1", "packet", "packet/a-name-of-sixteen", "packet/e/01:0:0:0:0:0"] {
            assert!(Interface::from_annotation(bad).is_err(), "{bad}");
        }
    }
}
