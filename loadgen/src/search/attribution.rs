//! Attribution of a failed trial: to the server or to the client.
//!
//! Response times begin at the intended time, so a late client makes them longer. A client that is
//! behind most of the time also sends messages together that were due apart, which makes the
//! server's work easier. So the verdict's reasons and the client's own figures decide:
//!
//! - **The client is at its limit** if a thread was busy for more than 85 % of the time that it had
//!   a CPU (`client_busy`, or because others had the CPU), if ports ran out (`out_of_ports`), or if
//!   the median send lag is above the share of the median response time that makes a run invalid,
//!   and longer than the time between a thread's messages. Then a miss says nothing about the
//!   server, unless the server refused connections; with such a lag, a hit says nothing either. A
//!   few such trials in a row at a load make it the client's limit.
//!   it the client's limit.
//! - **The client was disturbed** (`send_lag`, `preempted`, `steal`, `standstill`, `hiccups`; among
//!   shards `started_late`, `not_together`), to an extent that is known in an open loop. A hit counts.
//!   A miss counts if it remains a miss without the delay that the client may have added; see
//!   [`Lateness`]. Otherwise the trial is repeated, more often than above, because such disturbances
//!   come from outside and pass.
//!
//! An overloaded server can cause all other reasons: `rate_not_achieved`, `unsent`, `no_data`,
//! `missing`, `connections_failed`, `drift` and others.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::judgement::{Lateness, TrialMessages};
use crate::analysis::verdict::{MAX_BUSY, MAX_LAG};
use crate::result::search::{Goal, Judgement};
use crate::result::verdict::Code;

/// Quantiles at which the client's send lag is split. Lags below may have delayed any message; each
/// message with a longer lag counts as the cause of one failure.
const CUTS: [f64; 9] = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// The outcome of a trial for a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The judgement on the goal.
    Judged(Judgement),
    /// The client could not offer the load: the trial says nothing about the server.
    ClientFailed,
    /// The client's host was disturbed: the trial says nothing about the server, and little about
    /// the client.
    Disturbed,
}

/// The client's own figures of a trial.
#[derive(Clone, Copy, Debug)]
pub struct ClientPart<'a> {
    /// The codes of the verdict's reasons.
    pub codes: &'a [&'a Code],
    /// The busy share of its busiest thread, of the time that the thread had a CPU.
    pub busy: f64,
    /// The client's own send lag in nanoseconds; `None` in a closed loop.
    pub lag: Option<&'a Histogram<u64>>,
    /// Length of the trial's window.
    pub window: Duration,
    /// Number of threads that shared the messages.
    pub threads: usize,
}

/// The kind of a verdict's reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ClientState {
    AtLimit,
    Disturbed,
    Sound,
}

impl ClientState {
    fn of(code: &Code) -> Self {
        match code {
            Code::ClientBusy | Code::OutOfPorts => Self::AtLimit,
            Code::SendLag
            | Code::Preempted
            | Code::Steal
            | Code::Standstill
            | Code::Hiccups
            | Code::NotTogether
            | Code::StartedLate => Self::Disturbed,
            Code::Corrupt
            | Code::NoEcho
            | Code::NotServed
            | Code::NoData
            | Code::Missing
            | Code::NotVerified
            | Code::RateNotAchieved
            | Code::Unsent
            | Code::RateChanged
            | Code::ConnectionsFailed
            | Code::Unclosed
            | Code::NotHeld
            | Code::ServerSideMissing
            | Code::RepeatFailed
            | Code::ServerLimited
            | Code::ServerDisagrees
            | Code::ClocksDiffer
            | Code::EndedEarly
            | Code::ShardsMissing
            | Code::FewSamples
            | Code::WarmingUp
            | Code::Drift
            | Code::Imported
            | Code::RoundFailed
            | Code::InvalidRuns
            | Code::SuspectRuns
            | Code::HostsDiffer
            | Code::Interrupted
            | Code::Unknown(_) => Self::Sound,
        }
    }
}

/// Whether a verdict's reason concerns the client, not the server.
pub fn is_about_the_client(code: &Code) -> bool {
    ClientState::of(code) != ClientState::Sound
}

impl Outcome {
    /// The outcome of a trial with these messages for `goal`.
    pub fn of(goal: &Goal, messages: &TrialMessages<'_>, client: &ClientPart<'_>) -> Self {
        let judgement = goal.judge(messages);
        let is_behind = client.codes.contains(&&Code::SendLag) && is_behind(messages, client);
        let is_at_limit = is_behind || client.is(ClientState::AtLimit) || client.busy > MAX_BUSY;
        let is_excused = client.is(ClientState::Disturbed)
            && !is_missed_despite_lateness(goal, messages, client);
        if has_server_refused(goal, messages, client) {
            Self::Judged(judgement)
        } else if is_behind || (is_at_limit && !judgement.is_met) {
            Self::ClientFailed
        } else if !judgement.is_met && is_excused {
            Self::Disturbed
        } else {
            Self::Judged(judgement)
        }
    }

    /// The judgement on the server, if there is one.
    pub fn judgement(&self) -> Option<Judgement> {
        match self {
            Self::Judged(judgement) => Some(*judgement),
            Self::ClientFailed | Self::Disturbed => None,
        }
    }
}

impl ClientPart<'_> {
    fn is(&self, state: ClientState) -> bool {
        self.codes.iter().any(|code| ClientState::of(code) == state)
    }
}

/// Whether the trial missed a goal because the server refused or ended connections. The client's
/// load has no influence on that.
fn has_server_refused(goal: &Goal, messages: &TrialMessages<'_>, client: &ClientPart<'_>) -> bool {
    let missing = messages.missing_connections;
    let mut objectives = goal.objectives.iter();
    !client.codes.contains(&&Code::OutOfPorts)
        && objectives.any(|objective| !objective.is_met(missing))
}

/// Whether the client was behind its schedule most of the time, by so much that it sent messages
/// together. A client that only wakes up late for each message was not.
fn is_behind(messages: &TrialMessages<'_>, client: &ClientPart<'_>) -> bool {
    let median = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.5) as f64;
    let medians = client.lag.map(median).zip(messages.response.map(median));
    let apart_ns =
        client.window.as_nanos() as f64 * client.threads as f64 / messages.due.max(1) as f64;
    medians.is_some_and(|(lag, response)| lag > response * MAX_LAG && lag > apart_ns)
}

/// Whether the goal would have been missed even by a client that is never late.
fn is_missed_despite_lateness(
    goal: &Goal,
    messages: &TrialMessages<'_>,
    client: &ClientPart<'_>,
) -> bool {
    let lag = client.lag.filter(|lag| !lag.is_empty());
    let lateness: Vec<Lateness> = lag.map_or_else(Vec::new, |lag| {
        CUTS.map(|cut| Lateness::cut(lag, cut, client.window))
            .into()
    });
    goal.objectives.iter().any(|objective| {
        let mut despite = lateness
            .iter()
            .map(|lateness| objective.failed_despite(messages, lateness));
        !objective.is_met(objective.lost(messages))
            || despite.any(|failed| !objective.is_met(failed))
    })
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
    use super::super::preset::Preset;
    use super::*;
    use crate::result::histogram;
    use crate::result::objective::Objective;

    const AT_LIMIT: [Code; 2] = [Code::ClientBusy, Code::OutOfPorts];
    const DISTURBED: [Code; 5] = [
        Code::SendLag,
        Code::Preempted,
        Code::Steal,
        Code::Standstill,
        Code::Hiccups,
    ];

    fn goal(objective: &str) -> Goal {
        Goal {
            name: None,
            objectives: vec![objective.parse::<Objective>().expect("is well-formed")],
            terms: Preset::Quick.terms(),
        }
    }

    fn histogram(samples: &[(u64, u64)]) -> Histogram<u64> {
        let mut histogram = histogram::empty();
        for &(micros, count) in samples {
            histogram.record_n(micros * 1000, count).expect("fits");
        }
        histogram
    }

    /// The outcome of 1000 messages with these response times and lags in microseconds.
    fn outcome(
        objective: &str,
        response: &[(u64, u64)],
        lag: Option<&[(u64, u64)]>,
        codes: &[&Code],
    ) -> Outcome {
        let response = histogram(response);
        let messages = TrialMessages {
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
        Outcome::of(&goal(objective), &messages, &client)
    }

    fn is_met(outcome: &Outcome) -> Option<bool> {
        outcome.judgement().map(|judgement| judgement.is_met)
    }

    #[test]
    fn a_saturated_server_is_not_excused_by_what_saturation_brings() {
        let codes = [
            &Code::RateNotAchieved,
            &Code::Unsent,
            &Code::Drift,
            &Code::Missing,
            &Code::NoData,
        ];
        let late = outcome("p99<1ms", &[(400, 900), (9_000, 100)], None, &codes);
        assert_eq!(is_met(&late), Some(false));
    }

    #[test]
    fn a_goal_that_is_met_is_met_by_a_disturbed_client_too() {
        for code in AT_LIMIT.iter().chain(&DISTURBED) {
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
            &[&Code::SendLag],
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
            &[&Code::SendLag],
        );
        assert_eq!(is_met(&late), Some(true));
    }

    #[test]
    fn a_client_at_its_limit_says_nothing_of_the_server() {
        for code in &AT_LIMIT {
            let missed = outcome("p99<1ms", &[(9_000, 1000)], Some(&[(1, 1000)]), &[code]);
            assert_eq!(missed, Outcome::ClientFailed, "{code}");
        }
    }

    #[test]
    fn a_client_without_a_processor_to_spare_says_nothing_of_the_server() {
        let response = histogram(&[(9_000, 1000)]);
        let messages = TrialMessages {
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
        let of = |messages: &TrialMessages<'_>| Outcome::of(&goal("p99<1ms"), messages, &client);
        assert_eq!(of(&messages), Outcome::ClientFailed);
        let refused = TrialMessages {
            missing_connections: 0.1,
            ..messages
        };
        assert_eq!(
            is_met(&of(&refused)),
            Some(false),
            "the server refused them"
        );
    }

    #[test]
    fn what_a_late_client_can_not_explain_is_the_server_s() {
        for code in &DISTURBED {
            let judged = |response: &[(u64, u64)], lag: &[(u64, u64)]| {
                is_met(&outcome("p99<1ms", response, Some(lag), &[code]))
            };
            // 2 % took 1.2 ms: lags of 200 µs in both directions may have made them late.
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
        let slow = outcome(
            "p99<1ms",
            &[(400, 900), (9_000, 100)],
            None,
            &[&Code::Preempted],
        );
        assert_eq!(slow, Outcome::Disturbed);
        let lost = outcome("p99<1ms", &[(400, 900)], None, &[&Code::Preempted]);
        assert_eq!(is_met(&lost), Some(false));
    }
}
