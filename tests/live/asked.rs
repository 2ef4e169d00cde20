//! How containers are asked, and what is done at their start and before their end.

use std::path::Path;

use libtest_mimic::Failed;
use serde_json::Value;

use super::Test;
use super::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    (
        "asked: a server of gRPC says which of its services are served",
        &["/usr/bin/python3:grpc"],
        grpc,
    ),
    ("asked: nothing else is asked before a container has come up", &[], startup),
    ("asked: a probe may leave less time to end than the pod", &[], grace),
    ("asked: gates that others open keep a pod from being ready", &[], gates),
    ("asked: what is done after the start and before the end", &[], hooks),
];

/// A health server: the service `shop` is served while a file is there.
const SERVER: &str = "
import grpc, os, sys
from concurrent import futures
def check(request, context):
    name = request[2:].decode()
    if name not in ('', 'shop'):
        context.abort(grpc.StatusCode.NOT_FOUND, 'no such service')
    return b'\\x08\\x01' if name == '' or os.path.exists(sys.argv[1]) else b'\\x08\\x02'
handler = grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler('grpc.health.v1.Health', {'Check': handler}),))
server.add_insecure_port('0.0.0.0:9000')
server.start()
print('serves', flush=True)
server.wait_for_termination()
";

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

fn condition(pod: &Value, name: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == name && condition["status"] == "True")
}

fn restarts(lab: &Lab, name: &str) -> Result<u64, Failed> {
    let pod = pod(lab, name)?;
    Ok(pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default())
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn grpc() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let (server, open) = (directory.path().join("server.py"), directory.path().join("open"));
    std::fs::write(&server, SERVER)?;
    let container = |name: &str, readiness: &str| {
        format!(
            r#"
[[pod]]
metadata = {{ name = "{name}" }}
[[pod.spec.containers]]
name = "main"
command = ["/usr/bin/python3", "{}", "{}"]
startupProbe = {{ grpc = {{ port = 9000 }}, periodSeconds = 1, timeoutSeconds = 10, failureThreshold = 100 }}
readinessProbe = {{ grpc = {{ {readiness} }}, periodSeconds = 1, timeoutSeconds = 10, failureThreshold = 1 }}
"#,
            server.display(),
            open.display()
        )
    };
    let lab = lab(&[
        container("shop", "port = 9000, service = \"shop\""),
        container("unknown", "port = 9000, service = \"other\""),
        container("whole", "port = 9000"),
    ]
    .concat())?;
    let is_ready = |name: &str| Ok::<_, Failed>(condition(&pod(&lab, name)?, "Ready"));
    until("the server as a whole serves", || is_ready("whole"))?;
    assert!(!is_ready("shop")?);
    for _ in 0..2 {
        std::fs::write(&open, "")?;
        until("the service is served", || is_ready("shop"))?;
        std::fs::remove_file(&open)?;
        until("the service is not served", || Ok(!is_ready("shop")?))?;
    }
    assert!(!is_ready("unknown")? && is_ready("whole")?);
    for name in ["shop", "unknown", "whole"] {
        assert_eq!(restarts(&lab, name)?, 0, "{name}: it had come up in time");
    }
    Ok(())
}

fn startup() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    let asks = |name: &str, file: &str| {
        format!(
            r#"{{ exec = {{ command = ["sh", "-c", "echo asked >> {}; test -e {}"] }}, periodSeconds = 1, failureThreshold = {} }}"#,
            at(name).display(),
            at(file).display(),
            if name == "startup" { 1000 } else { 1 },
        )
    };
    let lab = lab(&format!(
        r#"
[[pod]]
metadata = {{ name = "slow" }}
[[pod.spec.containers]]
name = "main"
command = ["sleep", "1000"]
startupProbe = {}
readinessProbe = {}
livenessProbe = {}
"#,
        asks("startup", "up"),
        asks("readiness", "ready"),
        asks("liveness", "alive"),
    ))?;
    until("it was asked whether it is up", || Ok(lines(&at("startup")) >= 3))?;
    assert_eq!((lines(&at("readiness")), lines(&at("liveness"))), (0, 0));
    let started = || -> Result<Value, Failed> {
        Ok(pod(&lab, "slow")?["status"]["containerStatuses"][0]["started"].clone())
    };
    assert_eq!(started()?, false);
    for file in ["alive", "ready", "up"] {
        std::fs::write(at(file), "")?;
    }
    until("it is ready", || Ok(condition(&pod(&lab, "slow")?, "Ready")))?;
    assert_eq!((started()?, restarts(&lab, "slow")?), (true.into(), 0));
    let asked = lines(&at("startup"));
    until("it was asked whether it lives", || Ok(lines(&at("liveness")) >= 2))?;
    assert_eq!(lines(&at("startup")), asked, "that it is up is asked once");
    std::fs::remove_file(at("up"))?;
    std::fs::remove_file(at("alive"))?;
    until("it was started again", || Ok(restarts(&lab, "slow")? == 1))?;
    // from the start, and so not ready
    until("it is asked again", || Ok(lines(&at("startup")) > asked))?;
    assert_eq!(started()?, false);
    assert!(!condition(&pod(&lab, "slow")?, "Ready"));
    Ok(())
}

fn grace() -> Result<(), Failed> {
    let lab = lab(r#"
[[pod]]
metadata = { name = "deaf" }
spec.terminationGracePeriodSeconds = 3600
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
livenessProbe = { exec = { command = ["false"] }, periodSeconds = 1, failureThreshold = 1, terminationGracePeriodSeconds = 1 }
"#)?;
    until("it was started again", || Ok(restarts(&lab, "deaf")? >= 1))?;
    let seen = pod(&lab, "deaf")?;
    let last = &seen["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{last}");
    Ok(())
}

fn gates() -> Result<(), Failed> {
    let lab = lab(r#"
[[service]]
metadata = { name = "web" }
spec.clusterIP = "10.8.0.80"
spec.selector = { app = "web" }
spec.ports = [{ port = 80, targetPort = 8080 }]
[[pod]]
metadata = { name = "client" }
"#)?;
    let file = lab.config.with_file_name("pod.yaml");
    let apply = |word: &str| -> Result<(), Failed> {
        let status =
            format!("status:\n  conditions:\n  - {{type: example.com/open, status: \"{word}\"}}\n");
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{app: web}}}}\nspec:\n  \
             readinessGates: [{{conditionType: example.com/open}}]\n  containers:\n  - name: echo\n    \
             ports: [{{containerPort: 8080}}]\n  - name: main\n    command: [sleep, \"1000\"]\n{status}"
        );
        std::fs::write(&file, text)?;
        lab.ask(&["apply", "-f", &file.display().to_string()]).map(|_| ())
    };
    let serves = || lab.fetch("default.client", "10.8.0.80:80", "/hostname").is_ok();
    apply("False")?;
    until("its containers are ready", || Ok(condition(&pod(&lab, "web")?, "ContainersReady")))?;
    assert!(!condition(&pod(&lab, "web")?, "Ready") && !serves());
    apply("True")?;
    until("it is ready", || Ok(condition(&pod(&lab, "web")?, "Ready")))?;
    assert!(serves());
    apply("False")?;
    until("it is not ready", || Ok(!condition(&pod(&lab, "web")?, "Ready")))?;
    assert!(!serves());
    Ok(())
}

fn hooks() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("order");
    let at = file.display();
    let lab = lab(&format!(
        r#"
[[pod]]
metadata = {{ name = "polite" }}
[[pod.spec.containers]]
name = "main"
command = ["sh", "-c", "trap 'echo told >> {at}; exit 0' TERM; while :; do sleep 0.05; done"]
readinessProbe = {{ exec = {{ command = ["test", "-e", "{at}"] }}, periodSeconds = 1 }}
[pod.spec.containers.lifecycle]
postStart.exec.command = ["sh", "-c", "sleep 0.3; echo begun >> {at}"]
preStop.exec.command = ["sh", "-c", "sleep 0.3; echo ending >> {at}"]
[[pod]]
metadata = {{ name = "failed" }}
[[pod.spec.containers]]
name = "main"
command = ["sleep", "1000"]
[pod.spec.containers.lifecycle]
postStart.exec.command = ["false"]
"#
    ))?;
    until("it is ready", || Ok(condition(&pod(&lab, "polite")?, "Ready")))?;
    assert_eq!(std::fs::read_to_string(&file)?, "begun\n");
    lab.ask(&["delete", "pod", "polite"])?;
    until("it is gone", || Ok(pod(&lab, "polite").is_err()))?;
    assert_eq!(std::fs::read_to_string(&file)?, "begun\nending\ntold\n");
    until("what cannot begin well is started again", || Ok(restarts(&lab, "failed")? >= 1))?;
    assert!(lab.ask(&["logs", "failed"])?.contains("postStart failed"));
    Ok(())
}
