//! Ways to move frames: whichever it is, what arrives is what was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;

use kswitch::lab::namespace;
use libtest_mimic::Failed;
use nix::sys::socket::{setsockopt, sockopt};

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fetch, fresh_name};

pub(crate) const TESTS: &[Test] = &[
    ("every way to read and write carries the same octets", &[], every_way),
    ("large segments are cut for pods that take none", &[], cut_for_plain),
    ("a host outside may be behind an interface", &["ip"], behind_an_interface),
    ("a host outside may be behind an interface by AF_XDP", &["ip"], behind_an_interface_by_xdp),
];

/// A client on one node and a server on another, in both families.
fn lab(name: &str, settings: &str, of_server: &str) -> String {
    format!(
        r#"
[lab]
name = "{name}"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
[switch]
metrics = "off"
workers = 2
{settings}
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "a"
[[pod]]
metadata = {{ name = "server", {of_server} }}
spec.nodeName = "b"
"#
    )
}

fn octets(count: usize) -> Vec<u8> {
    (0..count).map(|n| u8::try_from((n * 31 + n / 1000) % 253).unwrap()).collect()
}

/// Sends this much there and back by TCP.
fn there_and_back(lab: &Lab, is_v4: bool, count: usize) -> Result<(), Failed> {
    let ip = lab.pod_ip("server", is_v4)?;
    let any = if is_v4 { "0.0.0.0:9000" } else { "[::]:9000" };
    let target = if is_v4 { format!("{ip}:9000") } else { format!("[{ip}]:9000") };
    let listener = lab.inside("default.server", || TcpListener::bind(any))??;
    let server = thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut data = Vec::new();
        stream.read_to_end(&mut data)?;
        stream.write_all(&data)
    });
    let client = lab.inside("default.client", || TcpStream::connect(&target))??;
    client.set_read_timeout(Some(EXCHANGE * 10))?;
    let mut writer = client.try_clone()?;
    let data = octets(count);
    let sent = data.clone();
    let sending = thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    (&client).read_to_end(&mut back)?;
    sending.join().map_err(|_| "the sender panicked")??;
    server.join().map_err(|_| "the server panicked")??;
    assert!(back == data, "{} of {} octets came back, or others", back.len(), data.len());
    Ok(())
}

fn every_way() -> Result<(), Failed> {
    for io in ["auto", "io-uring", "read-write"] {
        let name = fresh_name();
        let lab = Lab::start(&name, &lab(&name, &format!("io = \"{io}\""), ""))?;
        for is_v4 in [true, false] {
            there_and_back(&lab, is_v4, 3_000_000)?;
        }
    }
    Ok(())
}

fn cut_for_plain() -> Result<(), Failed> {
    const DATAGRAM: u16 = 1_300;
    let name = fresh_name();
    let annotation = r#"annotations = { "kswitch/offloads" = "false" }"#;
    let lab = Lab::start(&name, &lab(&name, "", annotation))?;
    for is_v4 in [true, false] {
        there_and_back(&lab, is_v4, 3_000_000)?;
        let ip = lab.pod_ip("server", is_v4)?;
        let any = if is_v4 { "0.0.0.0:9001" } else { "[::]:9001" };
        let target = if is_v4 { format!("{ip}:9001") } else { format!("[{ip}]:9001") };
        let server = lab.inside("default.server", || UdpSocket::bind(any))??;
        server.set_read_timeout(Some(EXCHANGE))?;
        let client =
            lab.inside("default.client", || UdpSocket::bind(any.replace("9001", "0")))??;
        setsockopt(&client, sockopt::UdpGsoSegment, &i32::from(DATAGRAM))?;
        client.connect(&target)?;
        let data = octets(5 * usize::from(DATAGRAM) + 77);
        client.send(&data)?;
        let (mut together, mut room) = (Vec::new(), [0; 2048]);
        while together.len() < data.len() {
            let length = server.recv(&mut room)?;
            assert!(length <= usize::from(DATAGRAM));
            together.extend_from_slice(&room[..length]);
        }
        assert!(together == data, "datagrams came in another order, or others");
    }
    Ok(())
}

pub(crate) fn ip(arguments: &str) -> Result<(), Failed> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    if !output.status.success() {
        return Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// A namespace that goes with the test.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new(name: &str) -> Result<Self, Failed> {
        ip(&format!("netns add {name}"))?;
        Ok(Self(name.to_owned()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.0));
    }
}

/// The switch runs in a namespace of its own, where it finds one end of a veth pair; on the other
/// end, in another namespace, is the host.
fn behind_an_interface() -> Result<(), Failed> {
    behind("packet")
}

/// The same by AF_XDP, whose frames do not say that their checksums are unfinished.
fn behind_an_interface_by_xdp() -> Result<(), Failed> {
    behind("xdp")
}

fn behind(kind: &str) -> Result<(), Failed> {
    const MAC: &str = "02:00:00:00:77:01";
    let name = fresh_name();
    let (machine, wan) =
        (Namespace::new(&format!("{name}-machine"))?, Namespace::new(&format!("{name}-wan"))?);
    let (inside, outside) = (&machine.0, &wan.0);
    ip(&format!("-n {inside} link add wan0 type veth peer name eth0 netns {outside}"))?;
    ip(&format!("-n {inside} link set lo up"))?;
    ip(&format!("-n {outside} link set eth0 address {MAC} up"))?;
    ip(&format!("-n {outside} addr add 198.51.100.9/24 dev eth0"))?;
    ip(&format!("-n {outside} route add default via 198.51.100.1"))?;
    let external = format!(
        r#"
[[external]]
name = "wan"
address = "198.51.100.9/24"
port = {{ kind = "{kind}", interface = "wan0", mac = "{MAC}" }}
"#
    );
    let text = lab(&name, "", "") + &external;
    let lab = namespace::enter(inside, || Lab::start(&name, &text))??;
    let listener = namespace::enter(outside, || TcpListener::bind("198.51.100.9:80"))??;
    let server = thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, from) = listener.accept()?;
        let (mut head, mut octet) = (Vec::new(), [0]);
        // all of it: to close over what was not read would be a reset
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut octet)? > 0 {
            head.extend(octet);
        }
        let body = vec![b'x'; 1_000_000];
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        stream.write_all(&body)?;
        Ok(from.ip().to_string())
    });
    let body = lab.inside("default.client", || fetch("198.51.100.9:80", "/"))??;
    assert_eq!(body.len(), 1_000_000);
    let seen = server.join().map_err(|_| "the server panicked")??;
    assert_eq!(seen, "10.128.0.2", "the outside sees the node");
    Ok(())
}
