//! Searches with real trials, on servers with a known capacity.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::observer::Unobserved;
use loadgen::result::{TrialOutcome, TrialResult};
use loadgen::search::{
    Axis, Class, Goal, GoalEnd, Judged, Judgement, Limits, Preset, Requirement, Search, StopReason,
    Terms, classify, typical_failure,
};
use loadgen::trials::{SearchObserver, SearchPlan, find};
use loadgen::{Control, Plan, SearchResult};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::known::{show, until_undisturbed};
use crate::program::{assert_one_line, kill, loadgen, run};
use crate::schema;
use crate::support::tools::{require, require_python};
use crate::support::{Directory, PlainServer, constant, number, plan, server, wait_until};

/// Short trials, so that a search takes seconds. The server's limit is chosen to suit them.
fn short_terms() -> Terms {
    Terms {
        initial_trial: Duration::from_millis(100),
        final_trial: Duration::from_millis(200),
        duration_sum: Duration::from_secs(1),
        ..Preset::Quick.terms()
    }
}

/// A search for the rate that meets `objective`.
fn search(trial: Plan, objective: &str) -> SearchPlan {
    SearchPlan {
        trial: Plan {
            load: constant(500.0),
            warmup: Duration::from_millis(50),
            connections: number(1),
            timeout: Duration::from_secs(1),
            ..trial
        },
        over: Axis::Rate,
        limits: Limits {
            start: 500.0,
            lowest: 100.0,
            highest: 1e6,
            max_trials: 300,
            max_time: Duration::from_secs(40),
        },
        goals: vec![Goal {
            name: None,
            objectives: vec![objective.parse().unwrap()],
            terms: short_terms(),
        }],
    }
}

/// Makes a search and checks what must hold of every result.
#[track_caller]
fn found(plan: &SearchPlan) -> SearchResult {
    let result = find(plan, &Control::default(), &mut Unobserved).unwrap();
    check(&result);
    result
}

#[track_caller]
fn check(result: &SearchResult) {
    let stored = serde_json::to_value(result).unwrap();
    schema::check_search(&stored);
    let read: SearchResult = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), stored);

    let mut previous_end = 0.0;
    for trial in &result.trials {
        assert!(trial.start_s >= previous_end - 1e-9);
        assert!(trial.cost_s >= trial.planned_s || trial.measured.is_none() || result.interrupted);
        previous_end = trial.start_s + trial.cost_s;
        assert!((result.limits.lowest..=result.limits.highest).contains(&trial.load));
        let latency = trial.measured.as_ref().and_then(|m| m.response_ns);
        if let Some(latency) = latency {
            assert!(latency.p99.is_none() || latency.count >= 1000);
        }
    }
    assert!(result.spent_s >= previous_end - 1e-9);
    for point in &result.curve {
        let trials = result
            .trials
            .iter()
            .filter(|trial| trial.load == point.load && trial.outcome == TrialOutcome::Judged)
            .filter_map(|trial| trial.measured.as_ref());
        let count: u64 = trials
            .filter_map(|measured| measured.response_ns)
            .map(|latency| latency.count)
            .sum();
        let union = point.response_ns.as_ref().map_or(0, |union| union.count());
        assert_eq!(union, count);
    }
    for goal in &result.goals {
        let finding = &goal.finding;
        if let Some((lower, upper)) = finding.lower.zip(finding.upper) {
            assert!(lower < upper);
            assert_eq!(finding.precision, Some((upper - lower) / upper));
        }
        if finding.end == GoalEnd::Found {
            assert!(finding.precision <= Some(goal.goal.terms.precision));
        }
    }
}

/// An echo on one connection, limited to a rate by a token bucket. After a time without a CPU it
/// catches up, by up to [`Throttled::BURST`].
struct Throttled {
    server: PlainServer,
    /// Messages, and messages that left later than [`Throttled::LATE`] after their token.
    sent: Arc<[AtomicU64; 2]>,
}

impl Throttled {
    const BURST: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_millis(5);

    fn to(rate: u64) -> Self {
        let sent = Arc::new([const { AtomicU64::new(0) }; 2]);
        let counts = Arc::clone(&sent);
        // When the next token is there (the generic cell rate algorithm of ITU-T I.371).
        let next = Mutex::new(Instant::now());
        let server = PlainServer::start(move |peer, bytes| {
            bytes.chunks(64).all(|chunk| {
                let cost = Duration::from_nanos(chunk.len() as u64 * 1_000_000_000 / (64 * rate));
                let mut next = next.lock().unwrap();
                let due = (*next).max(Instant::now() - Self::BURST) + cost;
                *next = due;
                let late = wait_for(due);
                counts[0].fetch_add(1, Ordering::Relaxed);
                counts[1].fetch_add((late > Self::LATE).into(), Ordering::Relaxed);
                peer.send(chunk)
            })
        });
        Self { server, sent }
    }

    /// Whether it was late so often that its rate was too low.
    fn was_disturbed(&self) -> bool {
        let [sent, late] = [0, 1].map(|index| self.sent[index].load(Ordering::Relaxed) as f64);
        show(&format!("{late} of {sent} answers were late"));
        late > sent * 0.03
    }

    /// The highest load at which half of the messages come back within `limit`: what is offered
    /// beyond the rate waits once the burst is used up, longer and longer through warm-up and window.
    fn capacity(rate: u64, limit: Duration, warmup: Duration, window: Duration) -> f64 {
        let half_way = (warmup + window / 2).as_secs_f64();
        rate as f64 * (1.0 + (limit + Self::BURST).as_secs_f64() / half_way)
    }
}

/// Waits like a slow server, and returns the delay beyond that.
fn wait_for(moment: Instant) -> Duration {
    loop {
        let now = Instant::now();
        match moment.checked_duration_since(now) {
            Some(left) if !left.is_zero() => thread::park_timeout(left),
            _ => return now - moment,
        }
    }
}

#[test]
fn the_interval_contains_what_a_throttled_server_takes() {
    const LIMIT: Duration = Duration::from_millis(10);
    const RATE: u64 = 1_500;
    until_undisturbed(|| {
        let throttled = Throttled::to(RATE);
        let plan = search(plan(server(&throttled.server)), "p50<10ms");
        let result = found(&plan);
        let window = plan.goals[0].terms.final_trial;
        let truth = Throttled::capacity(RATE, LIMIT, plan.trial.warmup, window);
        let finding = &result.goals[0].finding;
        let interval = finding.interval.unwrap();
        show(&format!(
            "{RATE} /s, capacity {truth:.0} /s: bounds {:?} to {:?}, interval {interval:?}, {:?}, \
                 {} trials, {:.1} s",
            finding.lower,
            finding.upper,
            finding.end,
            result.trials.len(),
            result.spent_s,
        ));
        // The server never takes more, whatever disturbs it or the client.
        assert!(finding.lower.is_none_or(|lower| lower <= truth));
        assert!(interval.lower.is_none_or(|lower| lower <= truth));
        // It takes less where it is late, and a disturbed client finds nothing.
        let is_limited = matches!(finding.end, GoalEnd::ClientLimit { .. });
        if throttled.was_disturbed() || is_limited {
            return true;
        }
        assert_eq!(finding.end, GoalEnd::Found);
        let late = Throttled::LATE.as_secs_f64() / (plan.trial.warmup + window / 2).as_secs_f64();
        let least = truth - RATE as f64 * late;
        assert!(finding.upper.is_some_and(|upper| upper > least), "{least}");
        assert!(interval.upper.is_some_and(|upper| upper > least), "{least}");
        false
    });
}

#[test]
fn the_program_finds_what_a_throttled_server_takes_and_says_so() {
    const RATE: u64 = 2_000;
    until_undisturbed(|| {
        let throttled = Throttled::to(RATE);
        let endpoint = throttled.server.endpoint().to_string();
        let path = std::env::temp_dir().join(format!("loadgen-search-{}", std::process::id()));
        let output = run(&[
            "search",
            &endpoint,
            "-c",
            "1",
            "-w",
            "50ms",
            "--slo",
            "p50<10ms",
            "--goal",
            "late: p50<40ms",
            "--trial",
            "200ms",
            "--start",
            "500",
            "--max-time",
            "40s",
            "--json",
            path.to_str().unwrap(),
        ]);
        let result: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        schema::check_search(&result);
        let page = String::from_utf8(output.stdout).unwrap();
        show(&page);
        for words in [
            &endpoint,
            "p50<10ms",
            "late: p50<40ms",
            "bounds",
            "capacity",
            "stopped",
        ] {
            assert!(page.contains(words), "{words} is not in\n{page}");
        }
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
        let trials = result["trials"].as_array().unwrap().len();
        let rows = page.lines().filter(|line| line.contains("200ms  ")).count();
        assert!(0 < rows && rows <= trials, "a line for each trial");
        let window = Duration::from_millis(200);
        for (goal, limit) in result["goals"].as_array().unwrap().iter().zip([10, 40]) {
            let limit = Duration::from_millis(limit);
            let truth = Throttled::capacity(RATE, limit, window / 4, window);
            let lower = goal["finding"]["lower"].as_f64();
            assert!(
                lower.is_none_or(|lower| lower <= truth),
                "{lower:?} {truth}"
            );
        }
        let code = output.status.code();
        if throttled.was_disturbed() || code == Some(97) {
            return true;
        }
        assert_eq!(code, Some(0), "{page}");
        false
    });
}

/// Starts one of the shards of a search.
fn start_shard(rank: &str, folder: &Path, arguments: &[&str]) -> Child {
    let mut command = loadgen(&[
        "search", "-w", "50ms", "--slo", "p50<10ms", "--trial", "200ms",
    ]);
    command
        .args([
            "--start",
            "600",
            "--max-time",
            "60s",
            "--rank",
            rank,
            "-q",
            "--json",
            "-",
        ])
        .arg("--exchange")
        .arg(folder)
        .args(arguments);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn three_shards_of_a_search_make_the_same_trials_and_find_what_the_server_takes() {
    const RATE: u64 = 1_500;
    until_undisturbed(|| {
        let throttled = Throttled::to(RATE);
        let endpoint = throttled.server.endpoint().to_string();
        let directory = Directory::new("search-shards");
        let folder = directory.path("exchange");
        std::fs::create_dir(&folder).unwrap();
        let arguments = [endpoint.as_str(), "-c", "3", "-t", "1"];
        let children = ["0/3", "1/3", "2/3"].map(|rank| start_shard(rank, &folder, &arguments));
        let outputs = children.map(|child| child.wait_with_output().unwrap());
        let results = outputs.each_ref().map(|output| -> Value {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let result = serde_json::from_slice(&output.stdout);
            let result = result.unwrap_or_else(|error| panic!("{error}: {stderr}"));
            schema::check_search(&result);
            result
        });
        // All but the moments at which each began its trials.
        let decided = results.each_ref().map(|result| {
            let mut trials = result["trials"].clone();
            for trial in trials.as_array_mut().unwrap() {
                trial.as_object_mut().unwrap().remove("start_s");
            }
            (trials, result["goals"].clone(), result["stop"].clone())
        });
        assert!(decided[0] == decided[1] && decided[1] == decided[2]);
        let due = |trial: &Value| trial["measured"]["due"].as_u64();
        let trials = results[0]["trials"].as_array().unwrap();
        let offered = trials.iter().filter_map(|trial| {
            Some(due(trial)? as f64 / trial["planned_s"].as_f64()? / trial["load"].as_f64()?)
        });
        for offered in offered {
            assert!(
                (offered - 1.0).abs() < 0.05,
                "the whole load, and once: {offered}"
            );
        }

        let window = Duration::from_millis(200);
        let warm_up = Duration::from_millis(50);
        let truth = Throttled::capacity(RATE, Duration::from_millis(10), warm_up, window);
        let finding = &results[0]["goals"][0]["finding"];
        show(&format!(
            "capacity {truth:.0} /s, {} trials: {finding}",
            trials.len()
        ));
        let bound = |pointer: &str| finding.pointer(pointer).and_then(Value::as_f64);
        assert!(bound("/interval/lower").is_none_or(|lower| lower <= truth));
        let codes = outputs.each_ref().map(|output| output.status.code());
        assert!(codes[0] == codes[1] && codes[1] == codes[2], "{codes:?}");
        if throttled.was_disturbed() || codes[0] != Some(0) {
            return true;
        }
        let late = Throttled::LATE.as_secs_f64() / (warm_up + window / 2).as_secs_f64();
        let least = truth - RATE as f64 * late;
        assert!(
            bound("/interval/upper").is_none_or(|upper| upper > least),
            "{finding}"
        );
        false
    });
}

#[test]
fn a_search_ends_with_a_line_when_a_shard_is_missing_or_leaves() {
    let server = PlainServer::echo();
    let endpoint = server.endpoint().to_string();
    let directory = Directory::new("search-missing");
    let folder = |name: &str| {
        let folder = directory.path(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let arguments = [endpoint.as_str(), "-c", "4", "-t", "1"];
    let alone = [&arguments[..], &["--exchange-timeout", "100ms"]].concat();
    let missing = start_shard("0/2", &folder("missing"), &alone);
    let words = ["rank 1 of 2 did not come to join the search within 100ms"];
    assert_one_line(&missing.wait_with_output().unwrap(), 1, &words);
    // One is told to end, and one is killed.
    for (name, signal, arguments, words) in [
        (
            "ended",
            Signal::TERM,
            &arguments[..],
            "rank 1 has ended the search: it was interrupted",
        ),
        (
            "killed",
            Signal::KILL,
            &[&arguments[..], &["--exchange-timeout", "2s"]].concat(),
            "rank 1 of 2 did not come to",
        ),
    ] {
        let folder = folder(name);
        let kept = start_shard("0/2", &folder, arguments);
        let other = start_shard("1/2", &folder, arguments);
        wait_until("the second trial begins", || {
            folder.join("trial-1-ready-1").exists()
        });
        kill(&other, signal);
        other.wait_with_output().unwrap();
        assert_one_line(&kept.wait_with_output().unwrap(), 1, &[words]);
    }
    for (arguments, words) in [
        (&["--rank", "0/2"][..], "--exchange"),
        (&["--exchange", "."], "--rank 0/3"),
        (
            &["--rank", "0/2", "--exchange", ".", "--start-at", "+1s"],
            "--start-at",
        ),
    ] {
        let search = ["search", endpoint.as_str(), "--slo", "p50<1ms"];
        assert_one_line(&run(&[&search[..], arguments].concat()), 2, &[words]);
    }
}

#[test]
fn an_objective_that_no_load_meets_has_its_own_exit_code() {
    let slow = PlainServer::start(|peer, bytes| {
        wait_for(Instant::now() + Duration::from_millis(20));
        peer.send(bytes)
    });
    let endpoint = slow.endpoint().to_string();
    let output = run(&[
        "search", &endpoint, "-c", "2", "-w", "0", "--slo", "p50<5ms", "--trial", "200ms",
        "--start", "200", "--min", "100",
    ]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(99), "{page}");
    assert!(page.contains("missed at 100 /s, the lowest load"), "{page}");
}

#[test]
fn as_many_connections_are_found_as_a_server_takes() {
    let limited = PlainServer::at_most(20);
    let mut plan = search(plan(server(&limited)), "errors<1%");
    plan.trial.load = loadgen::plan::Load::Closed {
        pipeline: number(1),
    };
    plan.over = Axis::Connections;
    plan.limits.start = 4.0;
    plan.limits.lowest = 1.0;
    plan.limits.highest = 1000.0;
    plan.limits.max_time = Duration::from_secs(60);
    let result = found(&plan);
    let finding = &result.goals[0].finding;
    assert_eq!(finding.end, GoalEnd::Found, "{finding:?}");
    assert_eq!((finding.lower, finding.upper), (Some(20.0), Some(21.0)));
}

#[test]
fn what_the_client_can_not_open_is_its_limit_and_not_the_server_s() {
    require!("sh");
    let echo = PlainServer::echo();
    let endpoint = echo.endpoint().to_string();
    let command = format!(
        "ulimit -n 120 && exec \"$0\" search {endpoint} --over connections --slo 'errors<5%' \
         -w 20ms --trial 100ms --start 8"
    );
    let output = Command::new("sh")
        .args(["-c", &command])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(97), "{page}");
    // 120 descriptors, minus those for other uses.
    assert!(
        page.contains("the client is the limit at 57 connections"),
        "{page}"
    );
    assert!(
        page.contains("120 allowed") && page.contains("ulimit"),
        "{page}"
    );
}

#[test]
fn an_interrupt_ends_the_search_with_a_valid_marked_result() {
    let target = PlainServer::echo();
    let endpoint = target.endpoint().to_string();
    let mut child = loadgen(&[
        "search",
        &endpoint,
        "--slo",
        "p99<10s",
        "-c",
        "1",
        "-w",
        "0",
        "--trial",
        "1h",
        "--initial-trial",
        "100ms",
        "--max",
        "600",
        "--start",
        "500",
        "--json",
        "-",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    // The first trials are over, and a long one is under way.
    wait_until("messages flow", || target.bytes() > 64 * 500);
    kill(&child, Signal::INT);
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let result: Value = serde_json::from_str(&stdout).unwrap();
    schema::check_search(&result);
    assert_eq!(result["interrupted"], true);
    assert_eq!(result["stop"], "interrupted");
    assert_eq!(result["goals"][0]["finding"]["end"], "unfinished");
    let trials = result["trials"].as_array().unwrap();
    assert_eq!(trials.last().unwrap()["outcome"], "interrupted");
    assert!(trials.len() >= 2, "{trials:?}");
}

#[test]
fn a_target_that_is_lost_ends_the_search() {
    /// Ends the server before the third trial.
    struct Ending(Option<PlainServer>);

    impl SearchObserver for Ending {
        fn trial(&mut self, _: &Search, trials: &[TrialResult], _: f64, _: Duration) {
            if trials.len() == 2 {
                self.0 = None;
            }
        }
    }

    let echo = PlainServer::echo();
    let plan = search(plan(server(&echo)), "p50<100ms");
    let mut ending = Ending(Some(echo));
    let result = find(&plan, &Control::default(), &mut ending).unwrap();
    check(&result);
    assert_eq!(result.stop, StopReason::TargetLost);
    let last = result.trials.last().unwrap();
    assert!(
        last.error
            .as_ref()
            .is_some_and(|error| error.contains("refused"))
    );
}

#[test]
fn a_search_that_can_t_be_made_is_one_line() {
    let free_port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://{}", free.local_addr().unwrap())
    };
    let slo = ["--slo", "p99<1ms"];
    for (arguments, code, parts) in [
        (&[&free_port[..]][..], 1, &[&free_port[..], "refused"][..]),
        (&["-R", "5k"], 2, &["--start", "-R"]),
        (
            &["--slo", "p99"],
            2,
            &["p99", "is no objective", "loadgen search --help"],
        ),
        (&["--json", "/nonexistent/x"], 1, &["/nonexistent/x"]),
    ] {
        let output = run(&[&["search"], arguments, &slo].concat());
        assert_one_line(&output, code, parts);
    }
    assert_one_line(&run(&["search"]), 2, &["--slo"]);
}

/// Classes and typical failures as MLRsearch's reference implementation computes them.
const REFERENCE: &str = "
import json, sys
from types import SimpleNamespace
from MLRsearch.target_stat import TargetStat
out = []
for case in json.load(sys.stdin):
    stat = TargetStat(SimpleNamespace(**case['target']))
    for seconds, ratio in case['trials']:
        stat.add(SimpleNamespace(intended_duration=seconds, duration_with_overheads=seconds,
                                 loss_ratio=ratio))
    optimistic, pessimistic = stat.estimates()
    out.append([optimistic, pessimistic, stat.pessimistic_loss_ratio])
json.dump(out, sys.stdout)
";

#[test]
fn loads_are_classified_as_by_the_reference_implementation() {
    require_python!("MLRsearch", "MLRsearch");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9971);
    let mut one_of = |values: &[f64]| values[(rng.next_u64() % values.len() as u64) as usize];
    let cases: Vec<_> = (0..2000)
        .map(|_| {
            // Powers of two, so that rounding does not matter.
            let target = Requirement {
                trial_s: one_of(&[0.5, 1.0, 4.0]),
                sum_s: one_of(&[4.0, 8.0, 16.0]),
                exceed_ratio: one_of(&[0.0, 0.25, 0.5, 0.75]),
            };
            let trials = one_of(&[1.0, 3.0, 6.0, 20.0]) as usize;
            let trials: Vec<(f64, f64)> = (0..trials)
                .map(|_| {
                    let seconds = one_of(&[0.25, 0.5, 1.0, 2.0, 4.0]);
                    (seconds, one_of(&[0.0, 0.005, 0.01, 0.02, 0.5, 1.0]))
                })
                .collect();
            (target, one_of(&[0.0, 0.01]), trials)
        })
        .collect();
    let asked: Vec<Value> = cases
        .iter()
        .map(|(target, allowed, trials)| {
            json!({
                "target": {
                    "trial_duration": target.trial_s,
                    "duration_sum": target.sum_s,
                    "exceed_ratio": target.exceed_ratio,
                    "loss_ratio": allowed,
                },
                "trials": trials,
            })
        })
        .collect();
    let answers = ask_reference(&serde_json::to_vec(&asked).unwrap());
    assert_eq!(answers.len(), cases.len());
    for ((target, allowed, trials), (optimistic, pessimistic, failure)) in cases.iter().zip(answers)
    {
        let judged = || {
            trials.iter().map(|&(seconds, failed)| Judged {
                seconds,
                judgement: Judgement {
                    failed,
                    is_met: failed <= *allowed,
                },
            })
        };
        let class = match (optimistic, pessimistic) {
            (true, true) => Class::Lower,
            (false, false) => Class::Upper,
            _ => Class::Undecided,
        };
        let case = format!("{target:?} {allowed} {trials:?}");
        assert_eq!(classify(judged(), target), class, "{case}");
        if class == Class::Lower {
            assert_eq!(typical_failure(judged(), target), failure, "{case}");
        }
    }
}

fn ask_reference(cases: &[u8]) -> Vec<(bool, bool, f64)> {
    let mut python = Command::new("python3")
        .args(["-c", REFERENCE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads its whole input before it writes.
    python.stdin.take().unwrap().write_all(cases).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
