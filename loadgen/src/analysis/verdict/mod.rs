//! The verdict: whether the result of a run is reliable, with the reasons. Pure.

use echomark::net::units::format_duration_ns;

use crate::analysis::service::Service;
use crate::error::RunError;
use crate::plan::Plan;
use crate::result::statistics::Trend;
use crate::result::{
    Client, Code, Counts, Latencies, Latency, Rate, Reason, ServerAccounts, ServerResult,
    Statistics, Status, Verdict,
};

mod client;
mod service;
mod vouched;

/// Below this share of the offered rate, an open loop did not carry the requested load.
pub(crate) const MIN_ACHIEVED: f64 = 0.99;
/// Above this share of unsent messages, likewise.
const MAX_UNSENT: f64 = 0.01;
/// A busier thread has no reserve for bursts, and may measure its own queue.
pub(crate) const MAX_BUSY: f64 = 0.85;
/// Above this share of the response time's p99, the client's own send lag distorts the measurement.
pub(crate) const MAX_LAG: f64 = 0.1;
/// Minimum of messages for a p99.
const MIN_SAMPLES: u64 = 1000;

/// The evidence for a verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) duration_s: f64,
    pub(crate) rate: &'a Rate,
    pub(crate) counts: &'a Counts,
    pub(crate) latency_ns: &'a Latencies,
    pub(crate) statistics: &'a Statistics,
    pub(crate) client: &'a Client,
    /// The server's counters, if requested; an error if the server did not provide them.
    pub(crate) server: Option<Result<&'a ServerResult, &'a RunError>>,
    pub(crate) service: &'a Service,
    /// Connections open at the end.
    pub(crate) held: u64,
}

impl Verdict {
    /// Judges the evidence.
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let mut reasons = Vec::new();
        service::judge(evidence, &mut reasons);
        content(evidence, &mut reasons);
        if evidence.plan.is_open_loop() {
            schedule(evidence, &mut reasons);
        }
        server(evidence, &mut reasons);
        let vouched = client::judge(evidence, &mut reasons);
        sample(evidence, &mut reasons);
        Self {
            vouched_percentile: vouched,
            ..Self::from_reasons(reasons)
        }
    }

    /// The status of a running measurement, and the code of the first objection: the part of the
    /// verdict that does not need the end of the run. `lag_ratio` is the p99 of the client's send
    /// lag over the p99 of the response time, in an open loop.
    pub fn so_far(plan: &Plan, counts: &Counts, lag_ratio: Option<f64>) -> (Status, Option<Code>) {
        let is_unsent = counts.unsent as f64 > MAX_UNSENT * counts.issued as f64;
        let objections = [
            (Status::Invalid, Code::Corrupt, wrong(plan, counts) > 0),
            (
                Status::Invalid,
                Code::Unsent,
                plan.is_open_loop() && is_unsent,
            ),
            (Status::Invalid, Code::SendLag, lag_ratio > Some(MAX_LAG)),
            (
                Status::Suspect,
                Code::Missing,
                counts.lost + counts.timed_out + counts.abandoned > 0,
            ),
            (Status::Suspect, Code::ConnectionsFailed, counts.failed > 0),
        ];
        objections
            .into_iter()
            .find(|&(_, _, holds)| holds)
            .map_or((Status::Valid, None), |(status, code, _)| {
                (status, Some(code))
            })
    }
}

/// Those of the missing messages that the client gave up: the server may have answered them yet.
fn given_up(counts: &Counts) -> String {
    let Counts {
        timed_out,
        abandoned,
        ..
    } = counts;
    match (timed_out, abandoned) {
        (0, _) => String::new(),
        (_, 0) => format!(": {timed_out} timed out"),
        _ => {
            format!(": {timed_out} timed out, and {abandoned} behind them were abandoned with them")
        }
    }
}

/// Whether the received data equals the sent data.
fn content(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let counts = evidence.counts;
    let wrong = wrong(evidence.plan, counts);
    if wrong > 0 {
        reasons.push(Reason::invalid(
            Code::Corrupt,
            format!("{wrong} messages came back wrong: the target is not an echo server"),
        ));
    } else if let Some(first) = &evidence.client.first_corruption {
        reasons.push(Reason::invalid(
            Code::Corrupt,
            format!(
                "the byte that came back at offset {} of connection {} was not sent there, and is \
                 part of no complete message: the target is not an echo server",
                first.offset, first.connection
            ),
        ));
    }
    if counts.received == 0 {
        reasons.push(Reason::invalid(
            Code::NoData,
            "no message came back in the window".to_owned(),
        ));
    }
    let missing = counts.lost + counts.timed_out + counts.abandoned + counts.unfinished;
    if missing > 0 {
        // With the server's counters, a reason of its own tells.
        let hint = if evidence.plan.is_datagram() && evidence.server.is_none() {
            "; an echod limits the rate of one source unless it is started with \
             --udp-rate-per-source off (--server-admin shows whether it did)"
        } else {
            ""
        };
        reasons.push(Reason::suspect(
            Code::Missing,
            format!(
                "{missing} messages did not come back{}; the percentiles leave them out{hint}",
                given_up(counts)
            ),
        ));
    }
    let judged = counts.verified + counts.corrupt;
    if evidence.plan.verify && judged < counts.received {
        reasons.push(Reason::suspect(
            Code::NotVerified,
            format!(
                "{} messages could not be verified: the server sends an unknown pattern",
                counts.received - judged
            ),
        ));
    }
}

/// Messages that did not come back unchanged.
fn wrong(plan: &Plan, counts: &Counts) -> u64 {
    // Networks may duplicate datagrams. A stream can't duplicate.
    let surplus = if plan.is_datagram() {
        0
    } else {
        counts.duplicated
    };
    counts.corrupt + counts.corrupt_in_warm_up + counts.stray + surplus
}

/// Whether the client offered the requested load, and the server took it.
fn schedule(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let counts = evidence.counts;
    let achieved = evidence.rate.achieved / evidence.rate.offered;
    if counts.received > 0 && achieved < MIN_ACHIEVED {
        reasons.push(Reason::invalid(
            Code::RateNotAchieved,
            format!(
                "the achieved rate is {:.1} % of the offered rate; offer less, or find the capacity \
                 (loadgen search)",
                achieved * 100.0
            ),
        ));
    }
    if counts.unsent as f64 > MAX_UNSENT * counts.issued as f64 {
        reasons.push(Reason::invalid(
            Code::Unsent,
            format!(
                "{} of {} due messages were never sent: the server did not read fast enough",
                counts.unsent, counts.issued
            ),
        ));
    }
    let lag = p99(evidence.client.own_send_lag.as_ref());
    if let Some((lag, response)) = lag.zip(p99(evidence.latency_ns.response.as_ref()))
        && lag > response * MAX_LAG
    {
        reasons.push(Reason::invalid(
            Code::SendLag,
            format!(
                "the client sent late: the p99 of its send lag is {}, {:.0} % of the response time's; \
                 use more threads (-t), a lower rate (-R) or a quieter host",
                format_duration_ns(lag),
                lag / response * 100.0
            ),
        ));
    }
    if !evidence.rate.changes.is_empty() {
        reasons.push(Reason::suspect(
            Code::RateChanged,
            "the rate was changed during the run, so the figures mix several loads".to_owned(),
        ));
    }
}

/// Whether the server's counters agree with the client's.
fn server(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let accounts = match evidence.server {
        None => return,
        Some(Ok(server)) => &server.accounts,
        Some(Err(error)) => {
            let text = format!("the server's side is missing: {error}");
            return reasons.push(Reason::suspect(Code::ServerSideMissing, text));
        }
    };
    for (count, limit, way_out) in [
        (
            accounts.server_over_source_rate,
            "for one source",
            "start it with --udp-rate-per-source off",
        ),
        (
            accounts.server_over_rate,
            "for all sources",
            "raise its --udp-rate",
        ),
    ] {
        if count > 0 {
            reasons.push(Reason::suspect(
                Code::ServerLimited,
                format!(
                    "the server left {count} datagrams unanswered, because they were over its rate \
                     {limit}; {way_out}"
                ),
            ));
        }
    }
    if !accounts.agree {
        reasons.push(disagreement(accounts));
    }
}

/// The objection that client and server counted different bytes.
pub(crate) fn disagreement(accounts: &ServerAccounts) -> Reason {
    Reason::suspect(
        Code::ServerDisagrees,
        format!(
            "{} bytes were sent and the server counted {}; it sent {} bytes and {} came back: it served \
             other clients too, or is not the server that was measured",
            accounts.client_sent_bytes,
            accounts.server_received_bytes,
            accounts.server_sent_bytes,
            accounts.client_received_bytes,
        ),
    )
}

/// Whether there are enough messages, of one load.
fn sample(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let received = evidence.counts.received;
    // A stream has no percentiles.
    let has_latency = evidence.latency_ns.service.is_some();
    if has_latency && (1..MIN_SAMPLES).contains(&received) {
        reasons.push(Reason::suspect(
            Code::FewSamples,
            format!("{received} messages are too few for a p99; measure longer (-d, -n)"),
        ));
    }
    let level = format_duration_ns;
    match evidence.statistics.trend {
        Some(Trend::Transient { until, from, to }) => reasons.push(Reason::suspect(
            Code::WarmingUp,
            format!(
                "the run was still warming up in the first {:.0} % of the window: the median went from \
                 {} to {}; warm up longer (-w)",
                until * 100.0,
                level(from),
                level(to)
            ),
        )),
        // A changing load may change the latency.
        Some(Trend::Drift { from, to }) if evidence.plan.has_steady_load() => {
            reasons.push(Reason::suspect(
                Code::Drift,
                format!(
                    "the latency drifted: its median went from {} to {} during the window; measure \
                     longer (-d), and look for what changes",
                    level(from),
                    level(to)
                ),
            ));
        }
        _ => {}
    }
}

fn p99(latency: Option<&Latency>) -> Option<f64> {
    latency?
        .quantile(0.99)
        .map(|nanoseconds| nanoseconds as f64)
}

#[cfg(test)]
mod tests;
