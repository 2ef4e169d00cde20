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

pub mod error;
pub mod etc;
pub mod host;
pub mod limit;
pub mod link;
pub mod namespace;
pub mod process;
pub mod record;
pub mod rule;
pub mod silence;
pub mod sysctl;

pub use error::Error;
pub use host::{Existing, Host, HostSpec};
pub use limit::check_capabilities;
use record::Record;

/// A running lab: the sole owner of its name, and of every namespace it made.
///
/// Dropping it removes everything; [`close`](Self::close) does so too and says what went wrong.
#[derive(Debug)]
pub struct Lab {
    record: Record,
    reclaimed: usize,
}

impl Lab {
    /// Takes the name, and removes what a killed run of the same lab left behind.
    ///
    /// # Errors
    /// [`Error::NotRoot`] without the rights to make namespaces, [`Error::Running`] when another
    /// process runs a lab of this name, [`Error::Name`], or [`Error::Failed`] with the first thing
    /// that could not be done.
    pub fn open(name: &str) -> Result<Self, Error> {
        limit::check_capabilities()?;
        let record = Record::open(name)?;
        let mut lab = Self { record, reclaimed: 0 };
        lab.reclaimed = lab.reclaim()?;
        etc::prepare(lab.name())?;
        namespace::prepare()
            .map_err(Error::failed(|| format!("prepare {}", namespace::DIRECTORY)))?;
        Ok(lab)
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.record.lab()
    }

    /// How many namespaces of a killed run were found and removed at the start.
    pub const fn reclaimed(&self) -> usize {
        self.reclaimed
    }

    /// Makes hosts, several at a time; they come back in the order of `specs`.
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
            if self.record.identity(&spec.namespace).is_some() || !names.insert(&spec.namespace) {
                return Err(Error::Taken { namespace: spec.namespace.clone() });
            }
        }
        limit::raise_descriptors(specs.iter().map(|spec| spec.queues).sum())?;
        match self.make(specs, progress) {
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

    /// Runs [`host::make`] for each spec on a few threads.
    ///
    /// On the first failure the others finish what they have begun and take no more.
    fn make(
        &self,
        specs: &[HostSpec],
        progress: &dyn Fn(usize, usize),
    ) -> Result<Vec<Host>, Error> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (results, made) = mpsc::channel();
        let mut hosts: Vec<Option<Host>> = specs.iter().map(|_| None).collect();
        let mut first_error = None;
        // where there are interfaces to be taken over is where this thread is, and only those that
        // it begins are there too
        for (spec, place) in
            specs.iter().zip(&mut hosts).filter(|(spec, _)| spec.existing.is_some())
        {
            let made = thread::scope(|scope| scope.spawn(|| host::make(&self.record, spec)).join());
            let panicked = || std::io::Error::other("the thread that makes it panicked");
            let make = || format!("make {}", spec.namespace);
            *place = Some(made.map_err(|_| Error::failed(make)(panicked()))??);
        }
        thread::scope(|scope| {
            for _ in 0..makers().min(specs.len()) {
                let (results, next, failed) = (results.clone(), &next, &failed);
                scope.spawn(move || {
                    while !failed.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(spec) = specs.get(index) else { break };
                        if spec.existing.is_some() {
                            continue;
                        }
                        let result = host::make(&self.record, spec);
                        failed.fetch_or(result.is_err(), Ordering::Relaxed);
                        if results.send((index, result)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(results);
            let mut done = 0;
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
        removed.and(swept).and_then(|()| self.record.close())
    }

    /// Removes what an earlier, killed run of this lab recorded.
    fn reclaim(&mut self) -> Result<usize, Error> {
        let names = self.record.namespaces();
        self.remove(&names)?;
        etc::sweep(self.record.lab())?;
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

/// How many threads make hosts.
///
/// The kernel makes namespaces and devices under locks of its own: on two processors two threads
/// are hardly faster than one, and more are not.
fn makers() -> usize {
    const MOST: usize = 4;
    thread::available_parallelism().map_or(1, NonZero::get).min(MOST)
}
