//! Conntrack at its size: octets per flow, and what insertion, look-up and expiry cost as the table
//! fills up; and how much two threads on one table do against one.
//!
//! `cargo bench --bench scale`; `-- 10000000` for ten million flows (4.3 GB), one million by default;
//! `-- cluster` for what large clusters take, compiled: time and memory.

#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot go on fails"
)]

#[path = "support/flows.rs"]
mod flows;
#[allow(dead_code, reason = "nothing is sent here")]
#[path = "support/lab.rs"]
mod lab;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flows::{flow, record, table};
use kswitch_config::{Cluster, Compiler, Draft, Observed};
use kswitch_tables::conntrack::{Cursor, Timeouts};
use kswitch_tables::{Conntrack, Generation, Tick};
use nix::time::{ClockId, clock_gettime};

/// Operations timed at each degree of filling.
const SAMPLE: usize = 50_000;

/// How many times one thread and two take turns.
const ROUNDS: usize = 7;

/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(300);

/// Processor time of the calling thread so far, nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock");
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

fn nanoseconds_each(count: usize, work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    (now() - start) as f64 / count as f64
}

/// Octets of memory that this process holds.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn spread(number: usize, below: usize) -> usize {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % below
}

fn fill(capacity: usize) -> Conntrack {
    let before = resident();
    let conntrack = table(capacity);
    let octets = (resident() - before) / capacity;
    println!("{capacity} flows: {octets} octets of memory per flow, taken at the start");
    println!("filled  insert a flow  find a flow  expiry's look at a slot   ns");
    let mut recorded = 0;
    for percent in [0, 25, 50, 75, 90, 99] {
        let wanted = (capacity / 100 * percent).max(recorded);
        (recorded..wanted).for_each(|number| record(&conntrack, number));
        recorded = wanted;
        let sample = SAMPLE.min(capacity / 100);
        let insert = nanoseconds_each(sample, || {
            (recorded..recorded + sample).for_each(|number| record(&conntrack, number));
        });
        recorded += sample;
        let find = nanoseconds_each(sample, || {
            for number in 0..sample {
                let flow = flow(spread(number, recorded));
                conntrack.find(&flow, conntrack.hash(&flow)).expect("it was recorded");
            }
        });
        let (mut cursor, timeouts) = (Cursor::default(), Timeouts::default());
        let expire = nanoseconds_each(sample, || {
            conntrack.expire(&mut cursor, sample, Tick(2), &timeouts, |_| {});
        });
        println!("{percent:>5}%  {insert:>13.0}  {find:>11.0}  {expire:>23.0}");
    }
    conntrack
}

/// Operations per nanosecond of its own processor time that one thread does until told to stop:
/// nine look-ups, and one connection that comes and goes.
fn work(conntrack: &Conntrack, core: core_affinity::CoreId, of: usize, stop: &AtomicBool) -> f64 {
    core_affinity::set_for_current(core);
    let (start, mut done) = (now(), 0usize);
    // connections that this thread alone makes and removes
    let own = 40_000_000 + core.id * 10_000_000;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1_000 {
            for _ in 0..9 {
                let flow = flow(spread(done, of));
                conntrack.find(&flow, conntrack.hash(&flow)).expect("it was recorded");
                done += 1;
            }
            record(conntrack, own + done % 1_000_000);
            let flow = flow(own + done % 1_000_000);
            let found = conntrack.find(&flow, conntrack.hash(&flow)).expect("just recorded");
            assert!(conntrack.remove(&found));
            done += 1;
        }
    }
    done as f64 / (now() - start) as f64
}

fn threads(conntrack: &Conntrack, cores: &[core_affinity::CoreId], of: usize) -> f64 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running: Vec<_> =
            cores.iter().map(|core| scope.spawn(|| work(conntrack, *core, of, &stop))).collect();
        thread::sleep(TURN);
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// A cluster of so many pods on fifty nodes.
fn crowd(pods: usize) -> Cluster {
    let mut text = String::from("[lab]\nname = \"crowd\"\n");
    (0..50).for_each(|node| text.push_str(&format!("[[node]]\nname = \"n{node}\"\n")));
    for pod in 0..pods {
        text.push_str(&format!(
            "[[pod]]\nmetadata = {{ name = \"p{pod}\" }}\nspec.nodeName = \"n{}\"\n",
            pod % 50
        ));
    }
    Draft::read_text("crowd.toml", &text, Path::new(".")).validate(None).expect("it is valid")
}

/// Compiles a cluster, and says what that took.
fn compile(what: &str, cluster: Cluster) {
    let cluster = Arc::new(cluster);
    let before = resident();
    let start = Instant::now();
    let mut compiler = Compiler::new(1);
    let compiled = compiler.compile(&cluster, &Observed::default(), Generation(1));
    let took = start.elapsed();
    let megabytes = resident().saturating_sub(before) as f64 / 1e6;
    println!("{what}: compiled in {:.2} s, {megabytes:.0} MB", took.as_secs_f64());
    drop(Arc::new(compiled));
}

fn main() {
    if std::env::args().any(|argument| argument == "cluster") {
        compile("100,000 Services", lab::cluster(100_000, 0));
        compile("10,000 policies", lab::cluster(1, 10_000));
        compile("5,000 ports", crowd(5_000));
        return;
    }
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let capacity: usize = number.unwrap_or(1_000_000);
    drop(fill(capacity));
    let cores = core_affinity::get_core_ids().unwrap();
    if cores.len() < 2 {
        println!("one processor: nothing to say about two threads");
        return;
    }
    let of = 100_000;
    let conntrack = table(2 * of);
    (0..of).for_each(|number| record(&conntrack, number));
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| threads(&conntrack, &cores[..2], of) / threads(&conntrack, &cores[..1], of))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]);
    println!("two threads do {median:.2} times the work of one ({least:.2} to {most:.2})");
}
