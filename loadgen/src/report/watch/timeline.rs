//! The timeline of each target: the longest response time of each part, with outages, late answers and
//! absences of the client behind it.

use crate::report::chart::{Axis, Band, Chart, Line, Shape, Stop, steps};
use crate::report::document::Section;
use crate::report::format::{duration, grouped};
use crate::report::scale::Scale;
use crate::result::watch::{TargetResult, TimelineBin, WatchResult};

use super::words;
use echomark::net::units::format_duration_ns;

/// The height of a chart in pixels.
const HEIGHT: f64 = 150.0;

/// Adds a chart for each target and kind of probes.
pub(super) fn describe(result: &WatchResult, section: &mut Section) {
    for target in &result.targets {
        if !target.timeline.bins.is_empty() {
            section.chart(chart(result, target));
        }
    }
    if !section.blocks.is_empty() {
        section.note(
            "The line is the longest response time of each part of the time. Behind it, **red**: outages; \
             **yellow**: late answers; **grey**: the client did not run.",
        );
    }
}

fn chart(result: &WatchResult, target: &TargetResult) -> Chart {
    let bins = || bins(target);
    let longest = bins().map(|(_, _, bin)| bin.max_ns).filter(|&it| it > 0);
    let (least, most) = (longest.clone().min(), longest.max());
    let x = Scale::linear(0.0, result.duration_s);
    let y = Scale::logarithmic(
        least.unwrap_or(1_000) as f64,
        most.unwrap_or(1_000_000) as f64,
    );
    let line = steps(bins().map(|(from, to, bin)| {
        let figure = (bin.max_ns > 0).then_some(bin.max_ns as f64);
        (from, to, figure)
    }));
    Chart {
        title: format!("{}, {}", target.target, super::of_kind(target.kind)),
        description: format!(
            "{} outages, {} in total, the longest {}",
            target.outage_count,
            words::length(target.outage_total_s),
            words::length(target.longest_outage_s)
        ),
        height: HEIGHT,
        x: Axis::new(x, 8, "seconds since the start", |tick| format!("{tick}")),
        y: Axis::new(y, 4, "longest response time", format_duration_ns),
        bands: bands(result, target),
        lines: vec![Line {
            name: "",
            class: "max",
            shape: Shape::Open,
            pieces: line,
        }],
        stops: bins().map(|bin| stop(bin, target)).collect(),
        ..Chart::default()
    }
}

/// The bins with their begin and end in seconds.
fn bins(target: &TargetResult) -> impl Iterator<Item = (f64, f64, &TimelineBin)> + Clone {
    let length = target.timeline.bin_s;
    let bins = target.timeline.bins.iter().enumerate();
    bins.map(move |(index, bin)| {
        let from = index as f64 * length;
        (from, from + length, bin)
    })
}

fn bands(result: &WatchResult, target: &TargetResult) -> Vec<Band> {
    let absences = result.client.absences.iter().map(|absence| Band {
        from: absence.start_s,
        to: absence.end_s,
        class: "band after",
    });
    let stretches = target.outages.iter().map(|outage| Band {
        from: outage.start_s,
        to: outage.end_s,
        class: if outage.is_outage() {
            "band outage"
        } else {
            "band retransmits"
        },
    });
    absences.chain(stretches).collect()
}

fn stop((from, to, bin): (f64, f64, &TimelineBin), target: &TargetResult) -> Stop {
    let mut text = format!(
        "{} to {}\n{} answered, the longest {}",
        words::moment(from),
        words::moment(to),
        grouped(bin.answered),
        duration((bin.max_ns > 0).then_some(bin.max_ns))
    );
    if bin.late > 0 {
        text += &format!("\n{} late", grouped(bin.late));
    }
    if bin.failed > 0 {
        text += &format!("\n{} failed", grouped(bin.failed));
    }
    for outage in &target.outages {
        if outage.start_s < to && outage.end_s > from {
            text += &format!(
                "\n{} for {}",
                outage.class,
                words::length(outage.length_s())
            );
        }
    }
    Stop {
        from,
        to,
        at: f64::midpoint(from, to),
        dots: Vec::new(),
        text,
    }
}
