//! Latencies and rates compared with what an echod does on order, or with a server's records.

use std::time::Duration;

use echomark::metrics::Fault;
use loadgen::plan::{Load, Pacing, Plan, Spacing, Target};
use loadgen::profile::Profile;
use loadgen::result::{Code, Status};

use crate::known::ordered::{Ordered, trip};
use crate::known::{Known, MAX_ABSENT, absence, are_disturbed, show, tolerated, until_undisturbed};
use crate::support::{codes, constant, even, number, plan, run};

/// Open loop, at times that a polling client keeps to within microseconds.
fn spinning(target: Target, rate: f64) -> Plan {
    Plan {
        load: constant(rate),
        pacing: Pacing::Spin,
        timeout: Duration::from_secs(2),
        ..plan(target)
    }
}

/// Runs a plan against an echod with these options until neither is disturbed, and compares both
/// latencies with the delays that the options decide.
fn check_latencies(
    scheme: &str,
    options: &str,
    plan_for: impl Fn(Target) -> Plan,
    quantiles: &[f64],
) {
    until_undisturbed(|| {
        let trip = trip(scheme, &plan_for);
        let server = Ordered::polling(scheme, options);
        let result = run(&plan_for(server.target()));
        let absences = (absence(&result), server.absence());
        show(&format!(
            "absent: client {:.4}, server {:.4}",
            absences.0, absences.1
        ));
        let absence = absences.0 + absences.1;
        // Messages of a stream that come together are one.
        let delayed = server.count(Fault::Delay);
        assert!(delayed <= result.messages.sent);
        assert!(scheme == "tcp" || delayed == result.messages.sent);
        let truth = server.truth(result.messages.sent, trip);
        let response = result.latency_ns.response.unwrap();
        truth.check("response", &response, quantiles, absence);
        let service = result.latency_ns.service.unwrap();
        truth.check("service", &service, quantiles, absence);
        absence > MAX_ABSENT
    });
}

#[test]
fn a_fixed_delay_is_what_is_measured() {
    let plan = |target| spinning(target, 400.0);
    check_latencies("tcp", "delay=5ms", plan, &[0.5, 0.9, 0.95]);
}

#[test]
fn of_two_delays_each_percentile_shows_its_own() {
    let plan = |target| spinning(target, 2000.0);
    let quantiles = [0.5, 0.75, 0.95, 0.99];
    check_latencies("udp", "delay=mix:1ms=90,20ms=10&seed=7", plan, &quantiles);
}

#[test]
fn an_exponential_delay_has_the_percentiles_that_the_server_gave_it() {
    let plan = |target| spinning(target, 4000.0);
    let quantiles = [0.5, 0.75, 0.9, 0.95, 0.99];
    check_latencies("udp", "delay=exp:2ms&seed=11", plan, &quantiles);
}

#[test]
fn a_stall_in_each_period_shows_as_arithmetic_says() {
    const PERIOD: Duration = Duration::from_millis(125);
    const STALL: Duration = Duration::from_millis(25);
    let plan_for = |target| Plan {
        // Whole periods, wherever they begin.
        duration: Some(PERIOD * 4),
        ..spinning(target, 4000.0)
    };
    until_undisturbed(|| {
        let trip = trip("tcp", plan_for).as_nanos() as f64;
        let server = Ordered::polling("tcp", "stall=25ms/125ms");
        let result = run(&plan_for(server.target()));
        let disturbed = absence(&result) + server.absence() > MAX_ABSENT;
        let response = result.latency_ns.response.unwrap();
        // One that comes in the stall waits for its rest, from nothing to all of it alike: the
        // quantile q lies (1 - q) / f of the stall before its end, where f is its share of the
        // time. Messages come each 250 µs, so it is known to within that.
        let stall = STALL.as_nanos() as f64;
        let share = stall / PERIOD.as_nanos() as f64;
        for quantile in [0.9, 0.95, 0.99] {
            let expected = stall * (1.0 - (1.0 - quantile) / share);
            let measured = response.quantile(quantile).unwrap() as f64;
            show(&format!(
                "p{}: {measured}, expected {expected}",
                quantile * 100.0
            ));
            let gap = 250_000.0;
            assert!(measured >= expected - gap, "{quantile}: {measured}");
            let most = tolerated(expected + gap + trip);
            assert!(disturbed || measured <= most, "{quantile}: {measured}");
        }
        assert!(server.count(Fault::Stall) >= 4);
        disturbed
    });
}

/// A server with a limited rate of answers. Other messages wait.
fn limited_to(rate: u64) -> Known {
    let gap = Duration::from_nanos(1_000_000_000 / rate);
    let mut free_at = Duration::ZERO;
    Known::tcp(move |arrival| {
        free_at = free_at.max(arrival.at) + gap;
        free_at - arrival.at
    })
}

#[test]
fn a_server_s_limit_is_the_rate_that_a_closed_loop_achieves() {
    const LIMIT: f64 = 2000.0;
    until_undisturbed(|| {
        let server = limited_to(2000);
        let result = run(&Plan {
            connections: number(16),
            ..plan(server.target())
        });
        let achieved = result.rate.achieved;
        show(&format!("achieved {achieved}"));
        assert!(achieved <= LIMIT * 1.01, "{achieved}");
        let disturbed = are_disturbed(&result, &server.finish());
        assert!(disturbed || achieved >= LIMIT * 0.99, "{achieved}");
        disturbed
    });
}

#[test]
fn offered_more_than_its_limit_a_server_achieves_the_limit_and_the_run_is_invalid() {
    const LIMIT: f64 = 2000.0;
    until_undisturbed(|| {
        let server = limited_to(2000);
        let result = run(&Plan {
            connections: number(16),
            ..spinning(server.target(), 4000.0)
        });
        assert_eq!(result.verdict.status, Status::Invalid);
        assert!(codes(&result).contains(&&Code::RateNotAchieved));
        assert_eq!(result.rate.offered, 4000.0);
        assert_eq!(result.messages.sent, 2000);
        assert_eq!(result.messages.received, 2000);
        let achieved = result.rate.achieved;
        show(&format!("achieved {achieved}"));
        assert!(achieved <= LIMIT * 1.01, "{achieved}");
        let disturbed = are_disturbed(&result, &server.finish());
        assert!(disturbed || achieved >= LIMIT * 0.99, "{achieved}");
        // The last one waits for as long as the window once more.
        let last = result.latency_ns.response.unwrap().max() as f64;
        assert!(last >= 0.5e9 * 0.98, "{last}");
        assert!(disturbed || last <= 0.5e9 * 1.02, "{last}");
        disturbed
    });
}

/// Jain's index, by its definition.
fn jain_index(counts: &[f64]) -> f64 {
    let sum: f64 = counts.iter().sum();
    let squares: f64 = counts.iter().map(|count| count * count).sum();
    sum * sum / (counts.len() as f64 * squares)
}

#[test]
fn connections_that_wait_twice_as_long_are_found_unfair_by_as_much() {
    const DELAY: Duration = Duration::from_millis(2);
    until_undisturbed(|| {
        let server = Known::tcp(|arrival| DELAY * (1 + arrival.connection as u32 % 2));
        let result = run(&Plan {
            connections: number(8),
            ..plan(server.target())
        });
        let report = server.finish();
        let mut counts = [0.0; 8];
        for served in &report.served {
            counts[served.connection] += 1.0;
        }
        let fairness = result.fairness.as_ref().unwrap();
        let (found, truth) = (fairness.index.jain_index, jain_index(&counts));
        show(&format!("Jain's index {found}, in truth {truth}"));
        // All eight are listed.
        let shares: Vec<f64> = fairness.slowest.iter().map(|c| c.messages as f64).collect();
        assert!((found - jain_index(&shares)).abs() < 1e-9, "{found}");
        let slowest: Vec<usize> = fairness.slowest[..4].iter().map(|c| c.connection).collect();
        let fastest: Vec<usize> = fairness.fastest[..4].iter().map(|c| c.connection).collect();
        assert!(slowest.iter().all(|number| number % 2 == 1), "{slowest:?}");
        assert!(fastest.iter().all(|number| number % 2 == 0), "{fastest:?}");
        for share in fairness.slowest.iter().chain(&fairness.fastest) {
            // The last answer may have come after the window.
            let truth = counts[share.connection];
            assert!((truth - 1.0..=truth).contains(&(share.messages as f64)));
        }
        let disturbed = are_disturbed(&result, &report);
        // Four that get two thirds, and four that get one.
        assert!(disturbed || (found - 0.9).abs() < 0.01, "{found}");
        disturbed
    });
}

#[test]
fn targets_that_differ_are_told_apart() {
    const DELAY: Duration = Duration::from_millis(2);
    until_undisturbed(|| {
        let servers = [1, 3].map(|times| Known::tcp(move |_| DELAY * times));
        let result = run(&Plan {
            connections: number(6),
            ..plan(Target::Servers {
                targets: servers.iter().map(Known::endpoint).collect(),
            })
        });
        let names = servers
            .each_ref()
            .map(|server| server.endpoint().to_string());
        let reports = servers.map(Known::finish);
        let truth = reports
            .each_ref()
            .map(|report| report.served.len() as f64 / 3.0);
        let fairness = result.fairness.as_ref().unwrap();
        let by_target = fairness.by_target.as_ref().unwrap();
        assert_eq!(by_target.groups.len(), 2);
        for ((group, name), truth) in by_target.groups.iter().zip(names).zip(truth) {
            assert_eq!((&group.name, group.connections), (&name, 3));
            show(&format!(
                "{}: {}, in truth {truth}",
                name, group.messages_mean
            ));
            // The last answers may have come after the window.
            let missing = truth - group.messages_mean;
            assert!((-1e-9..=1.0 + 1e-9).contains(&missing));
        }
        let means: Vec<f64> = by_target.groups.iter().map(|g| g.messages_mean).collect();
        assert!((by_target.jain - jain_index(&means)).abs() < 1e-9);
        reports.iter().any(|report| are_disturbed(&result, report))
    });
}

#[test]
fn the_times_of_a_schedule_are_kept_on_the_wire() {
    const RATE: f64 = 20_000.0;
    until_undisturbed(|| {
        let server = Known::udp(|_| Duration::ZERO);
        let result = run(&Plan {
            connections: number(5),
            threads: number(2),
            ..spinning(server.target(), RATE)
        });
        let report = server.finish();
        let served = &report.served;
        assert_eq!(result.messages.sent, 10_000);
        assert_eq!(served.len(), 10_000);
        let first = served.iter().map(|served| served.arrived).min().unwrap();
        let last = served.iter().map(|served| served.arrived).max().unwrap();
        let mean_gap = (last - first).as_secs_f64() / 9999.0;
        show(&format!("mean gap {mean_gap}"));
        let disturbed = are_disturbed(&result, &report);
        let error = (mean_gap * RATE - 1.0).abs();
        assert!(disturbed || error < 0.01, "{mean_gap}");
        disturbed
    });
}

#[test]
fn a_rising_rate_rises_on_the_wire_and_in_the_intervals() {
    until_undisturbed(|| {
        let server = Known::udp(|_| Duration::ZERO);
        let result = run(&Plan {
            load: even("1k..9k"),
            interval: Duration::from_millis(50),
            ..spinning(server.target(), 1.0)
        });
        let report = server.finish();
        let served = &report.served;
        assert_eq!(result.messages.sent, 2500);
        let disturbed = are_disturbed(&result, &report);
        for tenth in 0..10_u32 {
            // The integral of a rate of 1000 + 16 000 t.
            let until = |tenth: u32| {
                let time = f64::from(tenth) / 20.0;
                1000.0 * time + 8000.0 * time * time
            };
            let expected = until(tenth + 1) - until(tenth);
            let begin = Duration::from_millis(50) * tenth;
            let end = begin + Duration::from_millis(50);
            let arrived = served
                .iter()
                .filter(|served| (begin..end).contains(&served.arrived))
                .count() as f64;
            let sent = result.intervals[tenth as usize].counts.sent as f64;
            show(&format!(
                "{tenth}: expected {expected}, arrived {arrived}, sent {sent}"
            ));
            for measured in [arrived, sent] {
                let error = (measured - expected).abs();
                assert!(disturbed || error <= 2.0, "{tenth}: {measured} {expected}");
            }
        }
        disturbed
    });
}

#[test]
fn poisson_arrivals_have_exponential_gaps_on_the_wire() {
    until_undisturbed(|| {
        let server = Known::udp(|_| Duration::ZERO);
        let result = run(&Plan {
            load: Load::Open {
                rate: Profile::constant(4000.0).unwrap(),
                arrivals: Spacing::Poisson,
                pipeline: None,
            },
            ..spinning(server.target(), 1.0)
        });
        let report = server.finish();
        let mut arrived: Vec<Duration> = report.served.iter().map(|s| s.arrived).collect();
        arrived.sort_unstable();
        let mut gaps: Vec<f64> = arrived
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        gaps.sort_unstable_by(f64::total_cmp);
        let disturbed = are_disturbed(&result, &report);
        // The median of an exponential is ln 2 of its mean; of 2000, it varies by 1 / sqrt(2000).
        let median = gaps[gaps.len() / 2] * 4000.0;
        show(&format!("median gap {median}"));
        let error = (median - std::f64::consts::LN_2).abs();
        assert!(disturbed || error < 0.12, "{median}");
        disturbed
    });
}
