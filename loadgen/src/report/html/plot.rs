//! Charts as SVG. A chart stretches with the page, but its text does not: x positions are
//! percentages, and lines are drawn in a separate box that is stretched to the width.
//!
//! Everything is readable without the page's script: each stop has a title, which browsers show,
//! and dots, which CSS shows under the pointer.

use std::fmt::{Display, Write as _};

use super::markup::Html;
use crate::report::chart::{Chart, Forest, ForestRow, Shape, Share, Stop, Whisker};
use crate::report::document::Table;
use crate::report::format::percent as percent_of;
use crate::report::scale::Scale;

/// Width of the box with the lines, in its own units.
const WIDTH: f64 = 1000.0;
/// Maximum of characters of the last x label that is centered below its tick.
const MAX_CENTERED_LABEL: usize = 5;
/// Maximum of x labels on a narrow screen.
const MAX_NARROW_LABELS: usize = 6;
/// Height of the label of a marker in pixels, and the number of labels above each other.
const MARKER_ROW: f64 = 15.0;
const MARKER_ROWS: usize = 4;
/// Height of a row of a forest plot in pixels.
const FOREST_ROW: f64 = 26.0;

impl Chart {
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
        let every = self.x.ticks.len().div_ceil(MAX_NARROW_LABELS).max(1);
        for (index, (tick, label)) in self.x.ticks.iter().enumerate() {
            let place = self.x.scale.place(*tick);
            let x = percent(place);
            let class = match index % every {
                // Half of a long label would lie beside the page.
                0 if place > 0.99 && label.chars().count() > MAX_CENTERED_LABEL => "x last",
                0 => "x",
                _ => "x wide",
            };
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
        for (index, marker) in self.markers.iter().enumerate() {
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
                    // Labels of neighbours lie above each other.
                    &(self.height - 8.0 - MARKER_ROW * (index % MARKER_ROWS) as f64),
                    &anchor,
                    &marker.label,
                ],
            );
        }
    }

    /// Draws the lines, in a box stretched to the width of the plot.
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
        // Whisker ends of a fixed width can't be placed in per cent, so each is a short thick line.
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

/// Adds a table with a column of ratios and their intervals, drawn on one axis.
pub(super) fn forest(table: &Table, forest: &Forest, out: &mut Html) {
    out.put("<div class=\"scroll\" tabindex=\"0\"><table class=\"forest\">\n<thead><tr>");
    for (index, name) in table.head.iter().enumerate() {
        out.fill("<th scope=\"col\">{}</th>", &[name]);
        if index == 0 {
            out.put("<th scope=\"col\" class=\"wide\">less ← ratio → more</th>");
        }
    }
    out.put("</tr></thead>\n<tbody>\n");
    for (cells, row) in table.rows.iter().zip(&forest.rows) {
        out.put("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            if index == 0 {
                out.fill("<th scope=\"row\">{}</th><td class=\"wide\">", &[cell]);
                row.draw(forest.scale, out);
                out.put("</td>");
            } else if index + 1 == cells.len() {
                out.fill("<td class=\"{}\">{}</td>", &[&row.class, cell]);
            } else {
                out.fill("<td>{}</td>", &[cell]);
            }
        }
        out.put("</tr>\n");
    }
    out.put(
        "<tr aria-hidden=\"true\"><th></th><td class=\"wide\"><svg class=\"ratio\" height=\"18\">",
    );
    for (tick, label) in &forest.ticks {
        let place = percent(forest.scale.place(*tick));
        out.fill("<text x=\"{}\" y=\"13\">{}</text>", &[&place, label]);
    }
    out.fill(
        "</svg></td><td colspan=\"{}\"></td></tr>\n</tbody></table></div>\n",
        &[&(table.head.len() - 1)],
    );
}

/// Adds a bar of parts, and a legend with their size.
pub(super) fn shares(shares: &[Share], out: &mut Html) {
    out.put("<div class=\"shares\" aria-hidden=\"true\">");
    for share in shares.iter().filter(|share| share.ratio > 0.0) {
        let grow = if share.ratio.is_finite() {
            share.ratio
        } else {
            0.0
        };
        out.fill(
            "<i class=\"{}\" style=\"flex-grow:{}\" title=\"{}: {}\"></i>",
            &[
                &share.class,
                &format!("{grow:.4}"),
                &share.name,
                &percent_of(share.ratio),
            ],
        );
    }
    out.put("</div>\n<ul class=\"legend\">");
    for share in shares {
        out.fill(
            "<li><i class=\"box {}\"></i>{} {}</li>",
            &[&share.class, &share.name, &percent_of(share.ratio)],
        );
    }
    out.put("</ul>\n");
}

impl ForestRow {
    fn draw(&self, scale: Scale, out: &mut Html) {
        out.fill(
            "<svg class=\"ratio\" height=\"{}\" role=\"img\" aria-label=\"{}\">",
            &[&FOREST_ROW, &self.description],
        );
        let (from, to) = (scale.place(self.worse.0), scale.place(self.worse.1));
        out.fill(
            "<rect class=\"band stall\" x=\"{}\" width=\"{}\" height=\"{}\"/>",
            &[&percent(from), &percent((to - from).max(0.0)), &FOREST_ROW],
        );
        let one = percent(scale.place(1.0));
        out.fill(
            "<line class=\"one\" x1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            &[&one, &one, &FOREST_ROW],
        );
        if let Some(ratio) = self.ratio {
            for (class, interval) in [("decisive", self.decisive), ("interval", self.interval)] {
                if let Some((low, high)) = interval {
                    let ends = [low, high].map(|end| percent(scale.place(end)));
                    out.fill(
                        "<line class=\"{}\" x1=\"{}\" x2=\"{}\" y1=\"13\" y2=\"13\"/>",
                        &[&class, &ends[0], &ends[1]],
                    );
                }
            }
            out.fill(
                "<circle class=\"{}\" cx=\"{}\" cy=\"13\" r=\"5\"/>",
                &[&self.class, &percent(scale.place(ratio))],
            );
        }
        out.put("</svg>");
    }
}

/// Pixels or units, rounded to a tenth.
#[derive(Clone, Copy)]
struct Short(f64);

impl Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{rounded}")
    }
}

/// A percentage of the width.
fn percent(share: f64) -> String {
    format!("{}%", (share * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        assert_eq!(Short(12.3456).to_string(), "12.3");
        assert_eq!(Short(12.0).to_string(), "12");
        assert_eq!(percent(0.123_456), "12.35%");
        assert_eq!(percent(1.0), "100%");
    }
}
