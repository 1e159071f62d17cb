//! Parsing and formatting of durations, counts, rates and sizes: `250ms`, `10k`, `64KiB`.
//!
//! Both programs read every quantity of their command lines through this module, so that a unit
//! means the same everywhere. Fractions are allowed (`1.5s`, `0.5MiB`); signs and exponents are not.

use std::fmt;
use std::time::Duration;

/// Reads a duration: a number with one of the units `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`.
///
/// A bare `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = |problem| UnitError::new(text, Quantity::Duration, problem);
    let (number, unit) = split(text).map_err(fail)?;
    let nanoseconds = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        "" if number.value == 0.0 => 1.0,
        "" => return Err(fail(UnitProblem::NoUnit)),
        _ => return Err(fail(UnitProblem::UnknownUnit)),
    };
    let nanoseconds = (number.value * nanoseconds).round();
    // At most 292 years: without a limit the conversion to u64 would saturate silently.
    if nanoseconds > i64::MAX as f64 {
        return Err(fail(UnitProblem::TooLarge));
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// Reads a whole number, where `k`, `M` and `G` stand for 10³, 10⁶ and 10⁹: `10k` is 10 000.
pub fn parse_count(text: &str) -> Result<u64, UnitError> {
    let fail = |problem| UnitError::new(text, Quantity::Count, problem);
    let (number, unit) = split(text).map_err(fail)?;
    let scale = decimal_scale(unit).ok_or_else(|| fail(UnitProblem::UnknownUnit))?;
    number.times(scale).map_err(fail)
}

/// Reads a rate in events per second, fractions included: `10k`, `0.5`, `1.5M`.
pub fn parse_rate(text: &str) -> Result<f64, UnitError> {
    let fail = |problem| UnitError::new(text, Quantity::Rate, problem);
    let (number, unit) = split(text).map_err(fail)?;
    let scale = decimal_scale(unit).ok_or_else(|| fail(UnitProblem::UnknownUnit))?;
    let rate = number.value * scale as f64;
    if rate >= MAX_EXACT {
        return Err(fail(UnitProblem::TooLarge));
    }
    Ok(rate)
}

/// Reads a size in bytes: `64KiB` is 65 536, `64kB` is 64 000, and a bare `64k` is 65 536.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let fail = |problem| UnitError::new(text, Quantity::Size, problem);
    let (number, unit) = split(text).map_err(fail)?;
    let scale = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "k" | "K" | "KiB" | "kiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(fail(UnitProblem::UnknownUnit)),
    };
    number.times(scale).map_err(fail)
}

/// Writes a duration with three significant digits and the unit that suits it: `84.2 µs`.
pub fn format_duration_ns(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// Writes a duration exactly, in the largest unit that divides it: `1500ms`, `2m`, `0`.
///
/// [`parse_duration`] reads back the same duration.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0".to_owned();
    }
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let exact = units
        .iter()
        .find(|(scale, _)| nanoseconds.is_multiple_of(*scale));
    let (scale, unit) = exact.unwrap_or(&(1, "ns"));
    format!("{}{unit}", nanoseconds / scale)
}

/// Writes a size exactly, in the largest binary unit that divides it: `64KiB`, `1000B`.
pub fn format_size(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    }
}

/// A quantity that could not be read, with the text and examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnitError {
    text: String,
    quantity: Quantity,
    problem: UnitProblem,
}

impl UnitError {
    fn new(text: &str, quantity: Quantity, problem: UnitProblem) -> Self {
        Self {
            text: text.to_owned(),
            quantity,
            problem,
        }
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, example) = match self.quantity {
            Quantity::Duration => ("duration", "250ms, 10s or 2m"),
            Quantity::Count => ("count", "500, 10k or 2M"),
            Quantity::Rate => ("rate per second", "500, 10k or 1.5M"),
            Quantity::Size => ("size", "512, 64KiB or 1MiB"),
        };
        let problem = match self.problem {
            UnitProblem::NotANumber => "it does not start with a number",
            UnitProblem::NoUnit => "its unit is missing",
            UnitProblem::UnknownUnit => "its unit is unknown",
            UnitProblem::NotWhole => "it does not come to a whole number",
            UnitProblem::TooLarge => "it is too large",
        };
        write!(
            f,
            "`{}` is not a {name}: {problem}; write for example {example}",
            self.text
        )
    }
}

impl std::error::Error for UnitError {}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Quantity {
    Duration,
    Count,
    Rate,
    Size,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum UnitProblem {
    NotANumber,
    NoUnit,
    UnknownUnit,
    NotWhole,
    TooLarge,
}

/// From 2^53 on a double no longer holds every whole number.
const MAX_EXACT: f64 = (1_u64 << 53) as f64;

/// A decimal number as written, kept exact when it has no fraction.
struct Number {
    value: f64,
    whole: Option<u64>,
}

impl Number {
    fn times(&self, scale: u64) -> Result<u64, UnitProblem> {
        if let Some(whole) = self.whole {
            return whole.checked_mul(scale).ok_or(UnitProblem::TooLarge);
        }
        let product = self.value * scale as f64;
        if product >= MAX_EXACT {
            return Err(UnitProblem::TooLarge);
        }
        // A decimal fraction is rarely exact in binary: 1.1k is 1100.0000000000002.
        if (product - product.round()).abs() > 1e-6 {
            return Err(UnitProblem::NotWhole);
        }
        Ok(product.round() as u64)
    }
}

/// Splits `text` into its number and its unit.
fn split(text: &str) -> Result<(Number, &str), UnitProblem> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(UnitProblem::NotANumber);
    }
    let value: f64 = digits.parse().map_err(|_| UnitProblem::NotANumber)?;
    let whole = if digits.contains('.') {
        None
    } else {
        Some(digits.parse().map_err(|_| UnitProblem::TooLarge)?)
    };
    Ok((Number { value, whole }, unit.trim_start()))
}

fn decimal_scale(unit: &str) -> Option<u64> {
    match unit {
        "" => Some(1),
        "k" | "K" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("20us", 20_000),
            ("20µs", 20_000),
            ("7 ns", 7),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for text in ["", "10", "10x", "-1s", "s", "1e3s", "1.2.3s", "99999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_and_rates() {
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("2M"), Ok(2_000_000));
        assert_eq!(parse_count("1.1k"), Ok(1_100));
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000.0));
        for text in ["9007199254740992", "10000000000G", &"9".repeat(400)] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["1.5", "10kB", "99999999999G", "18446744073709551616"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("64kB", 64_000),
            ("64k", 65_536),
            ("1.5KiB", 1_536),
            ("7", 7),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["64kb", "0.3", "k", "1TiB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_text_and_the_way_out() {
        assert_eq!(
            parse_duration("10").unwrap_err().to_string(),
            "`10` is not a duration: its unit is missing; write for example 250ms, 10s or 2m"
        );
    }

    #[test]
    fn formatted_durations_have_three_digits() {
        for (nanoseconds, text) in [
            (950.0, "950 ns"),
            (9_994.0, "9.99 µs"),
            (84_210.0, "84.2 µs"),
            (999_499.0, "999 µs"),
            (999_600.0, "1.00 ms"),
            (1_500_000_000.0, "1.50 s"),
        ] {
            assert_eq!(format_duration_ns(nanoseconds), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_count(&text);
            let _ = parse_rate(&text);
            let _ = parse_size(&text);
        }

        #[test]
        fn a_formatted_duration_reads_back(
            number in 0_u64..1 << 62,
            shift in 0_u32..62,
            unit in prop::sample::select(vec!["ns", "us", "ms", "s", "m", "h"]),
        ) {
            if let Ok(duration) = parse_duration(&format!("{}{unit}", number >> shift)) {
                prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            }
        }

        #[test]
        fn a_formatted_size_reads_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
