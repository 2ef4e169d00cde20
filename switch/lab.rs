//! The lab: network namespaces with a TAP each, made by netlink and `setns`, and undone without
//! a trace.
//!
//! A [`Lab`] holds its name against other runs ([`record`]), makes hosts ([`host`]) out of a
//! namespace ([`namespace`]), kernel settings ([`sysctl`]), a TAP, its link, addresses and routes
//! ([`link`]) and the files that its processes find under `/etc` ([`etc`]), and removes all of it
//! again, processes left inside ([`process`]) included. What a killed run left behind is found by
//! the record and removed by the next run of the same lab; nothing else is ever touched.
//!
//! Everything here happens before and after traffic, so it takes the simple way where that is fast
//! enough: 550 hosts are made in about a second and removed in a fifth of it.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

mod adopt;
pub mod error;
pub mod etc;
pub mod host;
pub mod kept;
pub mod limit;
pub mod link;
pub mod namespace;
pub mod process;
pub mod record;
pub mod rule;
pub mod silence;
pub mod sysctl;
pub mod turn;

pub use error::Error;
pub use host::{Existing, Host, HostSpec};
pub use limit::check_capabilities;
use record::Record;

use crate::threads;

/// A running lab: the sole owner of its name, and of every namespace it made.
///
/// Dropping it removes everything; [`close`](Self::close) does so too and says what went wrong.
#[derive(Debug)]
pub struct Lab {
    record: Record,
    reclaimed: usize,
    adopted: usize,
    /// Namespaces of a killed run that were neither adopted nor removed yet.
    left: BTreeSet<String>,
}

impl Lab {
    /// Takes the name, and removes what a killed run of the same lab left behind.
    ///
    /// # Errors
    /// [`Error::NotRoot`] without the rights to make namespaces, [`Error::Running`] when another
    /// process runs a lab of this name, [`Error::Name`], or [`Error::Failed`] with the first thing
    /// that could not be done.
    pub fn open(name: &str) -> Result<Self, Error> {
        let mut lab = Self::hold(name)?;
        lab.reclaimed = lab.reclaim()?;
        lab.prepare()?;
        Ok(lab)
    }

    /// Takes the name, and keeps what a killed run of the same lab left: a host whose like is added is
    /// adopted as it is, with the processes in it; the rest stays until [`Self::settle`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn resume(name: &str) -> Result<Self, Error> {
        let mut lab = Self::hold(name)?;
        lab.left = lab.record.namespaces().into_iter().collect();
        if lab.left.is_empty() {
            // nothing that is kept is of any use
            lab.reclaim()?;
        }
        lab.prepare()?;
        Ok(lab)
    }

    fn hold(name: &str) -> Result<Self, Error> {
        limit::check_capabilities()?;
        let record = Record::open(name)?;
        Ok(Self { record, reclaimed: 0, adopted: 0, left: BTreeSet::new() })
    }

    fn prepare(&self) -> Result<(), Error> {
        etc::prepare(self.name())?;
        kept::prepare(self.name())?;
        namespace::prepare().map_err(Error::failed(|| format!("prepare {}", namespace::DIRECTORY)))
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.record.lab()
    }

    /// How many namespaces of a killed run were found and removed at the start.
    pub const fn reclaimed(&self) -> usize {
        self.reclaimed
    }

    /// Whether the namespace that this lab made under a name is still called so.
    pub fn has_namespace(&self, name: &str) -> bool {
        let found = namespace::identity(name).ok().flatten();
        found.is_some() && found == self.record.identity(name)
    }

    /// How many hosts of a killed run were adopted.
    pub const fn adopted(&self) -> usize {
        self.adopted
    }

    /// Removes what a killed run left and nobody has adopted; answers how many namespaces.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub fn settle(&mut self) -> Result<usize, Error> {
        let left: Vec<_> = std::mem::take(&mut self.left).into_iter().collect();
        self.remove(&left)?;
        self.reclaimed += left.len();
        Ok(left.len())
    }

    /// Makes hosts, several at a time; they come back in the order of `specs`. After
    /// [`Self::resume`], those that are there already are adopted.
    ///
    /// `progress` hears after each host how many of this call are made, and out of how many; it
    /// runs on the calling thread.
    ///
    /// # Errors
    /// The first failure; nothing that this call made is left then.
    pub fn add_hosts(
        &mut self,
        specs: &[HostSpec],
        progress: &dyn Fn(usize, usize),
    ) -> Result<Vec<Host>, Error> {
        let mut names = BTreeSet::new();
        for spec in specs {
            namespace::check_name(&spec.namespace)?;
            let is_there = self.record.identity(&spec.namespace).is_some();
            let is_taken = is_there && !self.left.contains(&spec.namespace);
            if is_taken || !names.insert(&spec.namespace) {
                return Err(Error::Taken { namespace: spec.namespace.clone() });
            }
        }
        limit::raise_descriptors(specs.iter().map(|spec| spec.queues).sum())?;
        let made = self.adopt(specs).and_then(|adopted| self.make(specs, adopted, progress));
        match made {
            Ok(hosts) => Ok(hosts),
            Err(error) => {
                if let Err(left) = self.remove(&names.into_iter().cloned().collect::<Vec<_>>()) {
                    tracing::warn!("{left}");
                }
                Err(error)
            }
        }
    }

    /// Writes the files of a host that is there anew; its processes see them at once, but for the
    /// name of the host, which is theirs from the start.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_files(
        &self,
        namespace: &str,
        hostname: &str,
        resolv_conf: Option<&str>,
        hosts: Option<&str>,
    ) -> Result<(), Error> {
        etc::write(self.name(), namespace, &host::files(hostname, resolv_conf, hosts))
    }

    /// Adopts the hosts of a killed run that are as these specs have them, and removes those of
    /// their names that are not.
    fn adopt(&mut self, specs: &[HostSpec]) -> Result<Vec<Option<Host>>, Error> {
        let mut hosts: Vec<Option<Host>> = specs.iter().map(|_| None).collect();
        if self.left.is_empty() {
            return Ok(hosts);
        }
        let (record, left) = (&self.record, &self.left);
        let share = specs.len().div_ceil(makers()).max(1);
        thread::scope(|scope| {
            for (specs, hosts) in specs.chunks(share).zip(hosts.chunks_mut(share)) {
                let adopt = move || {
                    // what is taken over is where this thread is at first
                    let (here, inside): (Vec<_>, Vec<_>) = specs
                        .iter()
                        .zip(hosts)
                        .filter(|(spec, _)| left.contains(&spec.namespace))
                        .partition(|(spec, _)| spec.existing.is_some());
                    for (spec, place) in here.into_iter().chain(inside) {
                        if !adopt::is_adoptable(record, spec) {
                            continue;
                        }
                        match adopt::adopt(record, spec) {
                            Ok(host) => *place = Some(host),
                            Err(error) => {
                                let cause = std::error::Error::source(&error);
                                let cause = cause.map(ToString::to_string).unwrap_or_default();
                                tracing::warn!("{} is made anew: {error}: {cause}", spec.namespace);
                            }
                        }
                    }
                };
                threads::start_within(scope, "lab", adopt).map_err(Error::failed(no_thread))?;
            }
            Ok(())
        })?;
        let named: Vec<_> = specs.iter().map(|spec| &spec.namespace).collect();
        let gone: Vec<_> = named
            .iter()
            .zip(&hosts)
            .filter(|(name, host)| host.is_none() && self.left.contains(**name))
            .map(|(name, _)| (*name).clone())
            .collect();
        self.left.retain(|name| !named.contains(&name));
        self.adopted += hosts.iter().flatten().count();
        self.reclaimed += gone.len();
        self.remove(&gone)?;
        Ok(hosts)
    }

    /// Runs [`host::make`] for each spec that has no host yet, on a few threads.
    ///
    /// On the first failure the others finish what they have begun and take no more.
    fn make(
        &self,
        specs: &[HostSpec],
        mut hosts: Vec<Option<Host>>,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Vec<Host>, Error> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (results, made) = mpsc::channel();
        let is_made: Vec<bool> = hosts.iter().map(Option::is_some).collect();
        let mut first_error = None;
        // where there are interfaces to be taken over is where this thread is, and only those that
        // it begins are there too
        for (spec, place) in specs
            .iter()
            .zip(&mut hosts)
            .filter(|(spec, host)| spec.existing.is_some() && host.is_none())
        {
            let made = thread::scope(|scope| {
                let made = threads::start_within(scope, "lab", || host::make(&self.record, spec));
                Ok(made?.join().map_err(|_| "the thread that makes it panicked"))
            });
            let make = || format!("make {}", spec.namespace);
            let made = made.and_then(|made| made.map_err(std::io::Error::other));
            *place = Some(made.map_err(Error::failed(make))??);
        }
        thread::scope(|scope| {
            for number in 0..makers().min(specs.len()) {
                let (results, next, failed) = (results.clone(), &next, &failed);
                let is_made = &is_made;
                let make = move || {
                    while !failed.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(spec) = specs.get(index) else { break };
                        if spec.existing.is_some() || is_made.get(index) == Some(&true) {
                            continue;
                        }
                        let result = host::make(&self.record, spec);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        if results.send((index, result)).is_err() {
                            break;
                        }
                    }
                };
                match threads::start_within(scope, "lab", make) {
                    Ok(_) => {}
                    Err(error) if number == 0 => {
                        first_error = Some(Error::failed(no_thread)(error));
                        break;
                    }
                    // those that are there make all
                    Err(_) => break,
                }
            }
            drop(results);
            let mut done = is_made.iter().filter(|is_made| **is_made).count();
            for (index, result) in made {
                match (result, hosts.get_mut(index)) {
                    (Ok(host), Some(place)) => {
                        *place = Some(host);
                        done += 1;
                        progress(done, specs.len());
                    }
                    (Ok(_), None) => {}
                    (Err(error), _) => first_error = first_error.take().or(Some(error)),
                }
            }
        });
        first_error.map_or_else(|| Ok(hosts.into_iter().flatten().collect()), Err)
    }

    /// Removes one host; its queues and sender should have been dropped.
    ///
    /// # Errors
    /// [`Error::Unknown`] when this lab has no such namespace, else what could not be removed.
    pub fn remove_host(&mut self, namespace: &str) -> Result<(), Error> {
        self.remove_hosts(&[namespace.to_owned()])
    }

    /// Removes several hosts, much faster than one by one; their queues and senders should have
    /// been dropped.
    ///
    /// # Errors
    /// [`Error::Unknown`] when this lab has not all of these namespaces, and nothing is removed
    /// then; else the first thing that could not be removed.
    pub fn remove_hosts(&mut self, namespaces: &[String]) -> Result<(), Error> {
        match namespaces.iter().find(|name| self.record.identity(name).is_none()) {
            Some(unknown) => Err(Error::Unknown { namespace: unknown.clone() }),
            None => self.remove(namespaces),
        }
    }

    /// Removes everything this lab made and gives its name free.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest was removed all the same.
    pub fn close(mut self) -> Result<(), Error> {
        self.undo()
    }

    fn undo(&mut self) -> Result<(), Error> {
        let names = self.record.namespaces();
        let removed = self.remove(&names);
        let swept = etc::sweep(self.record.lab());
        let forgotten = kept::sweep(self.record.lab());
        removed.and(swept).and(forgotten).and_then(|()| self.record.close())
    }

    /// Removes what an earlier, killed run of this lab recorded.
    fn reclaim(&mut self) -> Result<usize, Error> {
        let names = self.record.namespaces();
        self.remove(&names)?;
        etc::sweep(self.record.lab())?;
        kept::sweep(self.record.lab())?;
        Ok(names.len())
    }

    /// Ends the processes inside these namespaces, and removes the namespaces and their files.
    ///
    /// Names that the record does not have are left alone, and so is a namespace that somebody
    /// else made under a name of ours after removing it.
    fn remove(&mut self, names: &[String]) -> Result<(), Error> {
        let ours: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name.as_str(), self.record.identity(name)?)))
            .collect();
        process::end(&ours.iter().map(|(_, identity)| *identity).collect());
        let mut first_error = None;
        let mut removed = Vec::with_capacity(ours.len());
        for (name, identity) in ours {
            let result = etc::remove(self.record.lab(), name).and_then(|()| {
                namespace::delete(name, identity)
                    .map_err(Error::failed(|| format!("remove namespace {name}")))
            });
            match result {
                Ok(()) => removed.push(name.to_owned()),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let struck = self.record.strike(&removed);
        first_error.map_or(struck, Err)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.record.is_open()
            && let Err(error) = self.undo()
        {
            tracing::warn!("{error}");
        }
    }
}

/// The labs of which there is something, though they may run.
pub fn killed() -> Vec<String> {
    let mut names = record::left("");
    // belongs to all of them
    names.remove(etc::DIRECTORY_MARK);
    names.into_iter().filter(|name| namespace::check_name(name).is_ok()).collect()
}

/// Removes what killed runs left of labs whose names begin so.
///
/// # Errors
/// As [`Lab::open`]; labs that run are no error.
pub fn reclaim_killed(prefix: &str) -> Result<(), Error> {
    for name in record::left(prefix) {
        match Lab::open(&name).and_then(Lab::close) {
            Err(Error::Running { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What cannot be done where no thread can be started.
fn no_thread() -> String {
    "start a thread that makes namespaces".into()
}

/// How many threads make hosts.
///
/// The kernel makes namespaces and devices under locks of its own: on two processors two threads
/// are hardly faster than one, and more are not.
fn makers() -> usize {
    const MOST: usize = 4;
    thread::available_parallelism().map_or(1, NonZero::get).min(MOST)
}
