//! Messages that cross an edge of the window, sent to servers whose answers come at known times: they
//! make no trend, and neither add to the achieved rate nor lack in it.

use std::time::Duration;

use loadgen::plan::Plan;
use loadgen::result::Code;
use loadgen::result::statistics::Trend;

use crate::known::{Known, are_disturbed, show, until_undisturbed};
use crate::support::{codes, constant, even, plan, run};

const RATE: f64 = 400.0;
const WINDOW: Duration = Duration::from_secs(1);

fn steady(server: &Known, warmup: Duration) -> Plan {
    Plan {
        load: constant(RATE),
        duration: Some(WINDOW),
        warmup,
        timeout: Duration::from_secs(3),
        ..plan(server.target())
    }
}

/// Runs a plan against a server until it is not disturbed. Every message due in the window comes
/// back, so the achieved rate is the offered one.
fn check(start: impl Fn() -> Known, warmup: Duration) {
    until_undisturbed(|| {
        let server = start();
        let result = run(&steady(&server, warmup));
        let disturbed = are_disturbed(&result, &server.finish());
        assert_eq!(result.messages.received, RATE as u64);
        assert_eq!(result.rate.offered, RATE);
        let (achieved, trend) = (result.rate.achieved, result.statistics.trend);
        show(&format!("achieved {achieved}, {trend:?}"));
        // A client or server that does not run for some time has a backlog indeed.
        if !disturbed {
            assert_eq!(achieved, RATE);
            assert!(!codes(&result).contains(&&Code::RateNotAchieved));
            assert!(matches!(trend, None | Some(Trend::Steady)), "{trend:?}");
        }
        disturbed
    });
}

#[test]
fn a_constant_delay_of_any_size_is_steady_and_costs_no_rate() {
    for delay in [50, 400, 1200].map(Duration::from_millis) {
        for warmup in [0, 500].map(Duration::from_millis) {
            check(|| Known::tcp(move |_| delay), warmup);
        }
    }
}

/// Answers that are due between two times come at the second.
fn stalled(from: Duration, until: Duration) -> Known {
    Known::tcp(move |arrival| {
        if arrival.at < from {
            Duration::ZERO
        } else {
            until.saturating_sub(arrival.at)
        }
    })
}

#[test]
fn a_stall_over_the_end_of_the_window_costs_no_rate() {
    // A tenth of the messages comes back after the window.
    check(
        || stalled(WINDOW * 9 / 10, WINDOW * 12 / 10),
        Duration::ZERO,
    );
}

#[test]
fn a_stall_over_the_beginning_of_the_window_adds_no_rate() {
    // A tenth of the messages that come back in the window were due before.
    let warmup = Duration::from_millis(300);
    check(
        || stalled(warmup - WINDOW / 10, warmup + WINDOW / 10),
        warmup,
    );
}

#[test]
fn a_server_that_falls_behind_a_rising_rate_does_not_achieve_it() {
    // It answers 400 messages per second, and from the middle on more are offered.
    let gap = Duration::from_secs(1) / RATE as u32;
    until_undisturbed(|| {
        let mut free_at = Duration::ZERO;
        let server = Known::tcp(move |arrival| {
            free_at = free_at.max(arrival.at) + gap;
            free_at - arrival.at
        });
        let result = run(&Plan {
            load: even("200..600"),
            ..steady(&server, Duration::ZERO)
        });
        let disturbed = are_disturbed(&result, &server.finish());
        // The area between the rising rate and the server's: 200/s × 0.5 s / 2 of 400 messages.
        let missing = 1.0 - result.rate.achieved / result.rate.offered;
        show(&format!("{missing} of the rate is missing"));
        if !disturbed {
            assert!((0.1..0.2).contains(&missing), "{missing}");
        }
        assert!(codes(&result).contains(&&Code::RateNotAchieved));
        disturbed
    });
}
