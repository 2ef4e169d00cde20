//! The limit: a worker that carries every frame from one TAP to the other and looks into none.
//!
//! It moves frames by the switch's own ports, in the same way and as many at a time, so that what
//! the switch is slower than this is what its tables cost.
//!
//! `forwarder NAME [io-uring|read-write]` makes the namespaces `NAME.default.client` and
//! `NAME.default.server`, 10.207.0.2 and 10.207.0.3, prints `ready` and runs until SIGTERM.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kswitch::dataplane::burst::{BURST, Burst};
use kswitch::lab::{Host, HostSpec, Lab};
use kswitch::port::batch::Batch;
use kswitch::port::{Queue, Sender};
use kswitch_config::SwitchSettings;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

/// Waits are cut into these, to see whether to end.
const WAIT: u16 = 100;

fn spec(lab: &str, name: &str, number: u8) -> HostSpec {
    HostSpec {
        namespace: format!("{lab}.default.{name}"),
        hostname: name.to_owned(),
        interface: "eth0".to_owned(),
        mac: [2, 0, 0, 207, 0, number],
        mtu: 1500,
        addresses: vec![([10, 207, 0, number].into(), 24)],
        gateways: vec![],
        loopback: vec![],
        forwards: false,
        resolv_conf: None,
        hosts: None,
        queues: 1,
        plain: false,
        existing: None,
    }
}

/// One direction: from a queue, to a sender, by way of a burst.
struct Lane {
    from: Queue,
    to: Sender,
    bursts: [Burst; 2],
    /// Frames of the burst before that are yet to be written.
    waiting: usize,
    appetite: usize,
}

impl Lane {
    fn new(from: Queue, to: Sender) -> Self {
        Self { from, to, bursts: [Burst::default(), Burst::default()], waiting: 0, appetite: 4 }
    }

    fn one_by_one(&mut self) -> usize {
        let [burst, _] = &mut self.bursts;
        burst.fill(self.appetite, |room| self.from.receive(room).ok());
        self.appetite = (2 * burst.len()).clamp(1, BURST);
        for number in 0..burst.len() {
            self.to.send(burst.frame(number));
        }
        burst.len()
    }

    /// Writes what the last call read, and reads what comes next.
    fn together(&mut self, batch: &mut Batch) -> usize {
        let [burst, before] = &mut self.bursts;
        std::mem::swap(burst, before);
        let (Some(from), Some(to)) = (self.from.batched(), self.to.batched_by(0)) else { return 0 };
        let writes = (0..self.waiting).map(|number| (to, before.frame(number)));
        let asked = self.appetite;
        let mut results = [0; BURST];
        let reads = burst.rooms(asked).map(|room| (from, room));
        if let Ok(done) = batch.exchange(writes, reads) {
            results.iter_mut().zip(done.reads).for_each(|(result, read)| *result = *read);
        }
        burst.received(
            results
                .iter()
                .take(asked)
                .map(|result| usize::try_from(*result).ok().filter(|octets| *octets > 0)),
        );
        self.waiting = burst.len();
        self.appetite = (2 * self.waiting).clamp(4, BURST);
        self.waiting
    }
}

fn run(lanes: &mut [Lane], mut batch: Option<Batch>, stop: &AtomicBool) -> io::Result<()> {
    // as the switch looks on after the last frame before it waits
    let spin = SwitchSettings::default().spin;
    let mut last_frame = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut carried = 0;
        for lane in &mut *lanes {
            carried += match &mut batch {
                Some(batch) => lane.together(batch),
                None => lane.one_by_one(),
            };
        }
        let now = Instant::now();
        if carried > 0 {
            last_frame = now;
        } else if now.duration_since(last_frame) > spin {
            let descriptors: Vec<_> = lanes.iter().filter_map(|lane| lane.from.batched()).collect();
            let mut polled: Vec<_> =
                descriptors.into_iter().map(|at| PollFd::new(at, PollFlags::POLLIN)).collect();
            match poll(&mut polled, PollTimeout::from(WAIT)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn go(name: &str, io: &str) -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let mut lab = Lab::open(name).map_err(io::Error::other)?;
    let specs = [spec(name, "client", 2), spec(name, "server", 3)];
    let hosts = lab.add_hosts(&specs, &|_, _| {}).map_err(io::Error::other)?;
    let [client, server]: [Host; 2] =
        hosts.try_into().map_err(|_| io::Error::other("two hosts were asked for"))?;
    let queue = |queues: Vec<Queue>| {
        queues.into_iter().next().ok_or_else(|| io::Error::other("a TAP without a queue"))
    };
    let (near, far) = (queue(client.queues)?, queue(server.queues)?);
    let mut lanes = vec![Lane::new(near, server.sender), Lane::new(far, client.sender)];
    let (stop, uring) = (AtomicBool::new(false), io != "read-write");
    std::thread::scope(|scope| -> io::Result<()> {
        let worker = scope.spawn(|| {
            if let Some(core) = core_affinity::get_core_ids().and_then(|all| all.first().copied()) {
                core_affinity::set_for_current(core);
            }
            let batch = if uring { Some(Batch::new()?) } else { None };
            run(&mut lanes, batch, &stop)
        });
        writeln!(io::stdout(), "ready")?;
        signals.wait()?;
        stop.store(true, Ordering::Relaxed);
        worker.join().map_err(|_| io::Error::other("the worker panicked"))?
    })?;
    drop(lanes);
    lab.close().map_err(io::Error::other)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (name, io) = match &arguments[..] {
        [_, name] => (name.as_str(), "io-uring"),
        [_, name, io] if io == "io-uring" || io == "read-write" => (name.as_str(), io.as_str()),
        _ => {
            let _ = writeln!(io::stderr(), "usage: forwarder NAME [io-uring|read-write]");
            return ExitCode::from(2);
        }
    };
    match go(name, io) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}
