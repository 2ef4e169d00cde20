//! Which ports a server opens, and what is spoken on each.

use std::fmt;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaks {
    /// HTTP/1.1 over TCP.
    Http,
    /// Commands and plain echo over TCP.
    Text,
    /// Over TCP, HTTP or text, by how the client begins.
    HttpOrText,
    /// Commands and plain echo, a datagram each, over UDP.
    Datagrams,
    /// Commands and plain echo over SCTP.
    Sctp,
}

/// A port to answer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EchoPort {
    /// The port, host order.
    pub number: u16,
    /// What is spoken there.
    pub speaks: Speaks,
}

impl EchoPort {
    /// The ports of a pod whose containers name none, and of an external host.
    pub const DEFAULT: [Self; 3] = [
        Self { number: 8080, speaks: Speaks::HttpOrText },
        Self { number: 8081, speaks: Speaks::Text },
        Self { number: 8081, speaks: Speaks::Datagrams },
    ];

    /// The port that a container names, by protocol (`TCP`, `UDP`, `SCTP`) and number; `None` for
    /// another protocol, or port zero.
    ///
    /// Source: `Pod.spec.containers[].ports[].containerPort`, `.protocol`.
    pub fn of_container(protocol: &str, number: u16) -> Option<Self> {
        let speaks = match protocol {
            "TCP" => Speaks::HttpOrText,
            "UDP" => Speaks::Datagrams,
            "SCTP" => Speaks::Sctp,
            _ => return None,
        };
        (number != 0).then_some(Self { number, speaks })
    }

    /// The ports of a pod: each that its containers name once, or [`EchoPort::DEFAULT`].
    pub fn of_pod<'a>(named: impl IntoIterator<Item = (&'a str, u16)>) -> Vec<Self> {
        let mut ports: Vec<_> = named
            .into_iter()
            .filter_map(|(protocol, number)| Self::of_container(protocol, number))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() { Self::DEFAULT.to_vec() } else { ports }
    }
}

impl fmt::Display for EchoPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.speaks {
            Speaks::Http | Speaks::Text | Speaks::HttpOrText => "TCP",
            Speaks::Datagrams => "UDP",
            Speaks::Sctp => "SCTP",
        };
        write!(f, "{protocol} port {}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_names_no_port_has_the_usual_ones() {
        assert_eq!(EchoPort::of_pod([]), EchoPort::DEFAULT);
        assert_eq!(EchoPort::of_pod([("ICMP", 8)]), EchoPort::DEFAULT);
    }

    #[test]
    fn two_containers_naming_one_port_share_it() {
        let ports = EchoPort::of_pod([("UDP", 53), ("TCP", 53), ("UDP", 53)]);
        let expected = [
            EchoPort { number: 53, speaks: Speaks::HttpOrText },
            EchoPort { number: 53, speaks: Speaks::Datagrams },
        ];
        assert_eq!(ports, expected);
    }
}
