//! Super-frames cut into segments, each of which stands alone.

use kswitch::dataplane::Vnet;
use kswitch::dataplane::checksum::{fold, pseudo_header_sum};
use kswitch::dataplane::frame::{ETHERNET_HEADER, IPV6_HEADER, TCP_FIN};
use kswitch::dataplane::rewrite::{get_u16, put_u16};
use kswitch::dataplane::segment::Segmenter;
use kswitch::port::VNET_HEADER;
use kswitch::sim::craft::{Body, Craft};
use kswitch::sim::read::Received;
use kswitch_tables::{Endpoint, MacAddress, Protocol};
use smoltcp::wire::{EthernetFrame, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;
const FROM: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const TO: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(address.parse::<std::net::IpAddr>().unwrap().into(), port)
}

fn payload(octets: usize) -> Vec<u8> {
    (0..octets).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

/// A frame as a pod hands it over: one header, all of the payload, the checksum left open.
fn super_frame(is_v4: bool, body: Body, gso_size: u16) -> Vec<u8> {
    let (source, target) = if is_v4 {
        (endpoint("10.4.0.2", 4000), endpoint("10.4.1.2", 8080))
    } else {
        (endpoint("fd00:4::2", 4000), endpoint("fd00:4:0:1::2", 8080))
    };
    let flags = if let Body::Tcp { flags, .. } = &body { Some(*flags) } else { None };
    let is_tcp = flags.is_some();
    let mut buffer = Craft { source, target, ttl: 64, body }.frame(FROM, TO);
    let transport = ETHERNET_HEADER + if is_v4 { 20 } else { IPV6_HEADER };
    let gso_type = match (is_tcp, is_v4) {
        (true, true) => Vnet::GSO_TCPV4,
        (true, false) => Vnet::GSO_TCPV6,
        (false, _) => Vnet::GSO_UDP_L4,
    };
    let offset: u16 = if is_tcp { 16 } else { 6 };
    if let Some(flags) = flags {
        // those too that the builder does not know
        buffer[VNET_HEADER + transport + 13] = flags;
    }
    buffer[0] = 1;
    buffer[1] = gso_type;
    buffer[4..6].copy_from_slice(&gso_size.to_le_bytes());
    buffer[6..8].copy_from_slice(&u16::try_from(transport).unwrap().to_le_bytes());
    buffer[8..10].copy_from_slice(&offset.to_le_bytes());
    // what stands there does not count
    put_u16(&mut buffer[VNET_HEADER..], transport + usize::from(offset), 0xdead);
    buffer
}

fn segments(buffer: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    Segmenter::default().send(buffer, |segment| all.push(segment.to_vec())).then_some(all)
}

/// The transport octets and the addresses of a segment whose IP header is right.
fn upper(segment: &[u8]) -> (IpAddress, IpAddress, Vec<u8>) {
    assert_eq!(segment[..VNET_HEADER], [0; VNET_HEADER], "nothing is left open");
    let ethernet = EthernetFrame::new_checked(&segment[VNET_HEADER..]).unwrap();
    assert_eq!((ethernet.src_addr().0, ethernet.dst_addr().0), (FROM.0, TO.0));
    if let Ok(ip) = Ipv4Packet::new_checked(ethernet.payload()) {
        assert!(ip.verify_checksum());
        (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec())
    } else {
        let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
        (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec())
    }
}

#[test]
fn tcp_is_cut_into_segments_that_stand_alone() {
    for (is_v4, octets, size) in
        [(true, 60_000, 1448), (true, 1448, 1448), (false, 40_001, 1428), (false, 1, 1428)]
    {
        let data = payload(octets);
        let flags = 0x80 | 0x10 | TCP_PSH | TCP_FIN;
        let first = u32::MAX - 2000;
        let body = Body::Tcp { flags, sequence: first, acknowledged: 7, data: data.clone() };
        let all = segments(&super_frame(is_v4, body, size)).unwrap();
        assert_eq!(all.len(), octets.div_ceil(usize::from(size)));
        let (mut together, mut ids) = (Vec::new(), Vec::new());
        for (number, segment) in all.iter().enumerate() {
            let (source, target, octets) = upper(segment);
            let tcp = TcpPacket::new_checked(&octets).unwrap();
            assert!(tcp.verify_checksum(&source, &target), "segment {number}");
            let is_last = number + 1 == all.len();
            assert_eq!((tcp.fin(), tcp.psh(), tcp.ack()), (is_last, is_last, true));
            assert_eq!(octets[13] & TCP_CWR != 0, number == 0);
            let at = u32::try_from(together.len()).unwrap();
            assert_eq!(tcp.seq_number().0.cast_unsigned(), first.wrapping_add(at));
            together.extend_from_slice(tcp.payload());
            ids.push(get_u16(&segment[VNET_HEADER..], ETHERNET_HEADER + 4).unwrap());
        }
        assert_eq!(together, data);
        if is_v4 {
            assert!(ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
        }
    }
}

#[test]
fn udp_is_cut_into_datagrams() {
    for (is_v4, octets, size) in [(true, 9_000, 1472), (false, 9_000, 1452), (true, 1473, 1472)] {
        let data = payload(octets);
        let all = segments(&super_frame(is_v4, Body::Udp(data.clone()), size)).unwrap();
        let mut together = Vec::new();
        for segment in &all {
            let (source, target, octets) = upper(segment);
            let udp = UdpPacket::new_checked(&octets).unwrap();
            assert!(udp.verify_checksum(&source, &target) && udp.checksum() != 0);
            together.extend_from_slice(udp.payload());
        }
        assert_eq!(all.len(), octets.div_ceil(usize::from(size)));
        assert_eq!(together, data);
    }
}

#[test]
fn a_frame_that_lacks_only_its_checksum_gets_it() {
    let mut buffer = super_frame(true, Body::Udp(payload(100)), 0);
    buffer[1] = Vnet::GSO_NONE;
    // the field holds the pseudo-header's sum, as a pod's stack leaves it
    let ends = (endpoint("10.4.0.2", 4000).address, endpoint("10.4.1.2", 8080).address);
    let sum = fold(pseudo_header_sum(ends.0, ends.1, Protocol::UDP, 108));
    put_u16(&mut buffer[VNET_HEADER..], 40, sum);
    let all = segments(&buffer).unwrap();
    assert_eq!(all.len(), 1);
    assert!(Received::read(&all[0]).is_some(), "its checksums are right");
}

#[test]
fn a_header_that_lies_is_refused() {
    let body = || Body::Tcp { flags: 0x10, sequence: 1, acknowledged: 1, data: payload(3000) };
    let good = super_frame(true, body(), 1448);
    assert!(segments(&good).is_some());
    let lies: [(usize, u8); 6] = [
        (0, 0),                        // no checksum to be made
        (1, 4),                        // TCP over IPv6
        (1, 3),                        // fragments, which nobody sends
        (6, 10),                       // the transport header within the Ethernet header
        (7, 0xff),                     // or beyond the frame
        (VNET_HEADER + 34 + 12, 0xf0), // a TCP header that is fine, but longer: options
    ];
    for (at, value) in lies {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(segments(&bad).is_none() || at > VNET_HEADER, "octet {at} of {value}");
    }
    let mut none = good.clone();
    none[4..6].fill(0);
    assert!(segments(&none).is_none(), "segments of nothing");
    for octets in 0..good.len() {
        let _ = segments(&good[..octets]);
    }
}
