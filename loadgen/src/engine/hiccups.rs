//! How long this host fails to run us: a thread that asks to be run at known times and records how
//! late it was. What it sees, the measuring threads may have suffered too (after Gil Tene's jHiccup).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use echomark::net::clock::monotonic_ns;
use hdrhistogram::Histogram;

use crate::result::histogram;

/// Time between two looks. A hiccup that is longer is always seen, a shorter one with the chance of
/// its share of this; and the looks themselves take next to nothing of the machine.
const PERIOD_NS: u64 = 5_000_000;

/// A probe that looks until it is asked for what it saw.
#[derive(Debug)]
pub(crate) struct HiccupProbe {
    start: Option<Sender<u64>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Histogram<u64>>>,
}

impl HiccupProbe {
    /// A probe that waits for its start, with the priority of the caller. It sees nothing if there is
    /// no thread to be had.
    pub(crate) fn new() -> Self {
        let (start, start_receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name("loadgen-hiccup".to_owned())
                .spawn(move || match start_receiver.recv() {
                    Ok(start) => look(start, &stop),
                    Err(_) => histogram::empty(),
                })
                .ok()
        };
        Self {
            start: Some(start),
            stop,
            thread,
        }
    }

    /// Starts to look at `start`, a time of [`monotonic_ns`].
    pub(crate) fn begin(&mut self, start: u64) {
        if let Some(sender) = self.start.take() {
            // Without a thread there is nobody to look.
            let _ = sender.send(start);
        }
    }

    /// What it saw.
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
        // Looks that fell into the hiccup were late too, each by the rest of it.
        due += PERIOD_NS;
        while due + PERIOD_NS < now {
            seen.saturating_record(now - due);
            due += PERIOD_NS;
        }
    }
    seen
}
