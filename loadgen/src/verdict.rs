//! Whether a result can be believed. Pure: what is known goes in, the verdict and its evidence
//! come out.

use serde::Serialize;

use echomark::net::units::format_duration_ns;

use crate::result::{Latency, ThreadResult};

/// Below this share of the offered rate, an open-loop run did not do what it says.
const LEAST_ACHIEVED: f64 = 0.99;
/// Above this share of messages never sent, neither.
const MOST_UNSENT: f64 = 0.01;
/// Above this share of the response time's p99, the client's own lag is a part of the finding.
const MOST_LAG: f64 = 0.1;
/// A thread busier than this has no reserve for a burst: what it reports may be its own queueing.
const MOST_BUSY: f64 = 0.85;
/// Fewer messages than this support no p99.
const LEAST_SAMPLES: u64 = 1000;

/// The verdict on a run.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The worst that any reason demands.
    pub status: Status,
    /// Why; empty for a valid result.
    pub reasons: Vec<Reason>,
}

/// How far a result can be believed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing speaks against it.
    Valid,
    /// Something may have bent it; the reason says what to do.
    Suspect,
    /// It does not show what was asked for.
    Invalid,
}

/// One objection, with its evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
    /// What it makes of the result.
    #[serde(skip)]
    pub status: Status,
}

/// What the verdict is drawn from.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Offered and achieved messages per second.
    pub offered: f64,
    /// See above.
    pub achieved: f64,
    /// Whether a schedule was to be kept.
    pub is_open_loop: bool,
    /// Messages that were due in the window.
    pub issued: u64,
    /// Messages whose echo came back.
    pub received: u64,
    /// Messages that never reached the kernel.
    pub unsent: u64,
    /// Messages that came back wrong, those of the warm-up included, and surplus data.
    pub corrupt: u64,
    /// Messages that were out when their connection ended, were given up, or never came back.
    pub missing: u64,
    /// Connections that could not be made.
    pub failed_connections: u64,
    /// Response time.
    pub response: Option<&'a Latency>,
    /// Send lag of our own doing.
    pub own_send_lag: Option<&'a Latency>,
    /// The measuring threads.
    pub threads: &'a [ThreadResult],
}

impl Verdict {
    /// Weighs the evidence.
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let mut reasons = Vec::new();
        let mut object = |status, code, text| {
            reasons.push(Reason { code, text, status });
        };
        if evidence.corrupt > 0 {
            object(
                Status::Invalid,
                "corrupt",
                format!(
                    "{} messages did not come back as they were sent: the target is not an echo",
                    evidence.corrupt
                ),
            );
        }
        if evidence.received == 0 {
            object(
                Status::Invalid,
                "no_data",
                "no message came back in the window".to_owned(),
            );
        }
        if evidence.is_open_loop {
            let achieved = evidence.achieved / evidence.offered;
            if evidence.received > 0 && achieved < LEAST_ACHIEVED {
                object(
                    Status::Invalid,
                    "rate_not_achieved",
                    format!(
                        "only {:.1} % of the offered rate came back: offer less, or search for \
                         what the server can take",
                        achieved * 100.0
                    ),
                );
            }
            if evidence.unsent as f64 > MOST_UNSENT * evidence.issued as f64 {
                object(
                    Status::Invalid,
                    "unsent",
                    format!(
                        "{} of {} messages that were due never reached the kernel: the server \
                         does not take them",
                        evidence.unsent, evidence.issued
                    ),
                );
            }
            if let Some((lag, response)) = p99(evidence.own_send_lag).zip(p99(evidence.response))
                && lag > response * MOST_LAG
            {
                object(
                    Status::Invalid,
                    "send_lag",
                    format!(
                        "messages left late by our own doing: p99 of the send lag is {}, {:.0} % \
                         of the response time's; use fewer messages per thread (-t, -R) or a \
                         quieter host",
                        format_duration_ns(lag),
                        lag / response * 100.0
                    ),
                );
            }
        }
        for (index, thread) in evidence.threads.iter().enumerate() {
            if thread.busy_ratio > MOST_BUSY {
                object(
                    Status::Suspect,
                    "client_busy",
                    format!(
                        "client thread {index} was busy {:.0} % of the time: the limit may be \
                         ours; use more threads (-t) or hosts, or offer less",
                        thread.busy_ratio * 100.0
                    ),
                );
            }
        }
        if evidence.missing > 0 {
            object(
                Status::Suspect,
                "missing",
                format!(
                    "{} messages were sent and did not come back: percentiles are of those that \
                     did",
                    evidence.missing
                ),
            );
        }
        if evidence.failed_connections > 0 {
            object(
                Status::Suspect,
                "connections_failed",
                format!(
                    "{} connections could not be made",
                    evidence.failed_connections
                ),
            );
        }
        if (1..LEAST_SAMPLES).contains(&evidence.received) {
            object(
                Status::Suspect,
                "few_samples",
                format!(
                    "{} messages are too few for a p99: measure longer (-d, -n)",
                    evidence.received
                ),
            );
        }
        Self {
            status: reasons
                .iter()
                .map(|reason| reason.status)
                .max()
                .unwrap_or(Status::Valid),
            reasons,
        }
    }
}

fn p99(latency: Option<&Latency>) -> Option<f64> {
    latency?
        .quantile(0.99)
        .map(|nanoseconds| nanoseconds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    fn latency(p99: u64) -> Latency {
        let mut histogram = record::histogram();
        histogram.record_n(p99, 10_000).unwrap();
        Latency::new(histogram).unwrap()
    }

    const THREAD: ThreadResult = ThreadResult {
        cpu_ratio: 0.9,
        busy_ratio: 0.5,
        involuntary_switches: 0,
    };

    fn codes(change: impl FnOnce(&mut Evidence<'_>)) -> (Status, Vec<&'static str>) {
        let (response, lag) = (latency(100_000), latency(2_000));
        let mut evidence = Evidence {
            offered: 1000.0,
            achieved: 1000.0,
            is_open_loop: true,
            issued: 10_000,
            received: 10_000,
            unsent: 0,
            corrupt: 0,
            missing: 0,
            failed_connections: 0,
            response: Some(&response),
            own_send_lag: Some(&lag),
            threads: &[THREAD],
        };
        change(&mut evidence);
        let verdict = Verdict::of(&evidence);
        let codes = verdict.reasons.iter().map(|reason| reason.code).collect();
        (verdict.status, codes)
    }

    #[test]
    fn a_clean_run_is_valid() {
        assert_eq!(codes(|_| ()), (Status::Valid, vec![]));
    }

    #[test]
    fn each_objection_is_named() {
        use Status::{Invalid, Suspect};
        assert_eq!(codes(|e| e.corrupt = 1), (Invalid, vec!["corrupt"]));
        assert_eq!(
            codes(|e| e.achieved = 989.0),
            (Invalid, vec!["rate_not_achieved"])
        );
        assert_eq!(codes(|e| e.unsent = 101), (Invalid, vec!["unsent"]));
        assert_eq!(codes(|e| e.missing = 1), (Suspect, vec!["missing"]));
        assert_eq!(
            codes(|e| e.failed_connections = 1),
            (Suspect, vec!["connections_failed"])
        );
        assert_eq!(codes(|e| e.received = 999), (Suspect, vec!["few_samples"]));
        assert_eq!(codes(|e| e.received = 0), (Invalid, vec!["no_data"]));
        let late = latency(11_000);
        let (response, busy) = (
            latency(100_000),
            [ThreadResult {
                busy_ratio: 0.86,
                ..THREAD
            }],
        );
        let verdict = Verdict::of(&Evidence {
            offered: 1000.0,
            achieved: 995.0,
            is_open_loop: true,
            issued: 10_000,
            received: 10_000,
            unsent: 100,
            corrupt: 0,
            missing: 0,
            failed_connections: 0,
            response: Some(&response),
            own_send_lag: Some(&late),
            threads: &busy,
        });
        let codes: Vec<_> = verdict.reasons.iter().map(|reason| reason.code).collect();
        assert_eq!(codes, ["send_lag", "client_busy"]);
        assert_eq!(verdict.status, Invalid);
    }

    #[test]
    fn a_closed_loop_has_no_rate_to_miss() {
        let (status, codes) = codes(|evidence| {
            evidence.is_open_loop = false;
            evidence.achieved = 1.0;
        });
        assert_eq!((status, codes), (Status::Valid, vec![]));
    }
}
