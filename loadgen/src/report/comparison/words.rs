//! The figures of a comparison in words.

use echomark::net::units::format_duration_ns;

use crate::report::format::{bits_per_second, percent, rate};
use crate::result::comparison::{MetricComparison, Unit};

/// The name of a figure.
pub(super) fn name(metric: &MetricComparison) -> String {
    metric.name.replace('_', " ")
}

/// A figure with its unit.
pub(super) fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond => rate(value),
        Unit::Ns => format_duration_ns(value),
        Unit::Ratio => percent(value),
        Unit::BitsPerSecond => bits_per_second(value),
    }
}
