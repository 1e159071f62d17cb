//! The layout of the screen of a watch.

use std::collections::VecDeque;
use std::time::Duration;

use loadgen::observer::watch::{TargetStatus, WatchEvent, WatchStatus};
use loadgen::plan::watch::WatchPlan;
use loadgen::report::format;
use loadgen::report::words;
use loadgen::result::watch::{OutageClass, ProbeKind, TimelineBin};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::terminal::tui::Palette;

/// Columns of the names on the left.
const NAME_COLUMNS: usize = 10;
/// Separator between figures of a line.
const GAP: &str = "   ";

/// The input of a frame.
pub(super) struct View<'a> {
    pub(super) plan: &'a WatchPlan,
    pub(super) status: &'a WatchStatus,
    /// The last events, oldest first.
    pub(super) events: &'a VecDeque<WatchEvent>,
    pub(super) is_ending: bool,
    pub(super) is_frozen: bool,
    pub(super) palette: &'a Palette,
}

/// Draws the whole screen, or as much as fits: who is watched, how it stands with each kind of probes, and
/// what happened last.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let width = usize::from(frame.area().width);
    let mut lines = heading(view);
    for target in &view.status.targets {
        lines.extend(state(target, view, width));
    }
    lines.push(Line::default());
    let [above, events, keys] = Layout::vertical([
        Constraint::Length(lines.len() as u16),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    for (line, row) in lines.into_iter().zip(above.rows()) {
        frame.render_widget(line, row);
    }
    let newest = view.events.iter().rev();
    for (event, row) in newest.zip(events.rows()) {
        frame.render_widget(happened(event, view), row);
    }
    frame.render_widget(keys_line(view), keys);
}

fn heading(view: &View<'_>) -> Vec<Line<'static>> {
    let targets = &view.plan.targets;
    let mut lines = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let name = match (index, targets.len()) {
            (0, 1) => "target".to_owned(),
            _ => format!("target {}", index + 1),
        };
        lines.push(named(
            &name,
            vec![Span::raw(target.to_string())],
            view.palette,
        ));
    }
    lines.push(named(
        "load",
        vec![Span::raw(words::watch_load(view.plan))],
        view.palette,
    ));
    lines.push(clock_line(view));
    lines
}

fn clock_line(view: &View<'_>) -> Line<'static> {
    let name = if view.is_ending { "ending" } else { "watching" };
    let mut spans = vec![Span::styled(
        format::clock(view.status.elapsed),
        view.palette.strong,
    )];
    if let Some(length) = view.plan.duration {
        spans.push(Span::raw(format!(" of {}", format::clock(length))));
    }
    let (absences, absent) = view.status.absences;
    if absences > 0 {
        let times = if absences == 1 { "time" } else { "times" };
        spans.push(Span::styled(
            format!(
                "{GAP}the client did not run {} {times}, {} together",
                format::grouped(absences),
                length(absent)
            ),
            view.palette.trouble,
        ));
    }
    if view.is_frozen {
        spans.push(Span::styled(format!("{GAP}frozen"), view.palette.strong));
    }
    named(name, spans, view.palette)
}

/// How it stands with one kind of probes: in words, in figures, and over time.
fn state(target: &TargetStatus, view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let palette = view.palette;
    let state = match target.out {
        Some((since, class)) => Span::styled(
            format!(
                "OUT for {}: {class}",
                format::clock(view.status.elapsed.saturating_sub(since))
            ),
            palette.trouble,
        ),
        None if target.answered > 0 => Span::styled("answers", palette.usual),
        None => Span::raw("nothing known yet"),
    };
    let name = super::line::name(target, view.plan.targets.len());
    let title = Line::from(vec![
        Span::styled(format!("{name}: "), palette.strong),
        state,
    ]);
    let count = |name, count: u64| {
        let style = if count > 0 {
            palette.trouble
        } else {
            Style::new()
        };
        (name, format::grouped(count), style)
    };
    let figure = |name, value: String| (name, value, palette.amount);
    let figures = [
        figure(
            "answered",
            format::known(target.availability().map(words::availability)),
        ),
        count("outages", target.outages),
        figure("longest", length(target.longest)),
        figure("together", length(target.total)),
        count("failed", target.failed),
        count("late", target.late),
    ];
    let times = [
        figure("p50", format::duration(target.p50_ns)),
        figure("p99", format::duration(target.p99_ns)),
        figure("max", format::duration(target.max_ns)),
    ];
    vec![
        Line::default(),
        title,
        styled_line("probes", figures, palette),
        styled_line("response", times, palette),
        over_time(target, width, palette),
    ]
}

/// A character for each part of the time, the last ones if there are more than columns.
fn over_time(target: &TargetStatus, width: usize, palette: &Palette) -> Line<'static> {
    let room = width.saturating_sub(NAME_COLUMNS + 1);
    let from = target.bins.len().saturating_sub(room);
    let cell = |bin: &TimelineBin| match bin {
        bin if bin.failed > 0 => Span::styled("█", palette.trouble),
        bin if bin.late > 0 => Span::styled("▒", palette.rare),
        bin if bin.answered > 0 => Span::styled("▁", palette.usual),
        _ => Span::raw(" "),
    };
    let name = format!("per {}", length(target.bin));
    named(
        &name,
        target.bins[from..].iter().map(cell).collect(),
        palette,
    )
}

/// An event, with its time.
fn happened(event: &WatchEvent, view: &View<'_>) -> Line<'static> {
    let (at, text, style) = in_words(event, view);
    let time = format!("{:<NAME_COLUMNS$}", format::clock(at));
    Line::from(vec![
        Span::styled(time, view.palette.label),
        Span::styled(text, style),
    ])
}

fn in_words(event: &WatchEvent, view: &View<'_>) -> (Duration, String, Style) {
    let palette = view.palette;
    match event {
        WatchEvent::OutageBegan {
            target,
            kind,
            connection,
            start,
            class,
            ..
        } => {
            let whom = whom(view, *target, *kind, *connection);
            (*start, format!("{whom} out: {class}"), palette.trouble)
        }
        WatchEvent::Ended {
            target,
            kind,
            connection,
            start,
            end,
            class,
            ..
        } => {
            let whom = whom(view, *target, *kind, *connection);
            let lasted = length(end.saturating_sub(*start));
            match class {
                OutageClass::Late => (*end, format!("{whom} late for {lasted}"), palette.rare),
                class => (
                    *end,
                    format!("{whom} answered again after {lasted} ({class})"),
                    palette.usual,
                ),
            }
        }
        WatchEvent::Reconnected {
            target,
            connection,
            at,
            after,
        } => {
            let whom = whom(view, *target, ProbeKind::Persistent, *connection);
            let text = format!("{whom} made again after {}", length(*after));
            (*at, text, Style::new())
        }
        WatchEvent::ClientAbsent { start, end, cause } => {
            let lasted = length(end.saturating_sub(*start));
            let text = format!("the client did not run for {lasted} ({cause})");
            (*end, text, palette.trouble)
        }
    }
}

/// Whose probes an event is about, with the target's number if there are several.
fn whom(view: &View<'_>, target: usize, kind: ProbeKind, connection: usize) -> String {
    let number = match view.plan.targets.len() {
        1 => String::new(),
        _ => format!("{} ", target + 1),
    };
    match kind {
        ProbeKind::New => format!("{number}new connections"),
        ProbeKind::Persistent => format!("{number}connection {connection}"),
    }
}

fn keys_line(view: &View<'_>) -> Line<'static> {
    let end = if view.is_ending { "ending" } else { "end" };
    let freeze = if view.is_frozen { "resume" } else { "freeze" };
    let mut spans = Vec::new();
    for (key, meaning) in [("q", end), ("p", freeze)] {
        spans.push(Span::styled(key, view.palette.strong));
        spans.push(Span::raw(format!(" {meaning}{GAP}")));
    }
    named("keys", spans, view.palette)
}

fn styled_line(
    name: &str,
    figures: impl IntoIterator<Item = (&'static str, String, Style)>,
    palette: &Palette,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (name, value, style) in figures {
        spans.push(Span::styled(format!("{name} "), palette.label));
        spans.push(Span::styled(value, style));
        spans.push(Span::raw("  "));
    }
    named(name, spans, palette)
}

fn named(name: &str, spans: Vec<Span<'static>>, palette: &Palette) -> Line<'static> {
    let mut all = vec![Span::styled(
        format!("{name:<NAME_COLUMNS$}"),
        palette.label,
    )];
    all.extend(spans);
    Line::from(all)
}

fn length(time: Duration) -> String {
    format::duration(Some(time.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use loadgen::result::watch::AbsenceCause;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen(width: u16, height: u16, out: Option<(Duration, OutageClass)>) -> String {
        let plan = WatchPlan::new(vec!["tcp://service:7777".parse().unwrap()]);
        let bin = |answered, failed| TimelineBin {
            answered,
            failed,
            ..TimelineBin::default()
        };
        let target = |kind| TargetStatus {
            target: 0,
            kind,
            out,
            answered: 9_999,
            failed: 1,
            late: 0,
            outages: 1,
            longest: Duration::from_millis(734),
            total: Duration::from_millis(734),
            p50_ns: Some(120_000),
            p99_ns: Some(450_000),
            max_ns: Some(2_000_000),
            bin: Duration::from_secs(1),
            bins: vec![bin(10, 0), bin(9, 1), bin(10, 0)],
        };
        let status = WatchStatus {
            elapsed: Duration::from_millis(62_500),
            targets: vec![target(ProbeKind::Persistent), target(ProbeKind::New)],
            absences: (1, Duration::from_secs(1)),
        };
        let events = VecDeque::from([
            WatchEvent::Ended {
                target: 0,
                kind: ProbeKind::New,
                connection: 0,
                start: Duration::from_secs(2),
                end: Duration::from_millis(2_734),
                class: OutageClass::Refused,
                probes: 7,
            },
            WatchEvent::ClientAbsent {
                start: Duration::from_secs(5),
                end: Duration::from_secs(6),
                cause: AbsenceCause::Stopped,
            },
        ]);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let palette = Palette::plain();
        let view = View {
            plan: &plan,
            status: &status,
            events: &events,
            is_ending: false,
            is_frozen: false,
            palette: &palette,
        };
        terminal.draw(|frame| draw(frame, &view)).unwrap();
        let cells = &terminal.backend().buffer().content;
        let lines = cells.chunks(usize::from(width).max(1));
        let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_screen_of_80_columns_shows_state_figures_and_events() {
        let out = Some((Duration::from_secs(60), OutageClass::Refused));
        let shown = screen(80, 24, out);
        for words in [
            "target    tcp://service:7777",
            "watching  1:02 min",
            "the client did not run 1 time, 1.00 s together",
            "persistent: OUT for 2.5 s: refused",
            "answered 99.990 %",
            "outages 1",
            "longest 734 ms",
            "max 2.00 ms",
            "▁█▁",
            "2.7 s     new connections answered again after 734 ms (refused)",
            "the client did not run for 1.00 s (stopped)",
            "q end",
        ] {
            assert!(shown.contains(words), "{words:?} is not in\n{shown}");
        }
        assert!(screen(80, 24, None).contains("new: answers"));
    }

    #[test]
    fn any_size_is_drawn() {
        for (width, height) in [(1, 1), (20, 5), (79, 10), (300, 100)] {
            screen(width, height, None);
        }
    }
}
