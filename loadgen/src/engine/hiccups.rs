//! Measures scheduling delays of this host: a thread asks to be woken at known times and records
//! its lateness. The measuring threads may have suffered the same delays (after Gil Tene's
//! jHiccup).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use hdrhistogram::Histogram;

use super::priority::Scheduling;
use crate::result::histogram;

/// Time between two wake-ups. Every hiccup longer than this is seen. The chance to see a shorter
/// one is proportional to its length. The probe's own CPU use is negligible.
const PERIOD_NS: u64 = 5_000_000;

/// A running probe.
#[derive(Debug)]
pub(crate) struct HiccupProbe {
    start: Option<Sender<u64>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Histogram<u64>>>,
}

impl HiccupProbe {
    /// A probe that waits for its start, with the priority of the measuring threads. If no thread can
    /// be started, it records nothing.
    pub(crate) fn new(scheduling: Scheduling) -> Self {
        let (start, start_receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name("loadgen-hiccup".to_owned())
                .spawn(move || {
                    scheduling.apply_priority();
                    match start_receiver.recv() {
                        Ok(start) => look(start, &stop),
                        Err(_) => histogram::empty(),
                    }
                })
                .ok()
        };
        Self {
            start: Some(start),
            stop,
            thread,
        }
    }

    /// Starts sampling at `start`, a time of [`monotonic_ns`].
    pub(crate) fn begin(&mut self, start: u64) {
        if let Some(sender) = self.start.take() {
            // No thread could be started.
            let _ = sender.send(start);
        }
    }

    /// Stops the probe and returns its samples.
    pub(crate) fn finish(mut self) -> Option<Histogram<u64>> {
        self.end()
    }

    fn end(&mut self) -> Option<Histogram<u64>> {
        self.start = None;
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        thread.join().ok()
    }
}

impl Drop for HiccupProbe {
    fn drop(&mut self) {
        self.end();
    }
}

fn look(start: u64, stop: &AtomicBool) -> Histogram<u64> {
    let mut seen = histogram::empty();
    let mut due = start + PERIOD_NS;
    while !stop.load(Ordering::Relaxed) {
        let now = monotonic_ns();
        if now < due {
            thread::park_timeout(Duration::from_nanos(due - now));
            continue;
        }
        seen.saturating_record(now - due);
        // The hiccup also delayed the wake-ups planned within it, each by the time that was left of
        // it.
        due += PERIOD_NS;
        while due + PERIOD_NS < now {
            seen.saturating_record(now - due);
            due += PERIOD_NS;
        }
    }
    seen
}
