//! Up to which percentile the client's own disturbances can't have made the latencies.
//!
//! A disturbance that is longer than a tenth of a percentile's value may have made it. Each source
//! of evidence bounds the share of the messages that such a disturbance can have touched. The
//! percentile holds while this share is at most half of the messages beyond it: then it lies
//! between the true percentile and one half way to the next nine. docs/method.md derives the bounds.

use super::{Evidence, MAX_BUSY, MAX_LAG};
use crate::plan::Plan;
use crate::result::{Code, Latency, ThreadResult};

/// The percentiles that may be vouched for.
const QUANTILES: [f64; 7] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];
/// Maximum share of the messages beyond a percentile that the client may have touched.
const MAX_TOUCHED: f64 = 0.5;
/// A delay of the client before a write is seen; one before a read is not, and is as frequent.
const BOTH_WAYS: f64 = 2.0;
/// The mean wait for a CPU of a thread that is woken up without competition.
const WAKE_UP_NS: f64 = 5_000.0;
/// The longest wait for a CPU behind one other thread. Used if the kernel does not report how long
/// threads waited.
const TIME_SLICE_NS: f64 = 4_000_000.0;
/// Shorter hiccups are normal wake-ups of the probe.
pub(super) const MIN_HICCUP_NS: f64 = 250_000.0;
/// The probe's period: a hiccup of one sample lasts no longer.
const PROBE_PERIOD_S: f64 = 0.005;

/// What the client's own disturbances leave of the percentiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vouched {
    /// The highest percentile that they can't have made; `None` if there is none.
    pub(super) percentile: Option<f64>,
    /// Why the next reported percentile does not hold; `None` if all hold.
    pub(super) limit: Option<Limit>,
}

/// A percentile that the client may have made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) percentile: f64,
    /// What touched most messages,
    pub(super) source: Source,
    /// and the bound on the share of messages that it touched.
    pub(super) touched: f64,
}

/// Where disturbances show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    SendLag,
    Waits,
    Hiccups,
    Steal,
    Busy,
}

impl Source {
    pub(super) fn code(self) -> Code {
        match self {
            Self::SendLag => Code::SendLag,
            Self::Waits => Code::Preempted,
            Self::Hiccups => Code::Hiccups,
            Self::Steal => Code::Steal,
            Self::Busy => Code::ClientBusy,
        }
    }
}

impl Vouched {
    /// Judges the reported percentiles, from the median up to the first that the client may have
    /// made.
    pub(super) fn of(evidence: &Evidence<'_>) -> Self {
        let mut vouched = Self {
            percentile: None,
            limit: None,
        };
        let Some(response) = &evidence.latency_ns.response else {
            return vouched;
        };
        let bounds = Bounds::new(evidence, response);
        for quantile in QUANTILES {
            let Some(value) = response.quantile(quantile) else {
                break;
            };
            // Rounded, so that 0.999 is 99.9.
            let percentile = (quantile * 1e6).round() / 1e4;
            let (source, touched) = bounds.touched(value as f64);
            if touched > MAX_TOUCHED * (1.0 - quantile) {
                vouched.limit = Some(Limit {
                    percentile,
                    source,
                    touched,
                });
                break;
            }
            vouched.percentile = Some(percentile);
        }
        vouched
    }
}

/// The evidence in the form that bounds need.
struct Bounds<'a> {
    is_open_loop: bool,
    response: &'a Latency,
    service: Option<&'a Latency>,
    own_lag: Option<&'a Latency>,
    hiccups: Option<&'a Latency>,
    response_median: f64,
    messages: f64,
    per_second: f64,
    /// Messages in flight, at most; infinite without a bound.
    in_flight: f64,
    /// Waits of the threads for a CPU,
    waits: Waits,
    /// and their time beyond wake-ups as a share of the threads' time.
    waited_ratio: f64,
    steal_ratio: f64,
    is_busy: bool,
}

impl<'a> Bounds<'a> {
    fn new(evidence: &Evidence<'a>, response: &'a Latency) -> Self {
        let client = evidence.client;
        let duration_s = evidence.duration_s.max(1e-3);
        let messages = response.count() as f64;
        let waits = client
            .threads
            .iter()
            .map(|thread| Waits::of(thread, duration_s))
            .fold(Waits::default(), Waits::plus);
        Self {
            is_open_loop: evidence.plan.is_open_loop(),
            response,
            service: evidence.latency_ns.service.as_ref(),
            own_lag: client
                .own_send_lag
                .as_ref()
                .filter(|_| evidence.plan.is_open_loop()),
            hiccups: client.hiccup.as_ref(),
            response_median: response.histogram().value_at_quantile(0.5) as f64,
            messages,
            per_second: messages / duration_s,
            in_flight: in_flight(evidence.plan),
            waits,
            waited_ratio: waits.time_ns / (client.threads.len().max(1) as f64 * duration_s * 1e9),
            steal_ratio: client.steal_ratio.unwrap_or(0.0),
            is_busy: client
                .threads
                .iter()
                .any(|thread| thread.busy_ratio > MAX_BUSY),
        }
    }

    /// The bound on the share of messages that disturbances touched that may have made a percentile
    /// of this value, and the source that contributes most.
    fn touched(&self, value: f64) -> (Source, f64) {
        let relevant_ns = (MAX_LAG * value).max(1.0);
        let shares = [
            (Source::SendLag, self.by_send_lag(value, relevant_ns)),
            (Source::Waits, self.by_waits(relevant_ns)),
            (Source::Hiccups, self.by_hiccups(value, relevant_ns)),
            (Source::Steal, self.by_steal()),
            // It measures its own queue, which no percentile leaves out.
            (Source::Busy, if self.is_busy { 1.0 } else { 0.0 }),
        ];
        let sum = shares.iter().map(|&(_, share)| share).sum::<f64>().min(1.0);
        let largest = shares
            .into_iter()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map_or(Source::Hiccups, |(source, _)| source);
        (largest, sum)
    }

    /// In an open loop each message tests whether the thread runs when it is due. It can have made a
    /// percentile only of messages whose response time is above it while their service time is not:
    /// the difference of the two is the lag.
    fn by_send_lag(&self, value: f64, relevant_ns: f64) -> f64 {
        let Some(lag) = self.own_lag else {
            return 0.0;
        };
        let late = share_above(lag, relevant_ns);
        let lifted = self.service.map_or(1.0, |service| {
            share_above(self.response, value) - share_above(service, value)
        });
        BOTH_WAYS * late.min(lifted.max(0.0))
    }

    /// Only the number and the sum of the waits are known. They bound how many were long enough; each
    /// of these delays the message that ended it, and those that come while it lasts.
    fn by_waits(&self, relevant_ns: f64) -> f64 {
        let relevant = (self.waits.time_ns / relevant_ns).min(self.waits.number);
        relevant / self.messages + self.waited_ratio
    }

    fn by_hiccups(&self, value: f64, relevant_ns: f64) -> f64 {
        let Some(hiccups) = self.hiccups else {
            return 0.0;
        };
        let normal = hiccups.histogram().value_at_quantile(0.5) as f64;
        if self.is_open_loop {
            // The send lag shows the client's own. Here are hiccups of the host that explain at
            // least half of the tail.
            let tail = (value - self.response_median) / 2.0;
            let share = share_above(hiccups, normal + tail.max(MIN_HICCUP_NS));
            MAX_TOUCHED * share
        } else {
            // A closed loop stops with the client, so a hiccup touches what is in flight and no
            // more. One may have remained unseen between two samples.
            let seen = share_above(hiccups, normal + relevant_ns.max(MIN_HICCUP_NS))
                * hiccups.count() as f64;
            let each = self.in_flight.min(1.0 + self.per_second * PROBE_PERIOD_S);
            (seen + 1.0) * each / self.messages
        }
    }

    /// Time of other guests delays messages in both directions. In an open loop it is in the send
    /// lag.
    fn by_steal(&self) -> f64 {
        if self.is_open_loop {
            0.0
        } else {
            BOTH_WAYS * self.steal_ratio
        }
    }
}

/// Waits for a CPU in the window.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    number: f64,
    /// Their sum, beyond wake-ups.
    time_ns: f64,
}

impl Waits {
    fn of(thread: &ThreadResult, duration_s: f64) -> Self {
        let Some((ratio, mean_ns)) = thread.run_delay_ratio.zip(thread.run_delay_ns_mean) else {
            let number = thread.involuntary_switches as f64;
            return Self {
                number,
                time_ns: number * TIME_SLICE_NS,
            };
        };
        let sum_ns = ratio * duration_s * 1e9;
        Self {
            number: sum_ns / mean_ns.max(1.0),
            time_ns: sum_ns * (1.0 - WAKE_UP_NS / mean_ns.max(WAKE_UP_NS)),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            number: self.number + other.number,
            time_ns: self.time_ns + other.time_ns,
        }
    }
}

/// The most messages in flight.
fn in_flight(plan: &Plan) -> f64 {
    let connections = plan.own_connections() as f64;
    plan.pipeline().map_or(f64::INFINITY, |pipeline| {
        connections * pipeline.get() as f64
    })
}

/// The share of the samples above a value.
fn share_above(latency: &Latency, value: f64) -> f64 {
    let above = latency
        .histogram()
        .iter_recorded()
        .filter(|step| step.value_iterated_to() as f64 > value)
        .map(|step| step.count_at_value())
        .sum::<u64>();
    above as f64 / latency.count() as f64
}

#[cfg(test)]
mod tests;
