//! What commands, the page and the counters show, to people and to other programs.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kswitch::control::capture::filter::Filter;
use kswitch::port::VNET_HEADER;
use kswitch::sim::craft::Craft;
use kswitch_tables::{Endpoint, MacAddress};
use libtest_mimic::Failed;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};

use crate::Test;
use crate::browser::{Browser, PROGRAM};
use crate::lab::{Lab, fetch, fresh_name, quickstart};
use crate::random_labs::Random;

pub(crate) const TESTS: &[Test] = &[
    ("the page is a map that a browser shows", &[PROGRAM], the_page_is_a_map),
    ("promtool has nothing to say of the metrics", &["promtool"], promtool_is_content),
    ("capture filters take what tcpdump takes", &["tcpdump"], tcpdump_agrees),
    ("every command says in a line why it cannot", &[], commands_say_why),
    ("labels and the log change while a lab runs", &[], labels_and_logs_change),
];

const CLOSED: &str = r#"
[[pod]]
metadata = { name = "closed", labels = { app = "closed" } }
spec.nodeName = "node-b"

[[network-policy]]
metadata = { name = "closed" }
spec.podSelector = { matchLabels = { app = "closed" } }
"#;

/// Has the client reach the frontend, and not the pod that is closed.
fn traffic(lab: &Lab) -> Result<(), Failed> {
    lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
    let closed = format!("{}:8081", lab.pod_ip("closed", true)?);
    let socket = lab.inside("default.client", || std::net::UdpSocket::bind("0.0.0.0:0"))??;
    Ok(socket.send_to(b"x", closed).map(|_| ())?)
}

fn the_page_is_a_map() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &format!("{}{CLOSED}", quickstart(&name)))?;
    let page = format!("http://{}/", lab.metrics().ok_or("no metrics address")?);
    let mut browser = Browser::open(&page)?;
    browser.until("document.body?.dataset.ready === 'true'")?;
    assert_eq!(browser.value("document.title")?, "kswitch");
    for name in ["node/node-a", "node/node-b", "default/client", "default/frontend", "ext/internet"]
    {
        let count = browser
            .value(&format!("document.querySelectorAll('.box[data-name=\"{name}\"]').length"))?;
        // a pod and a Service of one name are two boxes
        assert!(count.as_u64() >= Some(1), "{name}: {count}");
    }
    // the Service's line to each of its pods, and one to the host outside
    assert!(browser.value("document.querySelectorAll('line').length")?.as_u64() >= Some(3));

    let busy = "document.querySelectorAll('line.busy').length > 0 && \
        [...document.querySelectorAll('.box[data-name=\"default/client\"] .rate')]\
        .some(rate => rate.textContent.endsWith('b/s'))";
    let red = "[...document.querySelectorAll('#drops tr.drop')].some(row => \
        row.textContent.startsWith('policy_ingress') && \
        getComputedStyle(row).color === 'rgb(187, 0, 0)')";
    for shown in [busy, red] {
        crate::lab::until(shown, || {
            traffic(&lab)?;
            Ok(browser.value(shown)? == serde_json::Value::Bool(true))
        })?;
    }
    browser.click(".box[data-name='default/client']")?;
    browser
        .until("document.getElementById('details').textContent.includes('\"name\": \"client\"')")?;
    browser.click(".box[data-name='default/frontend']")?;
    browser.until(
        "document.getElementById('details').textContent.includes('forward default/frontend-')",
    )?;
    let details = browser.value("document.getElementById('details').textContent")?;
    assert!(details.as_str().is_some_and(|text| text.contains("[frontends]")), "{details}");
    Ok(())
}

fn promtool_is_content() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    lab.ask(&["link", "client", "--loss", "1%"])?;
    lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
    let metrics = fetch(&lab.metrics().ok_or("no metrics address")?, "/metrics")?;
    for name in
        ["kswitch_drops_total", "kswitch_worker_stage_seconds_total", "kswitch_link_frames_total"]
    {
        assert!(metrics.contains(&format!("# TYPE {name} counter")), "{name}");
    }
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    writeln!(input, "{metrics}")?;
    drop(input);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{metrics}");
    Ok(())
}

/// Frames of many kinds, of IPv4 and ARP.
fn frames() -> Vec<Vec<u8>> {
    let mut random = Random::new(9);
    let mut frames = Vec::new();
    for number in 0..200_u16 {
        let mut end = || {
            let address = [10, 4, u8::try_from(random.below(3)).unwrap(), 7];
            let port = [53, 80, 443, 8080, 40_000][random.below(5)];
            Endpoint::new(std::net::IpAddr::from(address).into(), port)
        };
        let (source, target) = (end(), end());
        let packet = match number % 4 {
            0 => Craft::syn(source, target),
            1 => Craft::tcp(source, target, u8::try_from(random.below(64)).unwrap()),
            2 => Craft::udp(source, target, &vec![7; random.below(200)]),
            _ => Craft::ping(source, target, number),
        };
        let macs = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        frames.push(packet.frame(macs.0, macs.1)[VNET_HEADER..].to_vec());
    }
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1]);
    arp.extend([10, 4, 0, 7, 0, 0, 0, 0, 0, 0, 10, 4, 1, 7]);
    frames.push(arp);
    frames
}

const FILTERS: [&str; 36] = [
    "tcp",
    "udp port 53",
    "port 80 or 443",
    "tcp port 80 or 8080",
    "src port 80",
    "dst portrange 50-100",
    "src or dst port 443",
    "src and dst port 80",
    "host 10.4.0.7",
    "host 10.4.0.7 or 10.4.2.7",
    "src host 10.4.1.7 and not udp",
    "net 10.4.1.0/24",
    "dst net 10.4.2",
    "net 10.4.0.0 mask 255.255.254.0",
    "arp",
    "arp host 10.4.1.7",
    "ip host 10.4.0.7",
    "not ip",
    "icmp",
    "icmp[icmptype] == icmp-echo",
    "ip proto 17",
    "ip proto \\tcp",
    "ether proto 0x806",
    "ether src 02:00:00:00:00:01",
    "ether dst 02:00:00:00:00:01",
    "broadcast",
    "greater 100",
    "less 60",
    "len > 100 and udp",
    "tcp[13] & 2 != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "not tcp[13] & 2 != 0",
    "udp[4:2] > 100",
    "ip[2:2] - 20 > 100",
    "tcp or udp and port 80",
    "not (tcp or icmp) and udp[0:2] = 53",
];

fn tcpdump_agrees() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("all.pcap");
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(std::fs::File::create(&path)?, header)?;
    let frames = frames();
    for (number, frame) in (0..).zip(&frames) {
        let length = u32::try_from(frame.len())?;
        writer.write_packet(&PcapPacket::new(Duration::from_secs(number), length, frame))?;
    }
    drop(writer);
    for text in FILTERS {
        let filter = Filter::parse(text)?;
        let ours: Vec<u64> =
            (0..).zip(&frames).filter(|(_, it)| filter.takes(it)).map(|(at, _)| at).collect();
        // nothing but a file is read, so no rights are given up and taken away
        let output = Command::new("tcpdump")
            .args(["-Z", "root", "-n", "-w", "-", "-r"])
            .arg(&path)
            .arg(text)
            .output()?;
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        let mut reader = PcapReader::new(&output.stdout[..])?;
        let mut theirs = Vec::new();
        while let Some(packet) = reader.next_packet() {
            theirs.push(packet?.timestamp.as_secs());
        }
        assert_eq!(ours, theirs, "{text}");
    }
    Ok(())
}

/// Commands that ask a lab, none of which waits for anything.
const COMMANDS: [&str; 29] = [
    "get pods",
    "describe pod client",
    "exec client -- true",
    "logs client",
    "conntrack list",
    "conntrack flush",
    "conntrack stats",
    "monitor --count 1",
    "capture any -w -",
    "top --once",
    "graph -o dot",
    "apply -f policy.yaml",
    "delete pod client",
    "scale deployment/web --replicas 1",
    "restart deployment/web",
    "cordon node-a",
    "uncordon node-a",
    "drain node-a",
    "node down node-a",
    "node up node-a",
    "node lag node-a 1s",
    "node remove node-a",
    "node add node-c",
    "reload",
    "upgrade",
    "link client --loss 1%",
    "label pod/client a=b",
    "log",
    "trace --from client --to frontend",
];

/// What asks no lab.
const APART: [&str; 4] = ["clean", "test", "completions", "man"];

/// What names something that is not there.
const WRONG: [&str; 22] = [
    "get pods nobody",
    "get links nobody",
    "describe pod nobody",
    "exec nobody -- true",
    "logs nobody",
    "conntrack list --of nobody",
    "conntrack flush --of nobody",
    "capture nobody -w -",
    "delete pod nobody",
    "scale deployment/nobody --replicas 1",
    "restart deployment/nobody",
    "cordon nobody",
    "uncordon nobody",
    "drain nobody",
    "node down nobody",
    "node up nobody",
    "node lag nobody 1s",
    "node remove nobody",
    "link nobody --loss 1%",
    "label pod/nobody a=b",
    "log no=such=filter",
    "trace --from nobody --to frontend",
];

/// That a command has failed as it should: one line, exit code 1 or 2.
fn refused(line: &str, output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{line}: {:?} {said}", output.status);
    assert_eq!(said.trim_end().lines().count(), 1, "{line}: {said}");
    assert!(said.starts_with("error: ") && said.contains(part), "{line}: {said}");
}

fn commands_say_why() -> Result<(), Failed> {
    let (lab, second) = (Lab::quickstart()?, Lab::quickstart()?);
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(directory.path().join("policy.yaml"), "kind: ConfigMap\n")?;
    let program = directory.path().join("kswitch");
    std::fs::copy(env!("CARGO_BIN_EXE_kswitch"), &program)?;
    let run = |line: &str, lab: Option<&str>| {
        let mut command = Command::new(&program);
        command.current_dir(directory.path()).args(lab.iter().flat_map(|lab| ["--lab", lab]));
        command.args(line.split(' '));
        command
    };
    let help = run("--help", None).output()?.stdout;
    let help = String::from_utf8(help)?;
    let (_, all) = help.split_once("\nCommands:\n").ok_or("no commands")?;
    let (all, _) = all.split_once("\n\n").ok_or("nothing but commands")?;
    for line in all.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let command = line.split_whitespace().next().ok_or("no name")?;
        let is_asked = COMMANDS.iter().any(|line| line.split(' ').next() == Some(command));
        assert!(is_asked || APART.contains(&command), "nobody tries {command}");
    }
    let clean = run("clean nosuch", None).uid(65_534).gid(65_534).output()?;
    refused("clean nosuch", &clean, "root rights");
    for line in WRONG {
        refused(line, &run(line, Some(lab.name())).output()?, "");
    }
    for line in COMMANDS {
        refused(line, &run(line, Some("nosuch")).output()?, "lab nosuch does not run");
        refused(line, &run(line, None).output()?, "several labs run, choose one by --lab");
        let output = run(line, Some(lab.name())).uid(65_534).gid(65_534).output()?;
        refused(line, &output, "a lab is asked with root rights");
    }
    drop(second);
    Ok(())
}

fn labels_and_logs_change() -> Result<(), Failed> {
    let name = fresh_name();
    let lab = Lab::start(&name, &format!("{}{CLOSED}", quickstart(&name)))?;
    let closed = format!("{}:8080", lab.pod_ip("closed", true)?);
    let is_open = || -> Result<bool, Failed> {
        let report = lab.ask(&["trace", "--from", "client", "--to", &closed, "-o", "json"])?;
        let report: serde_json::Value = serde_json::from_str(&report)?;
        Ok(report["verdict"] == "forward")
    };
    assert!(!is_open()?);
    lab.ask(&["label", "pod/closed", "app=open", "tier=back"])?;
    assert!(is_open()?, "no policy selects it any more");
    assert_eq!(lab.fetch("default.client", &closed, "/hostname")?, "closed");
    lab.ask(&["label", "pod/closed", "app=closed", "tier-"])?;
    assert!(!is_open()?);
    let pods = lab.get("pods")?;
    let pod = pods.iter().find(|pod| pod["metadata"]["name"] == "closed").ok_or("it is gone")?;
    assert_eq!(pod["metadata"]["labels"], serde_json::json!({ "app": "closed" }));
    lab.ask(&["label", "ns/default", "team=shop"])?;
    let wrong = lab.client(&["label", "pod/closed", "app=a b"])?;
    assert_eq!(wrong.status.code(), Some(2));

    assert_eq!(lab.ask(&["log"])?.trim(), "info");
    assert_eq!(
        lab.ask(&["log", "kswitch::control=debug,warn"])?.trim(),
        "kswitch::control=debug,warn"
    );
    lab.ask(&["log", "info"])?;

    let stats = lab.ask(&["conntrack", "stats"])?;
    for cause in ["finished", "reset", "silent", "displaced", "removed"] {
        assert!(stats.contains(&format!("ended-{cause}")), "{stats}");
    }
    lab.fetch("default.client", "10.8.0.80:80", "/hostname")?;
    lab.ask(&["conntrack", "flush"])?;
    let stats: serde_json::Value =
        serde_json::from_str(&lab.ask(&["conntrack", "stats", "-o", "json"])?)?;
    assert!(stats["events"]["ended-removed"].as_u64() >= Some(1), "{stats}");
    Ok(())
}
