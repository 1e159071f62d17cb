use super::super::tests::{Case, latency};
use super::*;
use crate::plan::Load;
use crate::result::histogram;

/// The vouched percentile and the limit of a case.
fn of(change: impl FnOnce(&mut Case)) -> (Option<f64>, Option<Source>) {
    let mut case = Case::clean();
    case.latency_ns.response = Some(spread(100_000));
    // Without it, what is late counts in full.
    case.latency_ns.service = None;
    case.client.threads[0].run_delay_ratio = Some(0.0);
    change(&mut case);
    let vouched = Vouched::of(&case.evidence());
    (vouched.percentile, vouched.limit.map(|limit| limit.source))
}

/// `count` response times: a hundredth of 1 ms, a thousandth of 10 ms, the others of 100 µs.
fn spread(count: u64) -> Latency {
    let mut histogram = histogram::empty();
    histogram.record_n(100_000, count - count / 100).unwrap();
    histogram
        .record_n(1_000_000, count / 100 - count / 1000)
        .unwrap();
    histogram.record_n(10_000_000, count / 1000).unwrap();
    Latency::new(histogram).unwrap()
}

/// A share of 10 000 samples of this value, the others of 1 µs.
fn share(share: f64, value: u64) -> Latency {
    let mut histogram = histogram::empty();
    let above = (share * 10_000.0) as u64;
    histogram.record_n(1_000, 10_000 - above).unwrap();
    histogram.record_n(value, above).unwrap();
    Latency::new(histogram).unwrap()
}

fn close(case: &mut Case) {
    case.client.own_send_lag = None;
    case.plan.load = Load::Closed {
        pipeline: std::num::NonZeroUsize::MIN,
    };
}

#[test]
fn without_a_disturbance_every_reported_percentile_holds() {
    assert_eq!(of(|_| ()), (Some(99.99), None));
    let few = of(|case| case.latency_ns.response = Some(latency(100_000, 100_000)));
    assert_eq!(few, (Some(99.9), None));
    let none = of(|case| case.latency_ns.response = None);
    assert_eq!(none, (None, None));
}

#[test]
fn lateness_of_the_client_spoils_what_it_may_have_made_and_no_more() {
    // p50 to p95 are 100 µs, so 20 µs may matter: up to a tenth of half the messages beyond.
    let late = |part, value| of(|case| case.client.own_send_lag = Some(share(part, value)));
    assert_eq!(late(0.012, 20_000), (Some(95.0), Some(Source::SendLag)));
    assert_eq!(late(0.02, 20_000), (Some(90.0), Some(Source::SendLag)));
    assert_eq!(late(0.2, 20_000), (None, Some(Source::SendLag)));
    // It is too short to matter for all.
    assert_eq!(late(0.2, 9_000), (Some(99.99), None));
}

#[test]
fn lateness_counts_where_it_makes_the_difference_between_service_and_response() {
    let late = |service| {
        of(|case| {
            case.latency_ns.service = Some(service);
            case.client.own_send_lag = Some(share(0.02, 20_000));
        })
    };
    // Every slow message was slow in the server, and those that were late are among the fast ones.
    assert_eq!(late(spread(100_000)), (Some(99.99), None));
    // 3 of 1000 messages took 1 ms only because they were late. Twice that is beyond p99, not p95.
    let mut service = histogram::empty();
    service.record_n(100_000, 99_300).unwrap();
    service.record_n(1_000_000, 600).unwrap();
    service.record_n(10_000_000, 100).unwrap();
    let service = Latency::new(service).unwrap();
    assert_eq!(late(service), (Some(95.0), Some(Source::SendLag)));
}

#[test]
fn a_freeze_of_a_closed_loop_spoils_its_tail_and_not_its_median() {
    // 25 ms in ten seconds: five of the probe's samples. Four connections, so 24 of 10 000 messages.
    let frozen = |messages| {
        of(|case| {
            close(case);
            case.latency_ns.response = Some(spread(messages));
            case.client.hiccup = Some(share(0.0005, 25_000_000));
        })
    };
    assert_eq!(frozen(10_000), (Some(99.0), Some(Source::Hiccups)));
    assert_eq!(frozen(2_000), (Some(95.0), Some(Source::Hiccups)));
    assert_eq!(frozen(1_000_000), (Some(99.99), None));
}

#[test]
fn waits_for_a_cpu_count_by_their_sum() {
    let waited = |ratio, mean_ns| {
        of(|case| {
            close(case);
            case.client.threads[0].run_delay_ratio = Some(ratio);
            case.client.threads[0].run_delay_ns_mean = Some(mean_ns);
        })
    };
    // Wake-ups are no waits.
    assert_eq!(waited(0.02, 2_000.0), (Some(99.99), None));
    // A hundredth of the time, in 100 waits of 1 ms.
    assert_eq!(waited(0.01, 1e6), (Some(95.0), Some(Source::Waits)));
    // In 10 000 waits of 10 µs, half of which is above a wake-up. 5000 may be long enough to matter
    // to the hundred thousand messages.
    assert_eq!(waited(0.01, 1e4), (Some(75.0), Some(Source::Waits)));
    // Without the kernel's figures, each switch may have been a time slice.
    let switched = of(|case| {
        close(case);
        case.client.threads[0].run_delay_ratio = None;
        case.client.threads[0].involuntary_switches = 1000;
    });
    assert_eq!(switched, (None, Some(Source::Waits)));
}

#[test]
fn time_of_other_guests_delays_a_closed_loop_both_ways() {
    let stolen = |ratio| {
        of(|case| {
            close(case);
            case.client.steal_ratio = Some(ratio);
        })
    };
    assert_eq!(stolen(0.002).0, Some(99.0));
    assert_eq!(stolen(0.02), (Some(90.0), Some(Source::Steal)));
}

#[test]
fn a_client_without_reserve_vouches_for_nothing() {
    let busy = of(|case| case.client.threads[0].busy_ratio = 0.9);
    assert_eq!(busy, (None, Some(Source::Busy)));
}

#[test]
fn hiccups_that_explain_the_tail_of_an_open_loop_spoil_it() {
    let hiccups = |part| of(|case| case.client.hiccup = Some(share(part, 6_000_000)));
    // At p99.9, which is 1 ms. At p99.99, which is 10 ms.
    assert_eq!(hiccups(0.0005), (Some(99.9), Some(Source::Hiccups)));
    assert_eq!(hiccups(0.0015), (Some(99.0), Some(Source::Hiccups)));
    assert_eq!(hiccups(0.02), (Some(95.0), Some(Source::Hiccups)));
}
