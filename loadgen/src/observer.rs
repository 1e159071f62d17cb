//! Progress of a run, and its control.

pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::result::IntervalResult;

pub use crate::engine::slice::Slice;
pub use crate::engine::tcp::TcpSamples;

/// The phase of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Connections are made.
    Connecting,
    /// Messages flow but do not count, for this time.
    WarmingUp(Duration),
    /// Messages count; for this time, if it is known.
    Measuring(Option<Duration>),
    /// Outstanding messages may still come back.
    Draining,
}

/// The progress of a run.
#[derive(Debug)]
pub struct Live<'a> {
    /// Time since the start of the window.
    pub elapsed: Duration,
    /// The planned length of the window, if it is known.
    pub length: Option<Duration>,
    /// The events since the last progress.
    pub slice: &'a Slice,
    /// The length of the time since then.
    pub slice_length: Duration,
    /// The events since the start.
    pub total: &'a Slice,
    /// Whether the schedule alone decides when messages are due.
    pub is_open_loop: bool,
}

/// Receives the progress of a run, on the coordinator's thread. That thread measures nothing, but
/// while it is busy here, reports of the measuring threads have to wait.
pub trait Observer: Send {
    /// The run enters a phase.
    fn phase(&mut self, _phase: Phase) {}

    /// The window of a run will begin at `begin`.
    fn window(&mut self, _begin: SystemTime) {}

    /// A slice of the window is complete: several tens of times in a run, several times per second
    /// in a short one.
    fn slice(&mut self, _live: &Live<'_>) {}

    /// An interval of the time series is complete. `samples` are all of its records. The bytes
    /// received by background streams are not known yet.
    fn interval(&mut self, _interval: &IntervalResult, _samples: &Slice) {}

    /// The wait for echoes after the window is over, and something happened in it. This is the last
    /// interval of the time series.
    fn drain(&mut self, _interval: &IntervalResult, _samples: &Slice) {}
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Controls a run from other threads. Clones control the same run.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    rate: Arc<AtomicU64>,
}

impl Control {
    /// Ends the run early, with a valid result up to now. Returns whether that was requested
    /// before.
    pub fn stop(&self) -> bool {
        self.stop.swap(true, Ordering::Relaxed)
    }

    /// Whether the run has to end early.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sets the rate of an open loop, in messages per second of the whole run, from now on.
    pub fn set_rate(&self, rate: f64) {
        // A value of zero means that no rate was set.
        let bits = rate.max(f64::MIN_POSITIVE).to_bits();
        self.rate.store(bits, Ordering::Relaxed);
    }

    /// The last rate set.
    pub fn rate(&self) -> Option<f64> {
        match self.rate.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    /// A control that stops together with this one and has its own rate.
    pub(crate) fn with_own_rate(&self) -> Self {
        Self {
            stop: Arc::clone(&self.stop),
            rate: Arc::default(),
        }
    }

    pub(crate) fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    pub(crate) fn rate_flag(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rate)
    }
}
