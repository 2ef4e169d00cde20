//! One pod floods: what becomes of another pod's stream, and of the switch's memory.

use std::io::{self, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use kswitch_tables::{Address, MacAddress};
use kswitch_tools::beds::FLOOD_PORT;
use kswitch_tools::beside::{self, Flood, LATE, Offered, Stream};
use kswitch_tools::floods::{Ends, FRAMES, Kind};
use kswitch_tools::frames::{Shape, Template};
use kswitch_tools::lab::{self, Lab, inside};
use kswitch_tools::link;
use kswitch_tools::packet::{Side, Socket};
use kswitch_tools::stream::{self, Seen, Sent};

/// Port of the echo server.
const ECHO: u16 = 8080;

/// What a flood may take of another's rate at most: a fifth.
const LEAST_RATIO: f64 = 0.8;

/// Floods a lab from one pod in every way, and measures a stream of another pod without and with it.
#[derive(Debug, Parser)]
#[command(
    after_help = "One worker is pinned to the first processor, stream and floods are sent by one \
    thread on the last one, both at rates that leave the worker headroom: it is the switch that is \
    judged, not who gets the processors. Exit code 1 if a flood takes more than a fifth of the \
    stream's rate, or it loses frames with the flood and none without."
)]
struct Arguments {
    /// Frames per second of the stream
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Frames per second of a flood
    #[arg(long, default_value_t = 100_000)]
    flood_rate: u64,
    /// Connections per second, where these come and go
    #[arg(long, default_value_t = 500)]
    connections: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only floods whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Half-open flows that a pod may have, if not as many as usual
    #[arg(long)]
    limit: Option<u32>,
}

fn text(name: &str, limit: Option<u32>) -> String {
    let limit =
        limit.map_or_else(String::new, |n| format!("limits = {{ half-open-flows = {n} }}\n"));
    // pods may use what Ethernet addresses they like, or a flood of these would end at the port
    let mut text = format!(
        "[lab]\nname = \"{name}\"\n[cluster]\npod-cidrs = [\"10.4.0.0/14\", \"fd00:4::/48\"]\n\
         [dns]\nenabled = false\n\
         [switch]\nworkers = 1\nmetrics = \"off\"\nanti-spoof = false\n{limit}\
         [[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n"
    );
    // the first pod of each node has the first address of its range
    for (pod, node) in [("client", "a"), ("attacker", "a"), ("server", "b"), ("target", "b")] {
        text.push_str(&format!(
            "[[pod]]\nmetadata = {{ name = \"{pod}\" }}\nspec.nodeName = \"{node}\"\n"
        ));
    }
    text
}

/// The lab, and every socket that is needed.
struct Bed {
    lab: Lab,
    stream: (Socket, Template),
    sink: Socket,
    flood: Socket,
    ends: Ends,
    core: Option<usize>,
}

fn machine(last: u8, third: u8) -> std::net::IpAddr {
    [10, 4, third, last].into()
}

impl Bed {
    fn new(limit: Option<u32>) -> io::Result<Self> {
        let name = format!("floods-{}", std::process::id());
        let lab = Lab::start(&name, &text(&name, limit))?;
        let (server, target) = (machine(2, 1), machine(3, 1));
        let stream = inside(&lab.pod("client"), || {
            let way = link::way(server)?;
            let shape = Shape {
                source_mac: link::own_mac(&way.interface)?,
                target_mac: link::mac_of(&way)?,
                source: (way.source, 1024).into(),
                target: (server, FLOOD_PORT).into(),
                size: 64,
            };
            let form = Template::new(&shape).ok_or(io::ErrorKind::InvalidInput)?;
            Ok((Socket::open(&way.interface, Side::Send)?, form))
        })?;
        let (flood, ends) = inside(&lab.pod("attacker"), || {
            let way = link::way(target)?;
            let own_v6: std::net::IpAddr = [0xfd00, 4, 0, 0, 0, 0, 0, 3].into();
            let ends = Ends {
                mac: MacAddress(link::own_mac(&way.interface)?),
                router_mac: MacAddress(link::mac_of(&way)?),
                own: [Address::from(way.source), Address::from(own_v6)],
                router: Address::from(way.next),
                target: Address::from(target),
            };
            Ok((Socket::open(&way.interface, Side::Send)?, ends))
        })?;
        lab::mute(&lab.pod("server"), &format!("udp dport {FLOOD_PORT}"))?;
        // nobody answers a flood; connections that come and go are answered
        lab::mute(&lab.pod("target"), &format!("tcp dport != {ECHO}"))?;
        lab::mute(&lab.pod("target"), "meta l4proto { udp, icmp }")?;
        let sink = inside(&lab.pod("server"), || Socket::open("eth0", Side::Receive))?;
        let core = core_affinity::get_core_ids().and_then(|cores| Some(cores.last()?.id));
        Ok(Self { lab, stream, sink, flood, ends, core })
    }

    /// The stream for so long, beside these frames.
    fn carry(
        &self,
        rate: u64,
        flood: Option<(&[Vec<u8>], u64)>,
        time: Duration,
    ) -> io::Result<Outcome> {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let panicked = || io::Error::other("a thread panicked");
        thread::scope(|scope| {
            let sink = scope.spawn(|| stream::receive(&self.sink, &stop, &count));
            let (socket, form) = &self.stream;
            let send = scope.spawn(|| {
                if let Some(id) = self.core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                let stream = Stream { socket, form, flows: 1, rate, late: LATE };
                let flood = flood.map(|(frames, rate)| Flood { socket: &self.flood, frames, rate });
                beside::send(stream, flood, time)
            });
            let sent = send.join().map_err(|_| panicked());
            stop.store(true, Ordering::Release);
            let seen = sink.join().map_err(|_| panicked())??;
            let [Offered { sent, refused }, Offered { sent: flooded, .. }] = sent??;
            Ok(Outcome { sent, refused, flooded, seen })
        })
    }

    /// Connections to the target that are opened and closed, until told to stop; answers how many.
    fn churn(&self, rate: u64, stop: &AtomicBool) -> io::Result<u64> {
        inside(&self.lab.pod("attacker"), || {
            let (start, mut count) = (Instant::now(), 0);
            while !stop.load(Ordering::Relaxed) {
                let due = start + Duration::from_nanos(1_000_000_000 * count / rate.max(1));
                thread::sleep(due.saturating_duration_since(Instant::now()));
                drop(TcpStream::connect((machine(3, 1), ECHO))?);
                count += 1;
            }
            Ok(count)
        })
    }
}

struct Outcome {
    sent: Sent,
    refused: u64,
    flooded: Sent,
    seen: Seen,
}

impl Outcome {
    fn lost(&self) -> u64 {
        self.sent.frames.saturating_sub(self.seen.frames) + self.refused
    }

    /// How much of what was offered arrived. On a busy machine the sender offers less than it was
    /// asked to, which is not the switch's doing.
    #[expect(clippy::cast_precision_loss, reason = "what is printed has four digits")]
    fn share(&self) -> f64 {
        self.seen.frames as f64 / (self.sent.frames + self.refused).max(1) as f64
    }

    /// Microseconds that 990 of 1,000 frames did not exceed.
    fn p99(&self) -> u64 {
        self.seen.latency.permille(990) / 1000
    }
}

/// A flood's row of the table, and whether the stream held.
#[expect(clippy::cast_precision_loss, reason = "what is printed has four digits")]
fn row(
    name: &str,
    flooded: u64,
    [without, with]: [&Outcome; 2],
    memory: [u64; 2],
) -> (String, bool) {
    let ratio = with.share() / without.share().max(f64::MIN_POSITIVE);
    let [before, after] = memory.map(|octets| octets as f64 / f64::from(1 << 20));
    let row = format!(
        "| {name} | {flooded} | {} / {} | {} / {} | {ratio:.3} | {} / {} | {before:.1} / {after:.1} |",
        without.sent.rate(),
        with.sent.rate(),
        without.lost(),
        with.lost(),
        without.p99(),
        with.p99(),
    );
    (row, ratio >= LEAST_RATIO && (with.lost() == 0 || without.lost() > 0))
}

fn go(arguments: &Arguments) -> io::Result<bool> {
    let bed = Bed::new(arguments.limit)?;
    let time = Duration::try_from_secs_f64(arguments.seconds).map_err(io::Error::other)?;
    let rate = arguments.rate;
    // whatever is slow at first is so without a flood
    bed.carry(rate, None, time.min(Duration::from_secs(1)))?;
    let mut out = io::stdout();
    writeln!(
        out,
        "| one pod's | a second | another's frames/s without / with | lost | ratio of what arrives | p99, µs | memory, \
         MiB, before / after |\n|---|---|---|---|---|---|---|"
    )?;
    let mut holds = true;
    let mut tell = |(row, is_held): (String, bool)| {
        holds &= is_held;
        writeln!(io::stdout(), "{row}")
    };
    // first of all: after a flood the pod that sent it has no room for new flows, which is what saves the others
    if "connections".contains(&arguments.only) {
        let before = bed.lab.resident()?;
        let without = bed.carry(rate, None, time)?;
        let stop = AtomicBool::new(false);
        let (with, count) = thread::scope(|scope| {
            let churn = scope.spawn(|| bed.churn(arguments.connections, &stop));
            let with = bed.carry(rate, None, time);
            stop.store(true, Ordering::Relaxed);
            (with, churn.join())
        });
        let (with, count) = (with?, count.map_err(|_| io::Error::other("a thread panicked"))??);
        let memory = [before, bed.lab.resident()?];
        let count = stream::per_second(count, with.sent.nanoseconds);
        tell(row("connections, opened and closed", count, [&without, &with], memory))?;
    }
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.name().contains(&arguments.only));
    for kind in kinds {
        let frames = bed.ends.frames(kind, FRAMES);
        let before = bed.lab.resident()?;
        let without = bed.carry(rate, None, time)?;
        let with = bed.carry(rate, Some((&frames, arguments.flood_rate)), time)?;
        let memory = [before, bed.lab.resident()?];
        tell(row(kind.name(), with.flooded.rate(), [&without, &with], memory))?;
    }
    Ok(holds)
}

fn main() -> ExitCode {
    match go(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            let _ = writeln!(io::stderr(), "floods: a flood took more than it may");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "floods: {error}");
            ExitCode::FAILURE
        }
    }
}
