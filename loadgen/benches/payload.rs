//! Cost of verifying an echo, by message size: comparing received bytes with sent ones. The
//! throughput is per core. Verification is on by default.

use std::hint::black_box;
use std::io::IoSlice;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loadgen::internal::Payload;

fn verify(criterion: &mut Criterion) {
    let payload = Payload::new(1);
    let mut stream = payload.stream(0, 0);
    let mut group = criterion.benchmark_group("verify");
    for size in [64_usize, 1024, 16 << 10, 64 << 10] {
        let mut pieces = [IoSlice::new(&[]); 9];
        let message: Vec<u8> = payload
            .pieces(&mut stream, 0, size as u64, &mut pieces)
            .iter()
            .flat_map(|piece| piece.to_vec())
            .collect();
        assert_eq!(message.len(), size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let difference = payload.first_difference(&mut stream, 0, black_box(&message));
                assert_eq!(difference, None);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
