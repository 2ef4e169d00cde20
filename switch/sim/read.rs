//! What a frame says, for those who receive it: the checks a machine would make.

use kswitch_tables::{Endpoint, MacAddress};

use crate::dataplane::checksum::{fold, pseudo_header_sum, sum};
use crate::dataplane::{Frame, Kind, Packet, Parsed};
use kswitch_tables::Protocol;

/// An IP packet as a machine received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Ethernet destination and source.
    pub macs: (MacAddress, MacAddress),
    /// Its headers.
    pub packet: Packet,
    /// From the IP header to the end of the packet.
    pub ip: Vec<u8>,
    /// Whether every checksum is right.
    pub is_intact: bool,
}

impl Received {
    /// Reads a buffer, virtio header first; `None` for what is no valid IP packet.
    pub fn read(buffer: &[u8]) -> Option<Self> {
        let mut buffer = buffer.to_vec();
        let frame = Frame::new(&mut buffer);
        let Ok(Parsed::Ip(packet)) = frame.parse() else { return None };
        let ip = frame.bytes().get(packet.ip..packet.end)?.to_vec();
        let is_intact = is_intact(&ip, &packet);
        Some(Self { macs: frame.macs()?, packet, ip, is_intact })
    }

    /// The octets above IP.
    pub fn upper(&self) -> &[u8] {
        self.ip.get(self.packet.transport - self.packet.ip..).unwrap_or(&[])
    }

    /// The octets above the transport header.
    pub fn data(&self) -> &[u8] {
        let header = match self.packet.kind {
            Kind::Tcp(_) => self.upper().get(12).map_or(20, |octet| usize::from(octet >> 4) * 4),
            _ => 8,
        };
        self.upper().get(header..).unwrap_or(&[])
    }

    /// Source and target.
    pub const fn ends(&self) -> (Endpoint, Endpoint) {
        (self.packet.flow.source, self.packet.flow.target)
    }

    /// Type and code, of an ICMP message.
    pub fn icmp(&self) -> Option<(u8, u8)> {
        let is_icmp = matches!(self.packet.flow.protocol, Protocol::ICMP | Protocol::ICMPV6);
        is_icmp.then(|| Some((*self.upper().first()?, *self.upper().get(1)?)))?
    }
}

/// Whether the transport checksum is right; the header's was checked in parsing.
fn is_intact(ip: &[u8], packet: &Packet) -> bool {
    if packet.fragment.is_some() {
        return true;
    }
    let upper = ip.get(packet.transport - packet.ip..).unwrap_or(&[]);
    let (source, target) = (packet.flow.source.address, packet.flow.target.address);
    let protocol = packet.flow.protocol;
    let length = u32::try_from(upper.len()).unwrap_or(u32::MAX);
    let pseudo = match protocol {
        Protocol::ICMP => 0,
        Protocol::TCP | Protocol::UDP | Protocol::ICMPV6 => {
            pseudo_header_sum(source, target, protocol, length)
        }
        _ => return true,
    };
    let is_unsummed =
        protocol == Protocol::UDP && packet.is_v4() && upper.get(6..8) == Some(&[0, 0]);
    is_unsummed || fold(sum(upper) + pseudo) == 0xffff
}
