//! Figures of a run that goes on, as people read them.

use std::env;
use std::time::Duration;

use echomark::net::units::format_duration_ns;
use loadgen::result::Counts;

use crate::terminal::model::Stage;

/// Whether colours are wanted: unless NO_COLOR is set and not empty (no-color.org).
pub(crate) fn wants_color() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A time as a clock would show it: `3.4 s`, `2:05 min`, `1:02:05 h`.
pub(crate) fn clock(time: Duration) -> String {
    // Cut off, not rounded, so that nothing is said to be over before it is.
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!(
            "{}:{:02}:{:02} h",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    }
}

/// The time that is left of what the run is doing, if that is known.
pub(crate) fn time_left(stage: &Stage) -> Option<String> {
    let left = stage.length?.saturating_sub(stage.elapsed);
    Some(format!("{} left", clock(left)))
}

/// A latency; a dash if it is not known.
pub(crate) fn latency(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(
        || "-".to_owned(),
        |nanoseconds| format_duration_ns(nanoseconds as f64),
    )
}

/// A part of a whole: `12.3 %`, `0.04 %`.
pub(crate) fn percentage(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.01 => "<0.01 %".to_owned(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

/// A bar of so many characters that is filled up to `ratio`.
pub(crate) fn bar(ratio: f64, width: usize) -> String {
    let filled = ((ratio * width as f64) as usize).min(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}

/// What went wrong with messages, and how often.
pub(crate) fn message_troubles(counts: &Counts) -> [(&'static str, u64); 4] {
    [
        ("corrupt", counts.corrupt + counts.corrupt_in_warm_up),
        ("lost", counts.lost),
        ("timed out", counts.timed_out),
        ("unsent", counts.unsent),
    ]
}

/// What went wrong with connections, and how often.
pub(crate) fn socket_troubles(counts: &Counts) -> [(&'static str, u64); 2] {
    [("failed", counts.failed), ("reset", counts.reset)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_into_minutes_and_hours() {
        for (milliseconds, text) in [
            (0, "0.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1:00 min"),
            (125_000, "2:05 min"),
            (3_725_000, "1:02:05 h"),
        ] {
            assert_eq!(clock(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn a_small_part_is_not_nothing() {
        for (ratio, text) in [
            (0.0, "0 %"),
            (0.000_01, "<0.01 %"),
            (0.000_4, "0.04 %"),
            (0.123_4, "12.3 %"),
            (1.0, "100.0 %"),
        ] {
            assert_eq!(percentage(ratio), text);
        }
    }
}
