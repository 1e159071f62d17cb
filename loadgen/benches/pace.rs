//! What it costs to ask a pace for its next message: the part of the load generator's own work that
//! every message pays before it is sent. One iteration is one message; divide 10⁹ by its time to
//! see the rate that the pace alone could keep. No clock is read and nothing is sent.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use loadgen::pace::{Arrivals, Pace, Share, Span};

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

fn pace(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pace");
    group.bench_function("closed", |bencher| {
        let mut pace = Pace::new(Arrivals::Closed { depth: 1 }, SHARE, FOREVER);
        bencher.iter(|| {
            let due = pace.pop(black_box(1)).expect("every flow has a place");
            pace.completed(due.flow);
            due
        });
    });
    group.bench_function("constant", |bencher| {
        let mut pace = Pace::new(Arrivals::Constant { rate: 1e6 }, SHARE, FOREVER);
        bencher.iter(|| pace.pop(black_box(u64::MAX)).expect("it never ends"));
    });
    group.bench_function("constant, not due", |bencher| {
        let mut pace = Pace::new(Arrivals::Constant { rate: 1e6 }, SHARE, FOREVER);
        pace.pop(0);
        bencher.iter(|| assert!(pace.pop(black_box(1)).is_none()));
    });
    group.bench_function("poisson", |bencher| {
        let arrivals = Arrivals::Poisson { rate: 1e6, seed: 1 };
        let mut pace = Pace::new(arrivals, SHARE, FOREVER);
        bencher.iter(|| pace.pop(black_box(u64::MAX)).expect("it never ends"));
    });
    group.finish();
}

criterion_group!(benches, pace);
criterion_main!(benches);
