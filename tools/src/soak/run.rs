//! All of it together: the schedule is carried out while clients talk, and measured in between.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{self, Client};
use super::findings::{Findings, Invariant};
use super::leaks::{Sample, Samples};
use super::report::Report;
use super::schedule::{Action, REPLICAS, Round, Schedule, Way};
use super::site::{NODE, PORT, Site};
use super::switch::Switch;
use super::witness::Witness;

/// How long the lab may take to be as at first.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long clients are quiet before flows are counted: longer than any of them lives on.
const QUIET: Duration = Duration::from_secs(7);

/// How long all traffic may take to get through again.
const BACK: Duration = Duration::from_secs(20);

/// Runs the schedule of a seed for so long; `say` hears of each round.
///
/// # Errors
/// The lab cannot be made.
pub fn run(seed: u64, time: Duration, program: &Path, say: &dyn Fn(&str)) -> io::Result<Report> {
    let directory = tempfile::tempdir()?;
    let lab = format!("soak-{}", std::process::id());
    let site = Site::write(directory.path(), &lab, &std::env::current_exe()?)?;
    let switch = Switch::start(program, &site.config, &lab, directory.path())?;
    let findings = Arc::new(Findings::default());
    let mut soak = Soak { site, switch, findings, samples: Samples::default(), rounds: 0 };
    soak.settle();
    let address = soak.switch.ask(&["get", "pods", "store", "-o", "json"])?;
    let store = address_of(&address).ok_or_else(|| io::Error::other("the store has no address"))?;
    let clients = clients::start(&soak.site, &soak.findings, (store, PORT).into())?;
    let witness = Witness::start(program, &lab, &soak.findings)?;
    let begun = Instant::now();
    soak.comes_back(&clients);
    soak.measure();
    for round in Schedule::new(seed) {
        if begun.elapsed() >= time || soak.switch.ask(&["get", "nodes"]).is_err() {
            break;
        }
        say(&format!("{:.0} s: {round}", begun.elapsed().as_secs_f64()));
        soak.round(&round, &clients);
    }
    Ok(soak.end((seed, begun), clients, witness))
}

/// The first IPv4 address of a pod.
fn address_of(object: &str) -> Option<std::net::IpAddr> {
    let (_, rest) = object.split_once("\"podIP\"")?;
    rest.split('"').nth(1)?.parse().ok()
}

struct Soak {
    site: Site,
    switch: Switch,
    findings: Arc<Findings>,
    samples: Samples,
    rounds: u64,
}

impl Soak {
    fn round(&mut self, round: &Round, clients: &[Client]) {
        for step in &round.steps {
            thread::sleep(step.pause);
            self.findings.act(step.action.name());
            if let Err(error) = self.act(step.action) {
                let what = format!("round {}, {}: {error}", round.number, step.action);
                self.findings.breach(Invariant::Answers, &what);
            }
        }
        self.rounds = round.number;
        self.findings.act("as at first");
        self.settle();
        self.comes_back(clients);
        self.measure();
    }

    fn act(&mut self, action: Action) -> io::Result<()> {
        let done = match action {
            Action::Scale(replicas) => {
                self.switch.ask(&["scale", "deployment/churn", "--replicas", &replicas.to_string()])
            }
            Action::DeletePod(which) => {
                let pods: Vec<_> = self.pods()?.into_iter().collect();
                let churning: Vec<_> =
                    pods.iter().filter(|pod| pod.name.starts_with("churn-") && !pod.ends).collect();
                let which = usize::try_from(which).unwrap_or(0) % churning.len().max(1);
                let Some(pod) = churning.get(which) else { return Ok(()) };
                match self.switch.ask(&["delete", "pod", &pod.name]) {
                    // it has gone by itself since it was listed, as after a change of replicas
                    Err(error) if error.to_string().contains("not ending") => Ok(String::new()),
                    done => done,
                }
            }
            Action::Restart => self.switch.ask(&["restart", "deployment/churn"]),
            Action::Paint(way) => return self.paint(way),
            Action::Reload => self.switch.ask(&["reload"]),
            Action::Add => self.file("apply"),
            Action::Remove => self.file("delete"),
            Action::Fault(fault) => {
                self.switch.ask(&[&["link", "fickle"], fault.arguments()].concat())
            }
            Action::Heal => self.switch.ask(&["link", "fickle", "--clear"]),
            Action::NodeDown => {
                let soon = ["--grace-period", "1", "--toleration", "1"];
                self.switch.ask(&[&["node", "down", NODE], &soon[..]].concat())
            }
            Action::NodeUp => self.switch.ask(&["node", "up", NODE]),
            Action::Kill => return self.switch.kill(),
            Action::Upgrade => return self.switch.upgrade(),
        };
        done.map(drop)
    }

    fn file(&self, verb: &str) -> io::Result<String> {
        self.switch.ask(&[verb, "-f", &self.site.more.display().to_string()])
    }

    fn paint(&self, way: Way) -> io::Result<()> {
        let change = self.findings.turn_colours();
        let painted = self.site.paint(usize::from((change / 2 + 1) % 2 == 1)).and_then(|()| {
            let file = self.site.paint.display().to_string();
            match way {
                Way::Apply => self.switch.ask(&["apply", "-f", &file]),
                Way::Reload => self.switch.ask(&["reload"]),
            }
        });
        self.findings.turn_colours();
        painted.map(drop)
    }

    fn pods(&self) -> io::Result<BTreeSet<Pod>> {
        let table = self.switch.ask(&["get", "pods"])?;
        Ok(table.lines().skip(1).filter_map(Pod::read).collect())
    }

    /// Makes the lab what it was at first, and waits until it is.
    fn settle(&mut self) {
        for arguments in [
            &["link", "fickle", "--clear"][..],
            &["node", "up", NODE],
            &["reload"],
            &["scale", "deployment/churn", "--replicas", &REPLICAS.to_string()],
        ] {
            if let Err(error) = self.switch.ask(arguments) {
                self.findings.breach(Invariant::Answers, &error.to_string());
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().unwrap_or_default();
            let churning = pods.iter().filter(|pod| pod.name.starts_with("churn-"));
            let is_settled = churning.count() == REPLICAS as usize
                && pods.iter().all(|pod| pod.is_ready && !pod.ends);
            if is_settled {
                return;
            }
            if Instant::now() > end {
                let what = format!("pods are never as at first: {pods:?}");
                return self.findings.breach(Invariant::ComesBack, &what);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Each client that is let in is answered again, and again.
    fn comes_back(&self, clients: &[Client]) {
        for client in clients.iter().filter(|client| client.is_let_in) {
            let answered = || client.tally.answered.load(Ordering::Relaxed);
            let (before, end) = (answered(), Instant::now() + BACK);
            while answered() < before + 3 {
                if Instant::now() > end {
                    let what = format!("{}: no answer since the lab is as at first", client.name);
                    self.findings.breach(Invariant::ComesBack, &what);
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn measure(&mut self) {
        self.findings.quiet(true);
        thread::sleep(QUIET);
        match Sample::take(self.rounds, &self.switch, &self.site.lab) {
            Ok(sample) => self.samples.add(sample, &self.findings),
            Err(error) => self.findings.breach(Invariant::Answers, &error.to_string()),
        }
        self.findings.quiet(false);
    }

    fn end(
        mut self,
        (seed, begun): (u64, Instant),
        clients: Vec<Client>,
        witness: Witness,
    ) -> Report {
        let took = begun.elapsed();
        self.findings.end();
        let seen = witness.seen.load(Ordering::Relaxed);
        witness.join();
        let mut traffic = Vec::new();
        for client in clients {
            let (name, tally) = (client.name, Arc::clone(&client.tally));
            client.join();
            let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            traffic.push((name, count(&tally.answered), count(&tally.silent)));
        }
        match self.switch.stop() {
            Ok(Some(0)) => {}
            other => {
                self.findings.breach(Invariant::NothingLeft, &format!("it ended with {other:?}"));
            }
        }
        for left in leftovers(&self.site.lab) {
            self.findings.breach(Invariant::NothingLeft, &left);
        }
        let log = self.switch.log();
        for line in log.lines().filter(|line| line.contains("panicked")) {
            self.findings.breach(Invariant::Answers, line);
        }
        let worst = |level: &str| log.lines().filter(|line| line.contains(level)).count();
        Report {
            seed,
            took,
            rounds: self.rounds,
            counts: self.findings.counts(),
            traffic,
            flows_seen: seen,
            silences: self.findings.silences(),
            samples: self.samples.0,
            breaches: self.findings.breaches(),
            logged: (worst(" WARN "), worst("ERROR ")),
        }
    }
}

/// A line of `kswitch get pods`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pod {
    name: String,
    is_ready: bool,
    ends: bool,
}

impl Pod {
    fn read(line: &str) -> Option<Self> {
        // the namespace before the name is left out where there is but one
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| word.contains('/'))?;
        let name = (*words.get(at.checked_sub(1)?)?).to_owned();
        let (some, all) = words.get(at)?.split_once('/')?;
        let ends = words.get(at + 1) == Some(&"Terminating");
        Some(Self { name, is_ready: some == all, ends })
    }
}

/// What is left of a lab that has ended.
fn leftovers(lab: &str) -> Vec<String> {
    let prefix = format!("{lab}.");
    let mut left = Vec::new();
    for directory in ["/run/netns", "/etc/netns", "/run/kswitch"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // the lock stays, since to remove it would be to race with the next run
            let is_lock = Path::new(&name).extension().is_some_and(|end| end == "lock");
            if name.starts_with(&prefix) && !is_lock {
                left.push(format!("{directory}/{name}"));
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_read_off_the_table() {
        let line = "default       churn-5d8f-x2x   1/1     Terminating   3s";
        let pod = Pod::read(line).unwrap();
        assert!(pod.is_ready && pod.ends && pod.name == "churn-5d8f-x2x");
        let without = Pod::read("a   0/1   Running").unwrap();
        assert!(!without.is_ready && !without.ends && without.name == "a");
    }

    #[test]
    fn the_address_of_a_pod_is_found() {
        let object = "{ \"podIP\": \"10.4.1.2\", \"podIPs\": [] }";
        assert_eq!(address_of(object).unwrap().to_string(), "10.4.1.2");
    }
}
