//! When a shard started, for its result and for its verdict.

use std::time::{Duration, SystemTime};

use echomark::net::units::format_duration;

use crate::host;
use crate::plan::Shard;
use crate::result::{ClockState, Code, Reason, ShardResult};

/// The start of a run that is a part of a larger one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommonStart {
    /// The start that all agreed on, if they did.
    pub(crate) planned: Option<SystemTime>,
    /// The start of the schedule, on the threads' clock,
    pub(crate) start_ns: u64,
    /// and the time of day then.
    pub(crate) at: SystemTime,
    /// Whether a time source keeps the clock,
    pub(crate) is_synchronized: bool,
    /// and its maximum error, if the kernel tells.
    pub(crate) max_error: Option<Duration>,
}

impl CommonStart {
    /// The shard's part of the result. `began_at` is when its last thread really started.
    pub(crate) fn result(&self, shard: &Shard, began_at: u64) -> ShardResult {
        ShardResult {
            rank: shard.rank,
            size: shard.size.get(),
            start_at: self.planned.map(time),
            started_at: time(self.started_at(began_at)),
            clock: ClockState {
                synchronized: self.is_synchronized,
                max_error_ns: self.max_error.map(|error| error.as_nanos() as u64),
                boot_id: host::boot_id(),
            },
        }
    }

    /// An objection to a start that is too late.
    pub(crate) fn objection(&self, shard: &Shard, began_at: u64) -> Option<Reason> {
        let late = self
            .started_at(began_at)
            .duration_since(self.planned?)
            .unwrap_or_default();
        (late > shard.max_skew).then(|| {
            Reason::suspect(
                Code::StartedLate,
                format!(
                    "it started {} after the common start (--start-at), more than {} (--max-skew); \
                     the host did not run it in time",
                    format_duration(late),
                    format_duration(shard.max_skew)
                ),
            )
        })
    }

    fn started_at(&self, began_at: u64) -> SystemTime {
        self.at + Duration::from_nanos(began_at.saturating_sub(self.start_ns))
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn the_start_is_when_the_last_thread_was_ready() {
        let start = CommonStart {
            planned: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)),
            start_ns: 7_000_000_000,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(100_001),
            is_synchronized: true,
            max_error: Some(Duration::from_micros(30)),
        };
        let shard = Shard {
            rank: 1,
            size: NonZeroUsize::new(3).unwrap(),
            start_at: None,
            max_skew: Duration::from_millis(3),
        };
        let in_time = start.result(&shard, 7_000_000_000);
        assert_eq!(
            in_time.start_at.as_deref(),
            Some("1970-01-01T00:01:40.000000000Z")
        );
        assert_eq!(in_time.started_at, "1970-01-01T00:01:40.001000000Z");
        assert_eq!(in_time.clock.max_error_ns, Some(30_000));
        assert_eq!(start.objection(&shard, 7_002_000_000), None);
        let late = start.objection(&shard, 7_002_000_001).expect("too late");
        assert_eq!(late.code, Code::StartedLate);
        let started = start.result(&shard, 7_002_000_001).started_at;
        assert_eq!(started, "1970-01-01T00:01:40.003000001Z");
    }
}
