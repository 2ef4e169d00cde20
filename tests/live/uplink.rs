//! The outside as it is: machines that nobody wrote down, and routers with narrow links.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;

use kswitch::lab::namespace;
use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fetch, fresh_name, until};
use crate::ports::{Namespace, ip};

pub(crate) const TESTS: &[Test] = &[
    ("a machine outside that nobody wrote down is found", &["ip"], stranger),
    ("a path is as wide as its narrowest link, wherever that is", &["ip"], middle_link),
];

/// A client and a web on two nodes; the web is served at an address on the uplink as well.
fn lab(name: &str, external: &str) -> String {
    format!(
        r#"
[lab]
name = "{name}"
[cluster]
pod-cidrs = ["10.4.0.0/14", "fd00:4::/48"]
service-cidrs = ["10.8.0.0/20", "fd00:8::/112"]
load-balancer-pools = ["198.51.100.128/28", "2001:db8:99::80/124"]
[switch]
metrics = "off"
workers = 2
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = {{ name = "client" }}
spec.nodeName = "a"
[[pod]]
metadata = {{ name = "web", labels = {{ app = "web" }} }}
spec.nodeName = "b"
[[service]]
metadata = {{ name = "web" }}
[service.spec]
type = "LoadBalancer"
externalTrafficPolicy = "Local"
clusterIPs = ["10.8.1.1", "fd00:8::101"]
clusterIP = "10.8.1.1"
ipFamilyPolicy = "RequireDualStack"
selector = {{ app = "web" }}
ports = [
    {{ name = "http", port = 80, targetPort = 8080 }},
    {{ name = "bulk", port = 90, targetPort = 9000 }},
    {{ name = "datagrams", port = 90, targetPort = 9000, protocol = "UDP" }},
]
{external}
"#
    )
}

/// The switch takes one end of a veth pair over; on the other one is not the machine it was told of.
fn stranger() -> Result<(), Failed> {
    const MAC: &str = "02:00:00:00:50:01";
    let name = fresh_name();
    let (machine, wan) =
        (Namespace::new(&format!("{name}-machine"))?, Namespace::new(&format!("{name}-wan"))?);
    let (inside, outside) = (&machine.0, &wan.0);
    ip(&format!("-n {inside} link add wan0 type veth peer name eth0 netns {outside}"))?;
    ip(&format!("-n {inside} link set lo up"))?;
    ip(&format!("-n {outside} link set eth0 address {MAC} up"))?;
    ip(&format!("-n {outside} addr add 198.51.100.50/24 dev eth0"))?;
    ip(&format!("-n {outside} addr add 2001:db8:99::50/64 dev eth0 nodad"))?;
    ip(&format!("-n {outside} route add default via 198.51.100.1"))?;
    ip(&format!("-n {outside} -6 route add default via 2001:db8:99::1"))?;
    let external = r#"
[[external]]
name = "wan"
addresses = ["198.51.100.9/24", "2001:db8:99::9/64"]
port = { kind = "packet", interface = "wan0", mac = "02:00:00:00:77:01" }
"#;
    let text = lab(&name, external);
    let lab = namespace::enter(inside, || Lab::start(&name, &text))??;
    for (own, vip) in
        [("198.51.100.50:7", "198.51.100.129:80"), ("[2001:db8:99::50]:7", "[2001:db8:99::81]:80")]
    {
        // from inside: the first packet waits for the answer, and is not lost
        let socket = namespace::enter(outside, || UdpSocket::bind(own))??;
        let server = thread::spawn(move || -> std::io::Result<String> {
            let mut room = [0; 64];
            let (length, from) = socket.recv_from(&mut room)?;
            socket.send_to(&room[..length], from)?;
            Ok(from.ip().to_string())
        });
        let answer = lab.inside("default.client", || exchange(own, b"are you there?"))??;
        assert_eq!(answer, b"are you there?");
        let seen = server.join().map_err(|_| "the server panicked")??;
        assert!(["10.128.0.2", "fd00:128::2"].contains(&seen.as_str()), "{seen} is no node");
        // and from outside, by an address on the very link
        let body = namespace::enter(outside, || fetch(vip, "/clientip"))??;
        assert!(body.starts_with(own.trim_end_matches(":7")), "{body}");
    }
    let found = lab.ask(&["get", "neighbours"])?;
    assert!(found.contains("198.51.100.50") && found.contains(MAC), "{found}");
    assert!(found.contains("reachable"), "{found}");
    // nobody there: the edge says so
    let refused = lab.inside("default.client", || {
        TcpStream::connect_timeout(&"198.51.100.51:80".parse().unwrap(), EXCHANGE * 3)
    })?;
    let refused = refused.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::HostUnreachable, "{refused}");
    // the stranger takes the edge's own address
    ip(&format!("-n {outside} addr add 198.51.100.1/32 dev eth0"))?;
    let _ = namespace::enter(outside, || {
        let socket = UdpSocket::bind("198.51.100.1:9")?;
        socket.send_to(b"x", "198.51.100.60:9")
    })?;
    until("the duplicate address is shown", || {
        let shown = lab.ask(&["get", "neighbours"])?;
        Ok(shown.lines().any(|line| line.contains("198.51.100.1 ") && line.contains("duplicate")))
    })
}

/// A host outside forwards to another one over a link of 1280 octets.
fn middle_link() -> Result<(), Failed> {
    const OCTETS: usize = 1_000_000;
    let name = fresh_name();
    let external = r#"
[[external]]
name = "router"
addresses = ["198.51.100.7/24", "2001:db8:99::7/64"]
routes = ["192.0.2.0/24", "2001:db8:1::/64"]
"#;
    let lab = Lab::start(&name, &lab(&name, external))?;
    let far = Namespace::new(&format!("{name}-far"))?;
    let (router, far) = (format!("{name}.ext.router"), &far.0);
    ip(&format!("-n {router} link add far type veth peer name eth0 netns {far}"))?;
    // who is there believes that its link is an ordinary one, and says so in its MSS
    ip(&format!("-n {router} link set far mtu 1280 up"))?;
    ip(&format!("-n {router} addr add 192.0.2.1/24 dev far"))?;
    ip(&format!("-n {router} addr add 2001:db8:1::1/64 dev far nodad"))?;
    ip(&format!("-n {far} link set eth0 up"))?;
    ip(&format!("-n {far} addr add 192.0.2.9/24 dev eth0"))?;
    ip(&format!("-n {far} addr add 2001:db8:1::9/64 dev eth0 nodad"))?;
    ip(&format!("-n {far} route add default via 192.0.2.1"))?;
    ip(&format!("-n {far} -6 route add default via 2001:db8:1::1"))?;
    for (host, vip) in [("192.0.2.9", "198.51.100.129"), ("[2001:db8:1::9]", "[2001:db8:99::81]")] {
        // a pod, masqueraded, sends much
        let address = format!("{host}:9000");
        let listener = namespace::enter(far, || TcpListener::bind(&address))??;
        let server = thread::spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            let mut data = Vec::new();
            stream.read_to_end(&mut data)
        });
        lab.inside("default.client", || send_much(TcpStream::connect(&address)?, OCTETS))??;
        assert_eq!(server.join().map_err(|_| "the server panicked")??, OCTETS, "{host}");

        // a pod behind a load balancer's address answers much
        let any = if host.starts_with('[') { "[::]:9000" } else { "0.0.0.0:9000" };
        let listener = lab.inside("default.web", || TcpListener::bind(any))??;
        let server = thread::spawn(move || send_much(listener.accept()?.0, OCTETS));
        let target = format!("{vip}:90");
        let got = namespace::enter(far, || -> std::io::Result<usize> {
            let mut stream = TcpStream::connect(&target)?;
            stream.set_read_timeout(Some(EXCHANGE * 5))?;
            let mut data = Vec::new();
            stream.read_to_end(&mut data)
        })??;
        assert_eq!(got, OCTETS, "{vip}");
        server.join().map_err(|_| "the server panicked")??;

        datagrams(&lab, far, (host, vip))?;
    }
    Ok(())
}

fn send_much(mut stream: TcpStream, octets: usize) -> std::io::Result<()> {
    stream.set_write_timeout(Some(EXCHANGE * 5))?;
    stream.write_all(&vec![b'x'; octets])?;
    stream.shutdown(Shutdown::Write)?;
    // until the other end has it all
    stream.set_read_timeout(Some(EXCHANGE * 5))?;
    stream.read(&mut [0]).map(|_| ())
}

/// Datagrams too large for the narrow link, of a pod that calls and of one that answers. The first
/// ones are lost, and the sender learns what fits.
fn datagrams(lab: &Lab, far: &str, (host, vip): (&str, &str)) -> Result<(), Failed> {
    const LARGE: usize = 1400;
    let (called, any) =
        (format!("{host}:9001"), if host.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    let server = namespace::enter(far, || UdpSocket::bind(&called))??;
    server.set_read_timeout(Some(EXCHANGE / 10))?;
    let client = lab.inside("default.client", || UdpSocket::bind(any))??;
    client.connect(&called)?;
    let mut room = vec![0; 2 * LARGE];
    until(&format!("a large datagram passes to {called}"), || {
        // once it knows, the socket may say so instead of sending
        let _ = client.send(&[b'x'; LARGE]);
        Ok(server.recv(&mut room).is_ok_and(|length| length == LARGE))
    })?;

    let server = lab.inside("default.web", || {
        UdpSocket::bind(any.replace("]:0", "]:9000").replace("0.0.0.0:0", "0.0.0.0:9000"))
    })??;
    server.set_read_timeout(Some(EXCHANGE))?;
    let client = namespace::enter(far, || UdpSocket::bind(any))??;
    client.connect(format!("{vip}:90"))?;
    client.set_read_timeout(Some(EXCHANGE / 10))?;
    until(&format!("a large answer comes from {vip}"), || {
        client.send(b"much, please")?;
        let (_, from) = server.recv_from(&mut room)?;
        let _ = server.send_to(&[b'x'; LARGE], from);
        Ok(client.recv(&mut room).is_ok_and(|length| length == LARGE))
    })
}
