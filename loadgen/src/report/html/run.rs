//! The page of a run: what it came to at the top, what it is made of below, what was asked for at the
//! end.

use echomark::net::units::format_duration_ns;

use super::markup::Html;
use super::{details, duration, latency, series};
use crate::plan::Direction;
use crate::report::format::{bits_per_second, grouped, number};
use crate::report::words;
use crate::result::statistics::QuantileEstimate;
use crate::result::{RunResult, Throughput};
use crate::result::{Status, Verdict};

/// The page's title.
pub(super) fn title(result: &RunResult) -> String {
    format!(
        "{}: {}",
        words::status(result.verdict.status),
        words::target(&result.plan)
    )
}

/// Adds the whole page.
pub(super) fn write(result: &RunResult, out: &mut Html) {
    out.put("<header>\n<p class=\"kind\">");
    out.fill("loadgen run · {}", &[&result.started_at]);
    if result.interrupted {
        out.put(" · <b>interrupted</b>");
    }
    out.fill(
        "</p>\n<h1>{}</h1>\n<p class=\"load\">{}</p>\n</header>\n",
        &[&words::target(&result.plan), &words::load_of(result)],
    );
    verdict(&result.verdict, &words::reassurance(&result.plan), out);
    tiles(result, out);
    latency::write(result, out);
    series::write(result, out);
    details::write(result, out);
}

/// Adds a verdict with its reasons.
pub(super) fn verdict(verdict: &Verdict, reassurance: &str, out: &mut Html) {
    let class = status_class(verdict.status);
    out.fill(
        "<section id=\"verdict\" class=\"verdict {}\"><h2><span class=\"badge\">{}</span> ",
        &[&class, &words::status(verdict.status)],
    );
    out.put(match verdict.status {
        Status::Valid => "Nothing speaks against these numbers",
        Status::Suspect => "Something may have bent these numbers",
        Status::Invalid => "These numbers do not show what was asked for",
    });
    out.put("</h2>\n");
    if verdict.reasons.is_empty() {
        out.fill("<p>{}.</p>\n", &[&capitalised(reassurance)]);
    } else {
        out.put("<ul>\n");
        for reason in &verdict.reasons {
            out.fill(
                "<li class=\"{}\"><code>{}</code> {}</li>\n",
                &[&status_class(reason.status), &reason.code, &reason.text],
            );
        }
        out.put("</ul>\n");
    }
    out.put("</section>\n");
}

/// The style of a status.
pub(super) fn status_class(status: Status) -> &'static str {
    match status {
        Status::Valid => "valid",
        Status::Suspect => "suspect",
        Status::Invalid => "invalid",
    }
}

/// The figures that are asked for first.
fn tiles(result: &RunResult, out: &mut Html) {
    out.put("<section id=\"summary\"><h2 class=\"unseen\">Summary</h2>\n<dl class=\"tiles\">\n");
    let rate = &result.rate;
    let offered = match rate.target {
        Some(target) => format!(
            "of {} /s asked for, {} /s offered",
            number(target),
            number(rate.offered)
        ),
        None => result
            .statistics
            .rate
            .as_ref()
            .map_or_else(String::new, |rate| {
                format!("95 % sure {} to {} /s", number(rate.low), number(rate.high))
            }),
    };
    let throughput = result.throughput;
    match result.plan.direction() {
        None => {
            tile(
                "achieved",
                &format!("{} /s", number(rate.achieved)),
                &offered,
                out,
            );
            percentile_tiles(result, out);
            tile(
                "throughput",
                &bits_per_second(throughput.received_bits_per_s),
                &ways(throughput),
                out,
            );
        }
        Some(direction) => {
            let (figure, note) = match direction {
                Direction::Up => (
                    throughput.received_bits_per_s,
                    "acknowledged by the server's TCP",
                ),
                Direction::Down => (throughput.received_bits_per_s, "received"),
                Direction::Echo => (throughput.received_bits_per_s, "came back"),
            };
            tile("throughput", &bits_per_second(figure), note, out);
            tile(
                "sent",
                &bits_per_second(throughput.sent_bits_per_s),
                "handed to the kernel",
                out,
            );
            tile(
                "blocks",
                &format!("{} /s", number(rate.achieved)),
                &offered,
                out,
            );
            if direction == Direction::Echo {
                percentile_tiles(result, out);
            }
        }
    }
    let messages = &result.messages;
    let missing: u64 = [
        messages.lost,
        messages.timed_out,
        messages.unfinished,
        messages.unsent,
    ]
    .iter()
    .fold(0, |sum, count| sum.saturating_add(*count));
    tile(
        "missing",
        &grouped(missing),
        &format!(
            "of {} {}",
            grouped(messages.sent),
            words::messages(&result.plan)
        ),
        out,
    );
    tile(
        "corrupt",
        &grouped(messages.corrupt),
        if result.plan.verify {
            "every byte was compared"
        } else {
            "not verified"
        },
        out,
    );
    out.put("</dl></section>\n");
}

fn percentile_tiles(result: &RunResult, out: &mut Html) {
    let Some(response) = &result.latency_ns.response else {
        return;
    };
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let estimate = result
            .statistics
            .response
            .iter()
            .find(|estimate| (estimate.quantile - quantile).abs() < 1e-9);
        let value = response.quantile(quantile);
        let spread = result
            .repeats
            .as_ref()
            .and_then(|repeats| match name {
                "p50" => repeats.spread.response_p50_ns.as_ref(),
                "p99" => repeats.spread.response_p99_ns.as_ref(),
                _ => repeats.spread.response_p99_9_ns.as_ref(),
            })
            .map(|spread| {
                let (min, max) = (
                    format_duration_ns(spread.min),
                    format_duration_ns(spread.max),
                );
                format!("single runs {min} to {max}")
            });
        let note = match (estimate, value) {
            (_, None) => "not known: fewer than ten samples beyond it".to_owned(),
            (Some(estimate), _) => sure(estimate),
            (None, _) => spread.unwrap_or_else(|| "too few slow spells to say how sure".to_owned()),
        };
        tile(&format!("response {name}"), &duration(value), &note, out);
    }
    tile(
        "slowest response",
        &duration(Some(response.max())),
        &format!("of {}", grouped(response.count())),
        out,
    );
}

fn sure(estimate: &QuantileEstimate) -> String {
    format!(
        "95 % sure {} to {}",
        format_duration_ns(estimate.low as f64),
        format_duration_ns(estimate.high as f64)
    )
}

fn ways(throughput: Throughput) -> String {
    let sent = bits_per_second(throughput.sent_bits_per_s);
    if sent == bits_per_second(throughput.received_bits_per_s) {
        "each way".to_owned()
    } else {
        format!("came back of {sent} sent")
    }
}

/// Adds a figure with its name above and a note below.
pub(super) fn tile(name: &str, figure: &str, note: &str, out: &mut Html) {
    out.fill(
        "<div><dt>{}</dt><dd><span class=\"figure\">{}</span><span class=\"about\">{}</span></dd></div>\n",
        &[&name, &figure, &note],
    );
}

/// With a capital at its beginning.
pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
