//! Lines of JSON with what happens in a watch, as it happens.
//!
//! Each line has a `kind` and the wall clock's `time`; other times are seconds since the start of the watch.
//! The last line has `"kind": "summary"`.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{MAX_WAITING, write};
use crate::observer::watch::{WatchEvent, WatchObserver};
use crate::plan::watch::WatchPlan;
use crate::report::stream::{Stream, StreamError};
use crate::result::watch::{AbsenceCause, Failures, OutageClass, ProbeKind, WatchResult};

/// Writes each event as a line of JSON.
#[derive(Debug)]
pub struct WatchNdjson {
    lines: Stream<Line>,
    targets: Vec<String>,
}

/// A line with its time.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    #[serde(flatten)]
    event: Event,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Event {
    Start {
        targets: Vec<String>,
    },
    OutageBegan {
        #[serde(flatten)]
        whom: Whom,
        start_s: f64,
        class: OutageClass,
        error: Option<String>,
    },
    OutageEnded(Stretch),
    Late(Stretch),
    Reconnected {
        #[serde(flatten)]
        whom: Whom,
        reconnect_s: f64,
    },
    ClientAbsent {
        start_s: f64,
        end_s: f64,
        cause: AbsenceCause,
    },
    Summary {
        started_at: String,
        interrupted: bool,
        duration_s: f64,
        targets: Vec<Summary>,
        absent_s: f64,
        /// Number of missing lines.
        dropped: u64,
    },
}

/// Whose probes.
#[derive(Debug, Serialize)]
struct Whom {
    target: String,
    probes: ProbeKind,
    /// The index of a persistent connection.
    connection: usize,
}

#[derive(Debug, Serialize)]
struct Stretch {
    #[serde(flatten)]
    whom: Whom,
    start_s: f64,
    end_s: f64,
    length_s: f64,
    class: OutageClass,
    count: u64,
}

/// The outcome for one kind of probes, with the keys of the result.
#[derive(Debug, Serialize)]
struct Summary {
    target: String,
    kind: ProbeKind,
    probes: u64,
    answered: u64,
    late: u64,
    failed: Failures,
    availability: Option<f64>,
    outage_count: u64,
    outage_total_s: f64,
    longest_outage_s: f64,
}

impl WatchNdjson {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(plan: &WatchPlan, out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Stream::start("loadgen-ndjson", MAX_WAITING, |lines| write(lines, out))?;
        let targets = plan.targets.iter().map(ToString::to_string).collect();
        let mut ndjson = Self { lines, targets };
        let targets = ndjson.targets.clone();
        ndjson.put(Event::Start { targets });
        Ok(ndjson)
    }

    /// Writes the summary and waits until everything is written.
    ///
    /// # Errors
    /// A line could not be written, or lines are missing.
    pub fn finish(self, result: &WatchResult) -> Result<(), StreamError> {
        self.lines.finish(|dropped| line(summary(result, dropped)))
    }

    fn put(&mut self, event: Event) {
        self.lines.put(line(event));
    }

    fn whom(&self, target: usize, probes: ProbeKind, connection: usize) -> Whom {
        Whom {
            target: self.targets.get(target).cloned().unwrap_or_default(),
            probes,
            connection,
        }
    }

    fn event(&self, event: &WatchEvent) -> Event {
        match event {
            WatchEvent::OutageBegan {
                target,
                kind,
                connection,
                start,
                class,
                error,
            } => Event::OutageBegan {
                whom: self.whom(*target, *kind, *connection),
                start_s: start.as_secs_f64(),
                class: *class,
                error: error.clone(),
            },
            WatchEvent::Ended {
                target,
                kind,
                connection,
                start,
                end,
                class,
                probes,
            } => {
                let whom = self.whom(*target, *kind, *connection);
                let stretch = stretch(whom, (*start, *end), *class, *probes);
                match class {
                    OutageClass::Late => Event::Late(stretch),
                    _ => Event::OutageEnded(stretch),
                }
            }
            WatchEvent::Reconnected {
                target,
                connection,
                after,
                ..
            } => Event::Reconnected {
                whom: self.whom(*target, ProbeKind::Persistent, *connection),
                reconnect_s: after.as_secs_f64(),
            },
            WatchEvent::ClientAbsent { start, end, cause } => Event::ClientAbsent {
                start_s: start.as_secs_f64(),
                end_s: end.as_secs_f64(),
                cause: *cause,
            },
        }
    }
}

impl WatchObserver for WatchNdjson {
    fn event(&mut self, event: &WatchEvent) {
        let event = Self::event(self, event);
        self.put(event);
    }
}

fn line(event: Event) -> Line {
    Line {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        event,
    }
}

fn stretch(
    whom: Whom,
    (start, end): (Duration, Duration),
    class: OutageClass,
    count: u64,
) -> Stretch {
    Stretch {
        whom,
        start_s: start.as_secs_f64(),
        end_s: end.as_secs_f64(),
        length_s: end.saturating_sub(start).as_secs_f64(),
        class,
        count,
    }
}

fn summary(result: &WatchResult, dropped: u64) -> Event {
    let targets = result.targets.iter().map(|target| Summary {
        target: target.target.clone(),
        kind: target.kind,
        probes: target.probes,
        answered: target.answered,
        late: target.late,
        failed: target.failed,
        availability: target.availability,
        outage_count: target.outage_count,
        outage_total_s: target.outage_total_s,
        longest_outage_s: target.longest_outage_s,
    });
    Event::Summary {
        started_at: result.started_at.clone(),
        interrupted: result.interrupted,
        duration_s: result.duration_s,
        targets: targets.collect(),
        absent_s: result.client.absent_s,
        dropped,
    }
}
