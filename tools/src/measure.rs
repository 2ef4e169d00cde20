//! What is measured on a bed: frames per second, bytes per second, round trips, connections.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::beds::{Bed, FLOOD_PORT};
use crate::clock;
use crate::frames::{Shape, Template};
use crate::histogram::Histogram;
use crate::lab::inside;
use crate::link;
use crate::packet::{Side, Socket};
use crate::stream::{Load, per_second, send};

/// Port of streams.
pub const STREAM_PORT: u16 = 5001;
/// Port of connections that come and go.
pub const CONNECT_PORT: u16 = 5002;
/// Port of datagrams that are answered, and the first of several.
pub const ECHO_PORT: u16 = 5003;

/// How long a start may take until something comes through.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_millis(500);

fn joined<T>(thread: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().map_err(|_| io::Error::other("a thread panicked"))?
}

/// A flood of small or large frames.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Octets of a frame, check sequence included.
    pub size: usize,
    /// Flows that take turns.
    pub flows: u16,
    /// How long.
    pub time: Duration,
    /// Frames at most.
    pub count: Option<u64>,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flooded {
    /// Frames per second that arrived.
    pub rate: f64,
    /// Time that all processors together worked, whoever for, nanoseconds per frame that arrived;
    /// `None` if none did.
    pub processor: Option<f64>,
}

/// Nanoseconds that the machine's processors have worked so far, together.
///
/// Source: `proc_stat(5)`: hundredths of a second of user, nice, system, idle, iowait, irq, softirq.
fn worked() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let times = line.split_whitespace().skip(1).take(7).enumerate();
    let busy =
        times.filter(|(at, _)| !matches!(at, 3 | 4)).filter_map(|(_, n)| n.parse::<u64>().ok());
    Ok(busy.sum::<u64>() * 10_000_000)
}

/// Datagrams that arrive at the server's sockets when the client floods `target`.
///
/// # Errors
/// What the system says.
pub fn frames(bed: &Bed, target: IpAddr, flood: &Flood, core: usize) -> io::Result<Flooded> {
    let (socket, form) = inside(&bed.client, || {
        let way = link::way(target)?;
        let shape = Shape {
            source_mac: link::own_mac(&way.interface)?,
            target_mac: link::mac_of(&way)?,
            source: (way.source, 1024).into(),
            target: (target, FLOOD_PORT).into(),
            size: flood.size,
        };
        let form = Template::new(&shape).ok_or_else(|| io::Error::other("no such frame"))?;
        Ok((Socket::open(&way.interface, Side::Send)?, form))
    })?;
    let count = || bed.received();
    let load = Load {
        rate: None,
        flows: u32::from(flood.flows),
        burst: 64,
        count: flood.count,
        time: flood.time,
    };
    let (before, worked_before) = (count()?, worked()?);
    let start = clock::now();
    let sent = thread::scope(|scope| {
        joined(scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            send(&socket, &form, &load, &AtomicBool::new(false))
        }))
    })?;
    let busy = worked()?.saturating_sub(worked_before);
    let mut last = count()?;
    let during = last - before;
    let mut took = sent.nanoseconds;
    if flood.count.is_some() {
        // all of a bounded flood counts, and so does the time until the last of it is through
        loop {
            thread::sleep(Duration::from_millis(2));
            let now = count()?;
            if now == last {
                break;
            }
            (last, took) = (now, clock::now() - start);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a measurement's precision is less")]
    let (rate, processor) =
        (per_second(last - before, took) as f64, (during > 0).then(|| busy as f64 / during as f64));
    // what waits in queues is no part of the next measurement
    thread::sleep(Duration::from_millis(50));
    Ok(Flooded { rate, processor })
}

/// Bits per second of so many TCP streams from client to server.
///
/// # Errors
/// What the system says.
pub fn streams(bed: &Bed, target: IpAddr, count: usize, time: Duration) -> io::Result<f64> {
    const CHUNK: usize = 128 * 1024;
    let listener = inside(&bed.server, || TcpListener::bind(("0.0.0.0", STREAM_PORT)))?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients = inside(&bed.client, || {
        (0..count).map(|_| connect((target, STREAM_PORT).into())).collect::<io::Result<Vec<_>>>()
    })?;
    thread::scope(|scope| {
        for _ in 0..count {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(ANSWER))?;
            let (stop, received) = (&stop, &received);
            scope.spawn(move || {
                let mut room = vec![0; CHUNK];
                while let Ok(octets @ 1..) = stream.read(&mut room) {
                    received.fetch_add(octets as u64, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for mut client in clients {
            let stop = &stop;
            scope.spawn(move || {
                let room = vec![0x5a; CHUNK];
                let _ = client.set_write_timeout(Some(ANSWER));
                while !stop.load(Ordering::Relaxed) && client.write_all(&room).is_ok() {}
            });
        }
        // the windows open first
        thread::sleep(time / 4);
        let (before, start) = (received.load(Ordering::Relaxed), clock::now());
        thread::sleep(time);
        let octets = received.load(Ordering::Relaxed) - before;
        let took = clock::now() - start;
        stop.store(true, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a measurement's precision is less")]
        Ok(per_second(octets * 8, took) as f64)
    })
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&target, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Connections per second that one client makes and ends, one after the other.
///
/// # Errors
/// What the system says.
pub fn connections(bed: &Bed, target: IpAddr, time: Duration) -> io::Result<f64> {
    let listener = inside(&bed.server, || TcpListener::bind(("0.0.0.0", CONNECT_PORT)))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((stream, _)) = listener.accept() {
                drop(stream);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let made = inside(&bed.client, || {
            let target = (target, CONNECT_PORT).into();
            let one = || -> io::Result<()> {
                let mut stream = connect(target)?;
                // until the server has taken and ended it: it has no room for all that would wait else
                stream.set_read_timeout(Some(ANSWER))?;
                stream.read_to_end(&mut Vec::new())?;
                // a reset ends it at once and leaves no port waiting
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))
            };
            one()?;
            let (start, mut made) = (Instant::now(), 0u64);
            while start.elapsed() < time {
                one()?;
                made += 1;
            }
            let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            stop.store(true, Ordering::Relaxed);
            let _ = one();
            Ok(per_second(made, took))
        });
        stop.store(true, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a measurement's precision is less")]
        made.map(|made| made as f64)
    })
}

/// How long a datagram takes there and back, where so many clients each have one under way.
///
/// # Errors
/// What the system says, or if no answer comes.
pub fn round_trips(
    bed: &Bed,
    target: IpAddr,
    time: Duration,
    clients: u16,
) -> io::Result<Histogram> {
    let pairs = (0..clients).map(|number| {
        let port = ECHO_PORT + number;
        let server = inside(&bed.server, || UdpSocket::bind(("0.0.0.0", port)))?;
        let client = inside(&bed.client, || UdpSocket::bind(("0.0.0.0", 0)))?;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(ANSWER))?;
        }
        client.connect((target, port))?;
        Ok((server, client))
    });
    let pairs = pairs.collect::<io::Result<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for (server, client) in &pairs {
            scope.spawn(|| answer(server, &stop));
            ends.push(scope.spawn(move || Ok(ask(client, time))));
        }
        let mut times = Histogram::default();
        for end in ends {
            times.absorb(&joined(end)?);
        }
        stop.store(true, Ordering::Relaxed);
        if times.count() == 0 {
            return Err(io::Error::other("no answer"));
        }
        Ok(times)
    })
}

fn answer(server: &UdpSocket, stop: &AtomicBool) {
    let mut room = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((octets, from)) = server.recv_from(&mut room) {
            let _ = server.send_to(room.get(..octets).unwrap_or(&[]), from);
        }
    }
}

fn ask(client: &UdpSocket, time: Duration) -> Histogram {
    let exchange = || -> io::Result<u64> {
        let mut room = [0; 64];
        let start = clock::now();
        client.send(b"there and back")?;
        client.recv(&mut room)?;
        Ok(clock::now() - start)
    };
    // the first finds neighbours, flows and sleepers
    let warm = Instant::now();
    while exchange().is_err() && warm.elapsed() < PATIENCE {}
    let (start, mut times) = (Instant::now(), Histogram::default());
    while start.elapsed() < time {
        if let Ok(took) = exchange() {
            times.add(took);
        }
    }
    times
}

/// How long an octet takes there and back by an open TCP connection, one at a time.
///
/// # Errors
/// What the system says, or if no answer comes.
pub fn tcp_round_trips(bed: &Bed, target: IpAddr, time: Duration) -> io::Result<Histogram> {
    let listener = inside(&bed.server, || TcpListener::bind(("0.0.0.0", STREAM_PORT)))?;
    let mut client = inside(&bed.client, || connect((target, STREAM_PORT).into()))?;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut octet = [0];
            while server.read_exact(&mut octet).is_ok() && server.write_all(&octet).is_ok() {}
        });
        let mut exchange = || -> io::Result<u64> {
            let start = clock::now();
            client.write_all(&[1])?;
            client.read_exact(&mut [0])?;
            Ok(clock::now() - start)
        };
        exchange()?;
        let (start, mut times) = (Instant::now(), Histogram::default());
        while start.elapsed() < time {
            times.add(exchange()?);
        }
        // the answering side ends with the connection
        client.shutdown(std::net::Shutdown::Both)?;
        Ok(times)
    })
}
