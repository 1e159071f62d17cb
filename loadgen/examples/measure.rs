//! Measures an echo server in this process for half a second, and prints the response times and the
//! verdict.
#![expect(clippy::print_stdout, reason = "it is an example of a program")]

use std::num::NonZeroUsize;
use std::time::Duration;

use loadgen::observer::Unobserved;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Load, Pacing, Plan, Priority, SocketOptions, Target, Workload};
use loadgen::{Control, RunError};

fn main() -> Result<(), RunError> {
    let four = NonZeroUsize::MIN.saturating_add(3);
    let plan = Plan {
        target: Target::Embedded {
            embedded_workers: NonZeroUsize::MIN,
        },
        workload: Workload::Request,
        connections: four,
        threads: NonZeroUsize::MIN,
        load: Load::Closed {
            pipeline: NonZeroUsize::MIN,
        },
        size: Sizes::Fixed(64),
        duration: Some(Duration::from_millis(500)),
        warmup: Duration::from_millis(100),
        requests: None,
        ramp: Duration::ZERO,
        timeout: Duration::from_secs(5),
        seed: 1,
        verify: true,
        interval: Duration::from_millis(100),
        pacing: Pacing::Hybrid,
        priority: Priority::Normal,
        sources: Vec::new(),
        socket: SocketOptions::default(),
        background: None,
        repeat: NonZeroUsize::MIN,
        server_admin: None,
    };
    let result = loadgen::run(&plan, &Control::default(), &mut Unobserved)?;
    println!("{} echoes, each compared", result.messages.verified);
    if let Some(response) = &result.latency_ns.response {
        let micros = |percentile: Option<u64>| {
            percentile.map_or_else(
                || "too few samples".to_owned(),
                |ns| format!("{} µs", ns / 1000),
            )
        };
        println!(
            "p50 {}, p99 {}",
            micros(response.quantile(0.5)),
            micros(response.quantile(0.99))
        );
    }
    println!("verdict: {:?}", result.verdict.status);
    for reason in &result.verdict.reasons {
        println!("  {}", reason.text);
    }
    Ok(())
}
