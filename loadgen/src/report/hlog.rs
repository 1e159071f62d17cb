//! An HdrHistogram interval log with the histograms of every interval, written during the run.
//! HdrHistogram's own tools read it.
//!
//! Each interval has a histogram of nanoseconds tagged `response` and one tagged `service`. Their
//! sums are the histograms of the result.

use std::io::{self, LineWriter, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::stream::{Stream, StreamError};
use crate::engine::slice::Slice;
use crate::observer::Observer;
use crate::result::IntervalResult;

/// Maximum of intervals waiting to be written. Each has two histograms, half a megabyte.
const MAX_WAITING: usize = 64;
/// Maxima are logged in milliseconds, as other tools do.
const NANOSECONDS_PER_MAX: f64 = 1e6;

/// Writes the histograms of each interval.
#[derive(Debug)]
pub struct HistogramLog {
    items: Stream<Item>,
    windows: Option<Windows>,
}

/// The start of the first window, which is the log's base time, and of the present window.
#[derive(Clone, Copy, Debug)]
struct Windows {
    first: SystemTime,
    present: SystemTime,
}

#[derive(Debug)]
enum Item {
    Interval(Box<Interval>),
    End { dropped: u64 },
}

#[derive(Debug)]
struct Interval {
    first_window: SystemTime,
    /// From the start of the first window.
    start: Duration,
    length: Duration,
    response: Histogram<u64>,
    service: Histogram<u64>,
}

impl HistogramLog {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let started = SystemTime::now();
        let items = Stream::start("loadgen-hlog", MAX_WAITING, move |items| {
            write(started, items, out)
        })?;
        Ok(Self {
            items,
            windows: None,
        })
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// An interval could not be written, or intervals are missing.
    pub fn finish(self) -> Result<(), StreamError> {
        self.items.finish(|dropped| Item::End { dropped })
    }
}

impl Observer for HistogramLog {
    fn window(&mut self, begin: SystemTime) {
        let first = self.windows.map_or(begin, |windows| windows.first);
        self.windows = Some(Windows {
            first,
            present: begin,
        });
    }

    fn interval(&mut self, interval: &IntervalResult, samples: &Slice) {
        let Some(windows) = self.windows else { return };
        // If the clock was set back, the result would be negative.
        let between = windows.present.duration_since(windows.first);
        self.items.put(Item::Interval(Box::new(Interval {
            first_window: windows.first,
            start: between.unwrap_or_default() + seconds(interval.start_s),
            length: seconds(interval.end_s - interval.start_s),
            response: samples.response.clone(),
            service: samples.service.clone(),
        })));
    }

    fn drain(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.interval(interval, samples);
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Writes a log of `items`. It begins with the first item, because the base time is known only
/// then.
fn write(
    started: SystemTime,
    items: impl IntoIterator<Item = Item>,
    out: impl Write,
) -> io::Result<()> {
    let mut items = items.into_iter().peekable();
    let base = match items.peek() {
        Some(Item::Interval(interval)) => interval.first_window,
        // The run failed before its window, and its error says so.
        None => return Ok(()),
        Some(Item::End { .. }) => started,
    };
    // Lines are written completely, so that the log is valid whenever the program ends.
    let mut out = LineWriter::new(out);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(concat!(
            "[Logged by ",
            env!("CARGO_PKG_NAME"),
            " ",
            env!("CARGO_PKG_VERSION"),
            "]"
        ))
        .add_comment(
            "Histograms in nanoseconds, maxima in milliseconds, times in seconds from the base time, \
             at which the window began",
        )
        .with_start_time(started)
        .with_base_time(base)
        .with_max_value_divisor(NANOSECONDS_PER_MAX)
        .begin_log_with(&mut out, &mut serializer)?;
    for item in items {
        match item {
            Item::Interval(interval) => {
                let Interval { start, length, .. } = *interval;
                for (name, histogram) in [
                    ("response", &interval.response),
                    ("service", &interval.service),
                ] {
                    log.write_histogram(histogram, start, length, Tag::new(name))
                        .map_err(|error| match error {
                            IntervalLogWriterError::IoError(error) => error,
                            IntervalLogWriterError::SerializeError(error) => {
                                io::Error::other(error)
                            }
                        })?;
                }
            }
            Item::End { dropped: 0 } => {}
            Item::End { dropped } => log.write_comment(&format!(
                "{dropped} intervals are missing, because they were not written fast enough"
            ))?,
        }
    }
    drop(log);
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::histogram;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn interval(start_ms: u64, sample: u64) -> Item {
        let mut response = histogram::empty();
        response.saturating_record(sample);
        Item::Interval(Box::new(Interval {
            first_window: SystemTime::UNIX_EPOCH + Duration::from_millis(5_250),
            start: Duration::from_millis(start_ms),
            length: Duration::from_millis(100),
            response,
            service: histogram::empty(),
        }))
    }

    #[test]
    fn the_log_says_when_and_how_long_and_of_what() {
        let mut log = Vec::new();
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(4_000);
        let items = [
            interval(0, 1_000_000),
            interval(100, 5_000),
            Item::End { dropped: 2 },
        ];
        write(started, items, &mut log).unwrap();
        let text = String::from_utf8(log.clone()).unwrap();
        assert!(text.contains("loadgen"), "{text}");
        assert!(
            text.ends_with("#2 intervals are missing, because they were not written fast enough\n")
        );
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&log)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(entries[0], LogEntry::StartTime(Duration::from_secs(4)));
        assert_eq!(entries[1], LogEntry::BaseTime(Duration::from_millis(5_250)));
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 4);
        for (index, tag) in ["response", "service", "response", "service"]
            .iter()
            .enumerate()
        {
            assert_eq!(intervals[index].tag(), Tag::new(tag));
            assert_eq!(intervals[index].duration(), Duration::from_millis(100));
        }
        assert_eq!(intervals[2].start_timestamp(), Duration::from_millis(100));
        // To three digits, in milliseconds.
        assert!(
            (intervals[0].max() - 1.0).abs() < 1e-3,
            "{}",
            intervals[0].max()
        );
    }

    #[test]
    fn a_run_without_an_interval_has_a_valid_log() {
        let mut log = Vec::new();
        write(SystemTime::now(), [Item::End { dropped: 0 }], &mut log).unwrap();
        assert!(!log.is_empty());
        assert!(IntervalLogIterator::new(&log).all(|entry| entry.is_ok()));
    }
}
