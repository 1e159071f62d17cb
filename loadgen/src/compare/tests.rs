use super::*;
use crate::analysis::repeats;
use crate::analysis::samples;
use crate::analysis::statistics::simulation::Random;
use crate::engine::histogram::BucketCounts;
use crate::engine::slice::Slice;
use crate::result::comparison::{
    ComparedSide, Comparison, ComparisonVerdict, Method, Side, Source,
};
use crate::result::{Code, Host, Reason, RunResult, Status, Verdict};

const COMPARISONS: u64 = 2000;

fn setting() -> Setting {
    let side = |name: &str| ComparedSide {
        name: name.to_owned(),
        source: Source::Targets,
        runs: 0,
        plan: samples::plan(1),
    };
    Setting {
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        host: Host::default(),
        end: End::Complete,
        base: side("a"),
        new: side("b"),
    }
}

fn criteria(threshold: f64) -> Criteria {
    Criteria {
        threshold,
        looks: 1,
    }
}

fn measured(readings: Vec<(Metric, Option<Reading>)>) -> Measured {
    Measured {
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        verdict: Verdict::from_reasons(Vec::new()),
        readings,
    }
}

/// A run on a host with varying speed, of a server that is `slowdown` times slower than another.
/// The figures of a run vary together, the tail more than the rest, and there are occasional
/// disturbances.
fn run(random: &mut Random, weather: f64, slowdown: f64) -> Measured {
    let mut common = 0.02 * random.normal() + weather;
    if random.uniform() < 0.03 {
        common += random.exponential();
    }
    let mut slower = |part: f64, own: f64| {
        Some(Reading::Value(
            1e5 * slowdown * (part * common + own * random.normal()).exp(),
        ))
    };
    let latencies = [
        (Metric::ResponseP50, slower(1.0, 0.005)),
        (Metric::ResponseP90, slower(1.2, 0.01)),
        (Metric::ResponseP99, slower(2.0, 0.1)),
    ];
    let rate = 1e5 / slowdown * (-common).exp();
    let mut readings = vec![(Metric::AchievedRate, Some(Reading::Value(rate)))];
    readings.extend(latencies);
    let failures = Reading::Share {
        count: u64::from(random.uniform() < 0.1),
        of: rate as u64,
    };
    readings.push((Metric::Failures, Some(failures)));
    measured(readings)
}

fn rounds(random: &mut Random, number: usize, slowdown: f64) -> Vec<Round> {
    let weather: Vec<f64> = random.correlated_normals(0.9).take(2 * number).collect();
    weather
        .chunks_exact(2)
        .map(|pair| {
            let first = if random.uniform() < 0.5 {
                Side::Base
            } else {
                Side::New
            };
            let mut at = |weather: f64, slowdown| run(random, 0.03 * weather, slowdown);
            let (base, new) = match first {
                Side::Base => (at(pair[0], 1.0), at(pair[1], slowdown)),
                Side::New => (at(pair[1], 1.0), at(pair[0], slowdown)),
            };
            Round { first, base, new }
        })
        .collect()
}

#[test]
fn a_server_against_itself_is_an_alarm_in_one_of_twenty_at_most() {
    let mut random = Random::new(1);
    // With no threshold, every interval without the ratio 1 is an alarm.
    for (number, threshold, most) in [(10, 0.0, 0.05), (15, 0.0, 0.05), (15, 0.05, 0.01)] {
        let alarms = (0..COMPARISONS)
            .filter(|_| {
                let rounds = rounds(&mut random, number, 1.0);
                let comparison = of_rounds(setting(), &rounds, &criteria(threshold));
                comparison.verdict == ComparisonVerdict::Regression
            })
            .count();
        let share = alarms as f64 / COMPARISONS as f64;
        assert!(share <= most, "{number} rounds at {threshold}: {share}");
    }
}

#[test]
fn looking_several_times_raises_no_more_alarms() {
    let mut random = Random::new(2);
    let criteria = Criteria {
        threshold: 0.0,
        looks: 3,
    };
    let alarms = (0..COMPARISONS / 2)
        .filter(|_| {
            let rounds = rounds(&mut random, 40, 1.0);
            [10, 20, 40].into_iter().any(|look| {
                of_rounds(setting(), &rounds[..look], &criteria).verdict
                    == ComparisonVerdict::Regression
            })
        })
        .count();
    assert!(alarms <= COMPARISONS as usize / 2 / 20, "{alarms}");
}

#[test]
fn a_slower_server_is_found_the_sooner_the_slower_it_is() {
    let mut random = Random::new(3);
    let mut found = |slowdown| {
        let found = (0..200)
            .filter(|_| {
                let rounds = rounds(&mut random, 15, slowdown);
                let comparison = of_rounds(setting(), &rounds, &criteria(0.05));
                comparison.verdict == ComparisonVerdict::Regression
            })
            .count();
        found as f64 / 200.0
    };
    // At the threshold itself it must not be found; far beyond it, it must be.
    assert!(found(1.05) <= 0.05);
    assert!(found(1.1) >= 0.6);
    assert!(found(1.2) >= 0.9);
}

fn value(value: f64) -> Option<Reading> {
    Some(Reading::Value(value))
}

fn plain_rounds(number: usize, base: f64, new: f64) -> Vec<Round> {
    (0..number)
        .map(|_| Round {
            first: Side::Base,
            base: measured(vec![(Metric::ResponseP50, value(base))]),
            new: measured(vec![(Metric::ResponseP50, value(new))]),
        })
        .collect()
}

#[test]
fn figures_that_are_not_known_decide_nothing_and_cost_nothing() {
    let comparison = of_rounds(setting(), &plain_rounds(6, 100.0, 200.0), &criteria(0.05));
    assert_eq!(comparison.verdict, ComparisonVerdict::Regression);
    let known = &comparison.metrics[1];
    assert_eq!((known.base, known.new), (Some(100.0), Some(200.0)));
    // One figure alone: its interval decides.
    assert_eq!(known.decisive, known.interval);
    let unknown = &comparison.metrics[3];
    assert_eq!(unknown.name, "response_p99");
    assert_eq!(unknown.verdict, ComparisonVerdict::NotEnoughEvidence);
    assert!(unknown.sentence.contains("measure longer"));
    assert!(
        comparison
            .metrics
            .iter()
            .all(|m| m.name != "server_cpu_per_message")
    );
    let nothing = of_rounds(setting(), &[], &criteria(0.05));
    assert_eq!(nothing.verdict, ComparisonVerdict::NotEnoughEvidence);
}

/// Rounds in which `base` and `new` of 1000 messages failed on their sides.
fn rounds_with_failures(number: usize, base: u64, new: u64) -> Vec<Round> {
    let failing = |count| {
        let failures = Reading::Share { count, of: 1000 };
        measured(vec![(Metric::Failures, Some(failures))])
    };
    let round = Round {
        first: Side::Base,
        base: failing(base),
        new: failing(new),
    };
    vec![round; number]
}

#[test]
fn no_failures_against_none_are_no_open_question() {
    for number in [1, 2, 3, 6, 20] {
        let failures = |base, new| {
            let rounds = rounds_with_failures(number, base, new);
            let comparison = of_rounds(setting(), &rounds, &criteria(0.05));
            let metrics = comparison.metrics.into_iter();
            metrics.last().unwrap()
        };
        let none = failures(0, 0);
        assert_eq!(none.verdict, ComparisonVerdict::NoChange, "{number}");
        assert_eq!(none.ratio, Some(1.0));
        assert!(
            none.sentence.contains("0 in every run"),
            "{}",
            none.sentence
        );
        let is_open = failures(0, 1).verdict == ComparisonVerdict::NotEnoughEvidence;
        assert_eq!(is_open, number < 6, "{number}");
    }
}

/// Not enough rounds are named in at most some cases of chance, and never by a constant.
#[test]
fn as_many_rounds_as_are_named_do_in_most_cases() {
    let mut random = Random::new(8);
    let (mut named, mut did) = (0, 0);
    for _ in 0..300 {
        let rounds = rounds(&mut random, 60, 1.02);
        let median = |number: usize| {
            let comparison = of_rounds(setting(), &rounds[..number], &criteria(0.05));
            comparison.metrics[1].clone()
        };
        let few = median(10);
        let Some(more) = few.rounds_needed.filter(|&more| more <= 50) else {
            continue;
        };
        named += 1;
        did += usize::from(median(10 + more).verdict != ComparisonVerdict::NotEnoughEvidence);
    }
    assert!(named > 50, "{named}");
    assert!(did * 3 > named * 2, "{did} of {named}");
}

#[test]
fn what_holds_for_several_figures_is_said_once() {
    let mut random = Random::new(9);
    let comparison = of_rounds(setting(), &rounds(&mut random, 6, 1.0), &criteria(0.05));
    let sentence = &comparison.sentence;
    assert_eq!(
        sentence.matches("6 rounds cannot tell").count(),
        1,
        "{sentence}"
    );
    for figure in [
        "The achieved rate",
        "; the median",
        "; the p90",
        "; the p99",
    ] {
        assert!(sentence.contains(figure), "{figure} is not in {sentence}");
    }
}

#[test]
fn a_comparison_survives_json() {
    let mut random = Random::new(4);
    let comparison = of_rounds(setting(), &rounds(&mut random, 4, 1.3), &criteria(0.05));
    assert_eq!(comparison.metrics[0].min_rounds, Some(8));
    let json = serde_json::to_string(&comparison).unwrap();
    assert_eq!(
        serde_json::from_str::<Comparison>(&json).unwrap(),
        comparison
    );
}

fn invalid(code: Code) -> Verdict {
    Verdict::from_reasons(vec![Reason::invalid(code, String::new())])
}

#[test]
fn what_the_new_server_fails_at_is_a_finding_and_what_the_client_fails_at_is_none() {
    for (side, code, in_rounds, status) in [
        (Side::New, Code::RateNotAchieved, 8, Status::Valid),
        (Side::Base, Code::RateNotAchieved, 8, Status::Invalid),
        (Side::New, Code::SendLag, 8, Status::Invalid),
        (Side::New, Code::SendLag, 2, Status::Suspect),
    ] {
        let mut rounds = plain_rounds(8, 1.0, 1.0);
        for round in &mut rounds[..in_rounds] {
            match side {
                Side::Base => round.base.verdict = invalid(code.clone()),
                Side::New => round.new.verdict = invalid(code.clone()),
            }
        }
        let comparison = of_rounds(setting(), &rounds, &criteria(0.05));
        assert_eq!(comparison.validity.status, status, "{side:?} {code}");
    }
}

/// A result whose messages take `typical` nanoseconds, and some of them ten times as long.
fn stored(random: &mut Random, typical: f64) -> RunResult {
    let slices = (0..samples::SLICES)
        .map(|_| {
            let mut slice = Slice::<BucketCounts>::new();
            let wave = 1.0 + 0.02 * random.normal();
            for message in 0..1000 {
                let tail = if message % 30 == 0 { 10.0 } else { 1.0 };
                let took = typical * wave * tail * (0.1 * random.normal()).exp();
                slice.service.record(took as u64);
            }
            slice.counts.completed = 1000;
            slice.counts.sent = 1000;
            slice.counts.received = 1000;
            slice.counts.verified = 1000;
            slice
        })
        .collect();
    samples::result(&samples::plan(1), &[slices])
}

fn against(base: &RunResult, new: &RunResult) -> Comparison {
    let name = |name, result| NamedResult { name, result };
    let now = "2026-01-02T00:00:00.000Z".to_owned();
    of_results(name("a", base), name("b", new), &criteria(0.05), now).unwrap()
}

#[test]
fn single_runs_establish_only_what_runs_do_not_differ_by() {
    let mut random = Random::new(5);
    let base = stored(&mut random, 1e5);
    for (typical, verdict) in [
        (1.0e5, ComparisonVerdict::NotEnoughEvidence),
        (2.0e5, ComparisonVerdict::NotEnoughEvidence),
        (1.0e6, ComparisonVerdict::Regression),
    ] {
        let comparison = against(&base, &stored(&mut random, typical));
        assert_eq!(comparison.method, Method::SingleRuns);
        assert_eq!(comparison.verdict, verdict, "{}", comparison.sentence);
        let median = &comparison.metrics[1];
        assert_eq!(median.name, "response_p50");
        let interval = median.interval.unwrap();
        let truth = typical / 1e5;
        assert!(interval.low.unwrap() < truth && truth < interval.high.unwrap());
        assert_eq!(median.rounds_needed, None);
    }
}

#[test]
fn results_of_several_runs_tell_by_how_the_runs_differ() {
    let mut random = Random::new(6);
    let mut repeated = |typical: f64| {
        let runs = (0..8)
            .map(|_| {
                let typical = typical * (1.0 + 0.01 * random.normal());
                stored(&mut random, typical)
            })
            .collect();
        repeats::union(runs, None, &samples::plan(1))
    };
    let (base, same, slower) = (repeated(1e5), repeated(1e5), repeated(1.2e5));
    let alike = against(&base, &same);
    assert_eq!(alike.method, Method::Runs);
    assert_eq!((alike.base.runs, alike.new.runs), (8, 8));
    assert_eq!(
        alike.verdict,
        ComparisonVerdict::NoChange,
        "{}",
        alike.sentence
    );
    assert_eq!(
        against(&base, &slower).verdict,
        ComparisonVerdict::Regression
    );
    assert_ne!(
        against(&slower, &base).verdict,
        ComparisonVerdict::Regression
    );
}

#[test]
fn results_of_other_loads_are_refused_and_what_differs_is_named() {
    let mut random = Random::new(7);
    let base = stored(&mut random, 1e5);
    let mut new = base.clone();
    new.plan.seed = 99;
    new.plan.target = crate::plan::Target::Embedded {
        embedded_workers: std::num::NonZeroUsize::MIN,
    };
    assert_eq!(
        base.plan.differences(&new.plan, &["seed"]),
        Vec::<String>::new()
    );
    new.plan.verify = false;
    new.plan.socket.nodelay = false;
    let name = |name, result| NamedResult { name, result };
    let refused = of_results(
        name("a", &base),
        name("b", &new),
        &criteria(0.05),
        String::new(),
    );
    assert_eq!(
        refused.unwrap_err(),
        ["socket.nodelay: true and false", "verify: true and false"]
    );
    new.plan = base.plan.clone();
    new.host.name = Some("another".to_owned());
    let comparison = against(&base, &new);
    let codes: Vec<&Code> = comparison
        .validity
        .reasons
        .iter()
        .map(|reason| &reason.code)
        .collect();
    assert!(codes.contains(&&Code::HostsDiffer), "{codes:?}");
}
