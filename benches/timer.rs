//! The cost of deadlines: `Timers` with 10 000 of them, distributed over a minute of milliseconds.
//!
//! Measured: arming and cancelling one more, moving one of them, asking for the next, and letting
//! all of them come due.
//!
//! Not measured: reading the clock, and what the reactor does with a deadline that is due.
//!
//! To read it: `arm_cancel`, `rearm` and `next_deadline` are the time of one operation. `advance`
//! is the time for all 10 000; `elem/s` counts deadlines. `in_one_go` is a worker that comes late,
//! `one_by_one` one that wakes up for each next deadline, and then also whenever the wheel sorts
//! far deadlines finer. Nothing here should grow with the number of deadlines, except by leaving
//! the processor's caches.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use echomark::internal::Timers;

/// Deadlines that are set, with the ids from 0 on: as many as a busy worker has connections.
const ARMED: usize = 10_000;
/// The farthest of them, in ticks.
const HORIZON: u64 = 60_000;

fn one_deadline(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    let deadlines = deadlines();
    let mut timers = armed(&deadlines);

    // Connections that come and go: a few ids above the others are used again and again.
    const NEWCOMERS: usize = 64;
    let mut turn = 0;
    group.bench_function("arm_cancel", |b| {
        b.iter(|| {
            let id = ARMED + turn % NEWCOMERS;
            timers.arm(black_box(id), deadlines[turn]);
            timers.cancel(black_box(id));
            turn = (turn + 1) % ARMED;
        });
    });

    // Neighbours in this order are neither neighbours in memory nor in time.
    const STRIDE: usize = 7_919;
    let mut id = 0;
    group.bench_function("rearm", |b| {
        b.iter(|| {
            let other = (id + STRIDE) % ARMED;
            timers.arm(black_box(id), deadlines[other]);
            id = other;
        });
    });

    group.bench_function("next_deadline", |b| {
        b.iter(|| black_box(&timers).next_deadline());
    });
    group.finish();

    let mut due = Vec::new();
    timers.advance(HORIZON, &mut due);
    assert_eq!(due.len(), ARMED, "the newcomers went and the others stayed");
}

fn advance(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer/advance");
    group.throughput(Throughput::Elements(ARMED as u64));
    let deadlines = deadlines();
    let mut due = Vec::with_capacity(ARMED);

    group.bench_function("in_one_go", |b| {
        b.iter_batched_ref(
            || armed(&deadlines),
            |timers| {
                due.clear();
                timers.advance(black_box(HORIZON), &mut due);
                assert_eq!(due.len(), ARMED);
            },
            BatchSize::PerIteration,
        );
    });

    group.bench_function("one_by_one", |b| {
        b.iter_batched_ref(
            || armed(&deadlines),
            |timers| {
                due.clear();
                while let Some(next) = timers.next_deadline() {
                    timers.advance(next, &mut due);
                }
                assert_eq!(due.len(), ARMED);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn armed(deadlines: &[u64]) -> Timers {
    let mut timers = Timers::new(0);
    for (id, &deadline) in deadlines.iter().enumerate() {
        timers.arm(id, deadline);
    }
    timers
}

/// Deadlines from 1 to [`HORIZON`] in no order, the same in every run.
fn deadlines() -> Vec<u64> {
    // The generator of Knuth's MMIX (TAOCP volume 2, section 3.3.4), of which the high bits are good.
    let mut state: u64 = 1;
    (0..ARMED)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            1 + (state >> 33) % HORIZON
        })
        .collect()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = one_deadline, advance
}
criterion_main!(benches);
