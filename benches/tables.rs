//! What conntrack costs by itself: find, bind and expire at 1, 1,000 and 1,000,000 flows.
//!
//! `cargo bench --bench tables`, with a name or part of one behind `--` for less.

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
#[path = "support/flows.rs"]
mod flows;

use criterion::{Criterion, criterion_group, criterion_main};
use kswitch_tables::Tick;
use kswitch_tables::conntrack::{Cursor, Timeouts};

use clock::ThreadTime;
use flows::{flow, record, table};

/// Flows whose slots are read before the first is looked up, as a worker does.
const BURST: usize = 32;

fn find(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("find");
    for flows in [1, 1_000, 1_000_000] {
        let conntrack = table(flows);
        (0..flows).for_each(|number| record(&conntrack, number));
        let mut state = 0x9e37_79b9_u32;
        let mut any = move || {
            state = state.wrapping_mul(0x915f_77f5).wrapping_add(1);
            (state >> 8) as usize % flows
        };
        group.bench_function(format!("hit/{flows}"), |bencher| {
            bencher.iter(|| {
                let flow = flow(any());
                conntrack.find(&flow, conntrack.hash(&flow)).expect("it was recorded")
            });
        });
        group.bench_function(format!("hit-in-bursts/{flows}"), |bencher| {
            bencher.iter_custom(|count| {
                let start = clock::now();
                let mut left = count;
                while left > 0 {
                    let burst = left.min(BURST as u64);
                    left -= burst;
                    let mut wanted = [(flow(0), 0); BURST];
                    for slot in &mut wanted {
                        let flow = flow(any());
                        *slot = (flow, conntrack.hash(&flow));
                    }
                    wanted.iter().for_each(|(flow, hash)| conntrack.warm(flow, *hash));
                    for (flow, hash) in wanted.iter().take(usize::try_from(burst).unwrap()) {
                        std::hint::black_box(conntrack.find(flow, *hash)).expect("recorded");
                    }
                }
                clock::now() - start
            });
        });
        group.bench_function(format!("miss/{flows}"), |bencher| {
            bencher.iter(|| {
                let flow = flow(any() + 2_000_000);
                assert!(conntrack.find(&flow, conntrack.hash(&flow)).is_none());
            });
        });
    }
}

/// Both directions of a connection come in, and one of another goes: the table stays as full as it
/// was.
fn bind(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("bind-and-remove");
    for flows in [1, 1_000, 1_000_000] {
        let conntrack = table(flows + 1);
        (0..flows).for_each(|number| record(&conntrack, number));
        let mut next = flows;
        group.bench_function(format!("{flows}"), |bencher| {
            bencher.iter(|| {
                record(&conntrack, next);
                let oldest = flow(next - flows);
                let found = conntrack.find(&oldest, conntrack.hash(&oldest)).expect("recorded");
                assert!(conntrack.remove(&found));
                next += 1;
            });
        });
    }
}

/// A walk over slots of which nothing has fallen silent; time is per slot.
fn expire(criterion: &mut Criterion<ThreadTime>) {
    let mut group = criterion.benchmark_group("expire");
    for flows in [1, 1_000, 1_000_000] {
        let conntrack = table(flows);
        (0..flows).for_each(|number| record(&conntrack, number));
        let (mut cursor, timeouts) = (Cursor::default(), Timeouts::default());
        group.bench_function(format!("slot/{flows}"), |bencher| {
            bencher.iter_custom(|slots| {
                let start = clock::now();
                let slots = usize::try_from(slots).unwrap();
                conntrack.expire(&mut cursor, slots, Tick(2), &timeouts, |_| {});
                clock::now() - start
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
    targets = find, bind, expire
}
criterion_main!(benches);
