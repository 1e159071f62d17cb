//! Measures an echo server in this process for half a second, and prints the response times and the
//! verdict.
#![expect(clippy::print_stdout, reason = "it is an example of a program")]

use std::error::Error;
use std::time::Duration;

use loadgen::observer::Unobserved;
use loadgen::{Control, Plan};

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::builder()
        .connections(4)
        .warmup(Duration::from_millis(100))
        .duration(Duration::from_millis(500))
        .build()?;
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
