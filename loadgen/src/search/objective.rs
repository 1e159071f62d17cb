//! What a load must hold: the objectives of a search.
//!
//! Each objective is a ratio of messages that may fail it, so that loss and latency are judged alike:
//! "p99 < 1 ms" says that at most 1 % of the messages may be late, lost, failed or unsent.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use echomark::net::units::{format_duration, parse_duration};
use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::attribution::Lateness;

/// Above this share of messages, what did not come back within the window counts as failed; less is
/// what is naturally out at its end.
const MOST_SHORT: f64 = 0.01;
/// Ratios are compared up to rounding errors.
const ROUNDING: f64 = 1e-9;

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

/// What became of a trial's messages, as far as objectives ask.
#[derive(Clone, Copy, Debug)]
pub struct Tally<'a> {
    /// Messages that were due.
    pub due: u64,
    /// Those that never came back: lost, timed out, unfinished, unsent.
    pub lost: u64,
    /// Those that came back changed.
    pub corrupt: u64,
    /// Echoes that were complete within the window.
    pub completed: u64,
    /// Share of the connections that were asked for and did not stand, where these are the load.
    pub missing_connections: f64,
    /// Response times of those that came back, in nanoseconds.
    pub response: Option<&'a Histogram<u64>>,
}

impl Objective {
    /// The ratio of messages that may fail the objective.
    pub fn allowed(&self) -> f64 {
        match *self {
            Self::Late { ratio, .. } | Self::Errors { ratio } | Self::Lost { ratio } => ratio,
        }
    }

    /// Whether a trial in which `failed` of the messages failed meets the objective.
    pub fn is_met(&self, failed: f64) -> bool {
        failed <= self.allowed() + ROUNDING
    }

    /// The ratio of messages that failed the objective; 1 if none was due.
    ///
    /// A server that falls behind answers everything in the end. So if more than 1 % of the messages
    /// were missing within the window, they count as failed even when they came later.
    pub fn failed(&self, tally: &Tally<'_>) -> f64 {
        if tally.due == 0 {
            return 1.0;
        }
        let due = tally.due as f64;
        let counted = match *self {
            Self::Late { limit, .. } => tally.lost + tally.corrupt + tally.later_than(limit),
            Self::Errors { .. } => tally.lost + tally.corrupt,
            Self::Lost { .. } => tally.lost,
        };
        let short = tally.short();
        let short = if short > MOST_SHORT { short } else { 0.0 };
        (counted as f64 / due)
            .max(short)
            .max(tally.missing_connections)
            .min(1.0)
    }

    /// The part of [`Self::failed`] that does not depend on when anything came back.
    pub(super) fn lost(&self, tally: &Tally<'_>) -> f64 {
        let counted = match self {
            Self::Late { .. } | Self::Errors { .. } => tally.lost + tally.corrupt,
            Self::Lost { .. } => tally.lost,
        };
        (counted as f64 / tally.due.max(1) as f64).max(tally.missing_connections)
    }

    /// The ratio of messages that failed the objective for sure if the client added no more to
    /// response times than `lateness`.
    pub(super) fn failed_despite(&self, tally: &Tally<'_>, lateness: &Lateness) -> f64 {
        let lost = self.lost(tally);
        let late = match *self {
            Self::Late { limit, .. } => {
                tally.later_than(limit + lateness.delay) as f64 / tally.due.max(1) as f64
            }
            Self::Errors { .. } | Self::Lost { .. } => 0.0,
        };
        let short = tally.short() - lateness.share_of_window;
        let short = if short > MOST_SHORT { short } else { 0.0 };
        (lost + late).max(short) - lateness.share_beyond
    }
}

impl Tally<'_> {
    /// The ratio of messages that did not come back within the window.
    fn short(&self) -> f64 {
        self.due.saturating_sub(self.completed) as f64 / self.due.max(1) as f64
    }

    fn later_than(&self, limit: Duration) -> u64 {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.response.map_or(0, |histogram| {
            // The histogram's bucket of the limit is taken as in time.
            let within = histogram.highest_equivalent(limit.min(histogram.high()));
            histogram.len() - histogram.count_between(0, within)
        })
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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
                    return Err(format!("'{text}': a percentile lies above 0 and up to 100"));
                }
                let limit = parse_duration(limit).map_err(|error| error.to_string())?;
                if limit.is_zero() {
                    return Err(format!("'{text}': nothing comes back within no time"));
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
    use crate::engine::slice;
    use proptest::prelude::*;

    const NOTHING_LOST: Tally<'static> = Tally {
        due: 1000,
        lost: 0,
        corrupt: 0,
        completed: 1000,
        missing_connections: 0.0,
        response: None,
    };

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
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn late_lost_and_changed_messages_fail_a_percentile_alike() {
        let mut response = slice::histogram();
        response.record_n(400_000, 994).expect("fits");
        response.record_n(3_000_000, 2).expect("fits");
        let tally = Tally {
            lost: 3,
            corrupt: 1,
            response: Some(&response),
            ..NOTHING_LOST
        };
        assert_eq!(objective("p99<1ms").failed(&tally), 0.006);
        assert_eq!(objective("p99<5ms").failed(&tally), 0.004);
        assert_eq!(objective("errors<1%").failed(&tally), 0.004);
        assert_eq!(objective("lost<1%").failed(&tally), 0.003);
        assert!(objective("p99<1ms").is_met(0.006));
        assert!(!objective("p99.9<1ms").is_met(0.006));
    }

    #[test]
    fn a_server_that_falls_behind_fails_even_if_all_comes_back_later() {
        let behind = |completed| Tally {
            completed,
            ..NOTHING_LOST
        };
        assert_eq!(objective("errors<1%").failed(&behind(800)), 0.2);
        assert_eq!(objective("errors<1%").failed(&behind(995)), 0.0);
    }

    #[test]
    fn connections_that_do_not_stand_fail_every_objective() {
        let refused = Tally {
            missing_connections: 0.25,
            ..NOTHING_LOST
        };
        for text in ["p99<1ms", "errors<1%", "lost<1%"] {
            assert_eq!(objective(text).failed(&refused), 0.25);
        }
    }

    #[test]
    fn a_trial_without_messages_meets_nothing() {
        let nothing = Tally {
            due: 0,
            completed: 0,
            ..NOTHING_LOST
        };
        assert_eq!(objective("errors<1%").failed(&nothing), 1.0);
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
