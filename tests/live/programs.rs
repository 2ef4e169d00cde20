//! What ordinary programs see of a lab.

use libtest_mimic::Failed;

use crate::Test;
use crate::lab::Lab;

pub(crate) const TESTS: &[Test] = &[
    ("ping crosses nodes in both families", &["ping"], ping),
    ("traceroute shows the node hops", &["traceroute"], traceroute),
    ("iperf3 runs over TCP and UDP without a stall", &["iperf3"], iperf3),
    ("curl answers inside a pod by exec", &["curl"], curl),
];

fn far_pod(lab: &Lab) -> Result<String, Failed> {
    let pods = lab.get("pods")?;
    let far = pods.iter().find(|pod| pod["spec"]["nodeName"] == "node-b").ok_or("no far pod")?;
    Ok(far["metadata"]["name"].as_str().ok_or("no name")?.to_owned())
}

fn ping() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    for is_v4 in [true, false] {
        let ip = lab.pod_ip(&far_pod(&lab)?, is_v4)?;
        let family = if is_v4 { "-4" } else { "-6" };
        let said =
            lab.ask(&["exec", "client", "--", "ping", "-n", family, "-c", "3", "-i", "0.2", &ip])?;
        assert!(said.contains(" 0% packet loss"), "{said}");
        assert!(said.contains("ttl=62"), "{said}");
    }
    Ok(())
}

fn traceroute() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    for is_v4 in [true, false] {
        let far = far_pod(&lab)?;
        let ip = lab.pod_ip(&far, is_v4)?;
        let family = if is_v4 { "-4" } else { "-6" };
        for probe in [&[][..], &["-I"], &["-T", "-p", "8080"]] {
            let mut arguments = vec!["exec", "client", "--", "traceroute", "-n", family, "-q", "1"];
            arguments.extend(probe);
            arguments.extend(["-w", "1", &ip]);
            let said = lab.ask(&arguments)?;
            let hops: Vec<&str> =
                said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
            assert_eq!(hops.len(), 3, "{said}");
            assert!(!hops.contains(&"*"), "{said}");
            assert_eq!(hops[2], ip, "{said}");
        }
    }
    Ok(())
}

fn iperf3() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let far = far_pod(&lab)?;
    let ip = lab.pod_ip(&far, true)?;
    for extra in [&[][..], &["-u", "-b", "200M", "-l", "1400"]] {
        let mut server = std::process::Command::new(env!("CARGO_BIN_EXE_kswitch"))
            .args(["--lab", &lab.name, "exec", &far, "--", "iperf3", "-s", "-1"])
            .stdout(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        let mut arguments = vec!["exec", "client", "--", "iperf3", "-J", "-t", "3", "-c", &ip];
        arguments.extend(extra);
        let said = lab.ask(&arguments);
        let _ = server.kill();
        let _ = server.wait();
        let report: serde_json::Value = serde_json::from_str(&said?)?;
        let intervals = report["intervals"].as_array().ok_or("no intervals")?;
        for interval in intervals {
            let octets = interval["sum"]["bytes"].as_f64().unwrap_or_default();
            assert!(octets > 0.0, "a second without traffic: {report}");
        }
    }
    Ok(())
}

fn curl() -> Result<(), Failed> {
    let lab = Lab::quickstart()?;
    let url = format!("http://{}/hostname", lab.cluster_ip("frontend", true)?);
    let said = lab.ask(&["exec", "client", "--", "curl", "-s", "-m", "3", &url])?;
    assert!(said.starts_with("frontend"), "{said}");
    let failed = lab.client(&["exec", "client", "--", "sh", "-c", "exit 7"])?;
    assert_eq!(failed.status.code(), Some(7));
    Ok(())
}
