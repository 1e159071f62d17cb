//! The charts of the screen: traffic and latency over time, and the distribution of latencies.

use std::time::Duration;

use echomark::net::units::format_duration_ns;
use loadgen::report::format;
use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Paragraph};

use super::palette::Palette;
use super::view::View;
use crate::terminal::live_state::Bar;
use crate::terminal::updates::{FlowPoint, LatencyPoint};

/// Rows of a chart besides the plot: title, axis and labels.
const FRAME_ROWS: u16 = 3;
/// Below this size, a chart is not readable.
const MIN_WIDTH: u16 = 24;
const MIN_HEIGHT: u16 = FRAME_ROWS + 2;
/// Below this height, optional time axes are left out.
const MIN_HEIGHT_FOR_AXIS: u16 = FRAME_ROWS + 5;
/// Columns of a latency, of a share, and of the gaps beside a bar.
const LATENCY_COLUMNS: usize = 7;
const SHARE_COLUMNS: usize = 7;
const GAPS: usize = 3;

/// Draws the traffic over time.
pub(crate) fn flow(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let points = view.state.flow.points();
    let name = if view.is_stream {
        "payload per second"
    } else {
        "echoes per second"
    };
    let block = titled(vec![Span::raw(name)], view.palette);
    let value = |point: &FlowPoint| {
        if view.is_stream {
            point.bits_per_second()
        } else {
            point.rate()
        }
    };
    let label = |value: f64| {
        if view.is_stream {
            short_bits(value)
        } else {
            format::number(value)
        }
    };
    let (Some(first), Some(last), true) = (points.first(), points.last(), has_room(area)) else {
        return nothing(frame, area, block, view);
    };
    let mut line = vec![(0.0, value(first))];
    line.extend(points.iter().map(|p| (p.end.as_secs_f64(), value(p))));
    let top = round_up(line.iter().map(|&(_, value)| value).fold(0.0, f64::max));
    let is_low = area.height < MIN_HEIGHT_FOR_AXIS;
    let values = if is_low {
        vec![0.0, top]
    } else {
        vec![0.0, top / 2.0, top]
    };
    let series = [Series {
        line,
        style: view.palette.amount,
    }];
    let y_axis = Axis::default()
        .bounds([0.0, top])
        .labels(values.into_iter().map(label));
    // With few rows, the time axis of the chart below serves both charts.
    let x_axis = if is_low {
        Axis::default().bounds([0.0, last.end.as_secs_f64()])
    } else {
        time_axis(last.end)
    };
    chart(frame, area, block, &series, [x_axis, y_axis], view.palette);
}

/// Draws response times over time, on a logarithmic scale.
pub(crate) fn latency(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let points = view.state.latency.points();
    let palette = view.palette;
    let block = titled(
        vec![
            Span::raw("response time, from above: "),
            Span::styled("max", palette.worst),
            Span::raw(", "),
            Span::styled("p99", palette.rare),
            Span::raw(", "),
            Span::styled("p50", palette.usual),
        ],
        palette,
    );
    let (Some(last), true) = (points.last(), has_room(area)) else {
        return nothing(frame, area, block, view);
    };
    let series = [
        Series::of(points, |point| point.p50_ns, palette.usual),
        Series::of(points, |point| point.p99_ns, palette.rare),
        Series::of(points, |point| Some(point.max_ns), palette.worst),
    ];
    let values = || series.iter().flat_map(|s| s.line.iter().map(|&(_, y)| y));
    let bottom = values().fold(f64::INFINITY, f64::min).floor();
    let top = values().fold(f64::NEG_INFINITY, f64::max).ceil();
    let top = top.max(bottom + 1.0);
    let labels = decades(bottom, top, usize::from(area.height - FRAME_ROWS));
    let y_axis = Axis::default().bounds([bottom, top]).labels(labels);
    chart(
        frame,
        area,
        block,
        &series,
        [time_axis(last.end), y_axis],
        palette,
    );
}

/// Draws the distribution of response times so far.
pub(crate) fn distribution(frame: &mut Frame<'_>, area: Rect, view: &View<'_>) {
    let block = titled(vec![Span::raw("response times so far")], view.palette);
    let inner = block.inner(area);
    let bars = view.state.bars(usize::from(inner.height));
    let used = LATENCY_COLUMNS + SHARE_COLUMNS + GAPS;
    let width = usize::from(inner.width).saturating_sub(used);
    let latencies = view.state.latencies();
    let is_possible = has_room(area) && width > 0 && !bars.is_empty();
    let (Some(latencies), true) = (latencies, is_possible) else {
        return nothing(frame, area, block, view);
    };
    let most = bars.iter().map(|bar| bar.share).fold(0.0, f64::max);
    let style = |bar: &Bar| {
        let is_above = |limit: Option<u64>| limit.is_some_and(|limit| bar.from_ns > limit as f64);
        match () {
            () if is_above(latencies.p99) => view.palette.worst,
            () if is_above(latencies.p50) => view.palette.rare,
            () => view.palette.usual,
        }
    };
    let lines: Vec<Line<'_>> = bars
        .iter()
        .map(|bar| {
            let drawn = eighths(bar.share / most, width);
            Line::from(vec![
                Span::raw(format!(
                    "{:>LATENCY_COLUMNS$} ",
                    format_duration_ns(bar.from_ns)
                )),
                Span::styled(format!("{drawn:<width$}"), style(bar)),
                Span::raw(format!(" {:>SHARE_COLUMNS$}", format::percent(bar.share))),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// A line in a chart.
struct Series {
    line: Vec<(f64, f64)>,
    style: Style,
}

impl Series {
    /// The logarithm of a latency over time. Unknown values are bridged by a straight line.
    fn of(
        points: &[LatencyPoint],
        value: impl Fn(&LatencyPoint) -> Option<u64>,
        style: Style,
    ) -> Self {
        let mut line: Vec<(f64, f64)> = points
            .iter()
            .filter_map(|point| {
                let nanoseconds = value(point)?.max(1) as f64;
                Some((point.end.as_secs_f64(), nanoseconds.log10()))
            })
            .collect();
        // The first point is extended to the left, so that the chart shows something early.
        if let (Some(&(_, value)), Some(first)) = (line.first(), points.first())
            && line[0].0 <= first.end.as_secs_f64()
        {
            line.insert(0, (0.0, value));
        }
        Self { line, style }
    }
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    block: Block<'_>,
    series: &[Series],
    [x_axis, y_axis]: [Axis<'_>; 2],
    palette: &Palette,
) {
    let datasets = series
        .iter()
        .map(|series| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(series.style)
                .data(&series.line)
        })
        .collect();
    let chart = Chart::new(datasets)
        .block(block)
        .x_axis(x_axis.style(palette.label))
        .y_axis(y_axis.style(palette.label))
        .legend_position(None);
    frame.render_widget(chart, area);
}

fn time_axis(end: Duration) -> Axis<'static> {
    Axis::default()
        .bounds([0.0, end.as_secs_f64()])
        .labels([Duration::ZERO, end / 2, end].map(format::clock))
        .labels_alignment(Alignment::Right)
}

/// Says why there is nothing to show, if there is room.
fn nothing(frame: &mut Frame<'_>, area: Rect, block: Block<'_>, view: &View<'_>) {
    if !has_room(area) {
        return;
    }
    let text = if !view.state.is_measured() {
        "nothing is measured yet"
    } else if view.state.latencies().is_none() {
        "no echo yet"
    } else {
        "too few echoes yet"
    };
    let middle = block.inner(area).height.saturating_sub(1) / 2;
    let mut lines = vec![Line::default(); usize::from(middle)];
    lines.push(Line::styled(text, view.palette.label).centered());
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn titled<'a>(title: Vec<Span<'a>>, palette: &Palette) -> Block<'a> {
    let mut spans = vec![Span::raw(" ")];
    spans.extend(title);
    spans.push(Span::raw(" "));
    Block::new()
        .borders(Borders::TOP)
        .border_style(palette.label)
        .title(Line::from(spans))
        .title_style(Style::reset())
}

fn has_room(area: Rect) -> bool {
    area.width >= MIN_WIDTH && area.height >= MIN_HEIGHT
}

/// Labels of a logarithmic axis, one or more factors of ten apart.
fn decades(bottom: f64, top: f64, rows: usize) -> Vec<String> {
    let count = (top - bottom) as usize;
    let step = (1..=count)
        .find(|step| count.is_multiple_of(*step) && count / step < rows)
        .unwrap_or(count);
    (0..=count)
        .step_by(step)
        .map(|decade| short_duration(bottom as usize + decade))
        .collect()
}

/// A power of ten of nanoseconds.
fn short_duration(exponent: usize) -> String {
    let (unit, exponent) = match exponent {
        0..3 => ("ns", exponent),
        3..6 => ("µs", exponent - 3),
        6..9 => ("ms", exponent - 6),
        _ => ("s", exponent - 9),
    };
    format!("1{} {unit}", "0".repeat(exponent))
}

/// Bits per second for an axis: round numbers.
fn short_bits(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v >= 1e9 => format!("{} Gbit/s", v / 1e9),
        v if v >= 1e6 => format!("{} Mbit/s", v / 1e6),
        v => format!("{} kbit/s", v / 1e3),
    }
}

/// The next round number.
fn round_up(value: f64) -> f64 {
    let value = value.max(1.0);
    let decade = 10_f64.powf(value.log10().floor());
    [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|&top| top >= value)
        .unwrap_or(value)
}

/// A bar that fills `ratio` of `width`, to an eighth of a column. A positive ratio is always
/// visible.
fn eighths(ratio: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let most = width * 8;
    let least = usize::from(ratio > 0.0);
    let filled = ((ratio * most as f64).round() as usize).clamp(least, most.max(least));
    "█".repeat(filled / 8) + PARTS[filled % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithmic_axis_is_labelled_at_factors_of_ten() {
        assert_eq!(
            decades(4.0, 7.0, 8),
            ["10 µs", "100 µs", "1 ms", "10 ms"].map(str::to_owned)
        );
        assert_eq!(decades(4.0, 7.0, 3), ["10 µs", "10 ms"].map(str::to_owned));
        assert_eq!(decades(0.0, 12.0, 4).len(), 4);
        assert_eq!(short_duration(12), "1000 s");
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (4_998.0, 5_000.0),
            (5_001.0, 6_000.0),
            (20.0, 20.0),
        ] {
            assert_eq!(round_up(value), top);
        }
    }

    #[test]
    fn bits_on_an_axis_are_short() {
        for (value, text) in [(0.0, "0"), (1.2e9, "1.2 Gbit/s"), (6e8, "600 Mbit/s")] {
            assert_eq!(short_bits(value), text);
        }
    }

    #[test]
    fn the_smallest_share_shows() {
        assert_eq!(eighths(1e-9, 10), "▏");
        assert_eq!(eighths(0.0, 10), "");
        assert_eq!(eighths(0.5, 3), "█▌");
        assert_eq!(eighths(1.0, 3), "███");
    }
}
