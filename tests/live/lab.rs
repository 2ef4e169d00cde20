//! A lab run by the real binary, and what is asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kswitch::lab::namespace;
use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take to come about before the test fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long one exchange may take.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(3);

/// Waits until something is so.
pub(crate) fn until(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, Failed>,
) -> Result<(), Failed> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > end {
            return Err(format!("never: {what}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether a program is there to be run; after a colon, a module that it has.
pub(crate) fn has_program(name: &str) -> bool {
    if let Some((program, module)) = name.split_once(':') {
        let import = format!("import {module}");
        let output = Command::new(program).args(["-c", &import]).output();
        return output.is_ok_and(|output| output.status.success());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// The quickstart lab under another name.
pub(crate) fn quickstart(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/labs/quickstart.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let named = text.replace("name = \"quickstart\"", &format!("name = \"{name}\""));
    assert_ne!(named, text, "the lab is called something else");
    named
}

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A running lab.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) config: PathBuf,
    pub(crate) ready: String,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Lab {
    /// Runs the lab of this text and waits until it is ready.
    pub(crate) fn start(name: &str, text: &str) -> Result<Self, Failed> {
        Self::start_with(name, text, &[])
    }

    /// The same with more in the environment.
    pub(crate) fn start_with(
        name: &str,
        text: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("lab.toml");
        std::fs::write(&config, text)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_kswitch"))
            .arg("--config")
            .arg(&config)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (says, said) = mpsc::channel();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if says.send(line).is_err() {
                    break;
                }
            }
        });
        let mut stderr = child.stderr.take().ok_or("no standard error")?;
        let (complains, complaints) = mpsc::channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = complains.send(text);
        });
        let ready = match said.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("ready") => line,
            other => {
                let _ = child.kill();
                let _ = child.wait();
                let complaint = complaints.recv_timeout(PATIENCE).unwrap_or_default();
                return Err(format!("not ready: {other:?}: {complaint}").into());
            }
        };
        let name = name.to_owned();
        Ok(Self { name, config, ready, child, _directory: directory })
    }

    pub(crate) fn quickstart() -> Result<Self, Failed> {
        let name = fresh_name();
        Self::start(&name, &quickstart(&name))
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Asks it to end, and waits; answers its exit code.
    pub(crate) fn stop(&mut self) -> Result<Option<i32>, Failed> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM)?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("did not end".into())
    }

    /// Ends it at once, leaving everything behind.
    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its page and its metrics are.
    pub(crate) fn metrics(&self) -> Option<String> {
        let (_, address) = self.ready.split_once("http://")?;
        Some(address.trim().trim_end_matches("/metrics").to_owned())
    }

    /// Runs a client command against it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kswitch"));
        Ok(command.args(["--lab", &self.name]).args(arguments).output()?)
    }

    /// What a client command says; it must succeed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, Failed> {
        let output = self.client(arguments)?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{arguments:?}: {complaint}").into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The objects that `get -o json` shows.
    pub(crate) fn get(&self, kind: &str) -> Result<Vec<Value>, Failed> {
        let list: Value = serde_json::from_str(&self.ask(&["get", kind, "-o", "json"])?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_else(|| vec![list]))
    }

    /// The pods that the lab's file has: the name servers are in a namespace of their own.
    pub(crate) fn own_pods(&self) -> Result<Vec<Value>, Failed> {
        let mut pods = self.get("pods")?;
        pods.retain(|pod| pod["metadata"]["namespace"] == "default");
        Ok(pods)
    }

    /// The cluster IP of a Service of the default namespace, of one family.
    pub(crate) fn cluster_ip(&self, service: &str, is_v4: bool) -> Result<String, Failed> {
        let services = self.get("services")?;
        let object = services.iter().find(|object| object["metadata"]["name"] == service);
        let ips = object.and_then(|o| o["spec"]["clusterIPs"].as_array().cloned());
        let ips = ips.ok_or("no such service")?;
        let ip = ips.iter().filter_map(Value::as_str).find(|ip| ip.contains('.') == is_v4);
        Ok(ip.ok_or("not of this family")?.to_owned())
    }

    /// The addresses of a pod of the default namespace.
    pub(crate) fn pod_ip(&self, pod: &str, is_v4: bool) -> Result<String, Failed> {
        let pods = self.get("pods")?;
        let object = pods.iter().find(|object| object["metadata"]["name"] == pod);
        let ips = object.and_then(|o| o["status"]["podIPs"].as_array().cloned());
        let ips = ips.ok_or("no such pod")?;
        let ip = ips.iter().filter_map(|ip| ip["ip"].as_str()).find(|ip| ip.contains('.') == is_v4);
        Ok(ip.ok_or("not of this family")?.to_owned())
    }

    /// Does something in the namespace of a machine: `default.client`, `node.node-a`, `ext.host`.
    pub(crate) fn inside<T: Send>(
        &self,
        machine: &str,
        closure: impl FnOnce() -> T + Send,
    ) -> Result<T, Failed> {
        Ok(namespace::enter(&format!("{}.{machine}", self.name), closure)?)
    }

    /// The body of a GET from inside a machine.
    pub(crate) fn fetch(&self, machine: &str, target: &str, path: &str) -> Result<String, Failed> {
        self.inside(machine, || fetch(target, path))?
    }

    /// What of it there is: namespaces, and directories of files for them.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        leftovers(&self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.stop().is_err() {
            let _ = self.kill();
        }
    }
}

/// What there is of a lab outside its process.
pub(crate) fn leftovers(lab: &str) -> Vec<String> {
    named(&format!("{lab}."))
}

/// What there is of labs outside their processes, of names that begin so.
pub(crate) fn named(prefix: &str) -> Vec<String> {
    ["/run/netns", "/etc/netns", "/run/kswitch"]
        .iter()
        .filter_map(|directory| Some((directory, std::fs::read_dir(directory).ok()?)))
        .flat_map(|(directory, entries)| {
            entries
                .flatten()
                .map(move |entry| format!("{directory}/{}", entry.file_name().display()))
        })
        .filter(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(prefix)))
        // the lock stays, since to remove it would be to race with the next run
        .filter(|path| Path::new(path).extension().is_none_or(|end| end != "lock"))
        .collect()
}

/// The body of a GET.
pub(crate) fn fetch(target: &str, path: &str) -> Result<String, Failed> {
    let address: SocketAddr = target.parse().map_err(|_| format!("{target} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, EXCHANGE)?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no body")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("{target}{path}: {head}").into());
    }
    Ok(body.trim().to_owned())
}

/// The answer to one datagram.
pub(crate) fn exchange(target: &str, question: &[u8]) -> Result<Vec<u8>, Failed> {
    let any = if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(EXCHANGE))?;
    socket.connect(target)?;
    socket.send(question)?;
    let mut room = vec![0; 65_535];
    let length = socket.recv(&mut room)?;
    Ok(room[..length].to_vec())
}
