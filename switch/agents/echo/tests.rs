//! Servers on loopback, asked through real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;

/// A server on ports of the system's choosing.
struct Running {
    server: Server,
    echo: Echo,
    ports: Vec<u16>,
    _runtime: Runtime,
}

fn identity(name: &str) -> Identity {
    Identity {
        name: name.into(),
        hostname: name.into(),
        namespace: Some("shop".into()),
        node: Some("node-a".into()),
        addresses: vec!["10.4.0.5".parse().unwrap()],
    }
}

fn ports_of(sockets: &Sockets) -> Vec<u16> {
    let listeners = sockets.listeners.iter().map(|(_, listener)| listener.local_addr());
    let datagrams = sockets.datagrams.iter().map(UdpSocket::local_addr);
    listeners.chain(datagrams).map(|address| address.unwrap().port()).collect()
}

fn running(speaks: &[Speaks]) -> Running {
    let runtime = Runtime::new().unwrap();
    let ports: Vec<_> = speaks.iter().map(|&speaks| EchoPort { number: 0, speaks }).collect();
    let sockets = Sockets::open(&ports).unwrap();
    let ports = ports_of(&sockets);
    let echo = Echo::new(runtime.handle().clone(), 2_000);
    let server = echo.serve(sockets, identity("web-0")).unwrap();
    Running { server, echo, ports, _runtime: runtime }
}

fn connect(address: &str, port: u16) -> TcpStream {
    let stream = TcpStream::connect((address, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Status, head and body.
fn request(stream: &mut TcpStream, request: &str) -> (u16, String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

fn get(port: u16, path: &str) -> (u16, String) {
    let text = format!("GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    let (status, _, body) = request(&mut connect("127.0.0.1", port), &text);
    (status, body)
}

#[test]
fn http_answers_what_agnhost_answers() {
    let running = running(&[Speaks::Http]);
    let port = running.ports[0];
    assert_eq!(get(port, "/hostname"), (200, "web-0".into()));
    assert_eq!(get(port, "/hostName"), (200, "web-0".into()));
    assert_eq!(get(port, "/echo?msg=Hello%20there"), (200, "Hello there".into()));
    assert_eq!(get(port, "/header?key=host"), (200, "web".into()));
    assert_eq!(get(port, "/header?key=%00"), (200, String::new()));
    assert_eq!(get(port, "/shell?cmd=id").0, 404);
    assert_eq!(get(port, "/exit?code=1").0, 404);

    let mut stream = connect("127.0.0.1", port);
    let own = stream.local_addr().unwrap().to_string();
    let text = "GET /clientip HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    assert_eq!(request(&mut stream, text).2, own, "as IPv4, whatever the socket");

    assert_eq!(get(port, "/healthz"), (200, "ok".into()));
    running.server.set_health(Health::Unhealthy);
    assert_eq!(get(port, "/healthz").0, 503);
    running.server.set_health(Health::Healthy);
    assert_eq!(get(port, "/healthz").0, 200);
}

#[test]
fn any_other_path_tells_what_the_server_saw() {
    let running = running(&[Speaks::Http]);
    let text = "POST /a/b?c=d&delay=1ms HTTP/1.1\r\nHost: example.com\r\nX-Two: 1\r\nx-two: 2\r\n\
                X-Echo-Set-Header: X-Mine:yes,Content-Length:1\r\nContent-Length: 3\r\n\
                Connection: close\r\n\r\nabc";
    let (status, head, body) = request(&mut connect("127.0.0.1", running.ports[0]), text);
    assert_eq!(status, 200);
    assert!(head.contains("x-mine: yes"), "{head}");
    let seen: Value = serde_json::from_str(&body).unwrap();
    for (member, expected) in [
        ("/pod", "web-0"),
        ("/namespace", "shop"),
        ("/node", "node-a"),
        ("/method", "POST"),
        ("/path", "/a/b?c=d&delay=1ms"),
        ("/host", "example.com"),
        ("/headers/x-two", "1,2"),
        ("/addresses/0", "10.4.0.5"),
    ] {
        assert_eq!(seen.pointer(member).unwrap(), expected, "{member}");
    }
    let server: SocketAddr = seen["server"].as_str().unwrap().parse().unwrap();
    assert_eq!(server, SocketAddr::from(([127, 0, 0, 1], running.ports[0])));
    assert_eq!(get(running.ports[0], "/?delay=2h").0, 400);
}

#[test]
fn http_answers_over_ipv6_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6 on loopback");
        return;
    }
    let running = running(&[Speaks::Http]);
    let mut stream = connect("::1", running.ports[0]);
    let own = stream.local_addr().unwrap().to_string();
    let text = "GET /clientip HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    assert_eq!(request(&mut stream, text).2, own);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let running = running(&[Speaks::Http]);
    let mut stream = connect("127.0.0.1", running.ports[0]);
    let text = format!("GET / HTTP/1.1\r\nHost: web\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let _ = stream.write_all(text.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(get(running.ports[0], "/hostname").0, 200);
}

#[test]
fn a_port_of_a_container_speaks_http_or_text() {
    let running = running(&[Speaks::HttpOrText]);
    let port = running.ports[0];
    assert_eq!(get(port, "/hostname"), (200, "web-0".into()));

    let mut stream = connect("127.0.0.1", port);
    let own = stream.local_addr().unwrap();
    let mut answer = [0; 64];
    for (line, expected) in [
        ("hostname\n", "web-0\n".to_owned()),
        ("clientip\n", format!("{own}\n")),
        ("echo one two\n", "one two\n".to_owned()),
        ("G", "G".to_owned()),
        ("hostname", "hostname".to_owned()),
    ] {
        stream.write_all(line.as_bytes()).unwrap();
        stream.read_exact(&mut answer[..expected.len()]).unwrap();
        assert_eq!(&answer[..expected.len()], expected.as_bytes(), "{line:?}");
    }
}

#[test]
fn a_method_in_two_pieces_is_still_http() {
    let running = running(&[Speaks::HttpOrText]);
    let mut stream = connect("127.0.0.1", running.ports[0]);
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"GE").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let (status, _, body) =
        request(&mut stream, "T /hostname HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, "web-0"));
}

#[test]
fn a_megabyte_comes_back_as_it_was() {
    let running = running(&[Speaks::Text]);
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).take(1 << 20).collect();
    let mut stream = connect("127.0.0.1", running.ports[0]);
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent);
}

fn exchange(socket: &UdpSocket, target: (&str, u16), datagram: &[u8]) -> (Vec<u8>, SocketAddr) {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(datagram, target).unwrap();
    let mut answer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    answer.truncate(length);
    (answer, from)
}

#[test]
fn datagrams_are_answered_from_the_address_they_were_sent_to() {
    let running = running(&[Speaks::Datagrams]);
    let port = running.ports[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        let (answer, from) = exchange(&socket, (address, port), b"hostname\n");
        assert_eq!(answer, b"web-0");
        assert_eq!(from, SocketAddr::new(address.parse().unwrap(), port));
    }
    let own = socket.local_addr().unwrap().to_string();
    assert_eq!(exchange(&socket, ("127.0.0.1", port), b"clientip").0, own.as_bytes());
    let largest = vec![b'x'; 65_507];
    assert_eq!(exchange(&socket, ("127.0.0.1", port), &largest).0, largest);
    assert_eq!(exchange(&socket, ("127.0.0.1", port), b"").0, b"");

    if let Ok(socket) = UdpSocket::bind("[::1]:0") {
        let (answer, from) = exchange(&socket, ("::1", port), b"echo six");
        assert_eq!(answer, b"six");
        assert_eq!(from, SocketAddr::new("::1".parse().unwrap(), port));
    }
}

#[test]
fn a_kernel_without_ipv6_is_served_by_another_option() {
    let runtime = Runtime::new().unwrap();
    let mut sockets = Sockets::open(&[]).unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true)
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    sockets.datagrams.push(socket);
    let echo = Echo::new(runtime.handle().clone(), 1);
    let _server = echo.serve(sockets, identity("web-0")).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (answer, from) = exchange(&client, ("127.0.0.3", port), b"hostname");
    assert_eq!((answer, from), (b"web-0".to_vec(), SocketAddr::from(([127, 0, 0, 3], port))));
}

#[test]
fn servers_do_not_echo_each_other_for_ever() {
    let running = running(&[Speaks::Datagrams, Speaks::Datagrams]);
    let [first, second] = running.ports[..] else { panic!("two ports") };
    // As a client does that pretends to be another server: each takes the other for its client.
    let spoofed = UdpSocket::bind("127.0.0.1:0").unwrap();
    running.echo.echoing.write().unwrap().insert(spoofed.local_addr().unwrap().port());
    spoofed.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for _ in 0..100 {
        spoofed.send_to(b"over to you", ("127.0.0.1", first)).unwrap();
    }
    let answers = (0..200).take_while(|_| spoofed.recv_from(&mut [0; 64]).is_ok()).count();
    assert!((1..=2 * 10).contains(&answers), "{answers}, over the turn of a second at most");

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(exchange(&client, ("127.0.0.1", first), b"hostname").0, b"web-0");
    assert_eq!(exchange(&client, ("127.0.0.1", second), b"hostname").0, b"web-0");
}

#[test]
fn a_server_has_its_limit_of_connections_and_others_are_not_harmed() {
    let running = running(&[Speaks::Text]);
    let port = running.ports[0];
    let _held: Vec<_> = (0..CONNECTIONS_PER_SERVER).map(|_| connect("127.0.0.1", port)).collect();
    let mut beyond = connect("127.0.0.1", port);
    assert!(matches!(beyond.read(&mut [0; 1]), Ok(0) | Err(_)), "closed");

    let sockets = Sockets::open(&[EchoPort { number: 0, speaks: Speaks::Http }]).unwrap();
    let other = ports_of(&sockets)[0];
    let _other = running.echo.serve(sockets, identity("web-1")).unwrap();
    assert_eq!(get(other, "/hostname"), (200, "web-1".into()));
}

#[test]
fn the_end_closes_sockets_and_connections() {
    let Running { server, ports, _runtime, .. } = running(&[Speaks::Text, Speaks::Datagrams]);
    let mut stream = connect("127.0.0.1", ports[0]);
    stream.write_all(b"hostname\n").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    drop(server);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "closed");
    let [tcp, udp] = ports[..] else { panic!("two ports") };
    Sockets::open(&[
        EchoPort { number: tcp, speaks: Speaks::Text },
        EchoPort { number: udp, speaks: Speaks::Datagrams },
    ])
    .unwrap();
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let error = Sockets::open(&[EchoPort { number, speaks: Speaks::Http }]).unwrap_err();
    assert!(error.to_string().starts_with(&format!("TCP port {number}: ")), "{error}");
}

#[test]
fn sctp_is_served_or_said_to_be_absent() {
    let port = EchoPort { number: 0, speaks: Speaks::Sctp };
    let sockets = Sockets::open(&[port]).unwrap();
    assert_eq!(sockets.listeners.len() + sockets.unsupported().len(), 1);
}

#[test]
fn a_dial_leaves_from_the_namespace_of_the_server() {
    use nix::sched::{CloneFlags, unshare};
    let runtime = Runtime::new().unwrap();
    // Reachable from here, and not from an empty namespace.
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port();
    let opened = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Sockets::open(&[]).map_err(|_| nix::errno::Errno::EIO)
    });
    let Ok(sockets) = opened.join().unwrap() else {
        eprintln!("skipped: making a namespace takes root rights");
        return;
    };
    let dialer = dial::Dialer::new(sockets.namespace);
    let query = http::Query::of(Some(&format!("host=127.0.0.1&port={port}&request=x")));
    let results = runtime.block_on(dial::answer(&dialer, &query)).unwrap();
    let error = results["errors"][0].as_str().unwrap();
    assert!(error.contains("unreachable"), "{error}");
    target.set_nonblocking(true).unwrap();
    assert!(target.accept().is_err(), "nothing arrived");
}

#[test]
fn one_server_dials_another() {
    if nix::unistd::geteuid().as_raw() != 0 {
        eprintln!("skipped: entering a namespace takes root rights");
        return;
    }
    let running = running(&[Speaks::Http, Speaks::Datagrams]);
    let [http, udp] = running.ports[..] else { panic!("two ports") };
    let dial = |query: &str| -> (u16, Value) {
        let (status, body) = get(http, &format!("/dial?host=127.0.0.1&{query}"));
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    };
    let expected = serde_json::json!({ "responses": ["web-0", "web-0"] });
    assert_eq!(dial(&format!("port={http}&request=hostname&tries=2")), (200, expected.clone()));
    let over_udp = format!("port={udp}&request=hostname&protocol=udp&tries=2");
    assert_eq!(dial(&over_udp), (200, expected));
    let (status, refused) = dial("port=1&request=hostname");
    assert_eq!(status, 200);
    assert_eq!(refused["errors"].as_array().unwrap().len(), 1, "{refused}");
    for wrong in ["port=1", "request=x", "port=x&request=x", "port=1&request=x&tries=0"] {
        assert_eq!(dial(wrong).0, 400, "{wrong}");
    }
}
