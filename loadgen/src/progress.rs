//! A line of progress on the terminal.

use std::io::{self, Write};

use echomark::net::units::format_duration_ns;
use loadgen::observer::Observer;
use loadgen::record::Slice;
use loadgen::result::IntervalResult;

/// Prints each interval.
#[derive(Debug, Default)]
pub(crate) struct Progress;

impl Observer for Progress {
    fn interval(&mut self, interval: &IntervalResult, _samples: &Slice) {
        let seconds = (interval.end_s - interval.start_s).max(f64::MIN_POSITIVE);
        let latency = interval.response.map_or_else(String::new, |response| {
            let p50 = response.p50.map_or_else(
                || "-".to_owned(),
                |nanoseconds| format_duration_ns(nanoseconds as f64),
            );
            format!(
                "   p50 {p50}   max {}",
                format_duration_ns(response.max as f64)
            )
        });
        // Progress that nobody can read any more is no reason to stop.
        let _ = writeln!(
            io::stderr(),
            "{:>6.1} s   {:>9.0} /s{latency}",
            interval.end_s,
            interval.received as f64 / seconds,
        );
    }
}
