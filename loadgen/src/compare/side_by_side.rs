//! Two results beside each other, at least one of which another tool measured.
//!
//! Other tools tell neither how their figures vary nor what disturbed their client, so there are ratios and
//! no intervals, and never a regression. A message's time begins where those tools begin it, when it was
//! sent: loadgen's service time.

use super::metric::Metric;
use crate::result::comparison::{Better, Unit};
use crate::result::imported::ImportedResult;
use crate::result::side_by_side::{Figure, Side, SideBySide, SideBySideKind};
use crate::result::{Code, Reason, RunResult, Status, Tool, Verdict};

/// One of the two results.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its name for people: its file.
    pub name: &'a str,
    /// Its load, in words.
    pub load: &'a str,
    /// Its figures.
    pub result: Comparand<'a>,
}

/// The figures of a result.
#[derive(Clone, Copy, Debug)]
pub enum Comparand<'a> {
    /// Of loadgen.
    Run(&'a RunResult),
    /// Of another tool.
    Imported(&'a ImportedResult),
}

/// The figures, in the order of the report.
const FIGURES: [(&str, Unit, Better); 7] = [
    ("achieved_rate", Unit::PerSecond, Better::Higher),
    ("throughput", Unit::BitsPerSecond, Better::Higher),
    ("service_mean", Unit::Ns, Better::Lower),
    ("service_p50", Unit::Ns, Better::Lower),
    ("service_p90", Unit::Ns, Better::Lower),
    ("service_p99", Unit::Ns, Better::Lower),
    ("failures", Unit::Ratio, Better::Lower),
];

/// Puts two results beside each other; `started_at` is now, RFC 3339.
pub fn side_by_side(base: Named<'_>, new: Named<'_>, started_at: String) -> SideBySide {
    let figures = FIGURES.into_iter().filter_map(|(name, unit, better)| {
        let (base, new) = (value(name, base.result), value(name, new.result));
        let ratio = base.zip(new).map(|(base, new)| new / base);
        base.or(new).map(|_| Figure {
            name: name.into(),
            unit,
            better,
            base,
            new,
            ratio: ratio.filter(|ratio| ratio.is_finite()),
        })
    });
    let mut reasons = vec![Reason::suspect(
        Code::Imported,
        "how the figures of a single measurement vary is not told: no difference, and no equality, is \
         established"
            .to_owned(),
    )];
    for side in [base, new] {
        let of_side = reasons_of(side.result).iter().map(|reason| Reason {
            code: reason.code.clone(),
            text: format!("{}: {}", side.name, reason.text),
            status: reason.status.max(Status::Suspect),
        });
        reasons.extend(of_side);
    }
    SideBySide {
        schema: 1,
        kind: SideBySideKind::SideBySide,
        tool: Tool::this(),
        started_at,
        base: side(base),
        new: side(new),
        figures: figures.collect(),
        verdict: Verdict::from_reasons(reasons),
    }
}

fn reasons_of(result: Comparand<'_>) -> &[Reason] {
    match result {
        Comparand::Run(result) => &result.verdict.reasons,
        Comparand::Imported(result) => &result.verdict.reasons,
    }
}

fn side(named: Named<'_>) -> Side {
    let tool = match named.result {
        Comparand::Run(result) => &result.tool,
        Comparand::Imported(result) => &result.tool,
    };
    Side {
        name: named.name.to_owned(),
        tool: tool.clone(),
        load: named.load.to_owned(),
    }
}

/// A figure of one result; `None` if it is not known.
fn value(name: &str, result: Comparand<'_>) -> Option<f64> {
    match result {
        Comparand::Run(result) => of_run(name, result),
        Comparand::Imported(result) => of_import(name, result),
    }
}

fn of_run(name: &str, result: &RunResult) -> Option<f64> {
    let service = result.latency_ns.service.as_ref();
    let quantile = |quantile| Some(service?.quantile(quantile)? as f64);
    let figures = Metric::of_plan(&result.plan);
    match name {
        "achieved_rate" if figures.contains(&Metric::AchievedRate) => Some(result.rate.achieved),
        "throughput" => Some(result.throughput.received_bits_per_s),
        "service_mean" => service.map(|latency| latency.mean()),
        "service_p50" => quantile(0.5),
        "service_p90" => quantile(0.9),
        "service_p99" => quantile(0.99),
        "failures" => Metric::Failures.of(result).map(|reading| reading.value()),
        _ => None,
    }
}

fn of_import(name: &str, result: &ImportedResult) -> Option<f64> {
    let latency = result.latency_ns.as_ref();
    match name {
        "achieved_rate" => result.achieved_rate,
        "throughput" => result.received_bits_per_s,
        "service_mean" => latency?.mean,
        "service_p50" => latency?.percentile(50.0),
        "service_p90" => latency?.percentile(90.0),
        "service_p99" => latency?.percentile(99.0),
        "failures" => {
            let messages = &result.messages;
            let failed = messages.failed.or(messages.lost)?;
            let sent = messages.sent.filter(|&sent| sent > 0)?;
            Some(failed as f64 / sent as f64)
        }
        _ => None,
    }
}
