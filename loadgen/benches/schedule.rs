//! Cost of taking a message from the schedule, which the load generator pays for every message
//! before sending. One iteration is one message; 10⁹ over its nanoseconds is the maximum rate of
//! the schedule alone. No clock is read and nothing is sent.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::internal::{Arrivals, Schedule, Share, Span};

const SHARE: Share = Share {
    total: 50,
    first: 0,
    stride: 1,
};
const FOREVER: Span = Span {
    start: 0,
    counted_from: 0,
    end: u64::MAX,
    quota: u64::MAX,
};

fn even(profile: &str) -> Arrivals {
    Arrivals::Constant {
        profile: profile.parse().expect("a profile"),
    }
}

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    group.bench_function("closed", |bencher| {
        let mut schedule = Schedule::new(Arrivals::Closed { depth: 1 }, SHARE, FOREVER);
        bencher.iter(|| {
            let due = schedule.pop(black_box(1)).expect("every flow has a place");
            schedule.completed(due.flow);
            due
        });
    });
    group.bench_function("constant", |bencher| {
        let mut schedule = Schedule::new(even("1M"), SHARE, FOREVER);
        bencher.iter(|| schedule.pop(black_box(u64::MAX)).expect("it never ends"));
    });
    group.bench_function("constant, not due", |bencher| {
        let mut schedule = Schedule::new(even("1M"), SHARE, FOREVER);
        schedule.pop(0);
        bencher.iter(|| assert!(schedule.pop(black_box(1)).is_none()));
    });
    for (name, profile) in [
        // Longer than any benchmark, so that the ramp never ends.
        ("ramp", "1M..2M@10h"),
        // The first piece is short, so that the second piece is measured.
        ("steps", "1M@1ms,2M@1ms"),
    ] {
        group.bench_function(name, |bencher| {
            let mut schedule = Schedule::new(even(profile), SHARE, FOREVER);
            bencher.iter(|| schedule.pop(black_box(u64::MAX)).expect("it never ends"));
        });
    }
    group.bench_function("poisson", |bencher| {
        let arrivals = Arrivals::Poisson {
            profile: "1M".parse().expect("a profile"),
            seed: 1,
        };
        let mut schedule = Schedule::new(arrivals, SHARE, FOREVER);
        bencher.iter(|| schedule.pop(black_box(u64::MAX)).expect("it never ends"));
    });
    group.bench_function("poisson, ramp", |bencher| {
        let arrivals = Arrivals::Poisson {
            profile: "1M..2M@10h".parse().expect("a profile"),
            seed: 1,
        };
        let mut schedule = Schedule::new(arrivals, SHARE, FOREVER);
        bencher.iter(|| schedule.pop(black_box(u64::MAX)).expect("it never ends"));
    });
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
