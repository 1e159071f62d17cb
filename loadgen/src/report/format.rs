//! Numbers as people read them.

/// A number and what it counts: `1 thread`, `2 threads`.
pub(crate) fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A rate with as many decimals as it needs, its digits in groups of three.
pub fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        format!("{value:.2}")
    } else {
        grouped(value.round() as u64)
    }
}

/// Bits per second in the unit that suits them.
pub fn bits_per_second(bits: f64) -> String {
    match bits {
        b if b >= 1e9 => format!("{:.2} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.2} Mbit/s", b / 1e6),
        b => format!("{:.2} kbit/s", b / 1e3),
    }
}

/// A share of one, with a decimal where it is small: `4.2 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
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
        assert_eq!(percent(0.0421), "4.2 %");
        assert_eq!(percent(0.421), "42 %");
    }
}
