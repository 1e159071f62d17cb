//! Cost of recording: one value into a histogram, one message sent and one done into a slice; and
//! the coordinator's cost per interval: adding a slice and clearing it. Latencies are spread over
//! three decades, like real ones; a single bucket would always be in the cache.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use loadgen::internal::{BucketCounts, Done, Sent};
use loadgen::observer::Slice;
use loadgen::result::histogram;

/// Latencies from 10 µs to 10 ms in pseudo-random order: a multiplicative generator on a
/// logarithmic scale.
fn latencies() -> Vec<u64> {
    let mut state = 1_u64;
    (0..4096)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let exponent = 4.0 + 3.0 * (state >> 11) as f64 / (1_u64 << 53) as f64;
            10_f64.powf(exponent) as u64
        })
        .collect()
}

fn record(criterion: &mut Criterion) {
    let latencies = latencies();
    let mut group = criterion.benchmark_group("record");
    group.bench_function("histogram", |bencher| {
        let mut histogram = histogram::empty();
        let mut values = latencies.iter().cycle();
        bencher.iter(|| histogram.saturating_record(*values.next().unwrap_or(&1)));
        assert!(!histogram.is_empty());
    });
    group.bench_function("bucket counts", |bencher| {
        let mut counts = BucketCounts::default();
        let mut values = latencies.iter().cycle();
        bencher.iter(|| counts.record(*values.next().unwrap_or(&1)));
        assert!(!counts.is_empty());
    });
    for (name, is_open_loop) in [
        ("message, closed loop", false),
        ("message, open loop", true),
    ] {
        group.bench_function(name, |bencher| {
            let mut slice = Slice::touched();
            let mut values = latencies.iter().cycle();
            bencher.iter(|| {
                let latency = *values.next().unwrap_or(&1);
                let sent = Sent {
                    intended: 1000,
                    held: false,
                    counted: true,
                };
                slice.record_sent(black_box(sent), 1200, is_open_loop);
                let done = Done {
                    intended: 1000,
                    write_began: 1200,
                    size: 64,
                    counted: true,
                };
                slice.record_latency(&black_box(done), 1200 + latency, is_open_loop);
            });
            assert_eq!(slice.counts.sent, slice.service.len());
        });
    }
    group.bench_function("interval: add and clear a slice", |bencher| {
        let mut total = Slice::new();
        let mut slice = Slice::touched();
        for &latency in &latencies {
            slice.service.record(latency);
            slice.response.record(latency);
        }
        bencher.iter_batched_ref(
            || slice.clone(),
            |slice| {
                total += &**slice;
                slice.clear();
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
