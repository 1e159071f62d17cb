//! Every message is accounted for: in each loop, workload and length, whatever the threads.

use std::num::NonZeroU64;
use std::time::Duration;

use loadgen::observer::Slice;
use loadgen::observer::{Observer, Unobserved};
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Load, Pacing, Plan, Spacing, Target};
use loadgen::profile::Profile;
use loadgen::result::IntervalResult;
use loadgen::{Control, RunError};

use crate::support::{
    PlainServer, check_accounts, constant, embedded, even, number, plan, run, server, try_run,
};

#[test]
fn the_embedded_echod_is_measured_in_a_closed_loop() {
    let result = run(&plan(embedded()));
    assert!(result.messages.received > 0);
    assert_eq!(result.messages.verified, result.messages.received);
    assert_eq!(result.messages.unfinished, 0);
    assert_eq!(result.bytes.received, result.messages.received * 64);
    assert_eq!(result.connections.opened, 4);
    assert_eq!(result.rate.target, None);
    assert!(result.latency_ns.send_lag.is_none());
    assert_eq!(result.latency_ns.connect.unwrap().count(), 4);
}

#[test]
fn a_plain_echo_is_measured_as_well() {
    let plain = PlainServer::echo();
    for (size, depth) in [(1, 1), (64, 4), (100_000, 2)] {
        let result = run(&Plan {
            size: Sizes::Fixed(size),
            load: Load::Closed {
                pipeline: number(depth),
            },
            threads: number(2),
            ..plan(server(&plain))
        });
        assert!(result.messages.verified > 0, "{size} bytes");
        assert_eq!(result.messages.verified, result.messages.sent);
        assert_eq!(result.client.threads.len(), 2);
    }
}

#[test]
fn a_number_of_messages_is_kept_exactly() {
    for load in [
        Load::Closed {
            pipeline: number(3),
        },
        constant(20_000.0),
    ] {
        let result = run(&Plan {
            duration: None,
            requests: NonZeroU64::new(1000),
            threads: number(3),
            load,
            ..plan(embedded())
        });
        assert_eq!(result.messages.received, 1000);
        assert_eq!(result.messages.sent, 1000);
        assert!(result.duration_s > 0.0);
    }
}

#[test]
fn a_constant_schedule_issues_exactly_its_rate() {
    let result = run(&Plan {
        connections: number(7),
        threads: number(2),
        load: constant(2000.0),
        warmup: Duration::from_millis(100),
        ..plan(embedded())
    });
    assert_eq!(result.messages.sent + result.messages.unsent, 1000);
    assert_eq!(result.messages.received, 1000);
    assert!((result.rate.offered - 2000.0).abs() < 1e-6);
}

#[test]
fn a_ramp_issues_exactly_its_integral_and_more_and_more() {
    let result = run(&Plan {
        connections: number(7),
        threads: number(2),
        load: even("1k..3k"),
        warmup: Duration::from_millis(100),
        ..plan(embedded())
    });
    assert_eq!(result.messages.sent + result.messages.unsent, 1000);
    assert_eq!(result.rate.target, Some(2000.0));
    let json = serde_json::to_value(&result).unwrap();
    assert_eq!(json["plan"]["rate"], "1k..3k");
    assert!(loadgen::report::text::render(&result).contains("open loop, 1k..3k /s constant"));
}

#[test]
fn however_threads_wait_every_message_goes_out() {
    for pacing in [Pacing::Sleep, Pacing::Hybrid, Pacing::Spin] {
        let result = run(&Plan {
            load: even("1k@200ms,0@100ms,3k@1s"),
            pacing,
            ..plan(embedded())
        });
        assert_eq!(result.messages.received, 800, "{pacing:?}");
    }
}

#[test]
fn a_rate_that_changes_over_a_window_of_no_length_is_refused() {
    let error = try_run(&Plan {
        load: even("1k..3k"),
        duration: None,
        requests: NonZeroU64::new(100),
        ..plan(embedded())
    })
    .unwrap_err();
    assert!(matches!(error, RunError::Rate(_)), "{error}");
}

#[test]
fn a_profile_that_falls_silent_ends_a_run_of_so_many_messages() {
    let result = run(&Plan {
        load: even("2k..0@200ms"),
        duration: None,
        requests: NonZeroU64::new(100_000),
        ..plan(embedded())
    });
    assert_eq!(result.messages.received, 200);
}

#[test]
fn the_same_seed_offers_the_same_poisson_arrivals() {
    let plan = Plan {
        load: Load::Open {
            rate: Profile::constant(2000.0).unwrap(),
            arrivals: Spacing::Poisson,
            pipeline: None,
        },
        ..plan(embedded())
    };
    let issued = |plan: &Plan| {
        let messages = run(plan).messages;
        messages.sent + messages.unsent
    };
    let first = issued(&plan);
    assert_eq!(issued(&plan), first);
    // 1000 are expected; six standard deviations to either side.
    assert!((810..1190).contains(&first), "{first}");
    assert_ne!(issued(&Plan { seed: 2, ..plan }), first);
}

#[test]
fn the_warm_up_flows_and_is_not_counted() {
    let plain = PlainServer::echo();
    let result = run(&Plan {
        warmup: Duration::from_millis(300),
        load: constant(1000.0),
        ..plan(server(&plain))
    });
    assert_eq!(result.messages.received, 500);
    assert_eq!(result.bytes.received, 500 * 64);
    assert_eq!(plain.bytes(), 800 * 64);
}

#[test]
fn connections_are_spread_over_the_targets() {
    let (a, b) = (PlainServer::echo(), PlainServer::echo());
    let result = run(&Plan {
        connections: number(10),
        threads: number(2),
        ..plan(Target::Servers {
            targets: vec![a.endpoint(), b.endpoint()],
        })
    });
    assert_eq!(result.connections.opened, 10);
    assert_eq!((a.connections(), b.connections()), (5, 5));
}

#[test]
fn a_thousand_connections_lose_nothing() {
    let result = run(&Plan {
        connections: number(1000),
        threads: number(2),
        duration: Some(Duration::from_secs(1)),
        ramp: Duration::from_millis(100),
        ..plan(embedded())
    });
    assert_eq!(result.connections.opened, 1000);
    assert!(result.messages.verified >= 1000);
    assert_eq!(result.messages.verified, result.messages.sent);
}

#[test]
fn without_verification_nothing_is_called_verified() {
    let result = run(&Plan {
        verify: false,
        ..plan(embedded())
    });
    assert!(result.messages.received > 0);
    assert_eq!(result.messages.verified, 0);
}

#[test]
fn a_run_interrupted_before_it_began_has_a_result_too() {
    let control = Control::default();
    control.stop();
    let plan = Plan {
        duration: Some(Duration::from_secs(3600)),
        warmup: Duration::from_secs(3600),
        ..plan(embedded())
    };
    let result = loadgen::run(&plan, &control, &mut Unobserved).unwrap();
    check_accounts(&result);
    assert!(result.interrupted);
    assert_eq!(result.messages.sent, 0);
}

/// Stops a run after some intervals.
struct StopAfter {
    intervals: usize,
    control: Control,
}

impl Observer for StopAfter {
    fn interval(&mut self, _interval: &IntervalResult, _samples: &Slice) {
        self.intervals = self.intervals.saturating_sub(1);
        if self.intervals == 0 {
            self.control.stop();
        }
    }
}

#[test]
fn an_interrupted_run_accounts_for_what_it_did() {
    let plain = PlainServer::echo();
    for load in [
        Load::Closed {
            pipeline: number(2),
        },
        constant(5000.0),
    ] {
        let plan = Plan {
            load,
            duration: Some(Duration::from_secs(3600)),
            ..plan(server(&plain))
        };
        let control = Control::default();
        let mut observer = StopAfter {
            intervals: 3,
            control: control.clone(),
        };
        let result = loadgen::run(&plan, &control, &mut observer).unwrap();
        check_accounts(&result);
        assert!(result.interrupted);
        assert!(result.messages.received > 0);
        assert!(result.duration_s >= 0.3 && result.duration_s < 3600.0);
    }
}

/// A server that echoes a limited number of bytes of each connection, however they arrive.
fn answers_only(most: u64) -> PlainServer {
    PlainServer::start(move |peer, bytes| {
        let left = most.saturating_sub(peer.received);
        let count = bytes.len().min(left as usize);
        peer.send(&bytes[..count])
    })
}

#[test]
fn the_wait_after_an_interruption_is_not_part_of_the_window() {
    const RATE: f64 = 1000.0;
    // The last answered message is the last one of the first tenth of a second.
    let target = answers_only(25 * 64);
    let control = Control::default();
    let mut observer = StopAfter {
        intervals: 2,
        control: control.clone(),
    };
    let plan = Plan {
        load: constant(RATE),
        duration: Some(Duration::from_secs(3600)),
        ..plan(server(&target))
    };
    let result = loadgen::run(&plan, &control, &mut observer).unwrap();
    check_accounts(&result);
    assert!(result.messages.unfinished > 0);
    let offered = result.rate.offered;
    assert!((offered / RATE - 1.0).abs() < 0.02, "{offered}");
}

#[test]
fn the_wait_for_the_last_of_so_many_messages_is_not_part_of_the_window() {
    const RATE: f64 = 1000.0;
    let target = answers_only(49 * 64);
    let result = run(&Plan {
        load: constant(RATE),
        duration: None,
        requests: NonZeroU64::new(200),
        timeout: Duration::from_millis(500),
        ..plan(server(&target))
    });
    assert_eq!(result.messages.received, 196);
    // The window ends with the last message, and they have until the timeout to come back.
    assert_eq!(result.messages.unfinished, 4);
    let offered = result.rate.offered;
    assert!((offered / RATE - 1.0).abs() < 1e-6, "{offered}");
}
