//! How long this host fails to run us: a thread that asks to be run at known times and records how
//! late it was. What it sees, the measuring threads may have suffered too (after Gil Tene's jHiccup).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echomark::net::sys::monotonic_ns;
use hdrhistogram::Histogram;
use std::time::Duration;

use crate::record::histogram;

/// Time between two looks. A hiccup that is longer is always seen, a shorter one with the chance of
/// its share of this; and the looks themselves take next to nothing of the machine.
const PERIOD_NS: u64 = 5_000_000;

/// A probe that runs until it is asked for what it saw.
#[derive(Debug)]
pub(crate) struct HiccupProbe {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Histogram<u64>>,
}

impl HiccupProbe {
    /// Starts to look at `start`, a time of [`monotonic_ns`]. `None` if there is no thread to be had.
    pub(crate) fn start(start: u64) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            thread::Builder::new()
                .name("loadgen-hiccup".to_owned())
                .spawn(move || look(start, &stop))
                .ok()?
        };
        Some(Self { stop, thread })
    }

    /// What it saw.
    pub(crate) fn finish(self) -> Option<Histogram<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().ok()
    }
}

fn look(start: u64, stop: &AtomicBool) -> Histogram<u64> {
    let mut seen = histogram();
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
