//! Lines of JSON with the intervals, written during the run.
//!
//! Each interval is a line with the keys of an element of the result's `intervals` and `"kind":
//! "interval"`, without its histograms. The last line has `"kind": "summary"`. The bytes received
//! by background streams are not known yet, and null.

mod watch;

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::json;
use super::stream::{Stream, StreamError};
use crate::engine::slice::Slice;
use crate::observer::Observer;
use crate::result::Verdict;
use crate::result::{IntervalResult, Messages, Rate, RunResult};

pub use watch::WatchNdjson;

/// Maximum of lines waiting to be written: a few hundred bytes each, and seconds of the shortest
/// intervals.
const MAX_WAITING: usize = 1024;

/// Writes each interval as a line of JSON.
#[derive(Debug)]
pub struct Ndjson {
    lines: Stream<Line>,
    /// The start of this run's window on the result's time line, on which repeats follow each
    /// other.
    offset_s: f64,
    end_s: f64,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Interval(IntervalResult),
    Summary(Summary),
}

/// The outcome of the run, with the keys of the result.
#[derive(Debug, Serialize)]
struct Summary {
    started_at: String,
    interrupted: bool,
    duration_s: f64,
    rate: Rate,
    messages: Messages,
    verdict: Verdict,
    /// Number of missing intervals.
    dropped: u64,
}

impl Ndjson {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Stream::start("loadgen-ndjson", MAX_WAITING, |lines| write(lines, out))?;
        Ok(Self {
            lines,
            offset_s: 0.0,
            end_s: 0.0,
        })
    }

    /// Writes the summary and waits until everything is written.
    ///
    /// # Errors
    /// A line could not be written, or lines are missing.
    pub fn finish(self, result: &RunResult) -> Result<(), StreamError> {
        self.lines.finish(|dropped| {
            Line::Summary(Summary {
                started_at: result.started_at.clone(),
                interrupted: result.interrupted,
                duration_s: result.duration_s,
                rate: result.rate.clone(),
                messages: result.messages,
                verdict: result.verdict.clone(),
                dropped,
            })
        })
    }
}

impl Observer for Ndjson {
    fn window(&mut self, _begin: SystemTime) {
        self.offset_s = self.end_s;
    }

    fn interval(&mut self, interval: &IntervalResult, _samples: &Slice) {
        let mut interval = interval.clone();
        interval.start_s += self.offset_s;
        interval.end_s += self.offset_s;
        self.end_s = interval.end_s;
        self.lines.put(Line::Interval(interval));
    }

    fn drain(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.interval(interval, samples);
    }
}

/// Writes each line at once, so that a reader sees it.
fn write(lines: impl IntoIterator<Item = impl Serialize>, mut out: impl Write) -> io::Result<()> {
    for line in lines {
        let mut text = json::compact(&line)?;
        text.push('\n');
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}
