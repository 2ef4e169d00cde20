//! kswitch and others side by side: the same work on every bed, bed after bed, round after round.
//!
//! `compare OUTPUT-DIRECTORY [ROUNDS [MILLISECONDS]]`, run by `benches/compare`; needs root.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use kswitch::port::choice;
use kswitch_tools::beds::{self, Bed, Io, Manner, has_programs};
use kswitch_tools::measure::{self, Flood, Flooded};
use kswitch_tools::report::{Goal, Report};

/// Where the generator runs; workers have the first processor.
const GENERATOR: usize = 1;

const OURS: &str = "kswitch";
const LARGE: &str = "kswitch, full tables";
const APART: &str = "kswitch, frame by frame";
const OTHER: &str = "kswitch, the other I/O";
const LIMIT: &str = "forwarder";
const KERNEL: &str = "kernel nft";
const TC: &str = "tc eBPF";
const OVS: &str = "OVS userspace";
const VDE: &str = "vde_switch";
const ALL: [&str; 9] = [OURS, LARGE, APART, OTHER, LIMIT, KERNEL, TC, OVS, VDE];

/// Services and policies of [`LARGE`] that nobody uses.
const UNUSED: (usize, usize) = (100_000, 10_000);

const SMALL_DIRECT: &str = "64 octets, pod to pod";
const SMALL_SERVICE: &str = "64 octets, through a Service";
const LARGE_DIRECT: &str = "1518 octets, pod to pod";
const NEW: &str = "new UDP flows through a Service";
const STREAM: &str = "TCP, one stream";
const STREAMS: &str = "TCP, four streams";
const CONNECTIONS: &str = "TCP connections, one after the other";
const P50: &str = "round trip by UDP, p50";
const P99: &str = "round trip by UDP, p99";
const BUSY_P50: &str = "round trip by UDP, four at a time, p50";
const BUSY_P99: &str = "round trip by UDP, four at a time, p99";
const TCP_P50: &str = "round trip by TCP, p50";
const TCP_P99: &str = "round trip by TCP, p99";
const COST: &str = "processor time of a frame, 64 octets, through a Service";

fn say(text: &str) {
    // a closed standard error is the reader's choice
    let _ = writeln!(io::stderr(), "{text}");
}

/// The beds that this machine can make; the others are said. `io` is how kswitch would choose to move
/// frames here, and the forwarder moves them alike.
fn beds(io: Io) -> Vec<Bed> {
    let pid = std::process::id() % 1000;
    let prefix = |letter: char| format!("cmp{letter}{pid}");
    let mut made = Vec::new();
    let mut add = |name: &str, bed: io::Result<Bed>| match bed {
        Ok(bed) => made.push(bed),
        Err(error) => say(&format!("without {name}: {error}")),
    };
    add(LIMIT, beds::forwarder(LIMIT, &prefix('f'), io));
    let manner = Manner { io, coalesces: true, unused: (0, 0) };
    for (name, letter, manner) in [
        (OURS, 'k', manner),
        (APART, 'a', Manner { coalesces: false, ..manner }),
        (OTHER, 'p', Manner { io: io.other(), ..manner }),
        (LARGE, 'l', Manner { unused: UNUSED, ..manner }),
    ] {
        add(name, beds::kswitch(name, &prefix(letter), manner));
    }
    add(KERNEL, beds::kernel(&prefix('n')));
    if has_programs(&["clang", "tc"]) {
        add(TC, beds::tc(&prefix('t')));
    }
    if has_programs(&["ovs-vswitchd", "ovsdb-server", "ovs-vsctl"]) {
        add(OVS, beds::ovs(&prefix('o')));
    }
    if has_programs(&["vde_switch"]) {
        add(VDE, beds::vde(&prefix('v')));
    }
    made
}

/// One round on one bed.
fn round(report: &mut Report, bed: &Bed, number: u8, time: Duration) {
    let mut note = |row: (&str, &'static str, f64), value: io::Result<f64>| match value {
        Ok(value) => report.add(row, bed.name, value),
        Err(error) => say(&format!("{}: {}: {error}", bed.name, row.0)),
    };
    let flood = Flood { size: 64, flows: 1, time, count: None };
    let flooded = |target, flood: &Flood| measure::frames(bed, target, flood, GENERATOR);
    let rate = |flooded: Flooded| flooded.rate;
    note((SMALL_DIRECT, "Mpps", 1e6), flooded(bed.direct, &flood).map(rate));
    if let Some(service) = bed.service(0) {
        let all = flooded(service, &flood);
        if let Ok(Flooded { processor: Some(nanos), .. }) = all {
            note((COST, "µs of both", 1e3), Ok(nanos));
        }
        note((SMALL_SERVICE, "Mpps", 1e6), all.map(rate));
    }
    let large = Flood { size: 1518, ..flood };
    note((LARGE_DIRECT, "Mpps", 1e6), flooded(bed.direct, &large).map(rate));
    // every round has a Service, and so flows, of its own; longer than they take to be admitted
    if let Some(service) = bed.service(number + 1) {
        let count = Some(60_000);
        let new = Flood { flows: 60_000, time: 10 * time, count, ..flood };
        note((NEW, "Mpps", 1e6), flooded(service, &new).map(rate));
    }
    note((STREAM, "Gbit/s", 1e9), measure::streams(bed, bed.direct, 1, time));
    note((STREAMS, "Gbit/s", 1e9), measure::streams(bed, bed.direct, 4, time));
    let target = bed.service(0).unwrap_or(bed.direct);
    note((CONNECTIONS, "thousand/s", 1e3), measure::connections(bed, target, time));
    let udp = measure::round_trips(bed, bed.direct, time, 1);
    let busy = measure::round_trips(bed, bed.direct, time, 4);
    let tcp = measure::tcp_round_trips(bed, bed.direct, time);
    for (times, p50, p99) in [(udp, P50, P99), (busy, BUSY_P50, BUSY_P99), (tcp, TCP_P50, TCP_P99)]
    {
        match times {
            Ok(times) => {
                #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one are few")]
                let nanos = |permille| times.permille(permille) as f64;
                note((p50, "µs", 1e3), Ok(nanos(500)));
                note((p99, "µs", 1e3), Ok(nanos(990)));
            }
            Err(error) => note((p50, "µs", 1e3), Err(error)),
        }
    }
}

fn goals() -> Vec<Goal> {
    let least =
        |title: &str, of, to, bound| Goal { title: title.into(), of, to, bound, is_most: false };
    let most =
        |title: &str, of, to, bound| Goal { title: title.into(), of, to, bound, is_most: true };
    let mut goals = vec![
        least(SMALL_DIRECT, OURS, LIMIT, 0.85),
        least(SMALL_DIRECT, APART, LIMIT, 0.85),
        least(SMALL_DIRECT, OURS, OVS, 2.5),
        least(SMALL_SERVICE, OURS, OVS, 2.5),
        least(SMALL_DIRECT, OURS, VDE, 1.4),
        least(SMALL_DIRECT, OURS, KERNEL, 1.3),
        least(SMALL_SERVICE, OURS, KERNEL, 1.3),
        least(SMALL_SERVICE, OURS, TC, 0.6),
        least(NEW, OURS, KERNEL, 2.0),
        least(NEW, OURS, TC, 1.0),
        least(STREAM, OURS, LIMIT, 0.9),
        least(STREAM, OURS, OVS, 1.3),
        least(STREAM, OURS, KERNEL, 0.75),
        most(P50, OURS, LIMIT, 1.15),
        most(P99, OURS, LIMIT, 1.3),
        most(BUSY_P50, OURS, LIMIT, 1.15),
        most(BUSY_P99, OURS, LIMIT, 1.3),
        most(TCP_P50, OURS, LIMIT, 1.15),
        most(TCP_P99, OURS, LIMIT, 1.3),
        least(CONNECTIONS, OURS, KERNEL, 1.0),
        least(SMALL_SERVICE, LARGE, OURS, 0.95),
    ];
    goals.push(least(SMALL_SERVICE, OURS, OTHER, 1.0));
    goals
}

fn first_line(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}

/// Processor, kernel, load: what the figures are of.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "{cores} processors ({}), Linux {}, commit {}, load average at the end {}",
        model.unwrap_or("unknown"),
        read("/proc/sys/kernel/osrelease").trim(),
        first_line("git", &["rev-parse", "--short", "HEAD"]),
        read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    )
}

fn go(directory: &Path, rounds: u8, time: Duration) -> io::Result<()> {
    let tried = choice::measure()?;
    let io = Io::of(tried.better());
    let beds = beds(io);
    let mut report = Report::default();
    for number in 0..rounds {
        say(&format!("round {} of {rounds}", number + 1));
        for bed in &beds {
            round(&mut report, bed, number, time);
        }
    }
    let there: Vec<_> =
        ALL.into_iter().filter(|name| beds.iter().any(|b| b.name == *name)).collect();
    let mut text = String::new();
    let machine = machine();
    // writing to a string cannot fail
    let _ = write!(
        text,
        "{machine}. Frames are moved by {}, as kswitch chooses here ({tried:?}, nanoseconds a frame). \
         Medians of {rounds} interleaved rounds of {} ms each, with least and most.\n\n{}\n{}",
        io.word(),
        time.as_millis(),
        report.table(&there),
        report.goals(&goals()),
    );
    std::fs::write(directory.join("compare.md"), &text)?;
    std::fs::write(directory.join("compare-frames.svg"), report.plot("Mpps", &there))?;
    std::fs::write(directory.join("compare-tcp.svg"), report.plot("Gbit/s", &there))?;
    std::fs::write(directory.join("compare-round-trips.svg"), report.plot("µs", &there))?;
    io::stdout().write_all(text.as_bytes())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number =
        |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse::<u64>());
    let (Some(directory), Ok(rounds), Ok(time)) = (arguments.get(1), number(2, 5), number(3, 500))
    else {
        say("usage: compare OUTPUT-DIRECTORY [ROUNDS [MILLISECONDS]]");
        return ExitCode::from(2);
    };
    // as many rounds as there are Services, one of which is for flows that stay
    let rounds = u8::try_from(rounds).unwrap_or(u8::MAX).clamp(1, beds::SERVICES - 1);
    match go(Path::new(directory), rounds, Duration::from_millis(time)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("compare: {error}"));
            ExitCode::FAILURE
        }
    }
}
