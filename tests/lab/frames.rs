//! Frames through the TAPs of a lab's hosts, in and out.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use kswitch::lab::{Host, HostSpec, Lab, namespace};
use kswitch::port::{self, BUFFER_OCTETS, Sent, VNET_HEADER};

use super::{SOON, exists, ip, made, node, pod, shell, unique};

/// The next frame with its header that `wanted` takes; others are noise.
fn receive(queue: &mut port::Queue, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let start = Instant::now();
    let mut buffer = vec![0; BUFFER_OCTETS];
    while start.elapsed() < SOON {
        match queue.receive(&mut buffer) {
            Ok(octets) if wanted(&buffer[VNET_HEADER..octets]) => return buffer[..octets].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no such frame came");
}

const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ARP: [u8; 2] = [8, 6];
const IPV4: [u8; 2] = [8, 0];
const UDP: u8 = 17;

/// An Ethernet frame behind a header that asks for nothing.
fn frame(to: [u8; 6], kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&[0; VNET_HEADER], &to[..], &GATEWAY_MAC, &kind, payload].concat()
}

/// The gateway's answer to an ARP request.
fn arp_reply(request: &[u8]) -> Vec<u8> {
    let (from, wanted) = (&request[22..32], &request[38..42]);
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 2], &GATEWAY_MAC[..], wanted, from].concat();
    frame(from[..6].try_into().unwrap(), ARP, &arp)
}

fn octets(address: &str) -> [u8; 4] {
    let IpAddr::V4(address) = ip(address) else { panic!("{address} is not IPv4") };
    address.octets()
}

/// A UDP datagram over IPv4, without UDP checksum.
fn datagram(source: (&str, u16), target: (&str, u16), text: &[u8]) -> Vec<u8> {
    let udp_octets = u16::try_from(8 + text.len()).unwrap();
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + udp_octets).to_be_bytes());
    header[8] = 64;
    header[9] = UDP;
    header[12..16].copy_from_slice(&octets(source.0));
    header[16..20].copy_from_slice(&octets(target.0));
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let [source, target] = [source.1, target.1].map(u16::to_be_bytes);
    [&header[..], &source, &target, &udp_octets.to_be_bytes(), &[0, 0], text].concat()
}

/// A UDP socket inside a namespace.
fn socket(namespace: &str, address: &str) -> UdpSocket {
    let socket = namespace::enter(namespace, || UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Sends a datagram out of a host and another one in, with the neighbours' talk before them.
pub(crate) fn exchange(host: &mut Host, offloads: bool) {
    let socket = socket(&host.namespace, "10.4.0.2:4000");
    socket.send_to(b"out", "198.51.100.7:9").unwrap();

    let request = receive(&mut host.queues[0], |frame| frame[12..14] == ARP);
    let request = &request[VNET_HEADER..];
    assert_eq!(request[..6], [0xff; 6]);
    assert_eq!(request[28..32], octets("10.4.0.2"));
    assert_eq!(request[38..42], octets("10.4.0.1"));
    assert_eq!(host.sender.send(&arp_reply(request)), Sent::Done);

    let out = receive(&mut host.queues[0], |frame| frame[12..14] == IPV4);
    let (header, out) = out.split_at(VNET_HEADER);
    assert_eq!(out[..6], GATEWAY_MAC);
    assert_eq!(out[6..12], [2, 0, 0, 0, 1, 2]);
    assert_eq!(&out[42..], b"out");
    // the checksum is left to us exactly where we said that we take such frames
    assert_eq!(header[0], u8::from(offloads));
    let (start, offset) = (&header[6..8], &header[8..10]);
    assert_eq!([start, offset], if offloads { [[34, 0], [6, 0]] } else { [[0, 0], [0, 0]] });

    let text = datagram(("198.51.100.7", 9), ("10.4.0.2", 4000), b"in");
    let text = frame([2, 0, 0, 0, 1, 2], IPV4, &text);
    assert_eq!(host.sender.send(&text), Sent::Done);
    let mut buffer = [0; 64];
    let (octets, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..octets], b"in");
    assert_eq!(from, "198.51.100.7:9".parse::<SocketAddr>().unwrap());
}

pub(super) fn frames_cross_both_ways_with_offloads_and_without() {
    let name = unique("frames");
    let mut lab = Lab::open(&name).unwrap();
    for (plain, offloads) in [(false, true), (true, false)] {
        let mut host = made(&mut lab, HostSpec { plain, ..pod(&name, 2) });
        exchange(&mut host, offloads);
        lab.remove_host(&host.namespace).unwrap();
        assert!(!exists(&host.namespace));
    }
}

pub(super) fn a_plain_tap_refuses_what_it_could_only_spoil() {
    let name = unique("plain");
    let mut lab = Lab::open(&name).unwrap();
    let host = made(&mut lab, HostSpec { plain: true, ..pod(&name, 2) });
    let mut frame = frame([2, 0, 0, 0, 1, 2], IPV4, &[0; 60]);
    assert_eq!(host.sender.send(&frame), Sent::Done);
    frame[0] = 1;
    assert_eq!(host.sender.send(&frame), Sent::Unfinished);
    frame[..2].copy_from_slice(&[0, 1]);
    assert_eq!(host.sender.send(&frame), Sent::Unfinished);
    assert_eq!(host.sender.send(&frame[..VNET_HEADER - 1]), Sent::Unfinished);
}

pub(super) fn a_device_that_is_down_takes_nothing_until_it_is_up_again() {
    let name = unique("down");
    let mut lab = Lab::open(&name).unwrap();
    let host = made(&mut lab, pod(&name, 2));
    let frame = frame([2, 0, 0, 0, 1, 2], IPV4, &datagram(("10.4.0.9", 1), ("10.4.0.2", 2), b""));
    for (flags, expect) in [("0x1002", Sent::Gone), ("0x1003", Sent::Done)] {
        shell(&host.namespace, &format!("echo {flags} > /sys/class/net/eth0/flags"));
        assert_eq!(host.sender.send(&frame), expect, "{flags}");
    }
}

pub(super) fn a_flow_comes_out_of_the_queue_it_was_sent_through() {
    let name = unique("queues");
    let mut lab = Lab::open(&name).unwrap();
    let mut host = made(&mut lab, HostSpec { queues: 4, ..pod(&name, 2) });
    assert_eq!(host.queues.len(), 4);
    let port::Sender::Tap(sender) = &host.sender else { panic!("not a TAP") };
    let socket = socket(&host.namespace, "10.4.0.2:4000");
    for queue in [2, 0, 3, 1] {
        let peer = ("10.4.0.9", 900 + u16::try_from(queue).unwrap());
        let sender = sender.through(queue);
        let text = datagram(peer, ("10.4.0.2", 4000), b"ask");
        assert_eq!(sender.send(&frame([2, 0, 0, 0, 1, 2], IPV4, &text)), Sent::Done);
        let mut buffer = [0; 64];
        let (octets, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..octets], b"ask");
        socket.send_to(b"answer", from).unwrap();
        if queue == 2 {
            // whichever queue it comes out of: the neighbour is asked for once
            let is_arp = |frame: &[u8]| frame[12..14] == ARP;
            let request = receive_any(&mut host.queues, is_arp);
            assert_eq!(sender.send(&arp_reply(&request[VNET_HEADER..])), Sent::Done);
        }
        let port = peer.1.to_be_bytes();
        let to_peer = |frame: &[u8]| frame[12..14] == IPV4 && frame[36..38] == port;
        receive(&mut host.queues[queue], to_peer);
    }
}

fn receive_any(queues: &mut [port::Queue], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let start = Instant::now();
    let mut buffer = vec![0; BUFFER_OCTETS];
    while start.elapsed() < SOON {
        for queue in &mut *queues {
            if let Ok(octets) = queue.receive(&mut buffer)
                && wanted(&buffer[VNET_HEADER..octets])
            {
                return buffer[..octets].to_vec();
            }
        }
    }
    panic!("no such frame came");
}

pub(super) fn a_node_reaches_a_gateway_outside_its_prefix_and_hears_from_addresses_it_shares() {
    let name = unique("node");
    let mut lab = Lab::open(&name).unwrap();
    let mut host = made(&mut lab, node(&name));
    let socket = socket(&host.namespace, "0.0.0.0:4000");
    socket.send_to(b"out", "10.4.1.9:9").unwrap();
    let request = receive(&mut host.queues[0], |frame| frame[12..14] == ARP);
    let request = &request[VNET_HEADER..];
    assert_eq!(request[28..32], octets("192.168.7.10"));
    assert_eq!(request[38..42], octets("169.254.1.1"));
    host.sender.send(&arp_reply(request));
    let out = receive(&mut host.queues[0], |frame| frame[12..14] == IPV4);
    assert_eq!(out[VNET_HEADER..][26..30], octets("192.168.7.10"));

    // the router speaks from an address that the node's own stack has, too
    for from in ["10.4.0.1", "192.168.7.10"] {
        let text = datagram((from, 9), ("192.168.7.10", 4000), from.as_bytes());
        host.sender.send(&frame([2, 0, 0, 0, 1, 200], IPV4, &text));
        let mut buffer = [0; 64];
        let (octets, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..octets], from.as_bytes());
    }

    let socket = namespace::enter(&host.namespace, || UdpSocket::bind("[::]:4001"));
    socket.unwrap().unwrap().send_to(b"out", "[fd00:4:0:1::9]:9").unwrap();
    let solicits = |frame: &[u8]| frame[12..14] == [0x86, 0xdd] && frame[54] == 135;
    let solicitation = receive(&mut host.queues[0], solicits);
    let target = &solicitation[VNET_HEADER..][62..78];
    assert_eq!(target, "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
}
