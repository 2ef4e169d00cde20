//! What a frame costs in memory, by fate: a burst of 32 frames of 60 octets, copied into buffers,
//! parsed, hashed, looked up, judged, rewritten. Time is per frame.
//!
//! `cargo bench --bench pipeline`, some three minutes; with a name or part of one behind `--` for less.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot go on fails"
)]

#[path = "support/clock.rs"]
mod clock;
#[path = "support/lab.rs"]
mod lab;

use criterion::{Criterion, criterion_group, criterion_main};
use kswitch::dataplane::Pipeline;
use kswitch::dataplane::burst::BURST;

use clock::ThreadTime;
use lab::{CLIENTS, Fate, Lab, Nowhere, Sender};

/// New flows admitted between two clearances of the table.
const NEW_FLOWS: usize = 32_768;

/// The next number of `xorshift64`.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 11).unwrap()
}

/// Carries at least `frames` frames of `flows` established flows at random.
fn established(
    lab: &Lab,
    (sender, pipeline): (&mut Sender, &mut Pipeline),
    flows: usize,
    frames: u64,
) {
    let each = flows.div_ceil(CLIENTS);
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut out = Nowhere::default();
    for _ in 0..frames.div_ceil(BURST as u64) {
        let client = next(&mut state) % CLIENTS.min(flows);
        sender.carry(lab, pipeline, client, || next(&mut state) % each, &mut out);
    }
    std::hint::black_box(out.0);
}

fn time(mut work: impl FnMut()) -> u64 {
    let start = clock::now();
    work();
    clock::now() - start
}

/// Of `whole` nanoseconds for as many bursts as hold `frames` frames, the part of `frames`.
fn share(whole: u64, frames: u64) -> u64 {
    let carried = frames.div_ceil(BURST as u64) * BURST as u64;
    whole * frames / carried.max(1)
}

fn by_fate(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("established");
    for flows in [1, 1_000, 1_000_000] {
        let lab = Lab::new(1_000, 0, flows.max(1_000));
        for fate in Fate::ALL {
            let (mut sender, mut pipeline) = (lab.sender(fate), lab.pipeline());
            lab.shared.conntrack.remove_where(|_| true, |_| {});
            sender.establish(&lab, &mut pipeline, flows);
            let before = pipeline.counters.admitted.get();
            group.bench_function(format!("{}/{flows}-flows", fate.name()), |bencher| {
                bencher.iter_custom(|frames| {
                    share(
                        time(|| established(&lab, (&mut sender, &mut pipeline), flows, frames)),
                        frames,
                    )
                });
            });
            assert_eq!(pipeline.counters.admitted.get(), before, "a flow was not established");
        }
    }
}

/// Which part of an established frame's time goes where: each stage with those before it, so that
/// the differences are the stages' own.
fn by_stage(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("stages/cluster-ip");
    let lab = Lab::new(1_000, 0, 1_000);
    let (mut sender, mut pipeline) = (lab.sender(Fate::ClusterIp), lab.pipeline());
    sender.establish(&lab, &mut pipeline, 1_000);
    let each = 1_000usize.div_ceil(CLIENTS);
    for (stages, name) in
        ["copy", "copy-parse-hash", "copy-parse-hash-judge-rewrite"].into_iter().enumerate()
    {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let mut out = Nowhere::default();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|frames| {
                let work = || {
                    for _ in 0..frames.div_ceil(BURST as u64) {
                        let client = next(&mut state) % CLIENTS;
                        sender.fill(client, || next(&mut state) % each);
                        if stages >= 1 {
                            sender.prepare(&lab);
                        }
                        if stages >= 2 {
                            sender.judge(&lab, &mut pipeline, client, &mut out);
                        }
                    }
                };
                share(time(work), frames)
            });
        });
        std::hint::black_box(out.0);
    }
}

/// Time to admit `flows` new flows through Services.
fn admit(lab: &Lab, (sender, pipeline): (&mut Sender, &mut Pipeline), flows: u64) -> u64 {
    let each = NEW_FLOWS / CLIENTS;
    let (mut whole, mut left) = (0, flows.div_ceil(BURST as u64));
    while left > 0 {
        lab.shared.conntrack.remove_where(|_| true, |_| {});
        let bursts = left.min((NEW_FLOWS / BURST) as u64);
        left -= bursts;
        let mut out = Nowhere::default();
        whole += time(|| {
            for number in 0..usize::try_from(bursts).unwrap() {
                let mut flow = (number / CLIENTS * BURST) % each;
                let next = || {
                    flow += 1;
                    flow - 1
                };
                sender.carry(lab, pipeline, number % CLIENTS, next, &mut out);
            }
        });
        std::hint::black_box(out.0);
    }
    share(whole, flows)
}

/// Established frames must cost the same whatever else there is, and new flows nearly so.
fn by_tables(criterion: &mut Criterion<ThreadTime>) {
    for (services, policies) in
        [(1, 0), (1_000, 0), (10_000, 0), (10_000, 1_000), (10_000, 10_000), (100_000, 10_000)]
    {
        let name = format!("{services}-services-{policies}-policies");
        let lab = Lab::new(services, policies, 2 * NEW_FLOWS);
        let (mut sender, mut pipeline) = (lab.sender(Fate::ClusterIp), lab.pipeline());
        criterion.bench_function(&format!("new/cluster-ip/{name}"), |bencher| {
            bencher.iter_custom(|flows| admit(&lab, (&mut sender, &mut pipeline), flows));
        });
        assert_eq!(pipeline.counters.established.get(), 0, "a flow was not new");
        lab.shared.conntrack.remove_where(|_| true, |_| {});
        sender.establish(&lab, &mut pipeline, 1_000);
        criterion.bench_function(&format!("established/cluster-ip/{name}"), |bencher| {
            bencher.iter_custom(|frames| {
                share(
                    time(|| established(&lab, (&mut sender, &mut pipeline), 1_000, frames)),
                    frames,
                )
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(ThreadTime)
        .without_plots()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = by_fate, by_stage, by_tables
}
criterion_main!(benches);
