//! The report of a run: verdict, summary, latencies, counts, charts over time, the data of TCP,
//! server and client, and the plan.

use std::fmt::Write as _;
use std::io;

use echomark::net::units::format_duration_ns;

use crate::plan::{Direction, Load, Spacing};
use crate::report::document::{
    COMMENT, Document, EVERYWHERE, Fact, Medium, PAGE, Records, Report, TERMINAL, TERMINAL_AND_PAGE,
};
use crate::report::format::{bits_per_second, count, duration, grouped, rate};
use crate::report::{json, words};
use crate::result::Status;
use crate::result::{RunResult, Throughput};

mod backends;
mod confidence;
mod counts;
mod details;
mod histogram;
mod intervals;
mod latency;
mod over_time;
mod records;
mod runs;
mod server;
mod shards;
mod tcp;
mod tls;

impl Report for RunResult {
    fn document(&self, medium: Medium) -> Document {
        let target = words::target(&self.plan);
        let mut document = Document {
            medium,
            kind: "run",
            started_at: self.started_at.clone(),
            is_interrupted: self.interrupted,
            badge: words::status(self.verdict.status),
            subjects: vec![("target", target.clone())],
            heading: target,
            load: load(self),
            sections: Vec::new(),
        };
        document.section(EVERYWHERE, "verdict", "", |section| {
            let badge = words::status(self.verdict.status);
            let headline = match self.verdict.status {
                Status::Valid => "These figures can be relied on",
                Status::Suspect => "These figures may be distorted",
                Status::Invalid => "These figures do not show what was asked for",
            };
            section.verdict(badge, headline, &self.verdict, &reassurance(self));
        });
        document.section(EVERYWHERE, "summary", "", |section| {
            section.facts("rate", summary(self, medium));
        });
        counts::describe(self, COMMENT, &mut document);
        latency::describe(self, &mut document);
        document.section(TERMINAL, "histogram", "", |section| {
            if let Some(response) = &self.latency_ns.response {
                section.table(histogram::table(response));
            }
        });
        document.section(PAGE, "time", "Over time", |section| {
            over_time::describe(self, section);
        });
        counts::describe(self, TERMINAL_AND_PAGE, &mut document);
        details::describe(self, &mut document);
        document.section(TERMINAL, "reasons", "", |section| {
            section.reasons(&self.verdict.reasons);
        });
        details::plan_and_host(self, &mut document);
        document
    }

    fn records(&self) -> Records {
        Records::of(&records::columns(), &self.intervals)
    }

    fn to_json(&self) -> serde_json::Result<String> {
        let mut result = self.clone();
        // They are by far the largest part, and only a merge needs them.
        for interval in &mut result.intervals {
            let latencies = [&mut interval.response, &mut interval.service];
            for latency in latencies.into_iter().flatten() {
                latency.histogram = None;
            }
        }
        json::compact(&result)
    }

    fn write_json(&self, out: &mut dyn io::Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// The load and the length of a run, in words.
fn load(result: &RunResult) -> String {
    let plan = &result.plan;
    let mut line = format!("{}, {:.3} s", words::load(plan), result.duration_s);
    // Writing to a String can't fail.
    if plan.repeat.get() > 1 {
        let repeats = result.repeats.as_ref();
        let runs = repeats.map_or(1, |repeats| repeats.runs.len());
        let _ = write!(line, " in {}", count(runs as u64, "run"));
    }
    if !plan.warmup.is_zero() {
        let _ = write!(line, " after {} s of warm-up", plan.warmup.as_secs_f64());
    }
    let is_poisson = matches!(
        plan.load,
        Load::Open {
            arrivals: Spacing::Poisson,
            ..
        }
    );
    if is_poisson || plan.size.least() != plan.size.most() {
        let _ = write!(line, ", seed {}", plan.seed);
    }
    line
}

/// The meaning of a verdict without reasons.
fn reassurance(result: &RunResult) -> String {
    let bytes = if result.plan.verify {
        ", and every byte was verified"
    } else {
        ""
    };
    let limit = match result.verdict.vouched_percentile {
        Some(percentile) => {
            format!("; the latencies hold up to p{percentile}, beyond may be the client's own")
        }
        None => String::new(),
    };
    format!("the client kept up, the load was sent as planned{bytes}{limit}")
}

/// The most important figures. On a page they include percentiles and failures, because its tables
/// are far below.
fn summary(result: &RunResult, medium: Medium) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(target) = result.rate.target {
        facts.push(Fact::new("target", rate(target)).noted("the rate asked for"));
        facts.push(Fact::new("offered", rate(result.rate.offered)).noted("messages due"));
    }
    let interval = result.statistics.rate.as_ref();
    let sure = interval.map_or_else(String::new, |interval| {
        format!("95 % CI {} to {}", rate(interval.low), rate(interval.high))
    });
    facts.push(Fact::new("achieved", rate(result.rate.achieved)).noted(sure));
    let (value, note) = throughput(result.plan.direction(), result.throughput);
    if medium != Medium::Page {
        facts.push(Fact::new("throughput", format!("{value} {note}")));
        return facts;
    }
    facts.push(Fact::new("throughput", value).noted(note));
    if !matches!(
        result.plan.direction(),
        Some(Direction::Up | Direction::Down)
    ) {
        facts.extend(percentiles(result));
    }
    let messages = &result.messages;
    let missing = [
        messages.lost,
        messages.timed_out,
        messages.abandoned,
        messages.unfinished,
        messages.unsent,
    ]
    .into_iter()
    .fold(0, u64::saturating_add);
    let sent = grouped(messages.sent);
    let of = format!("of {sent} {}", words::messages(&result.plan));
    facts.push(Fact::new("missing", grouped(missing)).noted(of));
    let how = if result.plan.verify {
        "every byte was compared"
    } else {
        "not verified"
    };
    facts.push(Fact::new("corrupt", grouped(messages.corrupt)).noted(how));
    facts
}

/// Payload per second, and its outcome.
fn throughput(direction: Option<Direction>, throughput: Throughput) -> (String, String) {
    let sent = bits_per_second(throughput.sent_bits_per_s);
    let received = bits_per_second(throughput.received_bits_per_s);
    let note = match direction {
        Some(Direction::Up) => "acknowledged".to_owned(),
        Some(Direction::Down) => "received".to_owned(),
        _ if sent == received => "each way".to_owned(),
        _ => format!("received of {sent} sent"),
    };
    (received, note)
}

fn percentiles(result: &RunResult) -> Vec<Fact> {
    let Some(response) = &result.latency_ns.response else {
        return Vec::new();
    };
    let spread = result.repeats.as_ref().map(|repeats| &repeats.spread);
    let of_runs = [
        spread.and_then(|spread| spread.response_p50_ns.as_ref()),
        spread.and_then(|spread| spread.response_p99_ns.as_ref()),
        spread.and_then(|spread| spread.response_p99_9_ns.as_ref()),
    ];
    let names = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let mut facts: Vec<Fact> = names
        .into_iter()
        .zip(of_runs)
        .map(|((name, quantile), spread)| {
            let mut estimates = result.statistics.response.iter();
            let estimate = estimates.find(|estimate| (estimate.quantile - quantile).abs() < 1e-9);
            let value = response.quantile(quantile);
            let note = match (estimate, spread) {
                _ if value.is_none() => "fewer than ten samples beyond it".to_owned(),
                (Some(estimate), _) => format!("95 % CI {}", confidence::bounds(estimate)),
                (None, Some(spread)) => {
                    let [min, max] = [spread.min, spread.max].map(format_duration_ns);
                    format!("single runs {min} to {max}")
                }
                (None, None) => "too few independent samples for a CI".to_owned(),
            };
            Fact::new(format!("response {name}"), duration(value)).noted(note)
        })
        .collect();
    let of = format!("of {}", grouped(response.count()));
    facts.push(Fact::new("slowest response", duration(Some(response.max()))).noted(of));
    facts
}
