//! What scanners, crafted fragments and large packets meet: what a correct network would do.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Output;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("nmap finds open what is open, through fragments too", &["nmap"], scans),
    ("hping3's fragments are answered", &["hping3"], tiny_fragments),
    (
        "scapy's fragments in any order make one datagram, overlapping ones none",
        &["python3"],
        crafted,
    ),
    ("large pings pass, and those that may not be cut learn the path's MTU", &["ping"], pings),
    ("a transfer passes a link of 1280 octets", &[], narrow),
    (
        "tshark finds no bad checksum where none is left to the receiver",
        &["tshark", "iperf3"],
        checksums,
    ),
];

/// The quickstart lab with a host on a narrow link, and a line more of settings.
fn lab(settings: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    let narrow = "[[external]]\nname = \"narrow\"\naddress = \"198.51.100.9/24\"\nmtu = 1280";
    Lab::start(&name, &format!("{}\n{narrow}\n{settings}", quickstart(&name)))
}

/// Runs a program inside a machine.
fn run(lab: &Lab, machine: &str, arguments: &[&str]) -> Result<Output, Failed> {
    lab.client(&[&["exec", machine, "--"], arguments].concat())
}

fn said(lab: &Lab, machine: &str, arguments: &[&str]) -> Result<String, Failed> {
    Ok(String::from_utf8_lossy(&run(lab, machine, arguments)?.stdout).into_owned())
}

/// A pod that answers datagrams, and what stands before it for those outside.
const PUBLIC: &str = r#"
[[pod]]
metadata = { name = "names", labels = { app = "names" } }
spec.nodeName = "node-b"
spec.containers = [{ name = "names", ports = [{ containerPort = 5353, protocol = "UDP" }] }]
[[service]]
metadata = { name = "shop" }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "198.51.100.80"
selector = { app = "frontend" }
ports = [{ port = 80, targetPort = "http", nodePort = 30080 }]
[[service]]
metadata = { name = "names" }
[service.spec]
type = "LoadBalancer"
loadBalancerIP = "198.51.100.53"
selector = { app = "names" }
ports = [{ port = 53, targetPort = 5353, protocol = "UDP", nodePort = 30053 }]
"#;

fn scans() -> Result<(), Failed> {
    let lab = lab(PUBLIC)?;
    let (far, vip) = (lab.pod_ip("frontend-b", true)?, lab.cluster_ip("frontend", true)?);
    let names = lab.cluster_ip("names", true)?;
    let (outside, shop, public) = ("198.51.100.7", "198.51.100.80", "198.51.100.53");
    for (from, how, target, expected) in [
        ("client", "-sS", far.as_str(), ["8080/tcp open", "9/tcp closed"]),
        ("client", "-sSf", &far, ["8080/tcp open", "9/tcp closed"]),
        ("client", "-sT", &far, ["8080/tcp open", "9/tcp closed"]),
        ("client", "-sSf", outside, ["8080/tcp open", "9/tcp closed"]),
        ("client", "-sU", outside, ["8081/udp open", "9/udp closed"]),
        ("client", "-sSf", &vip, ["80/tcp open", "81/tcp closed"]),
        // pods are not to be reached from outside
        ("ext/internet", "-sS", &far, ["8080/tcp filtered", "9/tcp filtered"]),
        // it is the node that says "port unreachable", and nmap believes only the target itself
        ("client", "-sU", &names, ["53/udp open", "54/udp filtered"]),
        // a load balancer carries the ports of its forwarding rule, and is silent at others
        ("ext/internet", "-sS", shop, ["80/tcp open", "81/tcp filtered"]),
        ("ext/internet", "-sSf", shop, ["80/tcp open", "81/tcp filtered"]),
        ("ext/internet", "-sT", shop, ["80/tcp open", "81/tcp filtered"]),
        ("ext/internet", "-sU", public, ["53/udp open", "54/udp open|filtered"]),
    ] {
        let ports: Vec<_> = expected.iter().filter_map(|port| port.split('/').next()).collect();
        let (how, cut) = match how.strip_suffix('f') {
            Some(how) => (how, &["-f"][..]),
            None => (how, &[][..]),
        };
        let mut arguments = vec!["nmap", "-n", "-Pn", "--max-retries", "2", how];
        arguments.extend(cut);
        let ports = ports.join(",");
        arguments.extend(["-p", &ports, target]);
        let said = said(&lab, from, &arguments)?;
        let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for port in expected {
            assert!(told.contains(port), "{from} {how} {target}: {said}");
        }
    }
    Ok(())
}

fn tiny_fragments() -> Result<(), Failed> {
    let lab = lab("")?;
    let far = lab.pod_ip("frontend-b", true)?;
    // a header in two fragments of 16 octets
    let said = said(
        &lab,
        "client",
        &["hping3", "-S", "-f", "-c", "3", "-i", "u100000", "-p", "8080", &far],
    )?;
    assert_eq!(said.matches("flags=SA").count(), 3, "{said}");
    Ok(())
}

/// Sends a datagram of 4,000 octets from port 4444 in fragments that a line of Python picks from
/// `pieces`; answers what the echo server outside says to it, if anything, at `socket`.
fn in_pieces(lab: &Lab, socket: &UdpSocket, pick: &str) -> Result<Option<Vec<u8>>, Failed> {
    let script = format!(
        "from scapy.all import *\nconf.verb = 0\n\
         data = bytes(n % 251 for n in range(4000))\n\
         packet = IP(dst='198.51.100.7', id=77) / UDP(sport=4444, dport=8081) / data\n\
         pieces = fragment(IP(raw(packet)), fragsize=1000)\n\
         {pick}\n\
         [send(piece) for piece in pieces]\n"
    );
    let output = run(lab, "client", &["/usr/bin/python3", "-c", &script])?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let mut room = vec![0; 65_535];
    Ok(match socket.recv(&mut room) {
        Ok(octets) => Some(room[..octets].to_vec()),
        Err(_) => None,
    })
}

fn crafted() -> Result<(), Failed> {
    let lab = lab("")?;
    let data: Vec<u8> = (0..4_000_u32).map(|n| (n % 251) as u8).collect();
    // one for all: the port may stay taken for a moment by a program that another test starts
    let socket = lab.inside("default.client", || UdpSocket::bind("0.0.0.0:4444"))??;
    socket.set_read_timeout(Some(EXCHANGE))?;
    for pick in ["", "pieces.reverse()", "pieces = pieces[2:] + pieces[:2]"] {
        let answer = in_pieces(&lab, &socket, pick)?;
        assert_eq!(answer.as_ref(), Some(&data), "{pick}");
    }
    let overlap = "bad = pieces[1].copy(); bad.frag -= 4; del bad.chksum; pieces.insert(1, bad)";
    assert_eq!(in_pieces(&lab, &socket, overlap)?, None);
    Ok(())
}

fn pings() -> Result<(), Failed> {
    let lab = lab("")?;
    let far = lab.pod_ip("frontend-b", true)?;
    for target in [far.as_str(), "198.51.100.7", "198.51.100.9"] {
        let said =
            said(&lab, "client", &["ping", "-n", "-c", "3", "-i", "0.2", "-s", "8000", target])?;
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
    let whole = |octets, target| {
        let arguments = ["ping", "-n", "-c", "2", "-i", "0.2", "-M", "do", "-s", octets, target];
        let output = run(&lab, "client", &arguments)?;
        let both = [output.stdout, output.stderr].concat();
        Ok::<_, Failed>(String::from_utf8_lossy(&both).into_owned())
    };
    assert!(whole("1472", &far)?.contains(" 0% packet loss"));
    assert!(whole("1473", &far)?.contains("mtu=1500"), "the pod's own link");
    // said by the edge, whose link it is, then remembered by the pod
    let said = whole("1400", "198.51.100.9")?;
    assert!(
        said.contains("From 10.128.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1280)"),
        "{said}"
    );
    assert!(said.contains("mtu=1280"), "{said}");
    assert!(whole("1252", "198.51.100.9")?.contains(" 0% packet loss"));
    Ok(())
}

fn narrow() -> Result<(), Failed> {
    const OCTETS: usize = 4_000_000;
    let lab = lab("")?;
    for target in ["198.51.100.9:8080", "198.51.100.7:8080"] {
        let answer = lab.inside("default.client", || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&target.parse().unwrap(), EXCHANGE)?;
            stream.set_read_timeout(Some(EXCHANGE * 5))?;
            stream.set_write_timeout(Some(EXCHANGE * 5))?;
            write!(stream, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {OCTETS}\r\n\r\n")?;
            stream.write_all(&vec![b'x'; OCTETS])?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        assert!(answer.starts_with("HTTP/1.1 2"), "{target}: {answer}");
    }
    Ok(())
}

fn checksums() -> Result<(), Failed> {
    let lab = lab("[switch]\noffloads = false\n")?;
    let far = lab.pod_ip("frontend-b", true)?;
    let server = run_beside(&lab, "frontend-b", &["iperf3", "-s", "-1"])?;
    // what either side hears of the other, as it comes from the switch

    let listen = |machine, from: &str| {
        let capture = format!("tcp port 5201 and src host {from}");
        run_beside(
            &lab,
            machine,
            &[
                "tshark",
                "-l",
                "-n",
                "-i",
                "eth0",
                "-c",
                "2000",
                "-a",
                "duration:20",
                "-f",
                &capture,
                "-o",
                "tcp.check_checksum:TRUE",
                "-o",
                "ip.check_checksum:TRUE",
                "-T",
                "fields",
                "-e",
                "tcp.checksum.status",
                "-e",
                "ip.checksum.status",
            ],
        )
    };
    let client = lab.pod_ip("client", true)?;

    let (near, distant) = (listen("client", &far)?, listen("frontend-b", &client)?);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let sent =
        said(&lab, "client", &["iperf3", "-c", &far, "-n", "50M", "--connect-timeout", "3000"])?;
    assert!(sent.contains("receiver"), "{sent}");
    server.wait_with_output()?;
    for side in [near, distant] {
        let output = side.wait_with_output()?;
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        let good = seen.lines().filter(|line| line.split_whitespace().eq(["1", "1"])).count();
        let all = seen.lines().count();
        assert!(all > 50, "too little was seen: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(good, all, "{}", seen.lines().find(|line| !line.contains('1')).unwrap_or(""));
    }
    Ok(())
}

/// Starts a program inside a machine; it ends by itself.
fn run_beside(lab: &Lab, machine: &str, arguments: &[&str]) -> Result<std::process::Child, Failed> {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
    command.args(["--lab", &lab.name, "exec", machine, "--"]).args(arguments);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}
