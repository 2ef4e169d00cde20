//! Pods that live: their programs, what these say, how they are asked and what comes of it.

use kswitch::lab::process;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("life: containers run one after another and side by side", &[], containers),
    ("life: a pod serves once it is ready, and while it is", &[], readiness),
    ("life: a server that speaks TLS is asked in TLS", &["openssl", "python3"], secure),
    ("life: what fails is started again, and left alone for a while", &[], restarts),
];

fn lab(pods: &str) -> Result<Lab, Failed> {
    let name = fresh_name();
    let text = format!(
        "[lab]\nname = \"{name}\"\n[dns]\nenabled = false\n[[node]]\nname = \"node-a\"\n{pods}"
    );
    Lab::start(&name, &text)
}

fn pod(lab: &Lab, name: &str) -> Result<Value, Failed> {
    let pods = lab.get("pods")?;
    let pod = pods.into_iter().find(|pod| pod["metadata"]["name"] == name);
    pod.ok_or_else(|| format!("no pod {name}").into())
}

fn container<'p>(pod: &'p Value, list: &str, name: &str) -> Option<&'p Value> {
    pod["status"][list].as_array()?.iter().find(|container| container["name"] == name)
}

fn containers() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().display();
    let lab = lab(&format!(
        r#"
[[pod]]
metadata = {{ name = "worker", labels = {{ app = "worker" }} }}
[pod.spec]
hostname = "first"
subdomain = "works"
initContainers = [
    {{ name = "one", command = ["sh", "-c", "sleep 0.2; echo one >> {at}/order"] }},
    {{ name = "two", command = ["sh", "-c", "echo two >> {at}/order; echo did two"] }},
]
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c"]
args = ["cat {at}/order; hostname; pwd; echo $(GREETING) $WHERE; grep works /etc/hosts; echo $$$$ > {at}/pid; exec sleep 1000"]
workingDir = "/tmp"
env = [
    {{ name = "GREETING", value = "hello" }},
    {{ name = "WHERE", valueFrom = {{ fieldRef = {{ fieldPath = "spec.nodeName" }} }} }},
]
[[pod.spec.containers]]
name = "beside"
command = ["sh", "-c", "cat /proc/net/dev | grep -c eth0; exec sleep 1000"]
"#
    ))?;
    until("it runs", || Ok(pod(&lab, "worker")?["status"]["phase"] == "Running"))?;
    until("it has said all", || Ok(lab.ask(&["logs", "worker"])?.lines().count() >= 6))?;
    let said = lab.ask(&["logs", "worker", "-c", "main"])?;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..5], ["one", "two", "first", "/tmp", "hello node-a"]);
    assert!(lines[5].ends_with("first.works.default.svc.cluster.local\tfirst"), "{said}");
    assert_eq!(lab.ask(&["logs", "default/worker", "-c", "two"])?, "did two\n");
    assert_eq!(lab.ask(&["logs", "worker", "--tail", "1"])?, format!("{}\n", lines[5]));
    until("the other has looked", || {
        Ok(lab.ask(&["logs", "worker", "-c", "beside"])?.trim() == "1")
    })?;
    until("it is ready", || {
        let seen = pod(&lab, "worker")?;
        Ok(container(&seen, "containerStatuses", "main").is_some_and(|c| c["ready"] == true))
    })?;
    let seen = pod(&lab, "worker")?;
    let one = container(&seen, "initContainerStatuses", "one").ok_or("no first container")?;
    assert_eq!(one["state"]["terminated"]["exitCode"], 0);
    let pid = std::fs::read_to_string(directory.path().join("pid"))?;
    assert!(std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
    drop(lab);
    // nothing of it is left
    until("it is gone", || Ok(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()))
}

/// One server answers well, one badly, and one does not speak TLS: whoever only looked whether
/// connections are taken would see no difference.
fn secure() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().display();
    let server = |name: &str, status: u16, is_secure: bool| {
        let wrap = if is_secure {
            "import ssl; c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('CERT', 'KEY'); \
             s.socket = c.wrap_socket(s.socket, server_side=True)"
        } else {
            "pass"
        };
        let code = format!(
            "from http.server import *\nclass H(BaseHTTPRequestHandler):\n def do_GET(self):\n  \
             self.send_response({status}); self.end_headers()\ns = HTTPServer(('', 8443), H)\n{wrap}\n\
             s.serve_forever()\n"
        );
        let code = code.replace("CERT", &format!("{at}/cert")).replace("KEY", &format!("{at}/key"));
        let file = directory.path().join(name);
        std::fs::write(&file, code)?;
        Ok::<_, Failed>(format!(
            "[[pod]]\nmetadata = {{ name = \"{name}\" }}\n[[pod.spec.containers]]\nname = \"main\"\n\
             command = [\"/usr/bin/python3\", \"{}\"]\n\
             readinessProbe = {{ httpGet = {{ port = 8443, scheme = \"HTTPS\" }}, periodSeconds = 1 }}\n",
            file.display()
        ))
    };
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=lab"])
        .args(["-keyout", &format!("{at}/key"), "-out", &format!("{at}/cert")])
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pods =
        [server("well", 200, true)?, server("ill", 500, true)?, server("plain", 200, false)?];
    let lab = lab(&pods.concat())?;
    let is_ready = |name: &str| {
        let seen = pod(&lab, name)?;
        Ok::<_, Failed>(
            container(&seen, "containerStatuses", "main").is_some_and(|c| c["ready"] == true),
        )
    };
    until("it is ready", || is_ready("well"))?;
    // they began together, and have been asked as often
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!is_ready("ill")? && !is_ready("plain")?);
    Ok(())
}

fn readiness() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ready");
    let lab = lab(&format!(
        r#"
[[pod]]
metadata = {{ name = "client" }}
[[service]]
metadata = {{ name = "web" }}
spec.clusterIP = "10.8.0.80"
spec.selector = {{ app = "web" }}
spec.ports = [{{ port = 80, targetPort = 8080 }}]
[[pod]]
metadata = {{ name = "web", labels = {{ app = "web" }} }}
[[pod.spec.containers]]
name = "image"
ports = [{{ containerPort = 8080 }}]
[[pod.spec.containers]]
name = "main"
command = ["sleep", "1000"]
readinessProbe = {{ exec = {{ command = ["test", "-e", "{}"] }}, periodSeconds = 1, failureThreshold = 1 }}
"#,
        file.display()
    ))?;
    let serves = || lab.fetch("default.client", "10.8.0.80:80", "/hostname").is_ok();
    let is_ready = || {
        let slices = lab.get("endpointslices")?;
        Ok(slices.iter().any(|slice| slice["endpoints"][0]["conditions"]["ready"] == true))
    };
    for _ in 0..2 {
        until("it is not ready", || is_ready().map(|is_ready| !is_ready))?;
        assert!(!serves());
        std::fs::write(&file, "")?;
        until("it is ready", is_ready)?;
        assert!(serves());
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn restarts() -> Result<(), Failed> {
    let lab = lab(r#"
[[pod]]
metadata = { name = "fails" }
spec.containers = [{ name = "main", command = ["sh", "-c", "echo tried; exit 3"] }]
[[pod]]
metadata = { name = "absent" }
spec.containers = [{ name = "main", command = ["/no/such/program"] }]
[[pod]]
metadata = { name = "ends" }
spec.restartPolicy = "Never"
spec.containers = [{ name = "main", command = ["sh", "-c", "exit 4"] }]
[[pod]]
metadata = { name = "asked" }
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "trap 'echo told; exit 0' TERM; while true; do sleep 0.05; done"]
livenessProbe = { exec = { command = ["false"] }, periodSeconds = 1, failureThreshold = 1 }
[[pod]]
metadata = { name = "killed" }
spec.containers = [{ name = "main", command = ["sleep", "1000"] }]
"#)?;
    let main = |name: &str| -> Result<Value, Failed> {
        let pod = pod(&lab, name)?;
        Ok(container(&pod, "containerStatuses", "main").cloned().unwrap_or_default())
    };
    until("it is left alone", || {
        let main = main("fails")?;
        Ok(main["restartCount"] == 1
            && main["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && main["lastState"]["terminated"]["exitCode"] == 3)
    })?;
    assert_eq!(lab.ask(&["logs", "fails"])?, "tried\ntried\n");
    assert!(lab.ask(&["get", "pods"])?.contains("CrashLoopBackOff"));
    until("what is not there is told of", || {
        let text = lab.ask(&["logs", "absent"])?;
        Ok(text.contains("/no/such/program: No such file") && text.contains("not pulled"))
    })?;
    until("it has failed", || Ok(pod(&lab, "ends")?["status"]["phase"] == "Failed"))?;
    assert_eq!(main("ends")?["state"]["terminated"]["exitCode"], 4);
    until("it was told to end", || {
        Ok(main("asked")?["restartCount"].as_u64() >= Some(1)
            && lab.ask(&["logs", "asked"])?.contains("told"))
    })?;
    let namespace = format!("{}.default.killed", lab.name);
    until("it runs", || Ok(!process::processes_in(&namespace)?.is_empty()))?;
    let first = process::processes_in(&namespace)?;
    for pid in &first {
        kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGKILL)?;
    }
    until("it runs again", || {
        let now = process::processes_in(&namespace)?;
        Ok(main("killed")?["restartCount"] == 1 && !now.is_empty() && now != first)
    })?;
    assert_eq!(main("killed")?["lastState"]["terminated"]["exitCode"], 137);
    Ok(())
}
