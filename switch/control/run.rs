//! The life of a lab in the foreground: up, until told to stop, down.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kswitch_config::{Cluster, Draft, Errors, SwitchSettings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use super::answer::Office;
use super::metrics::token::Token;
use super::monitor::Monitor;
use super::onlookers::Onlookers;
use super::progress::Progress;
use super::restart::{self, wishes::Wishes};
use super::room;
use super::running::{self, Running};
use super::sweep::Sweep;
use super::switch::Options;
use super::{conntrack_timeouts, cores, frame_io, lags, lifecycle, metrics, neighbours, socket};
use crate::agents::echo::Echo;
use crate::rights::{self, keeper, told};
use crate::threads;

/// Exit code for a bad config.
const BAD_CONFIG: u8 = 2;

/// Connections that all echo servers of a lab hold together.
const ECHO_CONNECTIONS: usize = 16_384;

/// Threads that a lab takes beside its workers: a dozen that stay, those that make namespaces, and a few
/// for clients.
const THREADS: usize = 24;

/// Threads on which readings of the lab are written for whoever asks over HTTP.
const READERS: usize = 4;

/// For good: a thread that ends could not be had again under a limit of processes.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How often the walk through the shared tables takes a step.
const SWEEP_STEP: Duration = Duration::from_millis(100);

/// Why a lab did not come up.
#[derive(Debug)]
enum Error {
    Memory(io::Error),
    Threads(io::Error),
    Running(running::Error),
    Runtime(io::Error),
    Rights(io::Error),
    Socket(io::Error),
    Metrics(io::Error),
    Signals(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("there is too little memory to begin with"),
            Self::Threads(_) => f.write_str("cannot start as many threads as a lab takes"),
            Self::Running(error) => error.fmt(f),
            Self::Runtime(_) => f.write_str("cannot start the agents' runtime"),
            Self::Rights(_) => f.write_str("cannot give up rights"),
            Self::Socket(_) => f.write_str("cannot listen on the control socket"),
            Self::Metrics(_) => f.write_str("cannot serve metrics"),
            Self::Signals(_) => f.write_str("cannot wait for signals"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Running(error) => error.source(),
            Self::Memory(error)
            | Self::Threads(error)
            | Self::Runtime(error)
            | Self::Rights(error)
            | Self::Socket(error)
            | Self::Metrics(error)
            | Self::Signals(error) => Some(error),
        }
    }
}

/// Validates a lab file and says what is wrong with it.
pub fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok((_, cluster)) => {
            warn(&cluster);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Runs the lab of a file until SIGINT or SIGTERM.
pub fn run(path: &Path) -> ExitCode {
    let (wishes, draft, cluster) = match Wishes::resume(Draft::read(path).with_addons().in_order())
    {
        Ok(resumed) => resumed,
        Err(errors) => return refuse(&errors),
    };
    warn(&cluster);
    match stay(path, wishes, draft, Arc::new(cluster)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path) -> Result<(Draft, Cluster), ExitCode> {
    let draft = Draft::read(path).with_addons().in_order();
    let cluster = draft.validate(None).map_err(|errors| refuse(&errors))?;
    Ok((draft, cluster))
}

fn refuse(errors: &Errors) -> ExitCode {
    // nobody is left to tell if standard error is closed
    let _ = writeln!(io::stderr(), "{errors}");
    ExitCode::from(BAD_CONFIG)
}

fn warn(cluster: &Cluster) {
    for warning in &cluster.warnings {
        let _ = writeln!(io::stderr(), "{warning}");
    }
}

/// Prints an error and its causes, in one line.
fn tell(error: &dyn std::error::Error) {
    let _ = writeln!(io::stderr(), "kswitch: {}", running::with_causes(error));
}

/// Brings the lab up, says so, waits, and takes it down.
fn stay(path: &Path, wishes: Wishes, draft: Draft, cluster: Arc<Cluster>) -> Result<(), Error> {
    let begun = Instant::now();
    restart::upgrade::survive_panics();
    let switch_settings = cluster.settings.switch.clone();
    let name = cluster.settings.lab.name.clone();
    let options = options(&switch_settings);
    room::check(options.workers, restart::flows::octets(&options)).map_err(Error::Memory)?;
    threads::check(options.workers.saturating_add(THREADS)).map_err(Error::Threads)?;
    // signals wait from here on: one that comes during the start takes the lab down after it
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2]).map_err(Error::Signals)?;
    rights::keep_live().map_err(Error::Rights)?;
    // containers may run programs that gain rights; nobody else here may
    keeper::start().map_err(Error::Runtime)?;
    rights::gain_none().map_err(Error::Rights)?;
    cores::leave_to(options.workers);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("agents")
        .max_blocking_threads(READERS)
        .thread_keep_alive(FOREVER)
        .on_thread_start(|| told("agents", rights::keep_signals()))
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    // one is there from the start; what waits for it would wait in vain where none can be started
    drop(runtime.spawn_blocking(|| ()));
    let bound = socket::bind(Path::new(socket::DIRECTORY), &name).map_err(Error::Socket)?;
    let metrics_listener = switch_settings
        .metrics
        .map(|address| metrics::bind((address != SwitchSettings::METRICS).then_some(address)))
        .transpose()
        .map_err(Error::Metrics)?;
    let token = switch_settings.metrics_token.as_deref().map(Token::read).transpose();
    let token = token.map_err(Error::Metrics)?;
    let echo = Echo::new(runtime.handle().clone(), ECHO_CONNECTIONS);
    let progress = Progress::new();
    let on_progress = |made, all| progress.tell(made, all);
    let mut running =
        Running::start(cluster, echo, &options, &on_progress).map_err(Error::Running)?;
    let changes = running.take_changes();
    let sweep = Sweep::new(
        Arc::clone(&running.switch.shared),
        conntrack_timeouts(&switch_settings.timeouts),
    );
    let start = running.switch.start;
    let monitor = Arc::clone(&running.monitor);
    let onlookers = Onlookers::start(Arc::clone(&monitor), Arc::clone(&running.captures));
    let onlookers = onlookers.map_err(Error::Threads)?;
    let office = Arc::new(Office::new(path, wishes, draft, running));
    let stop = Arc::new(Mutex::new(false));
    let looked_after = watch_pods(changes, &office)
        .and_then(|()| neighbours::keep(&office))
        .and_then(|()| lifecycle::take_away(&office))
        .and_then(|()| lags::keep(&office))
        .and_then(|()| sweeper(sweep, start, monitor, Arc::clone(&stop)));
    let sweeper = match looked_after {
        Ok(sweeper) => sweeper,
        Err(error) => {
            office.close().map_err(Error::Running)?;
            return Err(Error::Threads(error));
        }
    };
    let server = bound.serve(Arc::clone(&office) as Arc<dyn socket::Control>);
    let server = server.map_err(Error::Socket)?;
    let metrics_server = metrics_listener
        .map(|listener| {
            let source = Arc::clone(&office) as Arc<dyn metrics::Source>;
            metrics::serve(listener, source, token, runtime.handle())
        })
        .transpose()
        .map_err(Error::Metrics)?;
    let metrics_address = metrics_server.as_ref().map(metrics::Server::address);
    ready(&name, &office, begun.elapsed(), metrics_address);

    for signal in signals.forever() {
        if signal == SIGHUP {
            office.reload_and_log();
        } else if signal == SIGUSR2 {
            restart::upgrade::go_on();
        } else {
            break;
        }
    }
    if let Ok(mut stop) = stop.lock() {
        *stop = true;
    }
    drop((server, metrics_server, onlookers));
    sweeper.thread().unpark();
    // it ends on its own; a panic in it must not keep the lab from going down
    let _ = sweeper.join();
    let closed = office.close().map_err(Error::Running);
    runtime.shutdown_timeout(Duration::from_secs(1));
    closed
}

fn options(settings: &SwitchSettings) -> Options {
    let available = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Options {
        workers: settings.workers.map_or(available, std::num::NonZero::get),
        spin: settings.spin,
        coalesces: settings.coalesce,
        io: frame_io(settings.io),
        connections: settings.conntrack_flows,
        seed: settings.seed.unwrap_or_else(random_seed),
        survives: true,
    }
}

/// A seed that nobody outside can guess.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // the standard library seeds each of these from the system
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Says on standard output that traffic flows.
fn ready(name: &str, office: &Office, took: Duration, metrics: Option<std::net::SocketAddr>) {
    let mut line =
        format!("ready: lab {name}, {}, in {:.2} s", office.summary(), took.as_secs_f64());
    if let Some(address) = metrics {
        line.push_str(&format!(", metrics at http://{address}/metrics"));
    }
    // a closed standard output is the reader's choice; the lab runs all the same
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
}

/// Takes note of how pods are whenever that changes, until nobody tells any more.
fn watch_pods(changes: Option<Receiver<()>>, office: &Arc<Office>) -> io::Result<()> {
    let (Some(changes), office) = (changes, Arc::clone(office)) else { return Ok(()) };
    let watched = threads::start("pods", move || {
        while changes.recv().is_ok() {
            // what came meanwhile is seen with it
            while changes.try_recv().is_ok() {}
            office.observe_pods();
        }
    });
    watched.map(drop)
}

/// Walks through the shared tables until told to stop.
fn sweeper(
    mut sweep: Sweep,
    start: Instant,
    monitor: Arc<Monitor>,
    stop: Arc<Mutex<bool>>,
) -> io::Result<thread::JoinHandle<()>> {
    threads::start("sweep", move || {
        while !stop.lock().map_or(true, |stop| *stop) {
            let now = crate::dataplane::worker::tick(start, Instant::now());
            sweep.step(now, &mut |death| monitor.ended(&death));
            thread::park_timeout(SWEEP_STEP);
        }
    })
}
