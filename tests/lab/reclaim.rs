//! What a killed run leaves, and who cleans it up.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kswitch::lab::{Error, Lab, namespace, process};

use super::frames::exchange;
use super::{exists, made, pod, unique, wait_until};

/// Tells [`a_lab_is_made_and_closed`] to run as the victim of another test.
const VICTIM: &str = "KSWITCH_TEST_VICTIM";

pub(super) fn a_lab_is_made_and_closed() {
    let victim = std::env::var(VICTIM);
    let name = victim.clone().unwrap_or_else(|_| unique("whole"));
    let mut lab = Lab::open(&name).unwrap();
    let specs: Vec<_> = (2..12).map(|number| pod(&name, number)).collect();
    let done = std::cell::RefCell::new(Vec::new());
    let hosts = lab.add_hosts(&specs, &|made, all| done.borrow_mut().push((made, all))).unwrap();
    assert_eq!(done.into_inner(), (1..=10).map(|made| (made, 10)).collect::<Vec<_>>());
    let names = hosts.iter().map(|host| host.namespace.clone());
    assert!(names.eq((2..12).map(|number| pod(&name, number).namespace)));
    if victim.is_ok() {
        let mut sleep = Command::new("sleep");
        let mut sleep = process::spawn(&hosts[0].namespace, sleep.arg("60")).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "\nvictim {}", sleep.id()).unwrap();
        sleep.wait().unwrap();
    }
    let some: Vec<_> = (2..7).map(|number| pod(&name, number).namespace).collect();
    lab.remove_hosts(&some).unwrap();
    assert!((2..12).all(|number| exists(&pod(&name, number).namespace) == (number >= 7)));
    lab.close().unwrap();
    assert!((2..12).all(|number| !exists(&pod(&name, number).namespace)));
}

/// A lab of ten pods whose process was killed; gone at the latest when this is dropped.
struct KilledRun {
    name: String,
    /// A process that it left in `pod-2`.
    process: u32,
}

impl KilledRun {
    fn new(name: &str) -> Self {
        let name = unique(name);
        let test = ["--exact", "reclaim::a_lab_is_made_and_closed", "--include-ignored"];
        let mut run = Command::new(std::env::current_exe().unwrap())
            .args(test)
            .arg("--nocapture")
            .env(VICTIM, &name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut process = lines.filter_map(|line| line.strip_prefix("victim ")?.parse().ok());
        let process = process.next();
        run.kill().unwrap();
        run.wait().unwrap();
        Self { name, process: process.unwrap() }
    }
}

impl Drop for KilledRun {
    fn drop(&mut self) {
        drop(Lab::open(&self.name));
    }
}

pub(super) fn what_a_killed_run_left_is_reclaimed_by_the_next_of_the_same_lab() {
    let run = KilledRun::new("killed");
    let (name, left) = (&run.name, run.process);
    let namespace = pod(name, 2).namespace;
    assert!(exists(&namespace) && exists(&pod(name, 11).namespace));
    assert_eq!(process::processes_in(&namespace).unwrap(), [left]);

    // another lab does not care
    drop(Lab::open(&unique("bystander")).unwrap());
    assert!(exists(&namespace));

    let mut lab = Lab::open(name).unwrap();
    assert_eq!(lab.reclaimed(), 10);
    assert!((2..12).all(|number| !exists(&pod(name, number).namespace)));
    wait_until("the end of the process left inside", || {
        // gone, or waiting for whoever inherited it
        let state = fs::read_to_string(format!("/proc/{left}/stat"));
        state.map_or(true, |state| state.contains(") Z "))
    });
    let mut host = made(&mut lab, pod(name, 2));
    exchange(&mut host, true);
    lab.close().unwrap();
    for kind in ["made", "lock", "etc"] {
        let path = Path::new("/run/kswitch").join(format!("{name}.{kind}"));
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(name));
}

pub(super) fn a_namespace_made_anew_under_a_reclaimed_name_is_not_ours() {
    let run = KilledRun::new("anew");
    let name = &run.name;
    // somebody removes one of the leftovers and makes something else of the same name
    let path = namespace::path(&pod(name, 3).namespace);
    // held, lest the new one get the old one's number
    let _old = fs::File::open(&path).unwrap();
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let (own, none) = (Some("/proc/thread-self/ns/net"), None::<&str>);
            nix::mount::mount(own, &path, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        });
    });
    let identity = namespace::identity(&pod(name, 3).namespace).unwrap();

    let lab = Lab::open(name).unwrap();
    assert!(!exists(&pod(name, 2).namespace));
    assert_eq!(namespace::identity(&pod(name, 3).namespace).unwrap(), identity);
    drop(lab);
    assert_eq!(namespace::identity(&pod(name, 3).namespace).unwrap(), identity);
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).unwrap();
    fs::remove_file(&path).unwrap();
}

pub(super) fn who_was_killed_and_is_not_gone_yet_is_waited_for_and_who_lives_is_not() {
    let name = unique("dying");
    Lab::open(&name).unwrap().close().unwrap();
    fs::create_dir_all(kswitch::lab::record::DIRECTORY).unwrap();
    let path = Path::new(kswitch::lab::record::DIRECTORY).join(format!("{name}.lock"));
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let mut lock = fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    writeln!(lock, "{}", child.id()).unwrap();
    match Lab::open(&name) {
        Err(Error::Running { process, .. }) => assert_eq!(process, Some(child.id())),
        result => panic!("{result:?}"),
    }
    child.kill().unwrap();
    // nobody has asked for its exit code, so it is there still, and has, it seems, the lock
    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(2500));
        drop(lock);
    });
    Lab::open(&name).unwrap().close().unwrap();
    holder.join().unwrap();
    child.wait().unwrap();
}
