//! The layout of the screen.

use loadgen::report::format;
use loadgen::result::{Code, Counts, Status, Verdict};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::charts;
use super::palette::Palette;
use super::view::View;
use crate::terminal::live_state;
use crate::terminal::style;

/// Columns of the figures' names.
const NAME_COLUMNS: usize = 10;
/// Separator between figures of a line.
const GAP: &str = "   ";
/// Maximum width of the gauge; the rest of the line explains it.
const MAX_GAUGE: u16 = 40;
/// Percentage of the width for charts over time; the rest is for the distribution.
const TIME_SHARE: u16 = 58;
/// Below this height, the traffic chart above the latency chart is left out.
const MIN_ROWS_FOR_BOTH: u16 = 12;

/// Draws the whole screen, or as much as fits.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let figures = figures(view);
    let [target, load, gauge, charts, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(figures.len() as u16),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(
        named("target", vec![Span::raw(view.target)], view.palette),
        target,
    );
    frame.render_widget(
        named("load", vec![Span::raw(view.load)], view.palette),
        load,
    );
    frame.render_widget(gauge_line(view, gauge.width), gauge);
    draw_charts(frame, charts, view);
    for (line, row) in figures.into_iter().zip(below.rows()) {
        frame.render_widget(line, row);
    }
    frame.render_widget(keys_line(view), keys);
}

fn draw_charts(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    if view.is_one_way {
        return charts::flow(frame, area, view);
    }
    let [over_time, distribution] =
        Layout::horizontal([Constraint::Percentage(TIME_SHARE), Constraint::Fill(1)])
            .spacing(1)
            .areas(area);
    // Two charts that are too low show less than one.
    let flow_rows = if area.height < MIN_ROWS_FOR_BOTH {
        Constraint::Length(0)
    } else {
        Constraint::Percentage(45)
    };
    let [flow, latency] = Layout::vertical([flow_rows, Constraint::Fill(1)]).areas(over_time);
    charts::flow(frame, flow, view);
    charts::latency(frame, latency, view);
    charts::distribution(frame, distribution, view);
}

/// The phase and its progress.
fn gauge_line(view: &View<'_>, width: u16) -> Line<'static> {
    let stage = view.state.stage(view.now);
    let name = if view.is_ending { "ending" } else { stage.name };
    let mut spans = vec![Span::styled(
        format!("{name:<NAME_COLUMNS$}  "),
        view.palette.strong,
    )];
    if let Some(ratio) = stage.ratio {
        let columns = usize::from((width / 3).min(MAX_GAUGE));
        spans.push(Span::styled(
            style::bar(ratio, columns),
            view.palette.amount,
        ));
        spans.push(Span::raw(format!(
            " {:3.0} %{GAP}",
            (ratio * 100.0).floor()
        )));
    }
    spans.push(Span::raw(format::clock(stage.elapsed)));
    if let Some(length) = stage.length {
        spans.push(Span::raw(format!(" of {}", format::clock(length))));
    }
    if let Some((run, runs)) = stage.run {
        spans.push(Span::raw(format!("{GAP}run {run} of {runs}")));
    }
    if view.is_frozen {
        spans.push(Span::styled(format!("{GAP}frozen"), view.palette.strong));
    }
    Line::from(spans)
}

/// The lines of figures below the charts.
fn figures(view: &View<'_>) -> Vec<Line<'static>> {
    vec![
        rate_line(view),
        latency_line(view),
        messages_line(view),
        failures_line(view),
        sockets_line(view),
        verdict_line(view),
    ]
}

fn rate_line(view: &View<'_>) -> Line<'static> {
    let flow = view.state.present_flow();
    let now = match flow {
        None => format::UNKNOWN.to_owned(),
        Some(flow) if view.is_stream => format::bits_per_second(flow.bits_per_second()),
        Some(flow) => format::rate(flow.rate()),
    };
    let mut pairs = vec![("now", now)];
    if let Some(asked) = view.asked {
        pairs.push(("target", format::rate(asked)));
    }
    if let (Some(flow), false) = (flow, view.is_stream) {
        pairs.push(("payload", format::bits_per_second(flow.bits_per_second())));
    }
    pairs_line("rate", pairs, view.palette)
}

fn latency_line(view: &View<'_>) -> Line<'static> {
    let latencies = view.state.latencies();
    let palette = view.palette;
    let pairs = [
        ("p50", latencies.and_then(|l| l.p50), palette.usual),
        ("p90", latencies.and_then(|l| l.p90), palette.rare),
        ("p99", latencies.and_then(|l| l.p99), palette.rare),
        ("p99.9", latencies.and_then(|l| l.p99_9), palette.worst),
        ("max", latencies.map(|l| l.max), palette.worst),
    ];
    let pairs = pairs
        .into_iter()
        .map(|(name, value, style)| (name, format::duration(value), style));
    styled_line("latency", pairs, palette)
}

fn messages_line(view: &View<'_>) -> Line<'static> {
    let counts = counts(view);
    let pairs = vec![
        ("sent", format::grouped(counts.sent)),
        ("received", format::grouped(counts.received)),
    ];
    pairs_line("messages", pairs, view.palette)
}

fn failures_line(view: &View<'_>) -> Line<'static> {
    let pairs = live_state::message_failures(&counts(view))
        .into_iter()
        .map(|(name, count)| failure(name, count, view.palette));
    styled_line("failures", pairs, view.palette)
}

fn sockets_line(view: &View<'_>) -> Line<'static> {
    let counts = counts(view);
    let opened = (
        "opened",
        format::grouped(counts.opened),
        view.palette.amount,
    );
    let pairs = live_state::connection_failures(&counts)
        .into_iter()
        .map(|(name, count)| failure(name, count, view.palette));
    styled_line(
        "sockets",
        std::iter::once(opened).chain(pairs),
        view.palette,
    )
}

/// A count that should be zero.
fn failure(name: &'static str, count: u64, palette: &Palette) -> (&'static str, String, Style) {
    let style = if count > 0 {
        palette.trouble
    } else {
        Style::new()
    };
    (name, format::grouped(count), style)
}

/// The verdict so far, and whether the client keeps up.
fn verdict_line(view: &View<'_>) -> Line<'static> {
    let palette = view.palette;
    let totals = view.state.totals.as_ref();
    let lag = totals.and_then(|totals| totals.send_lag_p99_ns);
    let p99 = view.state.latencies().and_then(|latencies| latencies.p99);
    let ratio = lag
        .zip(p99)
        .map(|(lag, p99)| lag as f64 / p99.max(1) as f64);
    let (name, style) = match Verdict::so_far(view.plan, &counts(view), ratio) {
        (Status::Valid, _) => ("valid".to_owned(), Style::new()),
        (Status::Suspect, code) => (with_code("SUSPECT", code), palette.trouble),
        (Status::Invalid, code) => (with_code("INVALID", code), palette.trouble),
    };
    let mut pairs = vec![("so far", name, style)];
    if view.asked.is_some() {
        let of_latency = ratio.map_or_else(String::new, |ratio| {
            format!(", {} of the latency", format::percent(ratio))
        });
        let text = format!("{}{of_latency}", format::duration(lag));
        pairs.push(("lag p99", text, Style::new()));
    }
    styled_line("verdict", pairs, palette)
}

fn with_code(name: &str, code: Option<Code>) -> String {
    code.map_or_else(|| name.to_owned(), |code| format!("{name} ({code})"))
}

fn counts(view: &View<'_>) -> Counts {
    let totals = view.state.totals.as_ref();
    totals.map_or_else(Counts::default, |totals| totals.counts)
}

fn keys_line(view: &View<'_>) -> Line<'static> {
    let mut keys = vec![("q", if view.is_ending { "ending" } else { "end" })];
    if view.asked.is_some() {
        keys.push(("+ -", "rate ±10 %"));
        keys.push(("* /", "rate ×2 ÷2"));
    }
    keys.push(("p", if view.is_frozen { "resume" } else { "freeze" }));
    let mut spans = vec![Span::styled(
        format!("{:<NAME_COLUMNS$}", "keys"),
        view.palette.label,
    )];
    for (key, meaning) in keys {
        spans.push(Span::styled(key, view.palette.strong));
        spans.push(Span::raw(format!(" {meaning}{GAP}")));
    }
    Line::from(spans)
}

fn pairs_line(
    name: &'static str,
    pairs: Vec<(&'static str, String)>,
    palette: &Palette,
) -> Line<'static> {
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| (name, value, palette.amount));
    styled_line(name, pairs, palette)
}

/// A line of figures with their names.
fn styled_line(
    name: &'static str,
    pairs: impl IntoIterator<Item = (&'static str, String, Style)>,
    palette: &Palette,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (name, value, style) in pairs {
        spans.push(Span::styled(format!("{name} "), palette.label));
        spans.push(Span::styled(value, style));
        spans.push(Span::raw(GAP));
    }
    named(name, spans, palette)
}

fn named<'a>(name: &'static str, spans: Vec<Span<'a>>, palette: &Palette) -> Line<'a> {
    let mut all = vec![Span::styled(
        format!("{name:<NAME_COLUMNS$}"),
        palette.label,
    )];
    all.extend(spans);
    Line::from(all)
}

#[cfg(test)]
mod tests;
