//! Reloads under load: whether a flow that they do not concern loses anything.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use kswitch_tools::beds::FLOOD_PORT;
use kswitch_tools::beside::{self, Stream};
use kswitch_tools::frames::{CHECK_SEQUENCE, DATAGRAM_HEADERS, ETHERNET, Shape, Template};
use kswitch_tools::histogram::Histogram;
use kswitch_tools::lab::{self, Lab, Muted, inside};
use kswitch_tools::link;
use kswitch_tools::packet::{Side, Socket};
use kswitch_tools::search::{Bounds, Trial, search};
use kswitch_tools::stream::Sent;

/// Reloads a lab again and again under a stream of frames that the changes do not concern.
#[derive(Debug, Parser)]
#[command(
    after_help = "Each reload changes something: a policy comes or goes, a Service gets other \
    endpoints, a pod is added or removed. The stream goes through a Service's address, and is sent and \
    counted twice, without and with reloads. One worker is pinned to the first processor, the generator \
    to the last one. Exit code 1 if frames came to another pod, or more are lost with reloads than \
    without."
)]
struct Arguments {
    /// Datagrams per second at most; fewer where this machine does not carry so many without loss
    #[arg(long, default_value_t = 500_000)]
    rate: u64,
    /// Exactly so many datagrams per second, whatever is lost
    #[arg(long)]
    exactly: Option<u64>,
    /// Datagrams that the pod hands over as one frame, as a program does that sends with UDP_SEGMENT
    #[arg(long, default_value_t = 1)]
    together: u16,
    /// Frames that the first TAP has room for: for as long as the worker is kept off its processor
    #[arg(long, default_value_t = 10_000)]
    queue: u64,
    /// Of the highest rate without loss, so many percent are sent, as headroom for whatever else runs
    #[arg(long, default_value_t = 80)]
    percent: u64,
    /// Flows that the datagrams are of
    #[arg(long, default_value_t = 16)]
    flows: u32,
    /// Milliseconds from one reload to the next
    #[arg(long, default_value_t = 100)]
    every: u64,
    /// Seconds of each of the two runs
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// How long after the last frame was sent nothing is under way any more.
const SETTLE: Duration = Duration::from_millis(100);

/// Octets of a datagram's frame, with its check sequence, and what is left of it without headers.
const SIZE: usize = 64;
const PAYLOAD: u64 = (SIZE - CHECK_SEQUENCE - ETHERNET - DATAGRAM_HEADERS) as u64;

/// The lab as it is after so many changes.
fn text(name: &str, step: u64) -> String {
    let mut text = format!(
        "[lab]\nname = \"{name}\"\n[dns]\nenabled = false\n\
         [switch]\nworkers = 1\nmetrics = \"off\"\n\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n"
    );
    let mut pod = |name: &str, node: &str, role: &str| {
        text.push_str(&format!(
            "[[pod]]\nmetadata = {{ name = \"{name}\", labels = {{ role = \"{role}\" }} }}\n\
             spec.nodeName = \"{node}\"\n"
        ));
    };
    pod("client", "a", "client");
    pod("server", "b", "server");
    // its endpoints change with every second step
    pod("other", "b", if (step / 2).is_multiple_of(2) { "one" } else { "two" });
    pod("third", "a", "one");
    if step / 4 % 2 == 1 {
        pod("guest", "b", "two");
    }
    for (service, address, role) in [("web", 80, "server"), ("changing", 81, "one")] {
        text.push_str(&format!(
            "[[service]]\nmetadata = {{ name = \"{service}\" }}\n\
             spec = {{ clusterIP = \"10.8.0.{address}\", selector = {{ role = \"{role}\" }}, ports = [\
             {{ port = {FLOOD_PORT}, protocol = \"UDP\" }}] }}\n"
        ));
    }
    if step % 2 == 1 {
        text.push_str(
            "[[network-policy]]\nmetadata = { name = \"closed\" }\n\
             spec = { podSelector = { matchLabels = { role = \"one\" } }, policyTypes = [\"Ingress\"] }\n",
        );
    }
    text
}

struct Bed {
    lab: Lab,
    name: String,
    sender: Socket,
    form: Template,
    /// Where frames are to come: by its kernel's count, as a program that counted would have to share a
    /// processor with the generator.
    sink: String,
    /// Where none is to come.
    others: [String; 2],
    core: Option<usize>,
    /// Datagrams of a frame.
    together: u64,
    /// Frames that the sender may be late by.
    late: u64,
}

/// What came of a run, in datagrams.
#[derive(Default)]
struct Outcome {
    sent: Sent,
    /// How many of them make a frame.
    together: u64,
    /// What found the queue of the first TAP full; it is tried again, and not among what was sent.
    refused: u64,
    received: u64,
    astray: u64,
    reloads: u64,
    /// How long each reload took.
    took: Histogram,
}

impl Outcome {
    fn lost(&self) -> u64 {
        self.sent.frames.saturating_sub(self.received)
    }

    fn tell(&self, what: &str) -> io::Result<()> {
        let Self { sent, together, refused, astray, reloads, took, .. } = self;
        write!(
            io::stdout(),
            "{what}: sent {} datagrams, {} a second, in {} frames; lost {}, to other pods {astray}; refused by \
             a full queue before the switch, and tried again, {refused}",
            sent.frames,
            sent.rate(),
            sent.frames / together.max(&1),
            self.lost(),
        )?;
        if *reloads > 0 {
            let millis = |nanoseconds: u64| nanoseconds / 1_000_000;
            write!(
                io::stdout(),
                "; {reloads} reloads, milliseconds: p50 {} p99 {} most {}",
                millis(took.permille(500)),
                millis(took.permille(990)),
                millis(took.most()),
            )?;
        }
        writeln!(io::stdout())
    }
}

impl Bed {
    fn new(together: u16, queue: u64) -> io::Result<Self> {
        let name = format!("reloads-{}", std::process::id());
        let lab = Lab::start(&name, &text(&name, 0))?;
        let service: IpAddr = [10, 8, 0, 80].into();
        let (sender, form) = inside(&lab.pod("client"), || {
            let way = link::way(service)?;
            let shape = Shape {
                source_mac: link::own_mac(&way.interface)?,
                target_mac: link::mac_of(&way)?,
                source: (way.source, 1024).into(),
                target: (service, FLOOD_PORT).into(),
                size: SIZE,
            };
            let socket = Socket::open(&way.interface, Side::Send)?;
            let form = if together > 1 {
                socket.take_headers()?;
                Template::together(&shape, together)
            } else {
                Template::new(&shape)
            };
            Ok((socket, form.ok_or(io::ErrorKind::InvalidInput)?))
        })?;
        lab::lengthen(&lab.pod("client"), "eth0", queue)?;
        let [sink, others @ ..] = ["server", "other", "third"].map(|pod| lab.pod(pod));
        for namespace in [&sink].into_iter().chain(&others) {
            lab::mute(namespace, &format!("udp dport {FLOOD_PORT}"))?;
        }
        let core = core_affinity::get_core_ids().and_then(|cores| Some(cores.last()?.id));
        let (together, late) = (u64::from(together), queue / 2);
        Ok(Self { lab, name, sender, form, sink, others, core, together, late })
    }

    /// Sends so many flows, all in all at a rate, for so long, while the lab is reloaded every so often, if it is.
    fn carry(
        &self,
        (flows, rate): (u32, u64),
        time: Duration,
        every: Option<Duration>,
    ) -> io::Result<Outcome> {
        let stop = &AtomicBool::new(false);
        let panicked = || io::Error::other("a thread panicked");
        let astray = || -> io::Result<u64> { self.others.iter().map(|other| seen(other)).sum() };
        let (received_before, astray_before) = (seen(&self.sink)?, astray()?);
        let mut outcome = thread::scope(|scope| {
            let changes = scope.spawn(|| every.map(|every| self.reload(every, stop)).transpose());
            let send = scope.spawn(|| {
                if let Some(id) = self.core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                let (socket, form, rate) = (&self.sender, &self.form, rate / self.together.max(1));
                let stream = Stream { socket, form, flows, rate, late: self.late };
                beside::send(stream, None, time).map(|[offered, _]| offered)
            });
            let sent = send.join();
            stop.store(true, Ordering::Release);
            let mut outcome = Outcome::default();
            if let Some((reloads, took)) = changes.join().map_err(|_| panicked())?? {
                (outcome.reloads, outcome.took) = (reloads, took);
            }
            let offered = sent.map_err(|_| panicked())??;
            let Sent { frames, nanoseconds } = offered.sent;
            outcome.together = self.together;
            outcome.sent = Sent { frames: frames * self.together, nanoseconds };
            outcome.refused = offered.refused * self.together;
            Ok::<_, io::Error>(outcome)
        })?;
        // what waits in queues has come by then
        thread::sleep(SETTLE);
        outcome.received = seen(&self.sink)? - received_before;
        outcome.astray = astray()? - astray_before;
        Ok(outcome)
    }

    /// Changes the lab again and again; answers how often, and how long it took each time.
    fn reload(&self, every: Duration, stop: &AtomicBool) -> io::Result<(u64, Histogram)> {
        let (mut steps, mut took) = (0, Histogram::default());
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            steps += 1;
            fs::write(self.lab.config(), text(&self.name, steps))?;
            let begun = Instant::now();
            self.lab.reload()?;
            took.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let next = start + every.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok((steps, took))
    }
}

/// Datagrams that a machine's kernel has seen so far: of those that came together it counts the headers
/// once.
fn seen(namespace: &str) -> io::Result<u64> {
    let Muted { packets, octets } = lab::muted(namespace)?;
    Ok(octets.saturating_sub(packets * DATAGRAM_HEADERS as u64) / PAYLOAD)
}

fn go(arguments: &Arguments) -> io::Result<bool> {
    let bed = Bed::new(arguments.together, arguments.queue)?;
    let time = Duration::try_from_secs_f64(arguments.seconds).map_err(io::Error::other)?;
    let every = Duration::from_millis(arguments.every);
    let second = Duration::from_secs(1);
    let flows = arguments.flows;
    let rate = if let Some(rate) = arguments.exactly {
        rate
    } else {
        let bounds = Bounds { most: arguments.rate, precision: 20, tolerated_ppm: 0 };
        let best = search(&bounds, |rate| {
            let done = bed.carry((flows, rate), second, None)?;
            let (sent, received) = (done.sent, done.received);
            let trial = Trial { offered: sent.rate(), sent: sent.frames + done.refused, received };
            Ok::<_, io::Error>(trial)
        })?;
        writeln!(io::stdout(), "without loss for a second: {best} datagrams a second")?;
        if best == 0 {
            return Err(io::Error::other(
                "nothing goes without loss while this machine is so busy",
            ));
        }
        best * arguments.percent / 100
    };
    let without = bed.carry((flows, rate), time, None)?;
    without.tell("without reloads")?;
    let with = bed.carry((flows, rate), time, Some(every))?;
    with.tell("with reloads")?;
    Ok(with.astray == 0 && with.lost() <= without.lost())
}

fn main() -> ExitCode {
    match go(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            let _ = writeln!(io::stderr(), "reloads: frames were lost or went astray");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "reloads: {error}");
            ExitCode::FAILURE
        }
    }
}
