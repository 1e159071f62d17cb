//! What a trial says about the server, and what is the client's doing.
//!
//! Response times are taken from the intended time, so a client that is late makes them longer. But one
//! that is behind most of the time also sends messages together that were to go apart, which is less work
//! for the server. So of the verdict's reasons and the client's own figures:
//!
//! - **The client is at its limit** if a thread was busy for more than 85 % of the time that it had a
//!   processor (`client_busy`, or because others had the processor), if ports ran out (`out_of_ports`), or
//!   if at the median, too, its send lag is the share of the response time that makes a run invalid, and
//!   longer than a thread's messages are apart. A miss then says nothing of the server, unless it refused
//!   connections, and with such a lag neither does a hit. A few such trials in a row at a load make it
//!   the client's limit.
//! - **The client was disturbed** (`send_lag`, `preempted`, `steal`, `standstill`, `hiccups`), to an extent
//!   that is known in an open loop. A hit counts. A miss counts if it is one without what the client may
//!   have added; see [`Lateness`]. Otherwise the trial is made again, more often than above, because such
//!   disturbances come from outside and pass.
//!
//! All other reasons are what a server does that is offered more than it can take: `rate_not_achieved`,
//! `unsent`, `no_data`, `missing`, `connections_failed`, `drift` and so on.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Outcome;
use super::goal::Goal;

use super::objective::Tally;
use crate::analysis::verdict::{MOST_BUSY, MOST_LAG};

/// Reasons of a verdict that say that the client could not do more.
const AT_LIMIT: [&str; 2] = ["client_busy", "out_of_ports"];
/// Reasons that say that it was late.
const LATE: [&str; 5] = ["send_lag", "preempted", "steal", "standstill", "hiccups"];
/// Where the client's lateness is cut in two: what is below may have delayed any message, what is
/// beyond is taken as the cause of as many failures as it has messages.
const CUTS: [f64; 9] = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// What the client knows of its own part in a trial.
#[derive(Clone, Copy, Debug)]
pub struct ClientPart<'a> {
    /// The codes of the verdict's reasons.
    pub codes: &'a [&'a str],
    /// In what share of the time that it had a processor its busiest thread was busy.
    pub busy: f64,
    /// How late messages left by the client's own doing, in nanoseconds; `None` in a closed loop.
    pub lag: Option<&'a Histogram<u64>>,
    /// Length of the trial's window.
    pub window: Duration,
    /// Threads among which the messages were divided.
    pub threads: usize,
}

/// Whether a reason of a verdict, by its code, speaks against the client and not against the server.
pub fn is_about_the_client(code: &str) -> bool {
    AT_LIMIT.contains(&code) || LATE.contains(&code)
}

impl Outcome {
    /// How a trial with these figures came out for `goal`.
    pub fn of(goal: &Goal, tally: &Tally<'_>, client: &ClientPart<'_>) -> Self {
        let judgement = goal.judge(tally);
        let is_behind = client.has(&["send_lag"]) && is_behind(tally, client);
        let is_at_limit = is_behind || client.has(&AT_LIMIT) || client.busy > MOST_BUSY;
        if is_refused(goal, tally, client) {
            Self::Judged(judgement)
        } else if is_behind || (is_at_limit && !judgement.is_met) {
            Self::ClientFailed
        } else if !judgement.is_met && client.has(&LATE) && !is_missed_for_sure(goal, tally, client)
        {
            Self::Disturbed
        } else {
            Self::Judged(judgement)
        }
    }
}

impl ClientPart<'_> {
    fn has(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(code))
    }
}

/// Whether the server alone made the trial miss a goal: it did not take the connections, or not keep
/// them. How busy the client was has no part in that.
fn is_refused(goal: &Goal, tally: &Tally<'_>, client: &ClientPart<'_>) -> bool {
    let missing = tally.missing_connections;
    let mut objectives = goal.objectives.iter();
    !client.has(&["out_of_ports"]) && objectives.any(|objective| !objective.is_met(missing))
}

/// Whether the client was behind its schedule most of the time: by so much that it sent messages together,
/// which one that only wakes up late each time does not.
fn is_behind(tally: &Tally<'_>, client: &ClientPart<'_>) -> bool {
    let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
    let medians = client.lag.map(median).zip(tally.response.map(median));
    let apart_ns =
        client.window.as_nanos() as f64 * client.threads as f64 / tally.due.max(1) as f64;
    medians.is_some_and(|(lag, response)| lag > response * MOST_LAG && lag > apart_ns)
}

/// Whether a goal would have been missed with a client that is never late.
fn is_missed_for_sure(goal: &Goal, tally: &Tally<'_>, client: &ClientPart<'_>) -> bool {
    let lateness: Vec<Lateness> = client
        .lag
        .filter(|lag| !lag.is_empty())
        .map(|lag| {
            CUTS.map(|cut| Lateness::cut(lag, cut, client.window))
                .into()
        })
        .unwrap_or_default();
    goal.objectives.iter().any(|objective| {
        let lost = objective.lost(tally);
        !objective.is_met(lost)
            || lateness
                .iter()
                .any(|lateness| !objective.is_met(objective.failed_despite(tally, lateness)))
    })
}

/// A bound on what the client added to response times: at most `delay`, but for a share of messages.
///
/// A thread writes and reads in turn, so it reads as late as it writes. If a share p of the messages
/// left later than l, then at most a share 2p had more than 2l added, once by writing and once by
/// reading. So if a share f was later than limit + 2l, the server was late for f - 2p at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    pub(super) delay: Duration,
    pub(super) share_beyond: f64,
    /// The same delay as a share of the window: of the messages that were due so shortly before its
    /// end, it may be the client that kept them from coming back within.
    pub(super) share_of_window: f64,
}

impl Lateness {
    fn cut(lag: &Histogram<u64>, quantile: f64, window: Duration) -> Self {
        let lag_ns = lag.value_at_quantile(quantile);
        let within = lag.count_between(0, lag_ns);
        let delay = Duration::from_nanos(2 * lag_ns);
        Self {
            delay,
            share_beyond: 2.0 * (lag.len() - within) as f64 / lag.len() as f64,
            share_of_window: delay.as_secs_f64() / window.as_secs_f64().max(1e-9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::goal::Preset;
    use super::super::objective::Objective;
    use super::*;
    use crate::engine::slice;

    fn goal(objective: &str) -> Goal {
        Goal {
            name: None,
            objectives: vec![objective.parse::<Objective>().expect("is well-formed")],
            terms: Preset::Quick.terms(),
        }
    }

    fn histogram(samples: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = slice::histogram();
        for &(micros, count) in samples {
            histogram.record_n(micros * 1000, count).expect("fits");
        }
        histogram
    }

    /// Of 1000 messages, with these response times and lags in microseconds.
    fn outcome(
        objective: &str,
        response: &[(u64, u64)],
        lag: Option<&[(u64, u64)]>,
        codes: &[&str],
    ) -> Outcome {
        let response = histogram(response);
        let tally = Tally {
            due: 1000,
            lost: 1000 - response.len(),
            corrupt: 0,
            completed: response.len(),
            missing_connections: 0.0,
            response: Some(&response),
        };
        let lag = lag.map(histogram);
        let client = ClientPart {
            codes,
            busy: 0.5,
            lag: lag.as_ref(),
            window: Duration::from_millis(100),
            threads: 1,
        };
        Outcome::of(&goal(objective), &tally, &client)
    }

    fn is_met(outcome: &Outcome) -> Option<bool> {
        outcome.judgement().map(|judgement| judgement.is_met)
    }

    #[test]
    fn a_saturated_server_is_not_excused_by_what_saturation_brings() {
        let codes = ["rate_not_achieved", "unsent", "drift", "missing", "no_data"];
        let late = outcome("p99<1ms", &[(400, 900), (9_000, 100)], None, &codes);
        assert_eq!(is_met(&late), Some(false));
    }

    #[test]
    fn a_goal_that_is_met_is_met_by_a_disturbed_client_too() {
        for code in AT_LIMIT.into_iter().chain(LATE) {
            let lag = [(10, 900), (300, 100)];
            let met = outcome("p99<1ms", &[(400, 1000)], Some(&lag), &[code]);
            assert_eq!(is_met(&met), Some(true), "{code}");
        }
    }

    #[test]
    fn a_client_that_is_behind_did_not_offer_the_load() {
        let behind = outcome(
            "p99<1ms",
            &[(400, 1000)],
            Some(&[(300, 1000)]),
            &["send_lag"],
        );
        assert_eq!(behind, Outcome::ClientFailed);
    }

    #[test]
    fn a_client_that_wakes_up_late_each_time_did_offer_the_load() {
        // The messages are 100 µs apart.
        let late = outcome(
            "p99<1ms",
            &[(400, 1000)],
            Some(&[(60, 1000)]),
            &["send_lag"],
        );
        assert_eq!(is_met(&late), Some(true));
    }

    #[test]
    fn a_client_at_its_limit_says_nothing_of_the_server() {
        for code in AT_LIMIT {
            let missed = outcome("p99<1ms", &[(9_000, 1000)], Some(&[(1, 1000)]), &[code]);
            assert_eq!(missed, Outcome::ClientFailed, "{code}");
        }
    }

    #[test]
    fn a_client_without_a_processor_to_spare_says_nothing_of_the_server() {
        let response = histogram(&[(9_000, 1000)]);
        let tally = Tally {
            due: 1000,
            lost: 0,
            corrupt: 0,
            completed: 1000,
            missing_connections: 0.0,
            response: Some(&response),
        };
        let client = ClientPart {
            codes: &[],
            busy: 0.95,
            lag: None,
            window: Duration::from_secs(1),
            threads: 1,
        };
        let of = |tally: &Tally<'_>| Outcome::of(&goal("p99<1ms"), tally, &client);
        assert_eq!(of(&tally), Outcome::ClientFailed);
        let refused = Tally {
            missing_connections: 0.1,
            ..tally
        };
        assert_eq!(
            is_met(&of(&refused)),
            Some(false),
            "the server refused them"
        );
    }

    #[test]
    fn what_a_late_client_can_not_explain_is_the_server_s() {
        for code in LATE {
            let judged = |response: &[(u64, u64)], lag: &[(u64, u64)]| {
                is_met(&outcome("p99<1ms", response, Some(lag), &[code]))
            };
            // 2 % took 1.2 ms: lags of 200 µs both ways may have made them late.
            let slightly = [(400, 980), (1_200, 20)];
            assert_eq!(judged(&slightly, &[(200, 1000)]), None, "{code}");
            assert_eq!(judged(&slightly, &[(20, 1000)]), Some(false), "{code}");
            // 20 lags of 5 ms may have made 40 messages late, but not 100.
            let lag = [(10, 980), (5_000, 20)];
            assert_eq!(judged(&[(400, 970), (3_000, 30)], &lag), None, "{code}");
            assert_eq!(
                judged(&[(400, 900), (3_000, 100)], &lag),
                Some(false),
                "{code}"
            );
        }
    }

    #[test]
    fn in_a_closed_loop_only_losses_are_known_not_to_be_the_client_s() {
        let slow = outcome("p99<1ms", &[(400, 900), (9_000, 100)], None, &["preempted"]);
        assert_eq!(slow, Outcome::Disturbed);
        let lost = outcome("p99<1ms", &[(400, 900)], None, &["preempted"]);
        assert_eq!(is_met(&lost), Some(false));
    }
}
