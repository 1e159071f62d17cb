use super::*;
use crate::analysis::samples;
use crate::engine::histogram::BucketCounts;
use crate::engine::slice::Slice;
use crate::profile::Profile;
use proptest::prelude::*;

/// The records of a thread: in each slice, messages that take some time, and lost messages.
fn thread() -> impl Strategy<Value = Vec<Slice<BucketCounts>>> {
    let messages = prop::collection::vec(1_000_u64..1_000_000_000, 0..30);
    prop::collection::vec((messages, 0_u64..3), samples::SLICES as usize).prop_map(|slices| {
        slices
            .into_iter()
            .map(|(messages, lost)| {
                let mut slice = Slice::<BucketCounts>::new();
                let received = messages.len() as u64;
                for took in messages {
                    slice.service.record(took);
                }
                let counts = &mut slice.counts;
                counts.issued = received + lost;
                counts.sent = received + lost;
                counts.received = received;
                counts.verified = received;
                counts.completed = received;
                counts.lost = lost;
                counts.bytes_out = 64 * (received + lost);
                counts.bytes_in = 64 * received;
                counts.bytes_sent = 64 * (received + lost);
                counts.bytes_received = 64 * received;
                counts.opened = lost;
                slice
            })
            .collect()
    })
}

fn named(parts: Vec<RunResult>) -> Vec<(String, RunResult)> {
    parts
        .into_iter()
        .enumerate()
        .map(|(index, mut part)| {
            // Two runs differ in that at least.
            part.host.name = Some(format!("host {index}"));
            (format!("part {index}"), part)
        })
        .collect()
}

#[test]
fn a_run_that_is_given_twice_is_refused() {
    let parts = || named(vec![busy(1), busy(2), busy(3)]);
    let twice = |mut again: (String, RunResult)| {
        again.0 = "again".to_owned();
        let mut parts = parts();
        parts.push(again);
        merge(parts).unwrap_err()
    };
    for part in parts() {
        let problem = twice(part.clone());
        let names = format!("{} and again contain the same run", part.0);
        assert!(problem.contains(&names), "{problem}");
    }
    // Within a union, too, and in one that goes by another name.
    let union = merge(parts()[..2].to_vec()).unwrap();
    assert!(twice(("union".to_owned(), union.clone())).contains("same run"));
    let all = merge(vec![("union".to_owned(), union), parts()[2].clone()]).unwrap();
    let names: Vec<String> = all
        .merged
        .unwrap()
        .into_iter()
        .map(|part| part.name)
        .collect();
    assert_eq!(names, ["part 0", "part 1", "part 2"]);
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn merged_shards_are_what_the_whole_would_have_found(
        threads in prop::collection::vec(thread(), 2..=3),
    ) {
        let whole = samples::result(&samples::plan(threads.len()), &threads);
        let shards = threads
            .iter()
            .map(|thread| samples::result(&samples::plan(1), std::slice::from_ref(thread)))
            .collect();
        let merged = merge(named(shards)).unwrap();
        prop_assert_eq!(&merged.plan, &whole.plan);
        prop_assert_eq!(merged.duration_s, whole.duration_s);
        prop_assert!(close(merged.rate.achieved, whole.rate.achieved));
        prop_assert!(close(merged.rate.offered, whole.rate.offered));
        prop_assert!(close(
            merged.throughput.received_bits_per_s,
            whole.throughput.received_bits_per_s
        ));
        let exact = |result: &RunResult| {
            let mut json = serde_json::to_value(result).unwrap();
            ["messages", "bytes", "connections", "latency_ns", "intervals"]
                .map(|key| json[key].take())
        };
        prop_assert_eq!(exact(&merged), exact(&whole));
        prop_assert_eq!(merged.client.threads.len(), threads.len());
        prop_assert_eq!(merged.merged.unwrap().len(), threads.len());
    }
}

/// A value of this many milliseconds.
fn busy(took_ms: u64) -> RunResult {
    let mut slice = Slice::<BucketCounts>::new();
    for _ in 0..20 {
        slice.service.record(took_ms * 1_000_000);
    }
    samples::result(&samples::plan(1), &[vec![slice; samples::SLICES as usize]])
}

#[test]
fn intervals_without_histograms_have_the_largest_of_both_and_no_percentiles() {
    let p50 = |result: &RunResult| result.intervals[0].service.as_ref().unwrap().p50;
    let exact = merge(named(vec![busy(1), busy(2)])).unwrap();
    assert_eq!(p50(&exact), p50(&busy(1)));
    // As in files from before histograms were kept.
    let mut old = serde_json::to_value(busy(2)).unwrap();
    for interval in old["intervals"].as_array_mut().unwrap() {
        let latency = interval["service"].as_object_mut().unwrap();
        assert!(latency.remove("histogram").is_some());
    }
    let old: RunResult = serde_json::from_value(old).unwrap();
    let largest = busy(2).intervals[0]
        .service
        .as_ref()
        .map(|latency| latency.max);
    for parts in [[busy(1), old.clone()], [old, busy(1)]] {
        let merged = merge(named(parts.to_vec())).unwrap();
        let service = merged.intervals[0].service.as_ref().unwrap();
        assert_eq!((service.p50, service.p99), (None, None));
        assert_eq!(Some(service.max), largest);
        assert!(service.histogram.is_none());
        assert!(merged.intervals[0].response.as_ref().unwrap().p50.is_some());
    }
}

#[test]
fn a_window_longer_than_any_duration_is_added_like_others() {
    let endless = RunResult {
        duration_s: f64::MAX,
        ..quiet()
    };
    assert!(merge(named(vec![quiet(), endless])).is_ok());
}

fn quiet() -> RunResult {
    let slices = vec![vec![Slice::new(); samples::SLICES as usize]];
    samples::result(&samples::plan(1), &slices)
}

#[test]
fn parts_of_other_plans_are_refused_and_what_differs_is_named() {
    let mut other = quiet();
    other.plan.verify = false;
    other.plan.connections = NonZeroUsize::new(50).unwrap();
    let problem = merge(named(vec![quiet(), other])).unwrap_err();
    assert!(problem.contains("part 0 and part 1"), "{problem}");
    assert!(problem.ends_with("; verify: true and false"), "{problem}");
    assert!(merge(Vec::new()).is_err());
}

fn open(rate: &str) -> RunResult {
    let mut result = quiet();
    result.plan.load = Load::Open {
        rate: rate.parse().unwrap(),
        arrivals: crate::plan::Spacing::Constant,
        pipeline: None,
    };
    result
}

#[test]
fn rates_add_if_there_is_a_sum() {
    let rate = |rates: [&str; 2]| {
        let merged = merge(named(rates.map(open).to_vec()))?;
        let Load::Open { rate, .. } = merged.plan.load else {
            return Err("a closed loop".to_owned());
        };
        Ok(rate.to_string())
    };
    assert_eq!(rate(["1000", "500"]).unwrap(), "1500");
    assert_eq!(
        rate(["1k..2k", "1k..2k"]).unwrap(),
        "2k..4k".parse::<Profile>().unwrap().to_string()
    );
    let ramp = rate(["1k..2k", "500"]).unwrap();
    assert_eq!(ramp, "1500..2500".parse::<Profile>().unwrap().to_string());
    assert!(rate(["1k,2k", "1k"]).unwrap_err().contains("rate: "));
    assert!(rate(["1k@1s,2k@1s", "1k@2s,2k@1s"]).is_err());
}

#[test]
fn parts_of_different_times_are_no_sum() {
    let mut later = quiet();
    later.started_at = "2026-01-01T00:01:00.000Z".to_owned();
    let merged = merge(named(vec![quiet(), later])).unwrap();
    let codes: Vec<_> = merged
        .verdict
        .reasons
        .iter()
        .map(|reason| &reason.code)
        .collect();
    assert!(codes.contains(&&Code::NotTogether), "{codes:?}");
    assert_eq!(merged.started_at, "2026-01-01T00:00:00.000Z");
    // The verdict is the worst of all.
    assert_eq!(merged.verdict.status, crate::result::Status::Invalid);
}
