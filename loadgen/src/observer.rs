//! Who watches a run, and who steers it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::result::IntervalResult;

pub use crate::engine::slice::Slice;
pub use crate::engine::tcp::TcpSamples;

/// What a run is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Connections are made.
    Connecting,
    /// Messages flow and are not counted, for so long.
    WarmingUp(Duration),
    /// Messages count; for so long, if that is known.
    Measuring(Option<Duration>),
    /// What is out may still come back.
    Draining,
}

/// How a run is going.
#[derive(Debug)]
pub struct Live<'a> {
    /// Time since the start of the window, and the window's planned length.
    pub elapsed: Duration,
    /// See above.
    pub length: Option<Duration>,
    /// What happened since the last time, and how long that was.
    pub slice: &'a Slice,
    /// See above.
    pub slice_length: Duration,
    /// What happened since the start.
    pub total: &'a Slice,
    /// Whether the schedule alone decides when messages are due.
    pub is_open_loop: bool,
}

/// Is told how a run is going, on the coordinator's thread, which measures nothing: but while it is
/// busy here, what the measuring threads report has to wait.
pub trait Observer: Send {
    /// The run enters a phase.
    fn phase(&mut self, _phase: Phase) {}

    /// The window of a run begins at `begin`, a moment to come.
    fn window(&mut self, _begin: SystemTime) {}

    /// A slice of the window is complete: some tens of times in a run, several times a second in a
    /// short one.
    fn slice(&mut self, _live: &Live<'_>) {}

    /// An interval of the time series is complete. `samples` is all that was recorded in it. What
    /// the streams beside the workload received is not known yet.
    fn interval(&mut self, _interval: &IntervalResult, _samples: &Slice) {}

    /// The wait for echoes after the window is over, and something happened in it: the last interval
    /// of the time series.
    fn drain(&mut self, _interval: &IntervalResult, _samples: &Slice) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Steers a run from other threads; clones steer the same one.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stop: Arc<AtomicBool>,
    rate: Arc<AtomicU64>,
}

impl Control {
    /// Ends the run early, with a valid result of what was measured until then. Returns whether that
    /// had been asked for before.
    pub fn stop(&self) -> bool {
        self.stop.swap(true, Ordering::Relaxed)
    }

    /// Whether the run is to end early.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sets the rate of an open loop, in messages per second of the whole run, from now on.
    pub fn set_rate(&self, rate: f64) {
        // All bits zero would say that no rate was set.
        let bits = rate.max(f64::MIN_POSITIVE).to_bits();
        self.rate.store(bits, Ordering::Relaxed);
    }

    /// The rate that was set last.
    pub fn rate(&self) -> Option<f64> {
        match self.rate.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    /// One that stops with this one and has a rate of its own.
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
