//! What a run has where nothing else is asked for: of the command line and of [`Plan::builder`].

use std::num::NonZeroUsize;
use std::time::Duration;

use super::sizes::Sizes;
use super::{Load, Opening, Pacing, Plan, Priority, SocketOptions, Target, TlsOptions, Workload};

/// The length of the window if neither it nor a number of messages is given.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The length of the warm-up before a window with a length.
pub const WARMUP: Duration = Duration::from_secs(1);
/// The messages per second on connections that are held open, over all of them.
pub const PROBE_RATE: f64 = 100.0;
/// The length of an interval of the time series, in a run of up to an hour.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most intervals, so that the result of a day is no larger than that of an hour.
const MAX_INTERVALS: u32 = 3600;

/// The number of connections.
pub fn connections(workload: Workload) -> NonZeroUsize {
    match workload {
        Workload::Request | Workload::Churn { .. } => number(16),
        Workload::Stream { .. } => number(1),
        Workload::Idle => number(1000),
    }
}

/// The messages in flight on each connection of a closed loop.
pub fn pipeline(workload: Workload) -> NonZeroUsize {
    match workload {
        Workload::Stream { .. } => number(4),
        Workload::Request | Workload::Churn { .. } | Workload::Idle => number(1),
    }
}

/// The size of the messages.
pub fn size(workload: Workload, is_datagram: bool) -> Sizes {
    Sizes::Fixed(match workload {
        // The largest size that most networks carry unfragmented.
        Workload::Stream { .. } if is_datagram => 1400,
        Workload::Stream { .. } => 64 << 10,
        Workload::Request | Workload::Churn { .. } | Workload::Idle => 64,
    })
}

/// The timeout: shorter for datagrams, which may be lost.
pub fn timeout(is_datagram: bool) -> Duration {
    Duration::from_secs(if is_datagram { 1 } else { 5 })
}

/// The length of an interval of the time series in a window of this length.
pub fn interval(window: Option<Duration>) -> Duration {
    INTERVAL.max(window.unwrap_or_default() / MAX_INTERVALS)
}

const fn number(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("above 0")
}

/// A closed loop of 64-byte messages on 16 connections and one thread, for ten seconds after a second
/// of warm-up, to an echod in this process with one worker. The seed is 0: each run sends the same.
impl Default for Plan {
    fn default() -> Self {
        let workload = Workload::Request;
        Self {
            target: Target::Embedded {
                embedded_workers: NonZeroUsize::MIN,
            },
            workload,
            connections: connections(workload),
            threads: NonZeroUsize::MIN,
            load: Load::Closed {
                pipeline: pipeline(workload),
            },
            size: size(workload, false),
            duration: Some(WINDOW),
            warmup: WARMUP,
            requests: None,
            ramp: Duration::ZERO,
            timeout: timeout(false),
            seed: 0,
            verify: true,
            interval: interval(Some(WINDOW)),
            pacing: Pacing::default(),
            priority: Priority::default(),
            sources: Vec::new(),
            opening: Opening::default(),
            tls: TlsOptions::default(),
            socket: SocketOptions::default(),
            background: None,
            repeat: NonZeroUsize::MIN,
            server_admin: None,
            shard: None,
        }
    }
}
