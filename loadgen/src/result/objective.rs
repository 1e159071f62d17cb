//! What a load must hold: the objectives of a search.
//!
//! Each objective is a ratio of messages that may fail it, so that loss and latency are judged alike:
//! "p99 < 1 ms" says that at most 1 % of the messages may be late, lost, failed or unsent.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use echomark::net::units::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::text::TextError;

/// A condition on a trial, as `p99<1ms`, `errors<0.1%` or `lost<=0`. `<` and `<=` mean the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// All but this ratio of the messages come back within the limit.
    Late {
        /// The ratio that may not: 0.01 for p99.
        ratio: f64,
        /// The longest response time that is in time.
        limit: Duration,
    },
    /// At most this ratio of the messages does not come back as it was sent.
    Errors {
        /// See above.
        ratio: f64,
    },
    /// At most this ratio of the messages does not come back.
    Lost {
        /// See above.
        ratio: f64,
    },
}

impl Objective {
    /// The ratio of messages that may fail the objective.
    pub fn allowed(&self) -> f64 {
        match *self {
            Self::Late { ratio, .. } | Self::Errors { ratio } | Self::Lost { ratio } => ratio,
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Late { ratio, limit } => {
                let percent = round((1.0 - ratio) * 100.0);
                write!(f, "p{percent}<{}", format_duration(limit))
            }
            Self::Errors { ratio } => write!(f, "errors<{}%", round(ratio * 100.0)),
            Self::Lost { ratio } => write!(f, "lost<{}%", round(ratio * 100.0)),
        }
    }
}

impl FromStr for Objective {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || {
            format!("'{text}' is no objective; write p99<1ms, p99.9<5ms, errors<0.1% or lost<=0")
        };
        let (metric, limit) = text.split_once('<').ok_or_else(wrong)?;
        let limit = limit.strip_prefix('=').unwrap_or(limit).trim();
        match metric.trim() {
            "errors" => Ok(Self::Errors {
                ratio: parse_ratio(limit)?,
            }),
            "lost" => Ok(Self::Lost {
                ratio: parse_ratio(limit)?,
            }),
            metric => {
                let percent = match metric {
                    "max" => "100",
                    _ => metric.strip_prefix('p').ok_or_else(wrong)?,
                };
                let percent: f64 = percent.parse().map_err(|_| wrong())?;
                if !(percent > 0.0 && percent <= 100.0) {
                    let problem = "a percentile lies above 0 and up to 100";
                    return Err(format!("'{text}': {problem}").into());
                }
                let limit = parse_duration(limit).map_err(|error| error.to_string())?;
                if limit.is_zero() {
                    return Err(format!("'{text}': nothing comes back within no time").into());
                }
                Ok(Self::Late {
                    ratio: round(100.0 - percent) / 100.0,
                    limit,
                })
            }
        }
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Reads `0.1%` or `0.001`.
///
/// # Errors
/// One line for the user if `text` is neither, or not below 1.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..scale).contains(&value) => Ok(value / scale),
        Ok(_) => Err(format!("'{text}' must be at least 0 and below 100%")),
        Err(_) => Err(format!("'{text}' is no ratio; write 0.1% or 0.001")),
    }
}

/// Without the digits that only the arithmetic of floating-point numbers brings.
fn round(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn objective(text: &str) -> Objective {
        text.parse().expect("is well-formed")
    }

    #[test]
    fn objectives_are_read_as_they_are_written() {
        let late = |ratio, limit| Objective::Late {
            ratio,
            limit: Duration::from_micros(limit),
        };
        assert_eq!(objective("p99<1ms"), late(0.01, 1000));
        assert_eq!(objective("p99.9 <= 5ms"), late(0.001, 5000));
        assert_eq!(objective("max<10ms"), late(0.0, 10_000));
        assert_eq!(objective("errors<0.1%"), Objective::Errors { ratio: 0.001 });
        assert_eq!(objective("lost<=0"), Objective::Lost { ratio: 0.0 });
        for text in ["p99<1ms", "p99.9<1500us", "errors<0.1%", "lost<0%"] {
            assert_eq!(objective(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_objective_is_refused_with_the_reason() {
        for (text, reason) in [
            ("p99", "is no objective"),
            ("q99<1ms", "is no objective"),
            ("p99>1ms", "is no objective"),
            ("p101<1ms", "percentile"),
            ("p0<1ms", "percentile"),
            ("pNaN<1ms", "percentile"),
            ("p99<1", "unit"),
            ("p99<0", "no time"),
            ("errors<100%", "below 100%"),
            ("lost<few", "is no ratio"),
            ("lost<-1%", "at least 0"),
        ] {
            let error = text.parse::<Objective>().expect_err(text);
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn text_that_users_may_write_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<Objective>();
        }

        #[test]
        fn what_is_printed_is_read_back(thousandths in 1_u32..=100_000, micros in 1_u64..10_000_000) {
            let written = format!("p{}<{micros}us", f64::from(thousandths) / 1000.0);
            let read = objective(&written);
            prop_assert_eq!(objective(&read.to_string()), read);
        }
    }
}
