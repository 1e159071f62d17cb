//! Charts independent of their format: figures, labels and styles.
//!
//! A `class` names a style of the page.

use super::scale::Scale;

/// A chart.
#[derive(Debug, Default)]
pub(super) struct Chart {
    /// Its heading and name.
    pub(super) title: String,
    /// A longer description for screen readers.
    pub(super) description: String,
    /// In pixels, without the labels.
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Shaded ranges of the x axis, behind everything.
    pub(super) bands: Vec<Band>,
    /// Vertical lines with labels.
    pub(super) markers: Vec<Marker>,
    pub(super) lines: Vec<Line>,
    /// Vertical bars with ends.
    pub(super) whiskers: Vec<Whisker>,
    /// Places with text to read, ordered by x.
    pub(super) stops: Vec<Stop>,
}

/// An axis and its labels.
#[derive(Debug, Default)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: &'static str,
}

/// A shaded range.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
}

/// A vertical line.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) at: f64,
    pub(super) class: &'static str,
    pub(super) label: String,
}

/// One line, in several pieces if there are gaps.
#[derive(Debug)]
pub(super) struct Line {
    /// Label in the legend; empty for none.
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) shape: Shape,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// How a line's points are drawn.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Shape {
    /// A line.
    #[default]
    Open,
    /// A line, and the filled area below it.
    Filled,
    /// A dot at each point.
    Dots,
}

/// The interval of a figure.
#[derive(Debug)]
pub(super) struct Whisker {
    pub(super) at: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) class: &'static str,
}

/// A range of the x axis with a text to read.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Positions of its dots.
    pub(super) at: f64,
    pub(super) dots: Vec<(f64, &'static str)>,
    pub(super) text: String,
}

/// Ratios with their intervals on one axis.
#[derive(Debug)]
pub(super) struct Forest {
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) rows: Vec<ForestRow>,
}

/// A ratio in a forest plot.
#[derive(Debug)]
pub(super) struct ForestRow {
    pub(super) class: &'static str,
    pub(super) description: String,
    /// The ratios that are worse than the threshold allows.
    pub(super) worse: (f64, f64),
    pub(super) ratio: Option<f64>,
    /// Drawn thin.
    pub(super) decisive: Option<(f64, f64)>,
    /// Drawn thick.
    pub(super) interval: Option<(f64, f64)>,
}

/// A part of a bar that shows the composition of a whole.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) ratio: f64,
}

impl Line {
    /// A line through points, or several lines if there are gaps.
    pub(super) fn new(
        name: &'static str,
        class: &'static str,
        pieces: Vec<Vec<(f64, f64)>>,
    ) -> Self {
        Self {
            name,
            class,
            shape: Shape::Open,
            pieces,
        }
    }

    /// A dot at each point.
    pub(super) fn dots(name: &'static str, class: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self {
            shape: Shape::Dots,
            ..Self::new(name, class, vec![points])
        }
    }
}

impl Axis {
    /// With the scale's ticks, labelled with no more digits than necessary.
    pub(super) fn new(
        scale: Scale,
        about: usize,
        title: &'static str,
        label: impl Fn(f64) -> String,
    ) -> Self {
        Self {
            scale,
            ticks: scale
                .ticks(about)
                .into_iter()
                .map(|tick| (tick, without_zeros(label(tick))))
                .collect(),
            title,
        }
    }
}

/// `10 µs` for `10.0 µs`.
pub(super) fn without_zeros(label: String) -> String {
    let (figure, unit) = label.split_once(' ').unwrap_or((&label, ""));
    if !figure.contains('.') {
        return label;
    }
    match figure.trim_end_matches('0').trim_end_matches('.') {
        "0" | "" => "0".to_owned(),
        figure => format!("{figure} {unit}").trim_end().to_owned(),
    }
}

/// Figures that each apply to a range, as a line of steps. An unknown figure makes a gap.
pub(super) fn steps(
    figures: impl IntoIterator<Item = (f64, f64, Option<f64>)>,
) -> Vec<Vec<(f64, f64)>> {
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut is_open = false;
    for (from, to, figure) in figures {
        match figure {
            Some(value) => {
                if !is_open {
                    pieces.push(Vec::new());
                }
                if let Some(piece) = pieces.last_mut() {
                    piece.extend([(from, value), (to, value)]);
                }
                is_open = true;
            }
            None => is_open = false,
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_gaps_where_nothing_is_known() {
        let pieces = steps([
            (0.0, 1.0, Some(5.0)),
            (1.0, 2.0, Some(6.0)),
            (2.0, 3.0, None),
            (3.0, 4.0, Some(7.0)),
        ]);
        assert_eq!(
            pieces,
            [
                vec![(0.0, 5.0), (1.0, 5.0), (1.0, 6.0), (2.0, 6.0)],
                vec![(3.0, 7.0), (4.0, 7.0)],
            ]
        );
    }

    #[test]
    fn labels_have_no_more_digits_than_they_need() {
        for (label, short) in [
            ("10.0 µs", "10 µs"),
            ("2.50 ms", "2.5 ms"),
            ("100 µs", "100 µs"),
            ("0.00 kbit/s", "0"),
            ("10 000", "10 000"),
            ("0.50", "0.5"),
        ] {
            assert_eq!(without_zeros(label.to_owned()), short);
        }
    }
}
