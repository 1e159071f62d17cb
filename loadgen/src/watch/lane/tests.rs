use proptest::prelude::*;

use super::*;
use crate::result::watch::{ProbeKind, TargetResult};

const MS: u64 = 1_000_000;
const TIMEOUT: u64 = 200 * MS;
const LATE: u64 = 20 * MS;

/// A lane on a virtual clock, with its series.
struct Simulation {
    lane: Lane,
    series: Series,
    /// Outcomes that are not known yet: when they are, of which probe.
    known_at: Vec<(u64, u64, Outcome)>,
}

impl Simulation {
    fn new() -> Self {
        Self {
            lane: Lane::new(0, TIMEOUT, LATE),
            series: Series::new(0, ProbeKind::Persistent),
            known_at: Vec::new(),
        }
    }

    /// Sends a probe at `due`, whose outcome will be known at `at`.
    fn probe(&mut self, due: u64, at: u64, outcome: Outcome) {
        self.series.sent += 1;
        let number = self.lane.send(due, due);
        self.known_at.push((at, number, outcome));
    }

    fn fail(class: OutageClass) -> Outcome {
        Outcome::Failed(Failure { class, error: None })
    }

    /// Lets all outcomes be known in their time.
    fn finish(mut self, now: u64) -> TargetResult {
        self.known_at.sort_by_key(|&(at, number, _)| (at, number));
        for (_, number, outcome) in std::mem::take(&mut self.known_at) {
            self.lane.settle(number, outcome, &mut self.series);
        }
        self.lane.end(now, &mut self.series);
        self.series.result("tcp://a:1".to_owned())
    }
}

fn times(result: &TargetResult) -> Vec<(u64, u64, OutageClass)> {
    let ms = |seconds: f64| (seconds * 1000.0).round() as u64;
    let outages = result.outages.iter();
    outages
        .map(|it| (ms(it.start_s), ms(it.end_s), it.class))
        .collect()
}

#[test]
fn an_outage_lasts_from_the_first_failed_probe_until_the_next_answer() {
    let mut simulation = Simulation::new();
    for number in 0..100 {
        let due = number * 10 * MS;
        let (at, outcome) = match due / MS {
            // The first is known to fail last.
            300 => (due + TIMEOUT, Simulation::fail(OutageClass::Timeout)),
            310..500 => (due + MS, Simulation::fail(OutageClass::Refused)),
            _ => (due + MS, Outcome::Answered(due + MS)),
        };
        simulation.probe(due, at, outcome);
    }
    let result = simulation.finish(1000 * MS);
    // Of the first nothing is known, and the next ones tell why.
    assert_eq!(times(&result), [(300, 501, OutageClass::Refused)]);
    assert_eq!((result.failed.timeout, result.failed.refused), (1, 19));
    assert_eq!((result.answered, result.probes), (80, 100));
    assert_eq!(result.availability, Some(0.8));
    assert_eq!(result.outage_count, 1);
    assert!((result.longest_outage_s - 0.201).abs() < 1e-9);
    assert!(!result.outages[0].ongoing);
}

#[test]
fn answers_that_come_late_are_a_stretch_and_no_outage() {
    let mut simulation = Simulation::new();
    // A server that is stopped for 100 ms.
    for number in 0..100 {
        let due = number * 10 * MS;
        let at = if (300..400).contains(&(due / MS)) {
            400 * MS
        } else {
            due
        };
        simulation.probe(due, at, Outcome::Answered(at));
    }
    let result = simulation.finish(1000 * MS);
    assert_eq!(times(&result), [(300, 400, OutageClass::Late)]);
    assert_eq!((result.outage_count, result.longest_outage_s), (0, 0.0));
    assert_eq!(result.late, 8);
    assert!((result.longest_late_s - 0.1).abs() < 1e-9);
    assert_eq!(result.availability, Some(1.0));
}

#[test]
fn what_waited_behind_an_outage_is_part_of_it() {
    let mut simulation = Simulation::new();
    // A server that is stopped for a second: the last of its probes are answered within the timeout.
    for number in 0..200 {
        let due = number * 10 * MS;
        let outcome = match due / MS {
            300..1100 => (due + TIMEOUT, Simulation::fail(OutageClass::Timeout)),
            1100..1300 => (1300 * MS, Outcome::Answered(1300 * MS)),
            _ => (due, Outcome::Answered(due)),
        };
        simulation.probe(due, outcome.0, outcome.1);
    }
    let result = simulation.finish(2000 * MS);
    assert_eq!(times(&result), [(300, 1300, OutageClass::Timeout)]);
}

#[test]
fn an_outage_is_over_when_any_answer_comes_that_no_failure_follows() {
    let mut simulation = Simulation::new();
    // The old connection brings its answers at 400 ms, after a new one was answered at 301.
    for (due, answered) in [
        (0, Some(0)),
        (100, None),
        (150, Some(400)),
        (200, None),
        (300, Some(301)),
        (320, Some(320)),
        (500, Some(500)),
    ] {
        let outcome = match answered {
            Some(at) => Outcome::Answered(at * MS),
            None => Simulation::fail(OutageClass::Timeout),
        };
        simulation.probe(due * MS, due * MS, outcome);
    }
    let result = simulation.finish(600 * MS);
    assert_eq!(times(&result), [(100, 301, OutageClass::Timeout),]);
    assert_eq!(result.failed.timeout, 2);
}

#[test]
fn what_is_told_long_after_the_beginning_does_not_explain_it() {
    let mut simulation = Simulation::new();
    for number in 0..100 {
        let due = number * 10 * MS;
        let outcome = match due / MS {
            300..600 => (due + TIMEOUT, Simulation::fail(OutageClass::Timeout)),
            600..700 => (due + MS, Simulation::fail(OutageClass::Refused)),
            _ => (due, Outcome::Answered(due)),
        };
        simulation.probe(due, outcome.0, outcome.1);
    }
    let result = simulation.finish(1000 * MS);
    assert_eq!(times(&result), [(300, 700, OutageClass::Timeout)]);
}

#[test]
fn what_the_client_slept_through_is_not_the_servers() {
    let mut simulation = Simulation::new();
    simulation.series.sent += 3;
    let [first, second] = [0, 10 * MS].map(|due| simulation.lane.send(due, due));
    // Stopped from 11 to 1011 ms. One probe was due meanwhile, and is sent behind it.
    simulation.lane.excuse(11 * MS, 1011 * MS);
    let third = simulation.lane.send(1005 * MS, 1011 * MS);
    assert_eq!(
        simulation.lane.deadline(second),
        Some(10 * MS + TIMEOUT + 1000 * MS)
    );
    assert_eq!(simulation.lane.deadline(third), Some(1011 * MS + TIMEOUT));
    for number in [first, second, third] {
        let answered = Outcome::Answered(1012 * MS);
        simulation
            .lane
            .settle(number, answered, &mut simulation.series);
    }
    let result = simulation.finish(2000 * MS);
    assert_eq!((result.answered, result.late), (3, 0));
    assert_eq!(times(&result), []);
    assert!(result.response.is_none(), "no one knows when they came");
}

#[test]
fn an_outage_that_goes_on_at_the_end_is_told_so() {
    let mut simulation = Simulation::new();
    simulation.probe(0, 0, Outcome::Answered(0));
    simulation.probe(10 * MS, 10 * MS, Simulation::fail(OutageClass::Refused));
    // Out at the end, without a verdict.
    simulation.series.sent += 1;
    simulation.lane.send(20 * MS, 20 * MS);
    let result = simulation.finish(500 * MS);
    assert_eq!(times(&result), [(10, 500, OutageClass::Refused)]);
    assert!(result.outages[0].ongoing);
    assert_eq!((result.probes, result.unfinished), (3, 1));
}

#[test]
fn what_the_client_could_not_send_says_nothing() {
    let mut simulation = Simulation::new();
    simulation.probe(0, 0, Outcome::Answered(0));
    simulation.probe(10 * MS, 10 * MS, Outcome::Unsent);
    simulation.probe(20 * MS, 20 * MS, Outcome::Answered(20 * MS));
    let result = simulation.finish(500 * MS);
    assert_eq!((result.probes, result.unsent), (2, 1));
    assert_eq!(times(&result), []);
}

#[test]
fn a_loss_between_two_probes_is_how_the_outage_after_it_began() {
    for is_answered_after in [false, true] {
        let mut simulation = Simulation::new();
        simulation.probe(0, 0, Outcome::Answered(0));
        simulation.lane.note_loss(Failure {
            class: OutageClass::Reset,
            error: None,
        });
        if is_answered_after {
            simulation.probe(10 * MS, 10 * MS, Outcome::Answered(10 * MS));
        }
        simulation.probe(20 * MS, 20 * MS, Simulation::fail(OutageClass::Refused));
        let result = simulation.finish(30 * MS);
        // An answer behind the loss says that the connection was there again.
        let class = if is_answered_after {
            OutageClass::Refused
        } else {
            OutageClass::Reset
        };
        assert_eq!(times(&result), [(20, 30, class)]);
        assert_eq!(result.failed.refused, 1);
    }
}

/// A fault of a server, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Fault {
    start: u64,
    end: u64,
    class: OutageClass,
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let class = prop_oneof![
        Just(OutageClass::Refused),
        Just(OutageClass::Timeout),
        Just(OutageClass::Unreachable)
    ];
    prop::collection::vec((500u64..3000, 20u64..2000, class), 0..20).prop_map(|parts| {
        let mut now = 0;
        let fault = |(gap, length, class)| {
            let start = now + gap;
            now = start + length;
            Fault {
                start,
                end: now,
                class,
            }
        };
        parts.into_iter().map(fault).collect()
    })
}

proptest! {
    /// Each fault is found, named and timed to one interval, and there is nothing else.
    #[test]
    fn faults_are_found_and_timed_to_one_interval(
        faults in faults(),
        interval in 5u64..20,
        phase in 0u64..20,
    ) {
        let mut simulation = Simulation::new();
        let length = faults.last().map_or(0, |fault| fault.end) + 1000;
        let mut due = phase;
        while due < length {
            let fault = faults.iter().find(|it| (it.start..it.end).contains(&due));
            let (at, outcome) = match fault.map(|fault| fault.class) {
                None => (due + 1, Outcome::Answered((due + 1) * MS)),
                Some(OutageClass::Timeout) => {
                    (due + TIMEOUT / MS, Simulation::fail(OutageClass::Timeout))
                }
                Some(class) => (due + 1, Simulation::fail(class)),
            };
            simulation.probe(due * MS, at * MS, outcome);
            due += interval;
        }
        let result = simulation.finish(length * MS);
        let found = times(&result);
        prop_assert_eq!(found.len(), faults.len(), "{:?} of {:?}", found, faults);
        for ((start, end, class), fault) in found.into_iter().zip(faults) {
            prop_assert_eq!(class, fault.class);
            prop_assert!(start >= fault.start && start < fault.start + interval);
            prop_assert!(end >= fault.end && end <= fault.end + interval + 1);
        }
        prop_assert_eq!(result.answered + result.failed.total(), result.probes);
    }

    /// In whatever order it becomes known what became of probes, the result is the same.
    #[test]
    fn the_order_of_news_is_of_no_account(
        outcomes in prop::collection::vec((0u64..3, 0u64..150, 0u64..400), 1..80),
    ) {
        let run = |is_in_order: bool| {
            let mut simulation = Simulation::new();
            for (number, &(what, response, delay)) in outcomes.iter().enumerate() {
                let due = number as u64 * 10 * MS;
                let outcome = match what {
                    0 => Simulation::fail(OutageClass::Reset),
                    _ => Outcome::Answered(due + response * MS),
                };
                let at = if is_in_order { due } else { due + delay * MS };
                simulation.probe(due, at, outcome);
            }
            serde_json::to_value(simulation.finish(10_000 * MS)).unwrap()
        };
        prop_assert_eq!(run(true), run(false));
    }
}
