//! The progress line: one line on the terminal, rewritten in place.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use loadgen::Plan;
use loadgen::report::format;
use ratatui::crossterm::terminal;

use crate::terminal::live_state::{self, LiveState, Stage};
use crate::terminal::style;
use crate::terminal::updates::{Update, Updates};

/// Time between two lines.
const PERIOD: Duration = Duration::from_millis(200);
/// Width for terminals that do not report theirs.
const USUAL_WIDTH: u16 = 80;
/// Characters of the bar.
const BAR: usize = 16;
/// Separator between the parts of a line.
const SEPARATOR: &str = "  ";
/// Returns to the start of the line; erases from the cursor on (ECMA-48, CR and EL).
const REWIND: &str = "\r";
const ERASE: &str = "\x1b[K";
/// Colours (ECMA-48, SGR).
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Whether stderr is a terminal on which a line can be rewritten.
pub(crate) fn is_possible() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a run of `plan` on stderr until the updates are dropped.
///
/// # Errors
/// The error of the kernel if no thread can be started.
pub(crate) fn start(plan: &Plan) -> io::Result<Updates> {
    let state = LiveState::new(plan, Instant::now());
    let is_stream = plan.direction().is_some();
    Updates::start("loadgen-line", move |update| show(update, state, is_stream))
}

fn show(update: &Receiver<Update>, mut state: LiveState, is_stream: bool) {
    let mut shown = String::new();
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        match update.recv_timeout(due.saturating_duration_since(now)) {
            Ok(update) => state.take(update),
            Err(RecvTimeoutError::Timeout) => {
                let parts = parts(&state, now, is_stream);
                let line = fit(parts, usize::from(width()), style::wants_color());
                if line != shown {
                    write(&line);
                    shown = line;
                }
                due = now + PERIOD;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    write("");
}

/// Joins texts to a line that fits the terminal.
pub(crate) fn fitted(texts: &[String]) -> String {
    fit_parts(texts.iter().cloned().map(Part::Text).collect())
}

/// Rewrites the line on the terminal.
pub(crate) fn write(line: &str) {
    // The run continues without its progress line.
    let _ = io::stderr().write_all(format!("{REWIND}{line}{ERASE}").as_bytes());
}

/// Joins parts to a line that fits the terminal.
pub(crate) fn fit_parts(parts: Vec<Part>) -> String {
    fit(parts, usize::from(width()), style::wants_color())
}

/// A part of the line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// The fill of a bar. Left out if the rest needs its room.
    Bar(f64),
    /// A figure.
    Text(String),
    /// A failure.
    Trouble(String),
}

fn width() -> u16 {
    match terminal::size() {
        Ok((width @ 1.., _)) => width,
        _ => USUAL_WIDTH,
    }
}

/// The parts of the line, most important first.
fn parts(state: &LiveState, now: Instant, is_stream: bool) -> Vec<Part> {
    let stage = state.stage(now);
    let mut parts = vec![Part::Text(name(&stage))];
    if let Some(ratio) = stage.ratio {
        parts.push(Part::Bar(ratio));
        parts.push(Part::Text(format!("{:.0} %", (ratio * 100.0).floor())));
    }
    parts.push(Part::Text(
        stage
            .time_left()
            .unwrap_or_else(|| format::clock(stage.elapsed)),
    ));
    if let Some(flow) = state.present_flow() {
        parts.push(Part::Text(if is_stream {
            format::bits_per_second(flow.bits_per_second())
        } else {
            format::rate(flow.rate())
        }));
    }
    if let Some(totals) = &state.totals {
        let counts = &totals.counts;
        let messages = live_state::message_failures(counts);
        for (name, count) in messages
            .into_iter()
            .chain(live_state::connection_failures(counts))
        {
            if count > 0 {
                parts.push(Part::Trouble(format!("{name} {}", format::grouped(count))));
            }
        }
    }
    if let Some(latencies) = state.latencies() {
        for (name, value) in [
            ("p50", latencies.p50),
            ("p99", latencies.p99),
            ("max", Some(latencies.max)),
        ] {
            parts.push(Part::Text(format!("{name} {}", format::duration(value))));
        }
    }
    parts
}

fn name(stage: &Stage) -> String {
    match stage.run {
        Some((run, runs)) => format!("run {run} of {runs} {}", stage.name),
        None => stage.name.to_owned(),
    }
}

/// Joins parts to a line. The last column stays free, because some terminals wrap there.
fn fit(mut parts: Vec<Part>, width: usize, is_colored: bool) -> String {
    let room = width.saturating_sub(1);
    let length = |parts: &[Part]| -> usize {
        let texts: usize = parts.iter().map(|part| part.text().chars().count()).sum();
        texts + SEPARATOR.len() * parts.len().saturating_sub(1)
    };
    if length(&parts) > room {
        parts.retain(|part| !matches!(part, Part::Bar(_)));
    }
    let mut line = String::new();
    let mut left = room;
    for (index, part) in parts.iter().enumerate() {
        let separator = if index > 0 { SEPARATOR } else { "" };
        let text: String = separator
            .chars()
            .chain(part.text().chars())
            .take(left)
            .collect();
        left -= text.chars().count();
        if is_colored && matches!(part, Part::Trouble(_)) {
            line.extend([RED, &text, PLAIN]);
        } else {
            line.push_str(&text);
        }
    }
    line
}

impl Part {
    /// Its characters.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Bar(ratio) => style::bar(*ratio, BAR),
            Self::Text(text) | Self::Trouble(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use loadgen::result::histogram;
    use proptest::prelude::*;

    use super::*;
    use crate::terminal::live_state::tests::{plan, update};

    fn state(start: Instant) -> LiveState {
        let mut latency = histogram::empty();
        latency.record_n(84_200, 1_000).unwrap();
        let mut update = update(start, 0, 5_000, &latency);
        let totals = update.totals.as_mut().unwrap();
        totals.counts.lost = 1_234;
        let mut state = LiveState::new(&plan("-c 1"), start);
        state.take(update);
        state
    }

    #[test]
    fn a_line_says_what_counts_in_the_width_there_is() {
        let start = Instant::now();
        let now = start + Duration::from_secs(4);
        let parts = parts(&state(start), now, false);
        let wide = "measuring  ██████░░░░░░░░░░  40 %  6.0 s left  5 000 /s  lost 1 234  \
                    p50 84.2 µs  p99 84.2 µs  max 84.2 µs";
        assert_eq!(fit(parts.clone(), 200, false), wide);
        let narrow = "measuring  40 %  6.0 s left  5 000 /s  lost 1 234";
        assert_eq!(fit(parts.clone(), 50, false), narrow);
        let colored = fit(parts, 200, true);
        assert!(
            colored.contains("\x1b[31m  lost 1 234\x1b[0m"),
            "{colored:?}"
        );
    }

    #[test]
    fn a_stream_has_bits_and_no_messages() {
        let start = Instant::now();
        let line = fit(parts(&state(start), start, true), 200, false);
        assert!(
            line.contains("2.56 Mbit/s") && !line.contains("/s /s"),
            "{line}"
        );
    }

    proptest! {
        #[test]
        fn no_line_wraps(width in 0_usize..200) {
            let start = Instant::now();
            let line = fit(parts(&state(start), start, false), width, false);
            prop_assert!(line.chars().count() < width.max(1));
        }
    }
}
