//! Traffic of real sockets between pods, nodes, Services and the outside.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::{EXCHANGE, Lab, exchange, fetch, fresh_name, quickstart};

pub(crate) const TESTS: &[Test] = &[
    ("a service answers from both endpoints", &[], service_reaches_both),
    ("datagrams and streams cross nodes in both families", &[], crosses_nodes),
    ("the outside sees the node and reaches no cluster ip", &[], outside),
    ("ten megabytes cross a service unharmed", &[], bulk),
    ("a gateway and every pod answer at their address", &[], everyone_answers),
];

fn service_reaches_both() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    for is_v4 in [true, false] {
        let ip = lab.cluster_ip("frontend", is_v4)?;
        let target = if is_v4 { format!("{ip}:80") } else { format!("[{ip}]:80") };
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(lab.fetch("default.client", &target, "/hostname")?);
        }
        assert_eq!(seen.len(), 2, "over {ip}: {seen:?}");
    }
    Ok(())
}

fn crosses_nodes() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    for pod in lab.own_pods()? {
        let name = pod["metadata"]["name"].as_str().ok_or("no name")?.to_owned();
        let has_port = !pod["spec"]["containers"][0]["ports"].is_null();
        for is_v4 in [true, false] {
            let ip = lab.pod_ip(&name, is_v4)?;
            let at =
                |port: u16| if is_v4 { format!("{ip}:{port}") } else { format!("[{ip}]:{port}") };
            assert_eq!(lab.fetch("default.client", &at(8080), "/hostname")?, name);
            if !has_port {
                let target = at(8081);
                let answer = lab.inside("default.client", || exchange(&target, b"hostname"))??;
                assert_eq!(String::from_utf8_lossy(&answer).trim(), name);
            }
        }
    }
    Ok(())
}

fn outside() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let nodes = lab.get("nodes")?;
    let addresses: BTreeSet<String> = nodes
        .iter()
        .flat_map(|node| node["status"]["addresses"].as_array().cloned().unwrap_or_default())
        .filter(|address| address["type"] == "InternalIP")
        .filter_map(|address| Some(address["address"].as_str()?.to_owned()))
        .collect();
    let seen = lab.fetch("default.client", "198.51.100.7:8080", "/clientip")?;
    let (ip, _) = seen.rsplit_once(':').ok_or("no port")?;
    assert!(addresses.contains(ip), "{seen} is no node of {addresses:?}");
    let target = format!("{}:80", lab.cluster_ip("frontend", true)?);
    let opened = lab.inside("ext.internet", || fetch(&target, "/hostname"))?;
    assert!(opened.is_err(), "a cluster IP was opened from outside");
    let target = format!("{}:8080", lab.pod_ip("client", true)?);
    let opened = lab.inside("ext.internet", || fetch(&target, "/hostname"))?;
    assert!(opened.is_err(), "a pod was opened from outside");
    Ok(())
}

/// Sends ten megabytes through the ClusterIP of a Service of our own, and back.
fn bulk() -> Result<(), Failed> {
    const OCTETS: usize = 10_000_000;
    let name = fresh_name();
    let service = r#"
[[service]]
metadata = { name = "bulk" }
spec = { selector = { app = "frontend" }, ports = [{ port = 90, targetPort = 9000 }] }
"#;
    let lab = Lab::start(&name, &(quickstart(&name) + service))?;
    let mut servers = Vec::new();
    for frontend in ["frontend-a", "frontend-b"] {
        let machine = format!("default.{frontend}");
        let listener = lab.inside(&machine, || TcpListener::bind("0.0.0.0:9000"))??;
        // the one that is not chosen waits for nobody, and ends with the test
        servers.push(thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut data = Vec::new();
            stream.read_to_end(&mut data)?;
            stream.write_all(&data)
        }));
    }
    let target = format!("{}:90", lab.cluster_ip("bulk", true)?);
    let data: Vec<u8> = (0..OCTETS).map(|n| u8::try_from(n * 31 % 253).unwrap()).collect();
    let client = lab.inside("default.client", || TcpStream::connect(&target))??;
    client.set_read_timeout(Some(EXCHANGE * 10))?;
    let mut writer = client.try_clone()?;
    let sent = data.clone();
    let sending = thread::spawn(move || -> std::io::Result<()> {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    (&client).read_to_end(&mut back)?;
    sending.join().map_err(|_| "the sender panicked")??;
    assert!(back == data, "{} of {} octets came back, or others", back.len(), data.len());
    assert_eq!(servers.len(), 2);
    Ok(())
}

fn everyone_answers() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let ports = lab.get("ports")?;
    assert_eq!(ports.len(), 8, "two nodes, three pods, two name servers, one outside: {ports:?}");
    let metrics = lab.ready.split("http://").nth(1).ok_or("no metrics")?;
    let (address, path) = metrics.trim().split_once('/').ok_or("no path")?;
    let text = fetch(address, &format!("/{path}"))?;
    for wanted in ["kswitch_port_received_frames_total", "kswitch_drops_total"] {
        assert!(text.contains(wanted), "no {wanted} in the metrics");
    }
    Ok(())
}
