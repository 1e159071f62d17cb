//! Properties of a schedule: of one thread, over all threads, and when its rate changes.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};

use super::*;
use crate::plan::{Plan, Shard};
use proptest::prelude::*;

const FOREVER: Span = Span {
    start: 1000,
    counted_from: 1000,
    end: u64::MAX,
    quota: u64::MAX,
};

fn share(total: usize, first: usize, stride: usize) -> Share {
    Share {
        total,
        first,
        stride,
    }
}

fn constant(rate: f64) -> Arrivals {
    Arrivals::Constant {
        profile: Profile::constant(rate).unwrap(),
    }
}

fn poisson(rate: f64, seed: u64) -> Arrivals {
    Arrivals::Poisson {
        profile: Profile::constant(rate).unwrap(),
        seed,
    }
}

fn drain(schedule: &mut Schedule, until: u64) -> Vec<Due> {
    std::iter::from_fn(|| schedule.pop(until)).collect()
}

#[test]
fn a_closed_loop_keeps_its_depth_on_every_flow() {
    let mut schedule = Schedule::new(Arrivals::Closed { depth: 2 }, share(3, 0, 1), FOREVER);
    assert_eq!(schedule.pop(999), None, "not before the start");
    let mut flows: Vec<_> = drain(&mut schedule, 1000)
        .iter()
        .map(|due| due.flow)
        .collect();
    flows.sort_unstable();
    assert_eq!(flows, [0, 0, 1, 1, 2, 2]);
    assert_eq!(schedule.pop(2000), None);
    assert_eq!(schedule.next_due(), None);
    schedule.completed(1);
    let due = Due {
        flow: 1,
        intended: 3000,
    };
    assert_eq!(schedule.pop(3000), Some(due));
    assert_eq!(schedule.pop(3000), None);
}

proptest! {
    /// A response takes the next message at once or leaves it to `pop`. Both are equivalent.
    #[test]
    fn an_answer_makes_due_what_its_place_would(
        answers in prop::collection::vec((0_usize..3, 0_u64..60), 0..60),
        quota in 0_u64..40,
        end in 1000_u64..3000,
    ) {
        let span = Span { counted_from: 1500, end, quota, ..FOREVER };
        let closed = || Schedule::new(Arrivals::Closed { depth: 1 }, share(3, 0, 1), span);
        let (mut at_once, mut later) = (closed(), closed());
        let mut now = 1000;
        prop_assert_eq!(drain(&mut at_once, now), drain(&mut later, now));
        for (flow, gap) in answers {
            now += gap;
            later.completed(flow);
            let due = Due { flow, intended: now };
            let taken = at_once.answered(flow, now).then_some(due);
            prop_assert_eq!(taken, later.pop(now));
            prop_assert_eq!(at_once.is_over(now), later.is_over(now));
            prop_assert_eq!(at_once.pop(now), None);
        }
    }
}

#[test]
fn answers_make_nothing_due_in_an_open_loop() {
    let mut schedule = Schedule::new(constant(1e3), share(1, 0, 1), FOREVER);
    assert!(!schedule.answered(0, 1_000_000_000));
    assert_eq!(schedule.pop(1000).map(|due| due.intended), Some(1000));
}

#[test]
fn a_constant_pace_does_not_drift() {
    // Rounded gaps would lose a third of a nanosecond per message.
    let mut schedule = Schedule::new(
        constant(3e6),
        share(1, 0, 1),
        Span {
            end: 1000 + 3_000_000_000,
            ..FOREVER
        },
    );
    let due = drain(&mut schedule, u64::MAX);
    assert_eq!(due.len(), 9_000_000);
    assert_eq!(due[8_999_997].intended, 1000 + 2_999_999_000);
    assert!(schedule.is_over(1000));
}

#[test]
fn a_quota_counts_from_the_end_of_the_warm_up() {
    let span = Span {
        start: 0,
        counted_from: 5_000_000,
        end: u64::MAX,
        quota: 3,
    };
    for arrivals in [constant(1000.0), Arrivals::Closed { depth: 1 }] {
        let mut schedule = Schedule::new(arrivals.clone(), share(1, 0, 1), span);
        let mut issued = 0;
        for now in (0..100).map(|ms| ms * 1_000_000) {
            while let Some(due) = schedule.pop(now) {
                issued += u64::from(due.intended >= span.counted_from);
                if let Arrivals::Closed { .. } = arrivals {
                    schedule.completed(due.flow);
                    break;
                }
            }
        }
        assert_eq!(issued, 3);
        assert!(schedule.is_over(100_000_000));
    }
}

#[test]
fn poisson_gaps_are_exponential_and_flows_uniform() {
    let rate = 1e6;
    let mut schedule = Schedule::new(
        poisson(rate, 42),
        share(8, 1, 2),
        Span {
            end: 1000 + 1_000_000_000,
            ..FOREVER
        },
    );
    let due = drain(&mut schedule, u64::MAX);
    // Half the flows get half the rate: 500 000 expected, with a standard deviation of 707.
    assert!(
        (due.len() as f64 - 5e5).abs() < 5.0 * 707.0,
        "{}",
        due.len()
    );
    let gaps: Vec<f64> = due
        .windows(2)
        .map(|pair| (pair[1].intended - pair[0].intended) as f64)
        .collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    let coefficient_of_variation = variance.sqrt() / mean;
    assert!((coefficient_of_variation - 1.0).abs() < 0.02);
    // An exponential gap is longer than its mean with the chance 1/e.
    let longer = gaps.iter().filter(|&&gap| gap > 2000.0).count() as f64 / gaps.len() as f64;
    assert!((longer - (-1.0_f64).exp()).abs() < 0.005, "{longer}");
    for flow in 0..4 {
        let count = due.iter().filter(|due| due.flow == flow).count() as f64;
        assert!((count / due.len() as f64 - 0.25).abs() < 0.005);
    }
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let schedule = |seed| {
        let arrivals = poisson(1e5, seed);
        drain(
            &mut Schedule::new(arrivals, share(4, 0, 1), FOREVER),
            1_000_000_000,
        )
    };
    assert_eq!(schedule(1), schedule(1));
    assert_ne!(schedule(1), schedule(2));
}

/// A window of a second, after half a second of warm-up.
const WINDOW: Span = Span {
    start: 1000,
    counted_from: 1000 + 500_000_000,
    end: 1000 + 1_500_000_000,
    quota: u64::MAX,
};

fn even(text: &str) -> Arrivals {
    Arrivals::Constant {
        profile: text.parse().unwrap(),
    }
}

/// The messages that all threads issue together: their times, and their flows in the whole run.
fn drain_all(arrivals: &Arrivals, total: usize, threads: usize, span: Span) -> Vec<(u64, usize)> {
    let mut all = Vec::new();
    for first in 0..threads {
        let share = share(total, first, threads);
        let mut schedule = Schedule::new(arrivals.clone(), share, span);
        all.extend(
            drain(&mut schedule, u64::MAX)
                .iter()
                .map(|due| (due.intended, share.global(due.flow))),
        );
        assert!(schedule.is_over(0));
    }
    all.sort_unstable();
    all
}

fn count_between(due: &[(u64, usize)], from: u64, to: u64) -> f64 {
    due.iter().filter(|(at, _)| (from..to).contains(at)).count() as f64
}

#[test]
fn a_ramp_has_its_rate_at_every_time() {
    let due = drain_all(&even("100k..1M"), 7, 3, WINDOW);
    for tenth in 0..10 {
        let from = WINDOW.counted_from + tenth * 100_000_000;
        let rate = 100e3 + 900e3 * (tenth as f64 / 10.0 + 0.05);
        let counted = count_between(&due, from, from + 100_000_000);
        assert!((counted - rate / 10.0).abs() <= 1.0, "{tenth}: {counted}");
    }
    // The gap between neighbours is the inverse of the rate then and there.
    for (number, pair) in due.windows(2).enumerate() {
        let after_ns = (pair[0].0 as f64 - WINDOW.counted_from as f64).max(0.0);
        let gap_ns = 1e9 / (100e3 + 900e3 * after_ns / 1e9);
        let measured = (pair[1].0 - pair[0].0) as f64;
        assert!((measured - gap_ns).abs() < 2.0, "{number}: {measured}");
    }
}

#[test]
fn steps_and_pauses_are_kept_and_the_warm_up_has_the_first_rate() {
    let due = drain_all(&even("40k,0,10k,20k"), 5, 2, WINDOW);
    let start = WINDOW.counted_from;
    for (from, to, count) in [
        (WINDOW.start, start, 20_000.0),
        (start, start + 250_000_000, 10_000.0),
        (start + 250_000_000, start + 500_000_000, 0.0),
        (start + 500_000_000, start + 750_000_000, 2_500.0),
        (start + 750_000_000, u64::MAX, 5_000.0),
    ] {
        assert_eq!(count_between(&due, from, to), count, "{from} to {to}");
    }
}

#[test]
fn a_message_that_is_due_at_the_end_of_the_window_is_not_in_it() {
    // 4750 gaps of 1/475 s come to a hair less than 10 s.
    let span = Span {
        end: 1000 + 10_000_000_000,
        ..FOREVER
    };
    assert_eq!(drain_all(&even("475"), 3, 2, span).len(), 4750);
}

#[test]
fn after_the_last_message_of_a_profile_the_pace_is_over() {
    let span = Span {
        end: u64::MAX,
        ..WINDOW
    };
    let due = drain_all(&even("1k@1s,1k..0@2s"), 3, 2, span);
    assert_eq!(due.len(), 500 + 1000 + 1000);
}

#[test]
fn a_window_without_end_has_nothing_to_share() {
    let span = Span {
        end: u64::MAX,
        ..WINDOW
    };
    let mut schedule = Schedule::new(even("1k..5k"), share(1, 0, 1), span);
    assert_eq!(
        drain(&mut schedule, span.start + 9_999_999_999).len(),
        10_000
    );
}

#[test]
fn a_share_without_flows_has_nothing_to_send() {
    for arrivals in [even("1k"), poisson(1e3, 1), Arrivals::Closed { depth: 1 }] {
        let mut schedule = Schedule::new(arrivals, share(2, 2, 3), FOREVER);
        assert_eq!(schedule.pop(u64::MAX - 1), None);
        assert!(schedule.is_over(1000));
    }
}

#[test]
fn poisson_arrivals_follow_a_ramp() {
    let profile: Profile = "100k..1M".parse().unwrap();
    let arrivals = |seed| Arrivals::Poisson {
        profile: profile.clone(),
        seed,
    };
    let mut due = Vec::new();
    for first in 0..3 {
        let mut schedule = Schedule::new(arrivals(7 + first as u64), share(7, first, 3), WINDOW);
        due.extend(
            drain(&mut schedule, u64::MAX)
                .iter()
                .map(|due| (due.intended, 0)),
        );
    }
    let chi_square: f64 = (0..10_u64)
        .map(|tenth| {
            let from = WINDOW.counted_from + tenth * 100_000_000;
            let expected = (100e3 + 900e3 * (tenth as f64 / 10.0 + 0.05)) / 10.0;
            let counted = count_between(&due, from, from + 100_000_000);
            (counted - expected).powi(2) / expected
        })
        .sum();
    // Ten degrees of freedom. One seed in a thousand exceeds 29.6, and one in a thousand is below
    // 1.5, where counts are too even for chance.
    assert!((1.5..29.6).contains(&chi_square), "{chi_square}");
}

#[test]
fn a_rate_that_changes_half_way_repeats_and_omits_nothing() {
    let change = WINDOW.counted_from + 400_000_000;
    for arrivals in [even("10k"), even("5k..15k"), even("1k,20k,9k,3k")] {
        let mut all = Vec::new();
        for first in 0..3 {
            let share = share(7, first, 3);
            let mut schedule = Schedule::new(arrivals.clone(), share, WINDOW);
            // Some messages are not taken yet at the change, and keep their times.
            let mut due = drain(&mut schedule, change - 5_000_000);
            schedule.set_rate(change, 100e3);
            due.extend(drain(&mut schedule, u64::MAX));
            all.extend(due.iter().map(|due| (due.intended, share.global(due.flow))));
        }
        all.sort_unstable();
        let before = drain_all(&arrivals, 7, 3, WINDOW);
        let taken = count_between(&before, 0, change) as usize;
        assert_eq!(all[..taken], before[..taken]);
        assert_eq!(count_between(&all, 0, change), taken as f64);
        let after = count_between(&all, change, u64::MAX);
        assert!((after - 60e3).abs() <= 1.0, "{after}");
        assert!(all.iter().enumerate().all(|(n, (_, flow))| *flow == n % 7));
        for pair in all[taken..].windows(2) {
            assert!((9_999..=10_001).contains(&(pair[1].0 - pair[0].0)));
        }
    }
}

#[test]
fn threads_that_change_apart_keep_every_flow_even() {
    for first in 0..2 {
        let mut schedule = Schedule::new(even("1k"), share(4, first, 2), WINDOW);
        let change = WINDOW.counted_from + 100_000_000 + first as u64 * 7_000_000;
        let mut due = drain(&mut schedule, change);
        schedule.set_rate(change, 4e3);
        due.extend(drain(&mut schedule, u64::MAX));
        for (number, due) in due.iter().enumerate() {
            assert_eq!(due.flow, number % 2);
        }
        // Half the flows have half the rate: 500 /s before and 2000 /s after.
        let left_s = (WINDOW.end - change) as f64 / 1e9;
        let expected = 500.0 * (1.5 - left_s) + 2000.0 * left_s;
        assert!((due.len() as f64 - expected).abs() <= 2.0, "{}", due.len());
    }
}

#[test]
fn poisson_arrivals_change_their_rate_too() {
    let change = WINDOW.counted_from + 500_000_000;
    let mut schedule = Schedule::new(poisson(100e3, 3), share(1, 0, 1), WINDOW);
    let before = drain(&mut schedule, change).len() as f64;
    schedule.set_rate(change, 400e3);
    let after = drain(&mut schedule, u64::MAX);
    assert!(after.iter().all(|due| due.intended >= change));
    // Five standard deviations to either side.
    assert!((before - 100e3).abs() < 5.0 * 316.0, "{before}");
    assert!(
        (after.len() as f64 - 200e3).abs() < 5.0 * 447.0,
        "{}",
        after.len()
    );
}

#[test]
fn a_rate_of_nothing_is_a_pause_until_the_next_change() {
    for nothing in [0.0, -1.0, f64::NAN] {
        let mut schedule = Schedule::new(even("1k"), share(1, 0, 1), FOREVER);
        assert_eq!(drain(&mut schedule, 1000 + 9_500_000).len(), 10);
        schedule.set_rate(1000 + 9_500_000, nothing);
        assert_eq!(schedule.next_due(), None);
        assert_eq!(drain(&mut schedule, u64::MAX - 1).len(), 0);
        // Half of the next message's gap is over; at half the rate the other half takes longer.
        schedule.set_rate(1000 + 50_000_000, 500.0);
        assert_eq!(schedule.next_due(), Some(1000 + 51_000_000));
    }
    let mut closed = Schedule::new(Arrivals::Closed { depth: 1 }, share(1, 0, 1), FOREVER);
    closed.set_rate(1000, 0.0);
    assert!(closed.pop(1000).is_some());
}

#[test]
fn a_rate_beyond_all_bounds_is_the_highest() {
    let mut schedule = Schedule::new(even("1k"), share(1, 0, 1), FOREVER);
    schedule.set_rate(1000, f64::INFINITY);
    assert_eq!(drain(&mut schedule, 1999).len(), 1000);
}

proptest! {
    #[test]
    fn the_sum_of_all_threads_is_even_and_so_is_each_flow(
        total in 1_usize..40,
        threads in 1_usize..6,
        rate in 1_000_u32..2_000_000,
    ) {
        let threads = threads.min(total);
        let gap_ns = 1e9 / f64::from(rate);
        let span = Span { end: 1000 + (500.0 * gap_ns) as u64, ..FOREVER };
        let mut all = Vec::new();
        for first in 0..threads {
            let share = share(total, first, threads);
            let arrivals = constant(f64::from(rate));
            for due in drain(&mut Schedule::new(arrivals, share, span), u64::MAX) {
                all.push((due.intended, share.global(due.flow)));
            }
        }
        all.sort_unstable();
        prop_assert!((499..=501).contains(&all.len()));
        for (number, (intended, flow)) in all.into_iter().enumerate() {
            let exact = 1000.0 + number as f64 * gap_ns;
            prop_assert!((intended as f64 - exact).abs() <= 1.0);
            prop_assert_eq!(flow, number % total);
        }
    }

    #[test]
    fn the_sum_of_all_threads_is_the_profile(
        total in 1_usize..40,
        threads in 1_usize..6,
        pieces in prop::collection::vec((0_u32..20_000, 0_u32..20_000, 1_u64..200), 1..6),
        is_timed in any::<bool>(),
    ) {
        let threads = threads.min(total);
        let texts: Vec<_> = pieces
            .iter()
            .map(|(from, to, ms)| match (from == to, is_timed) {
                (true, true) => format!("{from}@{ms}ms"),
                (true, false) => format!("{from}"),
                (false, true) => format!("{from}..{to}@{ms}ms"),
                (false, false) => format!("{from}..{to}"),
            })
            .collect();
        let Ok(profile) = texts.join(",").parse::<Profile>() else {
            return Ok(());
        };
        let curve = profile
            .resolve(Duration::from_millis(500), Some(Duration::from_secs(1)))
            .unwrap();
        let all = drain_all(&Arrivals::Constant { profile }, total, threads, WINDOW);
        let expected = curve.count((WINDOW.end - WINDOW.start) as f64);
        prop_assert!((all.len() as f64 - expected).abs() <= 1.0);
        for (number, (intended, flow)) in all.into_iter().enumerate() {
            let exact = curve.time_ns(number as f64).unwrap();
            prop_assert_eq!(intended, WINDOW.start + exact.round() as u64);
            prop_assert_eq!(flow, number % total);
        }
    }

    #[test]
    fn whatever_the_changes_each_message_comes_once_and_in_order(
        changes in prop::collection::vec((0_u64..20_000_000, 0_u32..100_000, 0_u64..30_000_000), 1..20),
    ) {
        let mut schedule = Schedule::new(even("1k..50k@100ms,20k@50ms"), share(3, 0, 1), FOREVER);
        let mut due = Vec::new();
        let (mut now, mut expected) = (FOREVER.start, 0.0);
        let mut rate = None;
        for (wait, next, behind) in changes {
            if let Some(rate) = rate {
                expected += rate * wait as f64 / 1e9;
            } else {
                let ms = (wait as f64 / 1e6).min(100.0);
                expected += ms + 0.245 * ms * ms;
            }
            now += wait;
            // A thread may take due messages late.
            due.extend(drain(&mut schedule, now.saturating_sub(behind)));
            schedule.set_rate(now, f64::from(next));
            rate = Some(f64::from(next));
        }
        due.extend(drain(&mut schedule, now));
        prop_assert!((due.len() as f64 - expected).abs() <= 1.0 + 1e-6, "{} of {expected}", due.len());
        prop_assert!(due.windows(2).all(|pair| pair[0].intended <= pair[1].intended));
        prop_assert!(due.iter().enumerate().all(|(n, due)| due.flow == n % 3));
    }
}

proptest! {
    /// Wherever between two messages the window begins, and however the flows are spread over threads:
    /// n messages at a rate are n gaps long.
    #[test]
    fn a_number_of_messages_at_even_distances_ends_every_thread_s_window_alike(
        total in 1_usize..7,
        threads in 1_usize..4,
        messages in 1_u64..50,
        warm_up_us in 0_u64..10_000,
        rate in 100_u32..100_000,
    ) {
        let threads = threads.min(total);
        let span = Span {
            start: 1000,
            counted_from: 1000 + warm_up_us * 1000,
            end: u64::MAX,
            quota: messages,
        };
        let arrivals = constant(f64::from(rate));
        let issued = drain_all(&arrivals, total, threads, span);
        let counted = issued.iter().filter(|&&(due, _)| due >= span.counted_from).count();
        prop_assert_eq!(counted as u64, messages);
        let length_ns = messages as f64 * 1e9 / f64::from(rate);
        for first in 0..threads {
            let schedule = Schedule::new(arrivals.clone(), share(total, first, threads), span);
            let end = schedule.end() - span.counted_from;
            prop_assert!((end as f64 - length_ns).abs() <= 1.0, "{end} {length_ns}");
        }
    }

    #[test]
    fn the_threads_parts_of_a_number_of_messages_add_up(
        total in 1_usize..100,
        threads in 1_usize..20,
        messages in 0_u64..10_000,
    ) {
        let threads = threads.min(total);
        let parts = (0..threads).map(|first| share(total, first, threads).part_of(messages));
        prop_assert_eq!(parts.sum::<u64>(), messages);
    }
}

/// What a thread of a plan issues: the time of each message, and its flow in the whole run.
fn drain_thread(plan: &Plan, arrivals: &Arrivals, index: usize, span: Span) -> Vec<(u64, usize)> {
    let share = Share::of_thread(plan, index);
    // As `Worker::schedule` does.
    let arrivals = match arrivals.clone() {
        Arrivals::Poisson { profile, seed } => Arrivals::Poisson {
            profile,
            seed: seed.wrapping_add(share.first as u64),
        },
        other => other,
    };
    let mut schedule = Schedule::new(arrivals, share, span);
    let due = drain(&mut schedule, u64::MAX);
    due.iter()
        .map(|due| (due.intended, share.global(due.flow)))
        .collect()
}

/// What all threads of some processes issue, in the order of the threads of the whole run.
fn drain_processes(
    plans: &[Plan],
    arrivals: &Arrivals,
    span: Span,
) -> BTreeMap<usize, Vec<(u64, usize)>> {
    let threads = plans.iter().flat_map(|plan| {
        (0..plan.threads.get()).map(move |index| {
            let first = Share::of_thread(plan, index).first;
            (first, drain_thread(plan, arrivals, index, span))
        })
    });
    threads.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Message n is due at the same time on the same connection, whether it is in a shard or not.
    #[test]
    fn the_shards_of_a_run_issue_what_one_process_with_their_threads_would(
        profile in prop::sample::select(vec!["900", "5k", "1k..9k", "4k,0,1k", "2k@300ms,0@1s,3k@1s"]),
        is_poisson: bool,
        connections in 1_usize..60,
        size in 1_usize..20,
        threads in 1_usize..4,
        quota in prop::option::of(1_u64..4_000),
        seed: u64,
    ) {
        let connections = connections.max(size * threads);
        let number = |number| NonZeroUsize::new(number).unwrap();
        let profile: Profile = profile.parse().unwrap();
        let arrivals = if is_poisson {
            Arrivals::Poisson { profile, seed }
        } else {
            Arrivals::Constant { profile }
        };
        let span = Span { quota: quota.unwrap_or(u64::MAX), ..WINDOW };
        let whole = Plan {
            connections: number(connections),
            threads: number(size * threads),
            requests: quota.and_then(NonZeroU64::new),
            ..Plan::default()
        };
        let shard = |rank| Plan {
            threads: number(threads),
            shard: Some(Shard {
                rank,
                size: number(size),
                start_at: None,
                max_skew: Duration::ZERO,
            }),
            ..whole.clone()
        };
        let shards: Vec<Plan> = (0..size).map(shard).collect();
        let own: usize = shards.iter().map(Plan::own_connections).sum();
        prop_assert_eq!(own, connections);
        let own: Option<u64> = shards.iter().map(Plan::own_requests).sum();
        prop_assert_eq!(own, quota);

        let one = drain_processes(std::slice::from_ref(&whole), &arrivals, span);
        let many = drain_processes(&shards, &arrivals, span);
        prop_assert_eq!(&many, &one);
        // At even distances, the number of threads does not matter, and may differ between hosts.
        if !is_poisson {
            let sorted = |threads: BTreeMap<usize, Vec<(u64, usize)>>| {
                let mut all: Vec<_> = threads.into_values().flatten().collect();
                all.sort_unstable();
                all
            };
            let single = Plan { threads: NonZeroUsize::MIN, ..whole };
            let single = drain_processes(&[single], &arrivals, span);
            prop_assert_eq!(sorted(single), sorted(many));
        }
    }
}

#[test]
fn the_window_of_a_number_of_messages_follows_the_rate() {
    let span = Span {
        start: 0,
        counted_from: 0,
        quota: 30,
        ..FOREVER
    };
    let mut schedule = Schedule::new(constant(1000.0), share(1, 0, 1), span);
    assert_eq!(schedule.end(), 30_000_000);
    // Ten are due in the first 10 ms, and twenty in the next 200 ms.
    assert_eq!(drain(&mut schedule, 9_999_999).len(), 10);
    schedule.set_rate(10_000_000, 100.0);
    assert_eq!(schedule.end(), 210_000_000);
    assert_eq!(drain(&mut schedule, u64::MAX).len(), 20);
    // An end that was set stays.
    schedule.end_at(20_000_000);
    schedule.set_rate(15_000_000, 1.0);
    assert_eq!(schedule.end(), 20_000_000);
}

#[test]
fn a_poisson_process_of_a_number_of_messages_ends_when_the_next_one_would_be_due() {
    let arrivals = Arrivals::Poisson {
        profile: "1000".parse().unwrap(),
        seed: 3,
    };
    let span = Span {
        quota: 50,
        ..FOREVER
    };
    let mut schedule = Schedule::new(arrivals.clone(), share(1, 0, 1), span);
    let mut longer = Schedule::new(arrivals, share(1, 0, 1), FOREVER);
    assert_eq!(drain(&mut schedule, u64::MAX - 1).len(), 50);
    let next = std::iter::from_fn(|| longer.pop(u64::MAX - 1))
        .nth(50)
        .unwrap();
    assert!(schedule.is_used_up());
    assert_eq!(schedule.end(), next.intended);
}
