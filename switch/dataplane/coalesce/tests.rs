//! Datagrams joined, and cut again.

use proptest::prelude::*;

use super::*;
use crate::dataplane::checksum::of;
use crate::dataplane::segment::Segmenter;

const PORT: PortId = PortId(3);

/// A datagram of this flow, of IPv6 where it is odd; it has the identification where it `may_be_cut`.
fn datagram(flow: u16, payload: &[u8], id: u16, may_be_cut: bool) -> Vec<u8> {
    let udp_octets = u16::try_from(UDP_HEADER + payload.len()).unwrap();
    let mut buffer = vec![0; VNET_HEADER];
    buffer.extend([[2; 6], [4; 6]].concat());
    if flow.is_multiple_of(2) {
        buffer.extend(ETHERTYPE_IPV4.to_be_bytes());
        buffer.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 4, 0, 2, 10, 4, 1, 2]);
        put_u16(&mut buffer, IP + 2, 20 + udp_octets);
        put_u16(&mut buffer, IP + 4, id);
        put_u16(&mut buffer, IP + 6, if may_be_cut { 0 } else { 0x4000 });
        let checksum = of(&buffer[IP..]);
        put_u16(&mut buffer, IP + 10, checksum);
    } else {
        buffer.extend(ETHERTYPE_IPV6.to_be_bytes());
        buffer.extend([0x60, 0, 0, 0, 0, 0, 17, 64]);
        put_u16(&mut buffer, IP + 4, udp_octets);
        buffer.extend([[0xfd; 16], [0xfe; 16]].concat());
    }
    let transport = buffer.len();
    for word in [1000 + flow, 9, udp_octets, 0] {
        buffer.extend(word.to_be_bytes());
    }
    buffer.extend(payload);
    let pseudo = Datagram { buffer: &buffer, transport }.pseudo_sum(udp_octets.into());
    let checksum = !fold(pseudo + sum(&buffer[transport..]));
    put_u16(&mut buffer, transport + 6, if checksum == 0 { 0xffff } else { checksum });
    buffer
}

/// What is sent when these frames are, and as how many frames and octets that counts.
fn sent(frames: &[Vec<u8>]) -> Vec<(Vec<u8>, u16, usize)> {
    let (mut coalescer, sent) = (Coalescer::default(), std::cell::RefCell::new(Vec::new()));
    let send = |joined: Joined<'_>| {
        sent.borrow_mut().push((joined.buffer.to_vec(), joined.datagrams, joined.octets()));
    };
    for frame in frames {
        if !coalescer.take(PORT, frame, send) {
            sent.borrow_mut().push((frame.clone(), 1, frame.len() - VNET_HEADER));
        }
    }
    coalescer.finish(send);
    sent.into_inner()
}

/// The frames that a receiver makes of one.
fn cut(buffer: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    assert!(Segmenter::default().send(buffer, |frame| frames.push(frame.to_vec())));
    frames
}

fn flow_of(frame: &[u8]) -> u16 {
    get_u16(frame, if frame[IP] >> 4 == 4 { IP + 20 } else { IP + 40 }).unwrap()
}

#[test]
fn equal_ones_become_one_frame_and_a_shorter_one_ends_it() {
    let frames: Vec<_> =
        [18, 18, 18, 7, 18].map(|octets| datagram(0, &vec![7; octets], 0, false)).into();
    let sent = sent(&frames);
    let counts: Vec<_> = sent.iter().map(|(_, datagrams, _)| *datagrams).collect();
    assert_eq!(counts, [4, 1]);
    assert_eq!(sent[0].2, 3 * 60 + 49);
    let header = Vnet::read(sent[0].0.first_chunk().unwrap());
    assert_eq!((header.gso_type, header.gso_size), (Vnet::GSO_UDP_L4, 18));
    // what was alone goes as it came
    assert_eq!(sent[1].0, frames[4]);
}

#[test]
fn what_could_not_be_told_apart_again_goes_alone() {
    let plain = datagram(0, &[1; 20], 0, false);
    let changed = |at: usize, value: u16| {
        let mut frame = plain.clone();
        put_u16(&mut frame, at, value);
        frame
    };
    let others = [
        // no checksum, a wrong one, another TTL, a fragment, trailing octets, of all machines
        changed(IP + 26, 0),
        changed(IP + 26, 1),
        changed(IP + 8, 0x3f11),
        changed(IP + 6, 0x2000),
        [&plain[..], &[0]].concat(),
        changed(VNET_HEADER, 0x0302),
        datagram(0, &[1; 21], 0, false),
        datagram(2, &[1; 20], 0, false),
    ];
    for other in others {
        let counts: Vec<_> =
            sent(&[plain.clone(), other]).iter().map(|(_, datagrams, _)| *datagrams).collect();
        assert_eq!(counts, [1, 1]);
    }
    let numbered = |id| datagram(0, &[1; 20], id, true);
    assert_eq!(sent(&[numbered(0xffff), numbered(0)]).len(), 1);
    assert_eq!(sent(&[numbered(4), numbered(4)]).len(), 2);
}

#[test]
fn no_frame_is_longer_or_more_than_the_kernel_takes() {
    let small = vec![datagram(1, &[1; 20], 0, false); 65];
    assert_eq!(sent(&small).iter().map(|sent| sent.1).collect::<Vec<_>>(), [64, 1]);
    for flow in [0, 1] {
        let large = vec![datagram(flow, &[1; 1400], 0, false); 47];
        let sent = sent(&large);
        assert_eq!(sent.iter().map(|sent| sent.1).collect::<Vec<_>>(), [46, 1]);
        assert!(sent[0].0.len() <= BUFFER_OCTETS);
    }
}

proptest! {
    #[test]
    fn what_is_cut_is_what_came_and_in_its_order(
        plan in prop::collection::vec(
            (0..7u16, 1..4usize, any::<bool>(), any::<bool>(), any::<u8>()), 1..80),
    ) {
        let mut numbers = [0u16; 7];
        let frames: Vec<_> = plan.iter().map(|(flow, length, may_be_cut, is_sum_open, octet)| {
            let number = &mut numbers[usize::from(*flow)];
            *number += 1;
            let mut frame =
                datagram(*flow, &vec![*octet; *length * 9], *number, *may_be_cut);
            if *is_sum_open {
                let transport = Datagram::of(&frame).unwrap().transport;
                let covered = frame.len() - transport;
                let pseudo = Datagram { buffer: &frame, transport }.pseudo_sum(covered);
                put_u16(&mut frame, transport + 6, fold(pseudo));
                let start = u16::try_from(transport - VNET_HEADER).unwrap().to_le_bytes();
                frame[0] = 1;
                frame[6..10].copy_from_slice(&[start[0], start[1], 6, 0]);
            }
            frame
        }).collect();
        let sent = sent(&frames);
        let octets: usize = sent.iter().map(|(_, _, octets)| octets).sum();
        let came: usize = frames.iter().map(|frame| frame.len() - VNET_HEADER).sum();
        prop_assert_eq!(octets, came);
        let arrived: Vec<_> = sent.iter().flat_map(|(buffer, ..)| cut(buffer)).collect();
        let whole: Vec<_> = frames.iter().flat_map(|frame| cut(frame)).collect();
        for flow in 1000..1007 {
            let mine = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let all = frames.iter().filter(|frame| flow_of(frame) == flow);
                // identification means nothing where it may not be cut, and takes part in a checksum
                all.map(|frame| {
                    let mut frame = frame.clone();
                    if frame[IP] == 0x45 && frame[IP + 6] & 0x40 != 0 {
                        assert_eq!(of(&frame[IP..IP + 20]), 0);
                        frame[IP + 4..IP + 6].fill(0);
                        frame[IP + 10..IP + 12].fill(0);
                    }
                    frame
                }).collect()
            };
            prop_assert_eq!(mine(&arrived), mine(&whole));
        }
    }
}
