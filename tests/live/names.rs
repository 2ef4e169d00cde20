//! Names: the cluster's name servers as real resolvers see them.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use kswitch::agents::dns::client;
use kswitch::lab::process;
use libtest_mimic::Failed;

use super::Test;
use super::lab::{EXCHANGE, Lab, exchange, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    (
        "names: resolvers in a pod find Services, names outside and themselves",
        &["curl", "getent"],
        resolvers,
    ),
    ("names: dig sees every kind of record, by UDP and TCP", &["dig"], records),
    ("names: two questions from one socket are both answered", &[], pairs),
    ("names: records change with the endpoints", &[], changes),
    ("names: who is outside is asked for what nobody here knows", &[], upstream),
];

/// What a program says that runs as one in the pod `client` would.
pub(crate) fn run(lab: &Lab, program: &str, arguments: &[&str]) -> Result<String, Failed> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(std::process::Stdio::piped());
    let namespace = format!("{}.default.client", lab.name);
    let output = process::spawn(&namespace, &mut command)?.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{program} {arguments:?}: {}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn resolvers() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    for (family, address) in [("-4", "10.8.0.80"), ("-6", "fd00:8::80")] {
        for name in ["frontend", "frontend.default", "frontend.default.svc.cluster.local"] {
            let url = format!("http://{name}/hostname");
            let who = run(&lab, "curl", &["-s", family, "--max-time", "10", &url])?;
            assert!(who.starts_with("frontend-"), "{name}: {who}");
        }
        let kind = if family == "-4" { "ahostsv4" } else { "ahostsv6" };
        let found = run(&lab, "getent", &[kind, "frontend.default.svc.cluster.local"])?;
        assert!(found.contains(address), "{found}");
        let found = run(&lab, "getent", &["hosts", address])?;
        assert!(found.ends_with("frontend.default.svc.cluster.local"), "{found}");
    }
    let found = run(&lab, "getent", &["ahosts", "www.example.com"])?;
    assert!(found.contains("198.51.100.7") && found.contains("2001:db8:99::7"), "{found}");
    let own = run(&lab, "getent", &["hosts", "client"])?;
    assert!(own.contains(&lab.pod_ip("client", false)?) || own.contains("10.4."), "{own}");
    let absent = run(&lab, "getent", &["hosts", "nothing.default.svc.cluster.local"]);
    assert!(absent.is_err(), "{absent:?}");
    Ok(())
}

fn records() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let name = "frontend.default.svc.cluster.local";
    for (server, options) in [("10.8.0.10", &["+notcp"][..]), ("fd00:8::a", &["+tcp"])] {
        let server = format!("@{server}");
        let dig = |arguments: &[&str]| {
            let all =
                [&[server.as_str()][..], &["+short", "+tries=1", "+time=10"], options, arguments];
            run(&lab, "dig", &all.concat())
        };
        assert_eq!(dig(&[name, "A"])?, "10.8.0.80");
        assert_eq!(dig(&[name, "AAAA"])?, "fd00:8::80");
        let port = format!("_http._tcp.{name}");
        assert!(dig(&[&port, "SRV"])?.ends_with(&format!(" 80 {name}.")));
        assert_eq!(dig(&["-x", "10.8.0.80"])?, format!("{name}."));
        assert_eq!(dig(&["-x", "fd00:8::80"])?, format!("{name}."));
        assert_eq!(dig(&["dns-version.cluster.local", "TXT"])?, "\"1.1.0\"");
        assert_eq!(dig(&["www.example.com", "A"])?, "198.51.100.7");
        let dns = "kube-dns.kube-system.svc.cluster.local";
        assert_eq!(dig(&[dns, "A"])?, "10.8.0.10");
        let server = server.as_str();
        let whole = [&[server, "+tries=1", "+time=10", "x.cluster.local"], options].concat();
        let absent = run(&lab, "dig", &whole)?;
        assert!(absent.contains("NXDOMAIN") && absent.contains("SOA\tns.dns.cluster"), "{absent}");
    }
    Ok(())
}

/// As glibc asks: for both families at once, by one socket. Two first packets of one flow meet in
/// the switch; whichever it takes for the first, both have to come to one name server and back.
fn pairs() -> Result<(), Failed> {
    const TRIES: u16 = 2_000;
    let lab = Lab::quickstart()?;
    let name = "frontend.default.svc.cluster.local.";
    for server in ["10.8.0.10:53", "[fd00:8::a]:53"] {
        lab.inside("default.client", || -> Result<(), Failed> {
            let any = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            for id in (0..TRIES).map(|n| n * 2) {
                let socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.set_read_timeout(Some(EXCHANGE))?;
                let (first, second) = (
                    client::request(id, name, "A", None).ok_or("no request")?,
                    client::request(id + 1, name, "AAAA", None).ok_or("no request")?,
                );
                socket.send(&first)?;
                socket.send(&second)?;
                let mut seen = [false; 2];
                let mut room = [0; 512];
                for _ in 0..2 {
                    let length = socket.recv(&mut room).map_err(|e| format!("pair {id}: {e}"))?;
                    let answer = client::read(&room[..length]).ok_or("no answer")?;
                    assert_eq!(answer.answers.len(), 1);
                    seen[usize::from(answer.id - id)] = true;
                }
                assert_eq!(seen, [true; 2]);
            }
            Ok(())
        })??;
    }
    Ok(())
}

fn changes() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let ask = |name: &str| -> Result<client::Reading, Failed> {
        let request = client::request(7, name, "A", Some(1_232)).ok_or("no request")?;
        let octets = lab.inside("default.client", || exchange("10.8.0.10:53", &request))??;
        client::read(&octets).ok_or_else(|| "no answer".into())
    };
    let file = lab.config.with_file_name("pets.yaml");
    let manifest = |hostname: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: pets}}\nspec:\n  clusterIP: None\n  \
             selector: {{app: pet}}\n  ports: [{{name: http, port: 8080}}]\n---\napiVersion: v1\n\
             kind: Pod\nmetadata: {{name: pet, labels: {{app: pet}}}}\nspec:\n  \
             hostname: {hostname}\n  subdomain: pets\n  nodeName: node-a\n  \
             containers: [{{name: c, image: x}}]\n"
        )
    };
    let path = file.display().to_string();
    let own = |hostname: &str| format!("{hostname}.pets.default.svc.cluster.local.");
    assert_eq!(ask(&own("rex"))?.code, "NXDOMAIN");
    for (hostname, other) in [("rex", "tom"), ("tom", "rex")] {
        std::fs::write(&file, manifest(hostname))?;
        lab.ask(&["apply", "-f", &path])?;
        assert_eq!(ask(&own(hostname))?.answers.len(), 1);
        assert_eq!(ask(&own(other))?.code, "NXDOMAIN");
        // its own files say so too
        let namespace = format!("{}.default.pet", lab.name);
        let hosts = std::fs::read_to_string(format!("/etc/netns/{namespace}/hosts"))?;
        assert!(hosts.contains(&format!("\t{hostname}.pets.default.svc.")), "{hosts}");
    }
    lab.ask(&["delete", "-f", &path])?;
    assert_eq!(ask("pets.default.svc.cluster.local.")?.code, "NXDOMAIN");
    // who asked is told of by the counters, in time
    let end = Instant::now() + Duration::from_secs(10);
    let address = lab.ready.rsplit_once("http://").map(|(_, rest)| rest.to_owned());
    let address = address.and_then(|rest| Some(rest.split('/').next()?.to_owned()));
    let address = address.ok_or("no metrics")?;
    loop {
        let text = super::lab::fetch(&address, "/metrics")?;
        let line = "kswitch_dns_answers_total{transport=\"udp\",code=\"NXDOMAIN\"} ";
        let count = text.lines().find_map(|at| at.strip_prefix(line)?.parse::<u32>().ok());
        if count.is_some_and(|count| count >= 4) {
            return Ok(());
        }
        assert!(Instant::now() < end, "{text}");
    }
}

/// A name server outside, which knows one address for every name, and a text for none.
fn serve_outside(socket: &UdpSocket) -> Result<String, Failed> {
    let mut room = [0; 512];
    let (length, from) = socket.recv_from(&mut room)?;
    let request = room.get(..length).ok_or("too long")?;
    // the question ends behind the root of its name, its type and its class
    let name = request.get(12..).ok_or("no question")?;
    let end = 12 + name.iter().position(|octet| *octet == 0).ok_or("no name")? + 5;
    let mut answer = request.get(..end).ok_or("no question")?.to_vec();
    answer[2] |= 0x80;
    answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    // the name of the question, type A, class IN, a minute, four octets
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
    socket.send_to(&answer, from)?;
    Ok(from.ip().to_string())
}

fn upstream() -> Result<(), Failed> {
    let name = fresh_name();
    let text = quickstart(&name)
        .replace("[dns.names]", "[dns]\nupstream = [\"198.51.100.7\"]\n[dns.names]");
    let lab = Lab::start(&name, &text)?;
    let ask = |name: &str, server: &str| -> Result<client::Reading, Failed> {
        let request = client::request(9, name, "A", Some(1_232)).ok_or("no request")?;
        let octets = lab.inside("default.client", || exchange(server, &request))??;
        client::read(&octets).ok_or_else(|| "no answer".into())
    };
    let outside = lab.inside("ext.internet", || UdpSocket::bind("198.51.100.7:53"))??;
    outside.set_read_timeout(Some(EXCHANGE))?;
    for server in ["10.8.0.10:53", "[fd00:8::a]:53"] {
        std::thread::scope(|scope| -> Result<(), Failed> {
            let served = scope.spawn(|| serve_outside(&outside));
            let answer = ask("Somewhere.example.org.", server)?;
            assert_eq!(answer.answers[0].data, "192.0.2.99");
            assert_eq!((answer.id, answer.answers[0].ttl), (9, 60));
            // name servers are pods, whom the outside sees as their nodes
            let from = served.join().map_err(|_| "the server panicked")??;
            assert!(from.starts_with("10.128.0."), "{from}");
            Ok(())
        })?;
    }
    // what is known here is not asked for, and where nobody answers that is said
    assert_eq!(ask("www.example.com.", "10.8.0.10:53")?.answers[0].data, "198.51.100.7");
    drop(outside);
    let request = client::request(9, "silent.example.org.", "A", None).ok_or("no request")?;
    let failed = lab.inside("default.client", || -> Result<Vec<u8>, Failed> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.connect("10.8.0.10:53")?;
        socket.send(&request)?;
        let mut room = [0; 512];
        let length = socket.recv(&mut room)?;
        Ok(room[..length].to_vec())
    })??;
    assert_eq!(client::read(&failed).ok_or("no answer")?.code, "SERVFAIL");
    Ok(())
}
