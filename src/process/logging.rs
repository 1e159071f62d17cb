//! The log on stderr. Logging never waits and never fails.
//!
//! The thread of an event formats it and puts it into a bounded queue; one thread writes the queue
//! to stderr. A line that does not fit into the queue, or that stderr does not take (a full disk, a
//! closed pipe, a closed terminal), is dropped and counted. So neither a worker nor a signal ever
//! waits for stderr.
//!
//! A repeated warning is logged some times and then suppressed for a while, so that recurring
//! trouble does not fill a disk.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::metrics;
use crate::net::sys;
use crate::settings::{LogFormat, LogLevel};

/// Lines that wait to be written: some hundred kilobytes at most.
const MAX_QUEUED_LINES: usize = 1024;
/// How long the end of the process waits for the queue to be written.
const MAX_FLUSH: Duration = Duration::from_secs(1);
/// How often a warning of one origin is logged within [`REPEAT_WINDOW`].
const MAX_REPEATS: u32 = 20;
const REPEAT_WINDOW: Duration = Duration::from_secs(60);

/// The log of this process. Dropping it waits, within a bound, until all lines are written.
#[derive(Debug)]
#[must_use = "what is not written when the process ends is lost"]
pub struct Log {
    queue: Queue,
    /// Locked by the thread that writes the lines, once it runs.
    lines: Arc<Mutex<Receiver<Vec<u8>>>>,
    is_writing: bool,
}

impl Log {
    /// Starts logging. From now on a panic is a line of the log too. Lines wait in the queue until
    /// they are to be written.
    pub fn start(format: LogFormat, level: LogLevel) -> Self {
        let (sender, lines) = mpsc::sync_channel(MAX_QUEUED_LINES);
        let queue = Queue {
            sender,
            unwritten: Arc::default(),
        };
        let writer = queue.clone();
        let builder = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::from(level))
            .with_writer(move || writer.clone())
            // It would report errors to stderr and panic if stderr is closed.
            .log_internal_errors(false)
            .with_target(false);
        match format {
            LogFormat::Text => {
                let is_colored = io::stderr().is_terminal() && no_color_is_unset();
                install(builder.with_ansi(is_colored).finish());
            }
            // The fields of a line stand beside its message, as log collectors expect.
            LogFormat::Json => install(builder.json().flatten_event(true).finish()),
        }
        panic::set_hook(Box::new(|panic| {
            let thread = thread::current();
            let panic = panic.to_string().replace('\n', " ");
            error!(thread = thread.name(), "{panic}");
        }));
        Self {
            queue,
            lines: Arc::new(Mutex::new(lines)),
            is_writing: false,
        }
    }

    /// Starts the thread that writes the lines, unless it runs. The program calls it once the process
    /// is confined, because the thread must be confined as well.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_writing(&mut self) -> io::Result<()> {
        if self.is_writing {
            return Ok(());
        }
        let lines = Arc::clone(&self.lines);
        let unwritten = Arc::clone(&self.queue.unwritten);
        thread::Builder::new()
            .name("echod-log".to_owned())
            .spawn(move || write_lines(lock(&lines).iter(), &unwritten))?;
        self.is_writing = true;
        Ok(())
    }

    /// Queues an unformatted line.
    pub fn say(&mut self, line: impl fmt::Display) {
        self.flush();
        self.queue.push(format!("{line}\n").into_bytes());
    }

    fn flush(&mut self) {
        const PAUSE: Duration = Duration::from_millis(1);
        if self.start_writing().is_err() {
            // Without a thread to write for it, this one writes what there is.
            write_lines(lock(&self.lines).try_iter(), &self.queue.unwritten);
            return;
        }
        let end = Instant::now() + MAX_FLUSH;
        while self.queue.unwritten.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            thread::park_timeout(PAUSE);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Sets the process's subscriber; an earlier one would stay in force.
fn install(subscriber: impl Subscriber + Send + Sync) {
    let _ = subscriber.with(RepeatLimit::default()).try_init();
}

/// <https://no-color.org>: any value but the empty one turns colour off.
fn no_color_is_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Lines on their way to stderr.
#[derive(Clone, Debug)]
struct Queue {
    sender: SyncSender<Vec<u8>>,
    /// Lines in the queue or being written.
    unwritten: Arc<AtomicUsize>,
}

impl Queue {
    fn push(&self, line: Vec<u8>) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        if self.sender.try_send(line).is_err() {
            self.unwritten.fetch_sub(1, Ordering::Relaxed);
            count_dropped();
        }
    }
}

impl Write for Queue {
    /// Each event is one line and one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock(lines: &Mutex<Receiver<Vec<u8>>>) -> MutexGuard<'_, Receiver<Vec<u8>>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_lines(lines: impl Iterator<Item = Vec<u8>>, unwritten: &AtomicUsize) {
    for line in lines {
        if io::stderr().write_all(&line).is_err() {
            count_dropped();
        }
        unwritten.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count_dropped() {
    metrics::LOG_DROPPED_LINES.fetch_add(1, Ordering::Relaxed);
}

/// Suppresses repeated warnings and errors of one origin.
#[derive(Debug, Default)]
struct RepeatLimit {
    origins: Mutex<HashMap<Identifier, Repeats>>,
}

impl<S: Subscriber> Layer<S> for RepeatLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // A line is made by allocations that can't fail in order.
        if !sys::refill_reserve() {
            count_dropped();
            return false;
        }
        let metadata = event.metadata();
        // The more verbose level is the greater one.
        if *metadata.level() > Level::WARN {
            return true;
        }
        // While another thread holds the lock, an extra line is harmless, and waiting is not.
        let Ok(mut origins) = self.origins.try_lock() else {
            return true;
        };
        let repeats = origins.entry(metadata.callsite()).or_default();
        let verdict = repeats.admit(Instant::now());
        drop(origins);
        if verdict == Verdict::Tell {
            return true;
        }
        count_dropped();
        if verdict == Verdict::LeaveOutFrom {
            let mut message = Message::default();
            event.record(&mut message);
            warn!(
                "lines like \"{}\" are left out for up to {} s",
                message.0,
                REPEAT_WINDOW.as_secs()
            );
        }
        false
    }
}

/// How often an origin was logged lately.
#[derive(Debug, Default)]
struct Repeats {
    since: Option<Instant>,
    count: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Tell,
    /// Leave out this line, the first to be left out, and say so.
    LeaveOutFrom,
    LeaveOut,
}

impl Repeats {
    fn admit(&mut self, now: Instant) -> Verdict {
        if self.since.is_none_or(|since| now - since >= REPEAT_WINDOW) {
            self.since = Some(now);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            ..=MAX_REPEATS => Verdict::Tell,
            count if count == MAX_REPEATS + 1 => Verdict::LeaveOutFrom,
            _ => Verdict::LeaveOut,
        }
    }
}

/// The text of an event without its fields.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_warning_is_told_again_when_its_window_is_over() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        for _ in 0..MAX_REPEATS {
            assert_eq!(repeats.admit(start), Verdict::Tell);
        }
        assert_eq!(repeats.admit(start), Verdict::LeaveOutFrom);
        let late = start + REPEAT_WINDOW - Duration::from_millis(1);
        assert_eq!(repeats.admit(late), Verdict::LeaveOut);
        assert_eq!(repeats.admit(start + REPEAT_WINDOW), Verdict::Tell);
    }

    #[test]
    fn lines_that_do_not_fit_into_the_queue_are_counted() {
        let (sender, lines) = mpsc::sync_channel(1);
        let mut queue = Queue {
            sender,
            unwritten: Arc::default(),
        };
        let before = metrics::LOG_DROPPED_LINES.load(Ordering::Relaxed);
        for line in ["first\n", "second\n"] {
            queue.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(lines.recv().unwrap(), b"first\n");
        assert!(lines.try_recv().is_err());
        assert!(metrics::LOG_DROPPED_LINES.load(Ordering::Relaxed) > before);
        assert_eq!(queue.unwritten.load(Ordering::Relaxed), 1);
    }
}
