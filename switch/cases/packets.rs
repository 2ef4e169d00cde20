//! Judging checksums and the rewriting of single packets, octet for octet.

use std::fmt::Write;

use kswitch_tables::conntrack::BindingFlags;
use kswitch_tables::{Binding, Endpoint, Generation, Hop, HopId, LoadId, MacAddress, PortId};

use super::findings::Findings;
use super::format::nat::{End, Sum, Translate, Translated, Update};
use super::topology::Broken;
use crate::dataplane::frame::{ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::dataplane::{Frame, Kind, Packet, Parsed, checksum, icmp_error, rewrite};
use crate::sim::craft::ethernet;

/// Sums octets and judges the sums.
///
/// # Errors
/// The octets are not in hex.
pub fn judge_sums(sums: &[Sum], findings: &mut Findings) -> Result<(), Broken> {
    for Sum { data, sum, checksum: complement } in sums {
        findings.item(format!("sum of {data}"));
        let octets = hex(data)?;
        let got = checksum::fold(checksum::sum(&octets));
        for (what, expected, got) in
            [("sum", sum, got), ("checksum", complement, checksum::of(&octets))]
        {
            if let Some(expected) = expected.as_deref().map(word).transpose()?
                && expected != got
            {
                let text = |word: u16| format!("{what} {word:04x}");
                findings.differs(text(expected), text(got), Vec::new());
            }
        }
    }
    Ok(())
}

/// Updates checksums and judges them.
///
/// # Errors
/// Something is not in hex, or nothing is expected.
pub fn judge_updates(updates: &[Update], findings: &mut Findings) -> Result<(), Broken> {
    for Update { checksum: before, old, new, expect, expect_any } in updates {
        findings.item(format!("checksum {before}, {old} becomes {new}"));
        let delta = checksum::delta(word(old)?.into(), word(new)?.into());
        let got = checksum::updated(word(before)?, delta);
        let expected = expect.iter().chain(expect_any).map(|text| word(text));
        let expected: Vec<u16> = expected.collect::<Result<_, _>>()?;
        if expected.is_empty() {
            return Err(Broken("an update lacks `expect`".to_owned()));
        }
        if !expected.contains(&got) {
            let expected: Vec<_> = expected.iter().map(|word| format!("{word:04x}")).collect();
            findings.differs(expected.join(" or "), format!("{got:04x}"), Vec::new());
        }
    }
    Ok(())
}

/// Translates packets and judges them.
///
/// # Errors
/// A packet cannot be read, or is another one than `translate` says.
pub fn judge_packets(packets: &[Translated], findings: &mut Findings) -> Result<(), Broken> {
    for Translated { name, translate, before, after, note: _ } in packets {
        findings.item(name);
        let got = translated(&hex(before)?, translate)
            .map_err(|Broken(why)| Broken(format!("packet {name}: {why}")))?;
        if got != hex(after)? {
            let differs = |(a, b): (&u8, &u8)| a != b;
            let at = hex(after)?.iter().zip(&got).position(differs);
            let why = format!("the first octet that differs: {at:?}");
            findings.differs(after, in_hex(&got), vec![why]);
        }
    }
    Ok(())
}

/// A packet after translation.
fn translated(packet: &[u8], translate: &Translate) -> Result<Vec<u8>, Broken> {
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let ethertype = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let mut buffer = ethernet(mac, mac, ethertype, packet);
    let mut frame = Frame::new(&mut buffer);
    let parsed = match frame.parse() {
        Ok(Parsed::Ip(packet)) => packet,
        Ok(_) => return Err(Broken("it is no IP packet".to_owned())),
        Err(reason) => return Err(Broken(reason.to_string())),
    };
    let Translate { src, new_src, dst, new_dst, id, new_id, .. } = *translate;
    let ends = (parsed.flow.source, parsed.flow.target);
    let outer = changed(ends, [(src, new_src), (dst, new_dst)], (id, new_id))?;
    if matches!(parsed.kind, Kind::IcmpError) {
        translate_quote(&mut frame, &parsed, translate)?;
    }
    let (ip_delta, transport_delta) = rewrite::deltas(parsed.flow.protocol, ends, outer);
    let binding = Binding {
        ingress: PortId(0),
        source: outer.0,
        target: outer.1,
        ip_delta,
        transport_delta,
        hops: 0,
        hop: HopId(0),
        load: LoadId::NONE,
        generation: Generation(0),
        flags: BindingFlags::NAT,
    };
    let hop = Hop { port: PortId(0), source_mac: mac, target_mac: mac, mtu: u16::MAX };
    rewrite::apply(&mut frame, &parsed, &binding, &hop);
    Ok(frame.bytes().get(ETHERNET_HEADER..).unwrap_or(&[]).to_vec())
}

fn translate_quote(
    frame: &mut Frame<'_>,
    packet: &Packet,
    translate: &Translate,
) -> Result<(), Broken> {
    let quoted = icmp_error::quoted(frame.bytes(), packet);
    let quoted = quoted.ok_or_else(|| Broken("what it quotes cannot be read".to_owned()))?;
    let Translate { quoted_src, new_quoted_src, quoted_dst, new_quoted_dst, .. } = *translate;
    let ids = (translate.quoted_id, translate.new_quoted_id);
    let ends = (quoted.flow.source, quoted.flow.target);
    let changes = [(quoted_src, new_quoted_src), (quoted_dst, new_quoted_dst)];
    let (source, target) = changed(ends, changes, ids)?;
    // the quote is rewritten by what answers to it become
    let back = Binding {
        ingress: PortId(0),
        source: target,
        target: source,
        ip_delta: 0,
        transport_delta: 0,
        hops: 0,
        hop: HopId(0),
        load: LoadId::NONE,
        generation: Generation(0),
        flags: BindingFlags::NAT,
    };
    icmp_error::rewrite_quote(frame.bytes_mut(), packet, &quoted, &back);
    Ok(())
}

/// Both ends after a change, if they are before it what the change says.
fn changed(
    ends: (Endpoint, Endpoint),
    [source, target]: [(Option<End>, Option<End>); 2],
    (id, new_id): (Option<u16>, Option<u16>),
) -> Result<(Endpoint, Endpoint), Broken> {
    let one = |have: Endpoint, (before, after): (Option<End>, Option<End>)| {
        let is_it = |end: End| {
            end.ip == have.address.to_ip() && end.port.is_none_or(|port| port == have.port)
        };
        if let Some(before) = before.filter(|before| !is_it(*before)) {
            return Err(Broken(format!("it has {have}, not {before:?}")));
        }
        Ok(after.map_or(have, |end| Endpoint::new(end.ip.into(), end.port.unwrap_or(have.port))))
    };
    let (mut source, mut target) = (one(ends.0, source)?, one(ends.1, target)?);
    if let Some(before) = id.filter(|before| *before != ends.0.port) {
        return Err(Broken(format!("it has identifier {}, not {before}", ends.0.port)));
    }
    if let Some(id) = new_id {
        (source.port, target.port) = (id, id);
    }
    Ok((source, target))
}

/// Octets as hex.
fn in_hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // writing to a string cannot fail
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Octets in hex.
fn hex(text: &str) -> Result<Vec<u8>, Broken> {
    let broken = || Broken(format!("{text:?} is not octets in hex"));
    let digits: Vec<u8> = text.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(broken());
    }
    let octet = |pair: &[u8; 2]| {
        let text = std::str::from_utf8(pair).map_err(|_| broken())?;
        u8::from_str_radix(text, 16).map_err(|_| broken())
    };
    pairs.iter().map(octet).collect()
}

/// A word of sixteen bits in hex.
fn word(text: &str) -> Result<u16, Broken> {
    u16::from_str_radix(text, 16).map_err(|_| Broken(format!("{text:?} is no word in hex")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_octets() {
        assert_eq!(hex("00ffA1"), Ok(vec![0, 255, 0xa1]));
        assert!(hex("0").is_err() && hex("zz").is_err());
    }

    #[test]
    fn a_wrong_expectation_is_found() {
        let mut findings = Findings::default();
        let sum = |sum: &str| Sum {
            data: "0001f203f4f5f6f7".to_owned(),
            sum: Some(sum.to_owned()),
            checksum: None,
        };
        judge_sums(&[sum("ddf2")], &mut findings).unwrap();
        assert!(findings.differences.is_empty());
        judge_sums(&[sum("ddf3")], &mut findings).unwrap();
        assert_eq!(findings.differences[0].got, "sum ddf2");
    }
}
