//! A packet generator and its sink, in the style of the kernel's pktgen.
//!
//! ```text
//! pktgen --netns lab.default.client --to 10.8.0.80:9 --sink lab.default.web --flows 100
//! ```

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use kswitch_tools::frames::{Shape, Template};
use kswitch_tools::packet::{Side, Socket};
use kswitch_tools::search::{Bounds, Trial, search};
use kswitch_tools::stream::{self, Load, Seen, Sent};
use kswitch_tools::{lab, link};

/// Sends UDP frames out of a network namespace, whole and past its IP stack, and measures what
/// arrives in another one.
#[derive(Debug, Parser)]
#[command(after_help = "The kernel's own pktgen is driven by tools/pktgen.sh where its module is \
    there. On TAPs and veths it cannot share buffers: clone_skb must be 0 and burst 1, and about a \
    million frames a second per queue is what to expect. One flow uses one queue of a device.")]
struct Arguments {
    /// The network namespace to send from; this one if absent
    #[arg(long)]
    netns: Option<String>,
    /// Where to: address and UDP port
    #[arg(long)]
    to: SocketAddr,
    /// Ethernet address of the next hop; found out if absent
    #[arg(long, value_parser = |text: &str| link::mac(text).ok_or("not an Ethernet address"))]
    mac: Option<[u8; 6]>,
    /// The network namespace in which frames arrive; without it nothing is said of loss
    #[arg(long)]
    sink: Option<String>,
    /// The interface at which they arrive there
    #[arg(long, default_value = "eth0")]
    sink_interface: String,
    /// Frames per second; as many as the interface takes if absent
    #[arg(long)]
    rate: Option<u64>,
    /// Octets of a frame, with header and check sequence
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Flows, told apart by their source ports
    #[arg(long, default_value_t = 1)]
    flows: u16,
    /// The first source port
    #[arg(long, default_value_t = 1024)]
    port: u16,
    /// Frames handed to the kernel at once, 128 at most
    #[arg(long, default_value_t = 64)]
    burst: usize,
    /// Frames to send; no bound if absent
    #[arg(long)]
    count: Option<u64>,
    /// Seconds to send for; of a trial, where a rate is searched for
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Search for the highest rate without loss (RFC 2544)
    #[arg(long, requires = "sink")]
    search: bool,
    /// Lost frames of a million that count as none, in a search
    #[arg(long, default_value_t = 0)]
    tolerate: u64,
    /// The processor to send on
    #[arg(long)]
    core: Option<usize>,
}

/// Everything one run needs.
struct Run {
    sender: Socket,
    sink: Option<Socket>,
    form: Template,
    core: Option<usize>,
}

fn inside<T: Send>(
    netns: Option<&str>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    match netns {
        None => work(),
        Some(name) => lab::inside(name, work),
    }
}

impl Run {
    fn new(arguments: &Arguments) -> io::Result<Self> {
        let Arguments { netns, to, mac, sink, sink_interface, size, port, core, .. } = arguments;
        let (sender, form) = inside(netns.as_deref(), || {
            let way = link::way(to.ip())?;
            let shape = Shape {
                source_mac: link::own_mac(&way.interface)?,
                target_mac: mac.map_or_else(|| link::mac_of(&way), Ok)?,
                source: (way.source, *port).into(),
                target: *to,
                size: *size,
            };
            let form = Template::new(&shape)
                .ok_or_else(|| io::Error::other(format!("no frame of {size} octets is such")))?;
            Ok((Socket::open(&way.interface, Side::Send)?, form))
        })?;
        let sink = sink
            .as_deref()
            .map(|name| inside(Some(name), || Socket::open(sink_interface, Side::Receive)))
            .transpose()?;
        Ok(Self { sender, sink, form, core: *core })
    }

    /// Sends a load and receives what comes of it.
    fn carry(&self, load: &Load) -> io::Result<(Sent, Option<Seen>)> {
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let receiver =
                self.sink.as_ref().map(|sink| scope.spawn(|| stream::receive(sink, &stop, &count)));
            let sent = scope
                .spawn(|| {
                    if let Some(id) = self.core {
                        core_affinity::set_for_current(core_affinity::CoreId { id });
                    }
                    stream::send(&self.sender, &self.form, load, &AtomicBool::new(false))
                })
                .join();
            stop.store(true, Ordering::Release);
            let panicked = || io::Error::other("a thread panicked");
            let seen = receiver.map(|thread| thread.join().map_err(|_| panicked())?).transpose()?;
            Ok((sent.map_err(|_| panicked())??, seen))
        })
    }
}

fn report(sent: Sent, seen: Option<&Seen>) -> String {
    let mut text = format!("sent {} frames, {} a second\n", sent.frames, sent.rate());
    let Some(seen) = seen else { return text };
    let received = stream::per_second(seen.frames, sent.nanoseconds);
    let lost = sent.frames.saturating_sub(seen.frames);
    let micros = |permille| seen.latency.permille(permille) / 1000;
    text.push_str(&format!(
        "received {} frames, {received} a second; lost {lost}; reordered {}\n\
         latency, microseconds: p50 {} p90 {} p99 {} p99.9 {} most {}\n",
        seen.frames,
        seen.reordered,
        micros(500),
        micros(900),
        micros(990),
        micros(999),
        seen.latency.most() / 1000,
    ));
    text
}

fn go(arguments: &Arguments) -> io::Result<String> {
    let run = Run::new(arguments)?;
    let load = Load {
        rate: arguments.rate,
        flows: u32::from(arguments.flows),
        burst: arguments.burst,
        count: arguments.count,
        time: Duration::try_from_secs_f64(arguments.seconds).map_err(io::Error::other)?,
    };
    if !arguments.search {
        let (sent, seen) = run.carry(&load)?;
        return Ok(report(sent, seen.as_ref()));
    }
    // a first trial without a bound says what the generator is able to
    let (sent, _) = run.carry(&load)?;
    let bounds = Bounds {
        most: arguments.rate.unwrap_or_else(|| sent.rate()),
        precision: 100,
        tolerated_ppm: arguments.tolerate,
    };
    let best = search(&bounds, |rate| {
        let (sent, seen) = run.carry(&Load { rate: Some(rate), ..load })?;
        let received = seen.map_or(0, |seen| seen.frames);
        let trial = Trial { offered: sent.rate(), sent: sent.frames, received };
        let lost = trial.sent.saturating_sub(received);
        writeln!(
            io::stdout(),
            "offered {} a second: lost {lost} of {}",
            trial.offered,
            trial.sent
        )?;
        Ok::<_, io::Error>(trial)
    })?;
    Ok(format!("no loss up to {best} frames a second of {} octets\n", arguments.size))
}

fn main() -> ExitCode {
    match go(&Arguments::parse()) {
        Ok(text) => {
            // a closed standard output is the reader's choice
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "pktgen: {error}");
            ExitCode::FAILURE
        }
    }
}
