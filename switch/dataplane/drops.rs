//! Why a frame went no further.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $meaning:literal;)*) => {
        /// Why a frame went no further; also the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each reason's meaning is its text, below")]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics and JSON.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// What it means, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

drop_reasons! {
    FrameTooShort = "frame_too_short", "the frame ends within its Ethernet header";
    BadIpHeader = "bad_ip_header", "version, header length or total length of the IP header is wrong";
    BadIpChecksum = "bad_ip_checksum", "the IPv4 header checksum is wrong";
    BadExtensionHeader = "bad_extension_header", "the IPv6 extension headers are broken or too many";
    BadTransportHeader = "bad_transport_header", "the transport header is cut off or its length is wrong";
    BadIcmpChecksum = "bad_icmp_checksum", "the checksum of a message to the switch itself is wrong";
    BadNeighbourMessage = "bad_neighbour_message", "an ARP or neighbour discovery message breaks its own rules";
    MartianSource = "martian_source", "the source is an address no machine may send from";
    MartianTarget = "martian_target", "the destination is an address that is never routed";
    SpoofedMac = "spoofed_mac", "the Ethernet source is not that of the machine behind the port";
    SpoofedAddress = "spoofed_address", "the source address is not one of the machine behind the port";
    NotForRouter = "not_for_router", "the frame is for another machine, and this link has no other";
    NoSuchNeighbour = "no_such_neighbour", "no port of the bridge is known by this Ethernet address any more";
    NoBridgeMember = "no_bridge_member", "the bridge has no other port to flood to";
    Fragmented = "fragmented", "a later fragment of a packet whose first fragment is not known";
    FragmentOverlap = "fragment_overlap", "the fragment repeats or overlaps another of its packet, or is no whole piece";
    NoRoute = "no_route", "no route leads to the destination";
    Blackhole = "blackhole", "the address is of the pod ranges, and no route says which node has it";
    HostUnreachable = "host_unreachable", "the destination's link is here, but no machine has the address";
    NodeDown = "node_down", "the node that it comes from or goes to is switched off";
    NeighbourQueueFull = "neighbour_queue_full", "too many packets wait for neighbours that have not answered";
    TtlExceeded = "ttl_exceeded", "the packet may cross no more routers";
    TooBig = "too_big", "the packet is larger than the next link carries and may not be cut";
    NoService = "no_service", "the address is of the service range, but no service has it";
    NoServicePort = "no_service_port", "the service has no such port";
    NoEndpoints = "no_endpoints", "the service has no usable endpoint";
    NoLocalEndpoints = "no_local_endpoints", "the service has endpoints, but none that this traffic may use here";
    SourceRange = "source_range", "the source is outside the service's source ranges";
    NoForwardingRule = "no_forwarding_rule", "the load balancer does not serve this port";
    ForwardingScope = "forwarding_scope", "the load balancer is not for sources outside of its network or region";
    PolicyEgress = "policy_egress", "the policies of its source do not let it be sent";
    PolicyIngress = "policy_ingress", "the policies of its target do not let it be received";
    MidStream = "mid_stream", "not the start of a connection, and of no known flow";
    InvalidState = "invalid_state", "not what the connection's state allows";
    UnrelatedIcmp = "unrelated_icmp", "an ICMP error about no known flow";
    UnsolicitedReply = "unsolicited_reply", "an echo reply nobody asked for";
    ConntrackFull = "conntrack_full", "the connection table is full";
    HalfOpenLimit = "half_open_limit", "its sender has begun too many flows that nobody has answered";
    ConntrackContended = "conntrack_contended", "another worker was recording the same flow for too long";
    RouterPort = "router_port", "nobody listens at an address of a router itself";
    NoSourcePort = "no_source_port", "every source port that was tried is taken";
    LinkCut = "link_cut", "nothing passes a link on the way, as was asked for";
    LinkLoss = "link_loss", "lost on a link on the way, as was asked for";
    LinkFull = "link_full", "too many frames wait for a link on the way that was made slow";
    PortBusy = "port_busy", "the receiving queue is full";
    PortGone = "port_gone", "nothing is attached to the port any more";
    PortUnfinished = "port_unfinished", "the port cannot take a frame with checksum or segmentation left to do";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reasons_index_their_counters_and_have_names_of_their_own() {
        let mut keys = HashSet::new();
        for (at, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!(keys.insert(reason.key()));
        }
    }
}
