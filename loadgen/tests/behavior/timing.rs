//! Coordinated omission: a server that stands still for a known time shows in the response times
//! exactly as arithmetic says.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use loadgen::plan::{Load, Plan, Spacing};
use loadgen::result::Latency;
use loadgen::verdict::Status;

use crate::support::{Gate, PlainServer, number, plan, run, server, wait_until};

const STALL: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(4);
const RATE: f64 = 1000.0;

/// Runs the open loop with a stall in its middle; returns response and service time and how long
/// the stall was.
fn measure_stall(pipeline: Option<usize>) -> (Latency, Latency, Duration) {
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
            rate: RATE,
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
    assert_ne!(
        result.verdict.status,
        Status::Invalid,
        "{:?}",
        result.verdict
    );
    (
        result.latency_ns.response.unwrap(),
        result.latency_ns.service.unwrap(),
        stall,
    )
}

/// Messages arrive evenly; one that comes t after the start of the stall waits for the rest of it.
/// So a share f = stall / window waits, uniformly between 0 and the stall, and the quantile q lies
/// (1 - q) / f of the stall before its end.
#[track_caller]
fn assert_follows_the_arithmetic(response: &Latency, stall: Duration) {
    let share = stall.as_secs_f64() / WINDOW.as_secs_f64();
    for quantile in [0.95, 0.99] {
        let expected = stall.as_secs_f64() * (1.0 - (1.0 - quantile) / share);
        let measured = response.quantile(quantile).unwrap() as f64 / 1e9;
        assert!(
            (measured / expected - 1.0).abs() < 0.05,
            "p{:.0}: measured {measured} s, expected {expected} s",
            quantile * 100.0
        );
    }
}

#[test]
fn a_stall_shows_in_full_in_the_response_times() {
    let (response, _, stall) = measure_stall(None);
    assert_follows_the_arithmetic(&response, stall);
}

#[test]
fn with_one_message_in_flight_the_service_time_shows_the_stall_once_per_connection() {
    let (response, service, stall) = measure_stall(Some(1));
    assert_follows_the_arithmetic(&response, stall);
    // Sixteen of four thousand messages were out during the stall.
    assert!(service.max() as f64 > stall.as_secs_f64() * 0.9e9);
    let p95 = service.quantile(0.95).unwrap() as f64 / 1e9;
    assert!(p95 < stall.as_secs_f64() / 10.0, "{p95}");
}
