//! Coordinated omission: a server's stall of known length shows in the response times exactly as
//! calculated.
//!
//! Other load on the machine only increases latencies, so the lower bounds hold in every run. The
//! upper bounds are checked only if the client was not disturbed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use loadgen::plan::{Load, Plan, Spacing};
use loadgen::profile::Profile;
use loadgen::result::Latency;

use crate::support::{Gate, PlainServer, number, plan, run, server, wait_until};

const STALL: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(4);
const RATE: f64 = 1000.0;
/// Above this own send lag, a run is too disturbed for the calculation.
const DISTURBED_NS: u64 = 2_000_000;
/// Attempts for an undisturbed run.
const ATTEMPTS: usize = 3;

/// The result of an open loop with a stall in its middle.
struct Stalled {
    response: Latency,
    service: Latency,
    stall: Duration,
    is_disturbed: bool,
}

fn measure_stall(pipeline: Option<usize>) -> Stalled {
    let gate = Arc::new(Gate::default());
    let target = {
        let gate = Arc::clone(&gate);
        PlainServer::start(move |peer, bytes| {
            gate.pass();
            peer.send(bytes)
        })
    };
    let plan = Plan {
        connections: number(16),
        load: Load::Open {
            rate: Profile::constant(RATE).unwrap(),
            arrivals: Spacing::Constant,
            pipeline: pipeline.map(number),
        },
        duration: Some(WINDOW),
        ..plan(server(&target))
    };
    let (result, stall) = thread::scope(|scope| {
        let stall = scope.spawn(|| {
            wait_until("a second's worth of messages came", || {
                target.bytes() >= 1000 * 64
            });
            gate.close_for(STALL)
        });
        (run(&plan), stall.join().unwrap())
    });
    assert_eq!(result.messages.received, 4000);
    let own_lag = result.client.own_send_lag.unwrap();
    Stalled {
        response: result.latency_ns.response.unwrap(),
        service: result.latency_ns.service.unwrap(),
        stall,
        is_disturbed: own_lag.quantile(0.99).unwrap() > DISTURBED_NS,
    }
}

impl Stalled {
    /// Messages arrive evenly; one that comes t after the start of the stall waits for the rest of
    /// it. So a share f = stall / window waits, uniformly between 0 and the stall, and the quantile
    /// q lies (1 - q) / f of the stall before its end.
    #[track_caller]
    fn assert_follows_the_arithmetic(&self) {
        let stall = self.stall.as_secs_f64();
        let share = stall / WINDOW.as_secs_f64();
        for quantile in [0.95, 0.99] {
            let expected = stall * (1.0 - (1.0 - quantile) / share);
            let measured = self.response.quantile(quantile).unwrap() as f64 / 1e9;
            let text = format!(
                "p{:.0}: measured {measured} s, expected {expected} s",
                quantile * 100.0
            );
            assert!(measured > expected * 0.95, "{text}");
            assert!(self.is_disturbed || measured < expected * 1.05, "{text}");
        }
    }
}

#[test]
fn a_stall_shows_in_full_in_the_response_times() {
    for _ in 0..ATTEMPTS {
        let stalled = measure_stall(None);
        stalled.assert_follows_the_arithmetic();
        if !stalled.is_disturbed {
            return;
        }
    }
}

#[test]
fn with_one_message_in_flight_the_service_time_shows_the_stall_once_per_connection() {
    for _ in 0..ATTEMPTS {
        let stalled = measure_stall(Some(1));
        stalled.assert_follows_the_arithmetic();
        // Sixteen of four thousand messages were out during the stall.
        let stall_ns = stalled.stall.as_nanos() as u64;
        assert!(stalled.service.max() > stall_ns / 10 * 9);
        assert!(stalled.service.quantile(0.95).unwrap() < stall_ns / 2);
        if !stalled.is_disturbed {
            return;
        }
    }
}
