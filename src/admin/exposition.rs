//! Metrics with their values, written in the text format of Prometheus (0.0.4) or as JSON.

use std::fmt::{self, Write};

use serde_json::{Map, Number, Value as Json};

use crate::metrics::Kind;

/// A metric: one name, and a value for each label value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    /// The name, with its unit, after the conventions of Prometheus.
    pub(super) name: &'static str,
    /// One sentence that describes the metric.
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Samples,
}

/// The values of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Samples {
    /// One value, without a label.
    One(Value),
    /// One value for each value of a label.
    Labelled {
        label: &'static str,
        /// Pairs of label value and metric value.
        values: Vec<(String, Value)>,
    },
    /// One value for each pair of values of two labels.
    Paired {
        labels: [&'static str; 2],
        values: Vec<([String; 2], Value)>,
    },
}

/// A value, exact in either format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// A count.
    Integer(u64),
    /// A time in seconds, or a limit, which may be infinite.
    Real(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            // Prometheus spells it with the sign.
            Self::Real(f64::INFINITY) => f.write_str("+Inf"),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// Writes the text format of Prometheus, version 0.0.4.
pub(super) fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        // Writing to a string does not fail.
        let _ = write_family(&mut text, family);
    }
    text
}

/// The values as a JSON object, keyed by name without the prefix `echod_`. A metric with a label is
/// an object keyed by the label's values, and one with two labels an object of such objects.
pub(super) fn json(families: &[Family]) -> Json {
    let mut object = Map::new();
    for family in families {
        let name = family.name.strip_prefix("echod_").unwrap_or(family.name);
        let value = match &family.samples {
            Samples::One(value) => number(*value),
            Samples::Labelled { values, .. } => {
                let values = values
                    .iter()
                    .map(|(at, value)| (at.clone(), number(*value)));
                Json::Object(values.collect())
            }
            Samples::Paired { values, .. } => {
                let mut outer = Map::new();
                for ([one, other], value) in values {
                    let inner = outer.entry(one).or_insert_with(|| Map::new().into());
                    inner[other] = number(*value);
                }
                Json::Object(outer)
            }
        };
        object.insert(name.to_owned(), value);
    }
    Json::Object(object)
}

fn write_family(text: &mut String, family: &Family) -> fmt::Result {
    let name = family.name;
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    writeln!(text, "# HELP {name} {}", escaped_help(family.help))?;
    writeln!(text, "# TYPE {name} {kind}")?;
    match &family.samples {
        Samples::One(value) => writeln!(text, "{name} {value}"),
        Samples::Labelled { label, values } => values.iter().try_for_each(|(at, value)| {
            writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped_label(at))
        }),
        Samples::Paired { labels, values } => values.iter().try_for_each(|(at, value)| {
            let [(one, first), (other, second)] =
                [0, 1].map(|i| (labels[i], escaped_label(&at[i])));
            writeln!(
                text,
                "{name}{{{one}=\"{first}\",{other}=\"{second}\"}} {value}"
            )
        }),
    }
}

fn escaped_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escaped_label(value: &str) -> String {
    escaped_help(value).replace('"', "\\\"")
}

fn number(value: Value) -> Json {
    match value {
        Value::Integer(value) => value.into(),
        // JSON has no infinity: a limit that is off is null.
        Value::Real(value) => Number::from_f64(value).map_or(Json::Null, Json::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_label_is_read_back_as_it_was(value in any::<String>()) {
            let escaped = escaped_label(&value);
            prop_assert!(!escaped.contains('\n'));
            let mut back = String::new();
            let mut chars = escaped.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, '"');
                back.push(match c {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => panic!("escaped {other:?}"),
                    },
                    c => c,
                });
            }
            prop_assert_eq!(back, value);
        }
    }
}
