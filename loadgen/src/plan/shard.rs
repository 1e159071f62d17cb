//! Shards: the parts of one run that several processes make, on one host or on many.
//!
//! A run is split over processes as it is over threads: connection n belongs to the shard of rank
//! n mod size. So every shard has its part of each second's messages, and the union of all is the run
//! that one process with all their threads would make.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use echomark::net::units;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{Plan, seconds};
use crate::text::TextError;

/// The default of [`Shard::max_skew`]: a hundredth of the default window, far above the error of a
/// synchronised clock.
pub const MAX_SKEW: Duration = Duration::from_millis(100);

/// The part of a run that this process makes. All numbers of the plan are those of the whole run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Shard {
    /// Its number, from 0.
    pub rank: usize,
    /// Number of shards.
    pub size: NonZeroUsize,
    /// When all shards start; absent if each starts as soon as its connections are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub start_at: Option<StartAt>,
    /// Maximum difference of the shards' starts, in seconds.
    #[serde(rename = "max_skew_s", with = "seconds")]
    #[cfg_attr(test, schemars(with = "f64"))]
    pub max_skew: Duration,
}

impl Shard {
    /// The shard's part of things that are numbered from 0 and dealt out in turn.
    pub(super) fn part_of(&self, total: u64) -> u64 {
        total
            .saturating_sub(self.rank as u64)
            .div_ceil(self.size.get() as u64)
    }
}

impl Plan {
    /// The number of connections that this process makes.
    pub fn own_connections(&self) -> usize {
        let all = self.connections.get();
        let part = self.shard.as_ref().map(|shard| shard.part_of(all as u64));
        part.map_or(all, |part| part as usize)
    }

    /// The number of messages after which this process ends its window.
    pub fn own_requests(&self) -> Option<u64> {
        let all = self.requests?.get();
        let Some(shard) = &self.shard else {
            return Some(all);
        };
        let connections = self.connections.get() as u64;
        let own = all / connections * shard.part_of(connections);
        Some(own + shard.part_of(all % connections))
    }

    /// The rate that is requested of this process: its part of [`Self::target_rate`].
    pub fn own_target_rate(&self) -> Option<f64> {
        let own = self.own_connections();
        let all = self.connections.get();
        let rate = self.target_rate()?;
        // A quotient of equals would be 1, but a product may be rounded.
        Some(if own == all {
            rate
        } else {
            rate * own as f64 / all as f64
        })
    }
}

/// When all shards of a run start, by the clocks of their hosts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartAt {
    /// `2026-01-31T12:00:00Z` or `@1769860800`: at this time.
    At(SystemTime),
    /// `+10s`: this time after the begin of the run.
    In(Duration),
    /// `next:10s`: at the next multiple of this time since 1970 that leaves time to connect.
    Next(Duration),
}

impl StartAt {
    /// The time of the start of a run that begins `now`, and spreads its connects over `ramp`.
    ///
    /// A multiple that is nearer than the ramp and a quarter of the distance between two of them is
    /// left out. `None` if there is no such time.
    pub fn resolve(self, now: SystemTime, ramp: Duration) -> Option<SystemTime> {
        match self {
            Self::At(time) => Some(time),
            Self::In(duration) => now.checked_add(duration),
            Self::Next(duration) => {
                let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
                let earliest = since_1970.checked_add(ramp)?.checked_add(duration / 4)?;
                let multiple = earliest
                    .as_nanos()
                    .checked_next_multiple_of(duration.as_nanos())?;
                let multiple = Duration::from_nanos(u64::try_from(multiple).ok()?);
                SystemTime::UNIX_EPOCH.checked_add(multiple)
            }
        }
    }
}

impl FromStr for StartAt {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(duration) = text.strip_prefix('+') {
            return Ok(Self::In(duration_of(duration)?));
        }
        if let Some(duration) = text.strip_prefix("next:") {
            return match duration_of(duration)? {
                Duration::ZERO => Err("next:0 is no time; write next:10s".into()),
                duration => Ok(Self::Next(duration)),
            };
        }
        let time = match text.strip_prefix('@') {
            Some(seconds) => seconds
                .parse()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .and_then(|since_1970| SystemTime::UNIX_EPOCH.checked_add(since_1970)),
            None => humantime::parse_rfc3339(text).ok(),
        };
        time.map(Self::At).ok_or_else(|| {
            let problem = format!(
                "`{text}` is no time; write it in UTC, 2026-01-31T12:00:00Z, in seconds since 1970, \
                 @1769860800, as +10s from now, or as next:10s"
            );
            problem.into()
        })
    }
}

fn duration_of(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::At(time) => humantime::format_rfc3339(time).fmt(f),
            Self::In(duration) => write!(f, "+{}", units::format_duration(duration)),
            Self::Next(duration) => write!(f, "next:{}", units::format_duration(duration)),
        }
    }
}

impl Serialize for StartAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StartAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    fn start(text: &str) -> StartAt {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_start_is_a_time_or_relative_to_now() {
        let resolve = |text: &str, ramp| start(text).resolve(at(1001.0), ramp);
        let none = Duration::ZERO;
        assert_eq!(resolve("1970-01-01T00:30:00Z", none), Some(at(1800.0)));
        assert_eq!(resolve("@1800.5", none), Some(at(1800.5)));
        assert_eq!(resolve("+1500ms", none), Some(at(1002.5)));
        assert_eq!(resolve("next:10s", none), Some(at(1010.0)));
        // 9 s before the multiple there are 2.5 s to connect, but not 8.
        assert_eq!(
            resolve("next:10s", Duration::from_secs(8)),
            Some(at(1020.0))
        );
        assert_eq!(start("next:2s").resolve(at(1001.6), none), Some(at(1004.0)));
    }

    #[test]
    fn what_is_no_start_is_refused_with_what_would_do() {
        for (text, part) in [
            ("noon", "+10s"),
            ("2026-01-31", "2026-01-31T12:00:00Z"),
            ("@x", "@1769860800"),
            ("+x", "x"),
            ("next:", "duration"),
            ("next:0", "next:10s"),
        ] {
            let error = text.parse::<StartAt>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_start_reads_back() {
        for text in [
            "+10s",
            "next:5s",
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.5Z",
        ] {
            assert_eq!(start(&start(text).to_string()), start(text));
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_all_shards_add_up(total in 0_u64..1000, size in 1_usize..50) {
            let parts = (0..size).map(|rank| {
                let size = NonZeroUsize::new(size).unwrap();
                Shard { rank, size, start_at: None, max_skew: MAX_SKEW }.part_of(total)
            });
            prop_assert_eq!(parts.sum::<u64>(), total);
        }
    }
}
