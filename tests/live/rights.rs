//! What the threads of a running lab, and the programs of its pods, may do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kswitch::lab::process;
use libtest_mimic::Failed;

use super::Test;
use super::lab::{Lab, fresh_name, until};

pub(crate) const TESTS: &[Test] = &[
    ("rights: workers, agents and balancers have none to speak of", &[], threads),
    ("rights: containers have what their security context says", &[], containers),
];

/// Capabilities of a container that does not say, and `NET_ADMIN`'s and `KILL`'s bits.
///
/// Source: linux/capability.h.
const CONTAINER: u64 = 0x0000_0000_a804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const KILL: u64 = 1 << 5;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_MODULE: u64 = 1 << 16;

/// What `/proc` says of a thread's or a process's rights.
#[derive(Debug)]
struct Status {
    fields: BTreeMap<String, String>,
}

impl Status {
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path.join("status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(":\t"));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Some(Self { fields: fields.collect() })
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn bits(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).unwrap()
    }
}

/// The threads of a process whose names start like this.
fn threads_of(pid: i32, name: &str) -> Vec<Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = tasks.flatten().filter_map(|task| Status::read(&task.path()));
    statuses.filter(|status| status.field("Name").starts_with(name)).collect()
}

fn threads() -> Result<(), Failed> {
    let name = fresh_name();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/labs/ingress.toml");
    let text =
        fs::read_to_string(path)?.replace("name = \"ingress\"", &format!("name = \"{name}\""));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/labs");
    let text = text.replace("manifests = [\"", &format!("manifests = [\"{}/", directory.display()));
    let lab = Lab::start(&name, &text)?;
    for (thread, capabilities, filtered) in
        [("worker-", 0, "2"), ("agents", KILL, "0"), ("balancer", 0, "0")]
    {
        let threads = threads_of(lab.pid(), thread);
        assert!(!threads.is_empty(), "no {thread}");
        for status in threads {
            assert_eq!(status.bits("CapPrm"), capabilities, "{status:?}");
            assert_eq!(status.bits("CapEff"), capabilities, "{status:?}");
            assert_eq!(status.field("NoNewPrivs"), "1", "{status:?}");
            assert_eq!(status.field("Seccomp"), filtered, "{status:?}");
        }
    }
    let whole = Status::read(Path::new(&format!("/proc/{}", lab.pid()))).unwrap();
    assert_eq!(whole.bits("CapEff") & (SYS_ADMIN | SYS_MODULE), SYS_ADMIN, "{whole:?}");
    assert_eq!(whole.bits("CapBnd") & SYS_MODULE, 0, "{whole:?}");
    assert_eq!(whole.field("NoNewPrivs"), "1", "{whole:?}");
    Ok(())
}

/// The status of the program that a pod runs.
fn program(lab: &Lab, pod: &str) -> Result<Status, Failed> {
    let namespace = format!("{}.default.{pod}", lab.name);
    let mut found = None;
    until(&format!("{pod} sleeps"), || {
        let pids = process::processes_in(&namespace).unwrap_or_default();
        let statuses =
            pids.iter().filter_map(|pid| Status::read(Path::new(&format!("/proc/{pid}"))));
        found = { statuses }.find(|status| status.field("Name") == "sleep");
        Ok(found.is_some())
    })?;
    found.ok_or_else(|| "it went".into())
}

fn containers() -> Result<(), Failed> {
    let name = fresh_name();
    let pod = |name: &str, context: &str| {
        format!(
            "[[pod]]\nmetadata = {{ name = \"{name}\" }}\n[pod.spec]\nnodeName = \"a\"\n\
             containers = [{{ name = \"c\", command = [\"sleep\", \"1000\"], \
             securityContext = {{ {context} }} }}]\n"
        )
    };
    let lab = Lab::start(
        &name,
        &format!(
            "[lab]\nname = \"{name}\"\n[dns]\nenabled = false\n[[node]]\nname = \"a\"\n{}{}{}",
            pod("plain", ""),
            pod(
                "bare",
                "runAsUser = 65534, allowPrivilegeEscalation = false, capabilities = { drop = [\"ALL\"] }",
            ),
            pod("strong", "capabilities = { drop = [\"ALL\"], add = [\"NET_ADMIN\"] }"),
        ),
    )?;
    let plain = program(&lab, "plain")?;
    assert_eq!((plain.bits("CapEff"), plain.field("NoNewPrivs")), (CONTAINER, "0"), "{plain:?}");
    let bare = program(&lab, "bare")?;
    assert_eq!((bare.bits("CapEff"), bare.bits("CapBnd")), (0, 0), "{bare:?}");
    assert_eq!(bare.field("NoNewPrivs"), "1", "{bare:?}");
    assert!(bare.field("Uid").starts_with("65534\t65534"), "{bare:?}");
    let strong = program(&lab, "strong")?;
    assert_eq!(strong.bits("CapEff"), NET_ADMIN, "{strong:?}");
    Ok(())
}
