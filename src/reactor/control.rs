//! What the workers of a server share: a wish that someone else sets, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::admission::Admission;
use crate::metrics::WorkerMetrics;

/// Shared by all workers of one server. No lock, nothing that blocks.
#[derive(Debug)]
pub(crate) struct Control {
    wish: AtomicU8,
    pub(crate) admission: Admission,
    pub(crate) metrics: Vec<Arc<WorkerMetrics>>,
}

/// What the workers are to do. Later ones override earlier ones, and there is no way back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wish {
    Serve,
    Drain,
    Stop,
}

impl Control {
    pub(crate) fn new(admission: Admission, metrics: Vec<Arc<WorkerMetrics>>) -> Self {
        Self {
            wish: AtomicU8::new(Wish::Serve as u8),
            admission,
            metrics,
        }
    }

    /// Asks for at least `wish`. Whoever asks wakes the workers afterwards.
    pub(crate) fn ask(&self, wish: Wish) {
        self.wish.fetch_max(wish as u8, Ordering::Relaxed);
    }

    pub(crate) fn wish(&self) -> Wish {
        match self.wish.load(Ordering::Relaxed) {
            0 => Wish::Serve,
            1 => Wish::Drain,
            _ => Wish::Stop,
        }
    }
}
