//! Whether the client or its host disturbed the measurement.

use echomark::net::units::format_duration_ns;

use super::vouched::{Source, Vouched};
use super::{Evidence, MAX_BUSY};
use crate::result::{Code, Reason, ThreadResult};

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
/// A hiccup longer than any scheduler's time slice is no wait for a CPU: the host stood still, and
/// samples of that time are missing.
const STANDSTILL_NS: u64 = 10_000_000;
/// Maximum share of time that the host may stand still.
const MAX_STANDSTILL: f64 = 0.01;
/// The percentile up to which the client must not have made the latencies.
const WANTED_PERCENTILE: f64 = 99.0;

/// Adds the reasons, and returns the highest percentile that the client can't have made.
pub(super) fn judge(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) -> Option<f64> {
    threads(evidence, reasons);
    host(evidence, reasons);
    let vouched = Vouched::of(evidence);
    tail(evidence, &vouched, reasons);
    vouched.percentile
}

/// Whether the percentiles hold up to p99. Beyond that, only the vouched percentile says so: a
/// tail that the client may have made does not spoil the figures below it.
fn tail(evidence: &Evidence<'_>, vouched: &Vouched, reasons: &mut Vec<Reason>) {
    let Some(limit) = vouched
        .limit
        .filter(|limit| limit.percentile <= WANTED_PERCENTILE)
    else {
        return;
    };
    let code = limit.source.code();
    if reasons.iter().any(|reason| reason.code == code) {
        return;
    }
    let hold = match vouched.percentile {
        Some(percentile) => format!("the figures hold up to p{percentile}"),
        None => "no percentile holds".to_owned(),
    };
    let evidence = match limit.source {
        Source::SendLag => "it sent late".to_owned(),
        Source::Waits => "its threads waited for a CPU".to_owned(),
        Source::Hiccups => match &evidence.client.hiccup {
            Some(hiccup) => format!(
                "this host has scheduling hiccups of up to {}",
                format_duration_ns(hiccup.max() as f64)
            ),
            None => "this host has scheduling hiccups".to_owned(),
        },
        Source::Steal => "the hypervisor gave time to other guests".to_owned(),
        Source::Busy => "its threads were busy".to_owned(),
    };
    reasons.push(Reason::suspect(
        code,
        format!(
            "{hold}; p{} may be the client's own: {evidence}, which may have touched {} of the \
             messages; measure longer (-d), or use a quieter host or --priority high",
            limit.percentile,
            percent(limit.touched),
        ),
    ));
}

/// A small share in percent.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 1.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.2} %")
    }
}

/// Whether a client thread was the limit, or had to wait for a CPU.
fn threads(evidence: &Evidence<'_>, reasons: &mut Vec<Reason>) {
    const ADVICE: &str = "use a quieter host, pin the client to its own CPU (taskset), or raise its \
        priority (--priority high)";
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
