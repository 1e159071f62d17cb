//! The verdict: whether the result of a run is reliable, with the reasons. Pure.

use echomark::net::units::format_duration_ns;

use crate::error::RunError;
use crate::plan::{Plan, Workload};
use crate::result::statistics::Trend;
use crate::result::{
    Client, Code, Counts, Latencies, Latency, Rate, Reason, ServerResult, Statistics, Status,
    ThreadResult, Verdict,
};

/// Below this share of the offered rate, an open loop did not carry the requested load.
const MIN_ACHIEVED: f64 = 0.99;
/// Above this share of unsent messages, likewise.
const MAX_UNSENT: f64 = 0.01;
/// Above this share of the response time's p99, the client's own send lag distorts the measurement.
pub(crate) const MAX_LAG: f64 = 0.1;
/// Above this share of connects without a free port, this host was the limit.
const MAX_OUT_OF_PORTS: f64 = 0.01;
/// A busier thread has no reserve for bursts, and may measure its own queue.
pub(crate) const MAX_BUSY: f64 = 0.85;
/// A thread that waited for a CPU for a larger share of the time may have delayed the same share of
/// its messages.
const MAX_RUN_DELAY: f64 = 0.01;
/// The cost of a wake-up without competition for the CPU.
const WAKE_UP_NS: f64 = 10_000.0;
/// Maximum share of time that a hypervisor may give to other guests.
const MAX_STEAL: f64 = 0.01;
/// Maximum of involuntary context switches of a thread per second. Used if the kernel does not
/// report how long threads waited.
const MAX_SWITCHES_PER_S: f64 = 50.0;
/// A hiccup explains a tail if its share of the tail is larger than this,
const MAX_HICCUP: f64 = 0.5;
/// and if it is longer than this. Shorter hiccups are normal wake-ups.
const MIN_HICCUP_NS: f64 = 250_000.0;
/// A hiccup longer than any scheduler's time slice is no wait for a CPU: the host stood still, and
/// samples of that time are missing.
const STANDSTILL_NS: u64 = 10_000_000;
/// Maximum share of time that the host may stand still.
const MAX_STANDSTILL: f64 = 0.01;
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
    /// Connections open at the end.
    pub(crate) held: u64,
}

impl Verdict {
    /// Judges the evidence.
    pub(crate) fn of(evidence: &Evidence<'_>) -> Self {
        let mut reasons = Vec::new();
        content(evidence, &mut reasons);
        if evidence.plan.is_open_loop() {
            schedule(evidence, &mut reasons);
        }
        connections(evidence, &mut reasons);
        server(evidence, &mut reasons);
        threads(evidence, &mut reasons);
        host(evidence, &mut reasons);
        sample(evidence, &mut reasons);
        Self::from_reasons(reasons)
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
                counts.lost + counts.timed_out > 0,
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

/// Whether the received data equals the sent data.
fn content(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let counts = evidence.counts;
    let wrong = wrong(evidence.plan, counts);
    if wrong > 0 {
        reasons.push(Reason::invalid(
            Code::Corrupt,
            format!("{wrong} messages came back wrong: the target is not an echo server"),
        ));
    }
    if counts.received == 0 {
        reasons.push(Reason::invalid(
            Code::NoData,
            "no message came back in the window".to_owned(),
        ));
    }
    let missing = counts.lost + counts.timed_out + counts.unfinished;
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
            format!("{missing} messages did not come back; the percentiles leave them out{hint}"),
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

/// Whether all connections were established and stayed open.
fn connections(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    let counts = evidence.counts;
    if counts.out_of_ports > 0 {
        let attempts = counts.opened + counts.failed;
        let text = format!(
            "{} of {attempts} connects found no free port on this host; use more source addresses \
             (--source) or close with a reset (--close reset)",
            counts.out_of_ports
        );
        let is_limit = counts.out_of_ports as f64 > MAX_OUT_OF_PORTS * attempts as f64;
        reasons.push(if is_limit {
            Reason::invalid(Code::OutOfPorts, text)
        } else {
            Reason::suspect(Code::OutOfPorts, text)
        });
    }
    let failed = counts.failed - counts.out_of_ports;
    if failed > 0 {
        reasons.push(Reason::suspect(
            Code::ConnectionsFailed,
            format!("{failed} connects failed"),
        ));
    }
    if counts.unclosed > 0 {
        reasons.push(Reason::suspect(
            Code::Unclosed,
            format!(
                "the server did not close {} connections within the timeout",
                counts.unclosed
            ),
        ));
    }
    let wanted = evidence.plan.connections.get() as u64;
    if evidence.plan.workload == Workload::Idle && evidence.held < wanted {
        reasons.push(Reason::suspect(
            Code::NotHeld,
            format!(
                "{} of {wanted} connections were open at the end: the others failed or were closed by \
                 the server",
                evidence.held
            ),
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
        reasons.push(Reason::suspect(
            Code::ServerDisagrees,
            format!(
                "{} bytes were sent and the server counted {}; it sent {} bytes and {} came back: it \
                 served other clients too, or is not the server that was measured",
                accounts.client_sent_bytes,
                accounts.server_received_bytes,
                accounts.server_sent_bytes,
                accounts.client_received_bytes,
            ),
        ));
    }
}

/// Whether a client thread was the limit, or had to wait for a CPU.
fn threads(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    const ADVICE: &str = "use a quieter host, pin the client to its own CPU (taskset), or raise its \
        priority (nice -n -20)";
    for (index, thread) in evidence.client.threads.iter().enumerate() {
        if thread.busy_ratio > MAX_BUSY {
            reasons.push(Reason::suspect(
                Code::ClientBusy,
                format!(
                    "client thread {index} was busy for {:.0} % of the time and may be the limit; use \
                     more threads (-t) or hosts, or offer less",
                    thread.busy_ratio * 100.0
                ),
            ));
        }
        let per_second = thread.involuntary_switches as f64 / evidence.duration_s.max(1e-3);
        match preemption(thread) {
            Some(ratio) if ratio > MAX_RUN_DELAY => reasons.push(Reason::suspect(
                Code::Preempted,
                format!(
                    "client thread {index} waited for a CPU for {:.1} % of the time; {ADVICE}",
                    ratio * 100.0
                ),
            )),
            None if per_second > MAX_SWITCHES_PER_S => reasons.push(Reason::suspect(
                Code::Preempted,
                format!(
                    "client thread {index} was preempted {per_second:.0} times per second; {ADVICE}"
                ),
            )),
            _ => {}
        }
    }
}

/// Whether the client's host was disturbed.
fn host(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    if let Some(steal) = evidence.client.steal_ratio.filter(|&s| s > MAX_STEAL) {
        reasons.push(Reason::suspect(
            Code::Steal,
            format!(
                "the hypervisor gave {:.1} % of this host's CPU time to other guests (steal); use a \
                 dedicated host",
                steal * 100.0
            ),
        ));
    }
    if let Some(share) = standstill(evidence).filter(|&share| share > MAX_STANDSTILL) {
        reasons.push(Reason::suspect(
            Code::Standstill,
            format!(
                "this host stood still for {:.0} % of the time, and nothing was measured then; use a \
                 quieter host",
                share * 100.0
            ),
        ));
    }
    if let Some((percent, hiccup, response)) = hiccup(evidence) {
        reasons.push(Reason::suspect(
            Code::Hiccups,
            format!(
                "at p{percent}, scheduling hiccups of this host are {} and the response time is {}: \
                 the tail may be the client's; use a quieter host",
                format_duration_ns(hiccup),
                format_duration_ns(response)
            ),
        ));
    }
}

/// The share of time that a thread waited for a CPU, not counting wake-ups: a sleeping thread has
/// one wake-up per message.
fn preemption(thread: &ThreadResult) -> Option<f64> {
    let (ratio, mean_ns) = thread.run_delay_ratio.zip(thread.run_delay_ns_mean)?;
    Some(ratio * (1.0 - WAKE_UP_NS / mean_ns.max(WAKE_UP_NS)))
}

/// The share of the probe's samples so late that the host must have stood still.
fn standstill(evidence: &Evidence<'_>) -> Option<f64> {
    let hiccups = evidence.client.hiccup.as_ref()?;
    let late = hiccups
        .histogram()
        .iter_recorded()
        .filter(|value| value.value_iterated_to() > STANDSTILL_NS)
        .map(|value| value.count_at_value())
        .sum::<u64>();
    Some(late as f64 / hiccups.count() as f64)
}

/// The first percentile at which hiccups of this host explain the tail, and both values there.
/// Compared are their distances from their medians.
fn hiccup(evidence: &Evidence<'_>) -> Option<(&'static str, f64, f64)> {
    let hiccups = evidence.client.hiccup.as_ref()?;
    let responses = evidence.latency_ns.response.as_ref()?;
    let beyond_median = |latency: &Latency, quantile: f64| {
        let median = latency.quantile(0.5)? as f64;
        Some(latency.quantile(quantile)? as f64 - median)
    };
    [("99", 0.99), ("99.9", 0.999)]
        .into_iter()
        .find_map(|(percent, quantile)| {
            let hiccup = beyond_median(hiccups, quantile)?;
            let tail = beyond_median(responses, quantile)?;
            let explains = hiccup > MIN_HICCUP_NS && hiccup > tail * MAX_HICCUP;
            explains.then_some((percent, hiccup, responses.quantile(quantile)? as f64))
        })
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
