//! Formatting of numbers.

use std::time::Duration;

use echomark::net::units::format_duration_ns;

/// The sign for an unknown figure.
pub const UNKNOWN: &str = "–";

/// A figure, or the sign for an unknown one.
pub fn known(figure: Option<String>) -> String {
    figure.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// A duration in nanoseconds, if it is known.
pub fn duration(nanoseconds: Option<u64>) -> String {
    known(nanoseconds.map(|value| format_duration_ns(value as f64)))
}

/// Seconds, to a thousandth, without trailing zeros.
pub(crate) fn seconds(seconds: f64) -> String {
    format!("{} s", (seconds * 1000.0).round() / 1000.0)
}

/// A time as on a clock: `3.4 s`, `2:05 min`, `1:02:05 h`.
pub fn clock(time: Duration) -> String {
    // Truncated, not rounded, so that no time is shown as over too early.
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

/// A number with its noun: `1 thread`, `2 threads`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A number with as many decimals as it needs, in groups of three digits.
pub fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        format!("{value:.2}")
    } else {
        grouped(value.round() as u64)
    }
}

/// A number per second.
pub fn rate(per_second: f64) -> String {
    format!("{} /s", number(per_second))
}

/// Bits per second with a suitable prefix.
pub fn bits_per_second(bits: f64) -> String {
    match bits {
        b if b >= 1e9 => format!("{:.2} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.2} Mbit/s", b / 1e6),
        b => format!("{:.2} kbit/s", b / 1e3),
    }
}

/// A percentage, with decimals if it is small: `42 %`, `4.2 %`, `0.42 %`, `0.042 %`.
pub fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.001 => "<0.001 %".to_owned(),
        percent if percent < 0.095 => format!("{percent:.3} %"),
        percent if percent < 0.995 => format!("{percent:.2} %"),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// Digits in groups of three: `12 345 678`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// With an initial capital.
pub(crate) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1_234_567, "1 234 567"),
        ] {
            assert_eq!(grouped(value), text);
        }
        assert_eq!(number(0.5), "0.50");
        assert_eq!(number(10_000.4), "10 000");
        assert_eq!(count(1, "thread"), "1 thread");
        assert_eq!(bits_per_second(2.56e6), "2.56 Mbit/s");
        assert_eq!(seconds(2.5), "2.5 s");
    }

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
            (0.000_001, "<0.001 %"),
            (0.000_42, "0.042 %"),
            (0.0042, "0.42 %"),
            (0.0421, "4.2 %"),
            (0.421, "42 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(ratio), text);
        }
    }
}
