use clap::CommandFactory as _;
use hdrhistogram::Histogram;
use loadgen::result::Counts;
use loadgen::result::histogram;
use proptest::prelude::*;

use super::*;
use crate::cli::{Cli, RunArgs};

/// The plan of a command line.
pub(crate) fn plan(arguments: &str) -> Plan {
    let words = ["loadgen", "run"]
        .into_iter()
        .chain(arguments.split_whitespace());
    let matches = Cli::command().try_get_matches_from(words).unwrap();
    RunArgs::resolve(matches.subcommand_matches("run").unwrap())
        .unwrap()
        .1
}

/// The update of second number `second` of the window, with `completed` echoes.
pub(crate) fn update(
    began: Instant,
    second: u64,
    completed: u64,
    latency: &Histogram<u64>,
) -> Update {
    let end = Duration::from_secs(second + 1);
    Update {
        phase: Phase::Measuring(Some(Duration::from_secs(10))),
        phase_began: began,
        flow: Some(FlowPoint {
            begin: Duration::from_secs(second),
            end,
            completed,
            bytes_in: completed * 64,
        }),
        latency: (!latency.is_empty()).then(|| LatencyPoint {
            end,
            p50_ns: (latency.len() >= 20).then(|| latency.value_at_quantile(0.5)),
            p99_ns: (latency.len() >= 1000).then(|| latency.value_at_quantile(0.99)),
            max_ns: latency.max(),
        }),
        totals: Some(Box::new(Totals {
            counts: Counts {
                sent: completed,
                received: completed,
                ..Counts::default()
            },
            latency: Latencies::of(latency),
            send_lag_p99_ns: None,
        })),
    }
}

fn phase(phase: Phase, began: Instant) -> Update {
    Update {
        phase,
        phase_began: began,
        flow: None,
        latency: None,
        totals: None,
    }
}

fn uniform(from: u64, to: u64) -> Histogram<u64> {
    let mut histogram = histogram::empty();
    for step in 0..1000 {
        histogram.record(from + (to - from) * step / 999).unwrap();
    }
    histogram
}

#[test]
fn time_tells_how_far_a_phase_is() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let mut state = LiveState::new(&plan("-c 1"), start);
    let connecting = state.stage(after(3));
    assert_eq!((connecting.name, connecting.ratio), ("connecting", None));
    state.take(phase(Phase::WarmingUp(Duration::from_secs(4)), after(3)));
    assert_eq!(state.stage(after(4)).ratio, Some(0.25));
    // The coordinator says late that a phase is over.
    assert_eq!(state.stage(after(60)).ratio, Some(1.0));
    assert!(!state.is_measured());
    state.take(phase(Phase::Measuring(None), after(7)));
    let measuring = state.stage(after(9));
    assert_eq!(measuring.elapsed, Duration::from_secs(2));
    assert_eq!((measuring.length, measuring.ratio), (None, None));
    assert!(state.is_measured());
}

#[test]
fn messages_tell_how_far_a_run_is_that_their_number_ends() {
    let start = Instant::now();
    let mut state = LiveState::new(&plan("-c 1 -n 1000"), start);
    let mut update = update(start, 0, 300, &histogram::empty());
    update.phase = Phase::Measuring(None);
    state.take(update);
    let stage = state.stage(start + Duration::from_secs(1));
    assert_eq!((stage.ratio, stage.length), (Some(0.3), None));
}

#[test]
fn the_next_run_begins_from_nothing() {
    let start = Instant::now();
    let mut state = LiveState::new(&plan("-c 1 --repeat 3"), start);
    state.take(phase(Phase::Connecting, start));
    state.take(update(start, 0, 300, &uniform(1_000, 2_000)));
    assert_eq!(state.stage(start).run, Some((1, 3)));
    assert!(state.latencies().is_some());
    state.take(phase(Phase::Connecting, start));
    assert_eq!(state.stage(start).run, Some((2, 3)));
    assert!(state.flow.points().is_empty() && state.totals.is_none());
    assert!(state.present_flow().is_none() && state.bars(10).is_empty());
}

#[test]
fn the_present_rate_is_that_of_the_last_second() {
    let start = Instant::now();
    let mut state = LiveState::new(&plan("-c 1"), start);
    let nothing = histogram::empty();
    state.take(update(start, 0, 100, &nothing));
    state.take(update(start, 1, 700, &nothing));
    let present = state.present_flow().unwrap();
    assert_eq!(present.rate(), 700.0);
    assert_eq!(present.bits_per_second(), 700.0 * 64.0 * 8.0);
}

#[test]
fn bars_are_as_fine_as_fits_and_hold_all_samples() {
    let start = Instant::now();
    let mut state = LiveState::new(&plan("-c 1"), start);
    state.take(update(start, 0, 1000, &uniform(10_000, 900_000)));
    for (most, count) in [(20, 20), (19, 10), (4, 4), (2, 2), (1, 1), (0, 0)] {
        let bars = state.bars(most);
        assert_eq!(bars.len(), count, "{most}");
        let sum: f64 = bars.iter().map(|bar| bar.share).sum();
        assert!((sum - 1.0).abs() < 1e-9 || most == 0);
    }
    let first = state.bars(20)[0].from_ns;
    assert!((first - 10_000.0).abs() < 1e-6, "{first}");
}

proptest! {
    #[test]
    fn a_history_is_bounded_and_loses_no_message_and_no_peak(
        counts in prop::collection::vec(0_u64..1_000, 1..4 * MAX_POINTS),
    ) {
        let mut flow = History::default();
        let mut latency = History::default();
        for (number, &count) in counts.iter().enumerate() {
            let begin = Duration::from_secs(number as u64);
            let end = begin + Duration::from_secs(1);
            flow.push(FlowPoint { begin, end, completed: count, bytes_in: 0 });
            latency.push(LatencyPoint { end, p50_ns: None, p99_ns: Some(count), max_ns: count });
        }
        prop_assert!(flow.points().len() <= MAX_POINTS);
        prop_assert!(flow.points().len() >= counts.len().min(MAX_POINTS / 2));
        let sum: u64 = flow.points().iter().map(|point| point.completed).sum();
        prop_assert_eq!(sum, counts.iter().sum::<u64>());
        prop_assert!(flow.points().windows(2).all(|pair| pair[0].end == pair[1].begin));
        let peak = latency.points().iter().map(|point| point.max_ns).max();
        prop_assert_eq!(peak, counts.iter().copied().max());
    }
}
