//! A chart as SVG. It stretches with the page without stretching its text: what lies along the x axis is
//! placed in per cent, lines are drawn in a box of their own that is pulled to the width.
//!
//! Everything is readable without the page's script: each stop has a title, which browsers show, and
//! its dots, which the style shows when the pointer is over it.

use std::fmt::{Display, Write as _};

use super::markup::Html;
use super::scale::Scale;

/// Width of the box that lines are drawn in, in units of its own.
const WIDTH: f64 = 1000.0;
/// Labels on an x axis that have room on a narrow screen.
const MOST_NARROW_LABELS: usize = 6;

/// A chart.
pub(super) struct Plot {
    /// What it shows: its heading and name.
    pub(super) title: String,
    /// The same at more length, for those who can't see it.
    pub(super) description: String,
    /// In pixels, without the labels.
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Stretches of the x axis that are shaded, behind everything.
    pub(super) bands: Vec<Band>,
    /// Vertical lines with a word to each.
    pub(super) markers: Vec<Marker>,
    pub(super) lines: Vec<Line>,
    /// Vertical bars with ends.
    pub(super) whiskers: Vec<Whisker>,
    /// Where there is something to read, in the order of x.
    pub(super) stops: Vec<Stop>,
}

/// An axis and its labels.
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: &'static str,
}

/// A shaded stretch.
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) class: &'static str,
}

/// A vertical line.
pub(super) struct Marker {
    pub(super) at: f64,
    pub(super) class: &'static str,
    pub(super) label: String,
}

/// One line, in pieces where there are gaps.
pub(super) struct Line {
    /// In the legend; empty for none.
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) shape: Shape,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

/// What becomes of a line's points.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// A line.
    Open,
    /// A line, and what is below it filled.
    Filled,
    /// A dot at each point.
    Dots,
}

/// An interval that a figure lies in.
pub(super) struct Whisker {
    pub(super) at: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) class: &'static str,
}

/// A stretch of the x axis over which the same is to be read.
pub(super) struct Stop {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Where its dots are.
    pub(super) at: f64,
    pub(super) dots: Vec<(f64, &'static str)>,
    pub(super) text: String,
}

impl Axis {
    /// With ticks of the scale's choice, labelled with no more digits than they need.
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

/// Figures that each hold for a stretch, as a line of steps; without a figure there is a gap.
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

impl Plot {
    /// Adds the chart to a page.
    pub(super) fn draw(&self, out: &mut Html) {
        out.fill(
            "<figure class=\"chart\"><figcaption>{}</figcaption>\n",
            &[&self.title],
        );
        self.legend(out);
        out.fill(
            "<svg class=\"plot\" height=\"{}\" role=\"img\" tabindex=\"0\" aria-label=\"{}\">\n",
            &[
                &self.height,
                &format!("{}. {}", self.title, self.description),
            ],
        );
        for band in &self.bands {
            let (from, to) = (self.x.scale.place(band.from), self.x.scale.place(band.to));
            out.fill(
                "<rect class=\"{}\" x=\"{}\" y=\"0\" width=\"{}\" height=\"{}\"/>\n",
                &[
                    &band.class,
                    &percent(from),
                    &percent(to - from),
                    &self.height,
                ],
            );
        }
        self.axes(out);
        self.markers(out);
        self.curves(out);
        for whisker in &self.whiskers {
            self.whisker(whisker, out);
        }
        for stop in &self.stops {
            self.stop(stop, out);
        }
        out.put("</svg>\n");
        out.fill("<p class=\"axis\">{}</p></figure>\n", &[&self.x.title]);
    }

    fn legend(&self, out: &mut Html) {
        out.fill(
            "<ul class=\"legend\"><li class=\"unit\">{}</li>",
            &[&self.y.title],
        );
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            out.put("<li><svg class=\"swatch\" width=\"22\" height=\"10\" aria-hidden=\"true\">");
            match line.shape {
                Shape::Dots => out.fill(
                    "<circle class=\"{}\" cx=\"11\" cy=\"5\" r=\"4\"/>",
                    &[&line.class],
                ),
                Shape::Open | Shape::Filled => {
                    out.fill("<path class=\"{}\" d=\"M1 5H21\"/>", &[&line.class]);
                }
            }
            out.fill("</svg>{}</li>", &[&line.name]);
        }
        out.put("</ul>\n");
    }

    fn axes(&self, out: &mut Html) {
        out.put("<g class=\"axes\" aria-hidden=\"true\">");
        for (tick, label) in &self.y.ticks {
            let y = Short(self.y(*tick));
            out.fill(
                "<line x1=\"0\" x2=\"100%\" y1=\"{}\" y2=\"{}\"/><text class=\"y\" x=\"-8\" \
                 y=\"{}\">{}</text>",
                &[&y, &y, &y, label],
            );
        }
        let every = self.x.ticks.len().div_ceil(MOST_NARROW_LABELS).max(1);
        for (index, (tick, label)) in self.x.ticks.iter().enumerate() {
            let x = percent(self.x.scale.place(*tick));
            let class = if index % every == 0 { "x" } else { "x wide" };
            out.fill(
                "<line x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"{}\"/><text class=\"{}\" x=\"{}\" \
                 y=\"{}\">{}</text>",
                &[
                    &x,
                    &x,
                    &(self.height + 5.0),
                    &class,
                    &x,
                    &(self.height + 19.0),
                    label,
                ],
            );
        }
        out.put("</g>\n");
    }

    fn markers(&self, out: &mut Html) {
        for marker in &self.markers {
            let place = self.x.scale.place(marker.at);
            let x = percent(place);
            let anchor = if place > 0.5 { "end" } else { "start" };
            out.fill(
                "<g class=\"marker {}\"><line x1=\"{}\" x2=\"{}\" y1=\"0\" y2=\"{}\"/><text x=\"{}\" \
                 dx=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text></g>\n",
                &[
                    &marker.class,
                    &x,
                    &x,
                    &self.height,
                    &x,
                    &if place > 0.5 { -5 } else { 5 },
                    &(self.height - 8.0),
                    &anchor,
                    &marker.label,
                ],
            );
        }
    }

    /// The lines, in a box that is pulled to the width of the plot.
    fn curves(&self, out: &mut Html) {
        out.fill(
            "<svg width=\"100%\" height=\"{}\" viewBox=\"0 0 1000 {}\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">\n",
            &[&self.height, &self.height],
        );
        for line in self.lines.iter().filter(|line| line.shape != Shape::Dots) {
            let mut path = String::new();
            for piece in &line.pieces {
                self.trace(piece, line.shape, &mut path);
            }
            let fill = match line.shape {
                Shape::Filled => " filled",
                Shape::Open | Shape::Dots => "",
            };
            out.fill(
                "<path class=\"{}{}\" d=\"{}\"/>\n",
                &[&line.class, &fill, &path],
            );
        }
        out.put("</svg>\n");
        for line in self.lines.iter().filter(|line| line.shape == Shape::Dots) {
            for &(x, y) in line.pieces.iter().flatten() {
                self.dot(x, y, line.class, out);
            }
        }
    }

    fn trace(&self, piece: &[(f64, f64)], shape: Shape, path: &mut String) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
            return;
        };
        let point = |&(x, y): &(f64, f64)| {
            format!(
                "{} {}",
                Short(self.x.scale.place(x) * WIDTH),
                Short(self.y(y))
            )
        };
        // Writing to a String can't fail.
        let _ = write!(path, "M{}", point(first));
        for next in &piece[1..] {
            let _ = write!(path, "L{}", point(next));
        }
        if shape == Shape::Filled {
            let bottom = Short(self.height);
            let (from, to) = (self.x.scale.place(first.0), self.x.scale.place(last.0));
            let _ = write!(
                path,
                "L{} {bottom}L{} {bottom}Z",
                Short(to * WIDTH),
                Short(from * WIDTH)
            );
        }
    }

    fn whisker(&self, whisker: &Whisker, out: &mut Html) {
        let x = percent(self.x.scale.place(whisker.at));
        let (low, high) = (Short(self.y(whisker.low)), Short(self.y(whisker.high)));
        out.fill("<g class=\"whisker {}\">", &[&whisker.class]);
        out.fill(
            "<line x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>",
            &[&x, &x, &low, &high],
        );
        // Ends of a fixed width can't be placed in per cent, so a thick short line is one.
        for y in [low, high] {
            out.fill(
                "<svg x=\"{}\" y=\"{}\" overflow=\"visible\"><line x1=\"-5\" x2=\"5\"/></svg>",
                &[&x, &y],
            );
        }
        out.put("</g>\n");
    }

    fn stop(&self, stop: &Stop, out: &mut Html) {
        let (from, to) = (self.x.scale.place(stop.from), self.x.scale.place(stop.to));
        let at = percent(self.x.scale.place(stop.at));
        out.fill(
            "<g class=\"stop\"><rect x=\"{}\" width=\"{}\" height=\"{}\"/>",
            &[&percent(from), &percent(to - from), &self.height],
        );
        out.fill(
            "<line x1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            &[&at, &at, &self.height],
        );
        for &(y, class) in &stop.dots {
            self.dot(stop.at, y, class, out);
        }
        out.fill("<title>{}</title></g>\n", &[&stop.text]);
    }

    fn dot(&self, x: f64, y: f64, class: &'static str, out: &mut Html) {
        out.fill(
            "<circle class=\"{}\" cx=\"{}\" cy=\"{}\" r=\"4\"/>",
            &[&class, &percent(self.x.scale.place(x)), &Short(self.y(y))],
        );
    }

    fn y(&self, value: f64) -> f64 {
        self.height * (1.0 - self.y.scale.place(value))
    }
}

/// Pixels or units, to a tenth: finer than any screen shows.
#[derive(Clone, Copy)]
struct Short(f64);

impl Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{rounded}")
    }
}

/// A share of the width.
pub(super) fn percent(share: f64) -> String {
    format!("{}%", (share * 10_000.0).round() / 100.0)
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
    fn coordinates_are_short() {
        assert_eq!(Short(12.3456).to_string(), "12.3");
        assert_eq!(Short(12.0).to_string(), "12");
        assert_eq!(percent(0.123_456), "12.35%");
        assert_eq!(percent(1.0), "100%");
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
