use clap::CommandFactory;

use loadgen::plan::{Close, Load, Pacing, Spacing, Target, Workload, defaults};

use super::resolve::SELF_TEST_RATE;
use super::*;
use crate::cli::Cli;

fn plan(line: &str) -> Result<Plan, String> {
    let command = Cli::command();
    let matches = command
        .try_get_matches_from(line.split_whitespace())
        .map_err(|error| error.to_string())?;
    let run = matches.subcommand_matches("run").unwrap();
    crate::cli::RunArgs::resolve(run).map(|(_, plan)| plan)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn with_nothing_asked_for_the_machine_measures_itself_at_a_moderate_rate() {
    let plan = plan("loadgen run").unwrap();
    assert!(matches!(plan.target, Target::Embedded { .. }));
    assert_eq!(plan.target_rate(), Some(SELF_TEST_RATE));
    assert_eq!(plan.duration, Some(Duration::from_secs(10)));
    assert_eq!(plan.warmup, Duration::from_secs(1));
    assert!(plan.verify);
}

#[test]
fn a_rate_makes_the_loop_open_and_its_absence_closed() {
    let closed = Load::Closed {
        pipeline: NonZeroUsize::MIN,
    };
    assert_eq!(plan("loadgen run tcp://127.0.0.1:7").unwrap().load, closed);
    assert_eq!(plan("loadgen run -c 1000 -d 5s").unwrap().load, closed);
    assert_eq!(
        plan("loadgen run -c 4 -R 2k -p 3").unwrap().load,
        Load::Open {
            rate: Profile::constant(2000.0).unwrap(),
            arrivals: Spacing::Constant,
            pipeline: NonZeroUsize::new(3)
        }
    );
}

#[test]
fn a_rate_may_change_over_the_window() {
    let plan = |line: &str| plan(line).unwrap();
    let ramp = plan("loadgen run -R 1k..3k -d 4s");
    assert_eq!(ramp.target_rate(), Some(2000.0));
    assert_eq!(
        plan("loadgen run -R 1k,2k,3k,6k").target_rate(),
        Some(3000.0)
    );
    let timed = plan("loadgen run -R 1k@10s,0@5s,3k@5s");
    assert_eq!(timed.duration, Some(Duration::from_secs(20)));
    assert_eq!(timed.target_rate(), Some(1250.0));
    // The last rate goes on: 25k messages before the end, 60k after it.
    let longer = plan("loadgen run -R 1k@10s,0@5s,3k@5s -d 40s");
    assert_eq!(longer.target_rate(), Some(2125.0));
    // 10k messages in the first ten seconds, and the rest in the one after the pause.
    let counted = plan("loadgen run -R 1k@10s,0@5s,3k@5s -n 13k");
    assert_eq!(counted.duration, None);
    assert_eq!(counted.target_rate(), Some(13_000.0 / 16.0));
    // Its rate falls to 0 before all messages are sent.
    let silent = plan("loadgen run -R 2k..0@10s -n 1M");
    assert_eq!(silent.target_rate(), Some(1000.0));
}

#[test]
fn threads_wait_as_they_are_told() {
    for (line, pacing) in [
        ("loadgen run", Pacing::Hybrid),
        ("loadgen run -R 1k --pacing hybrid", Pacing::Hybrid),
        ("loadgen run -R 1k --pacing sleep", Pacing::Sleep),
        ("loadgen run --pacing spin", Pacing::Spin),
    ] {
        assert_eq!(plan(line).unwrap().pacing, pacing, "{line}");
    }
}

#[test]
fn a_number_of_messages_ends_the_window() {
    let plan = plan("loadgen run -n 10k").unwrap();
    assert_eq!((plan.duration, plan.warmup), (None, Duration::ZERO));
    assert_eq!(plan.requests, NonZeroU64::new(10_000));
}

#[test]
fn each_workload_has_its_own_defaults() {
    let stream = plan("loadgen run --workload stream").unwrap();
    assert_eq!(
        (stream.connections.get(), stream.size),
        (1, Sizes::Fixed(64 << 10))
    );
    let up = plan("loadgen run --workload stream --direction up").unwrap();
    assert!(!up.verify);
    let idle = plan("loadgen run --workload idle").unwrap();
    assert_eq!(
        (idle.connections.get(), idle.target_rate()),
        (1000, Some(defaults::PROBE_RATE))
    );
    let udp = plan("loadgen run udp://127.0.0.1:7").unwrap();
    assert_eq!(udp.timeout, defaults::timeout(true));
    let churn = plan("loadgen run --workload churn --close reset").unwrap();
    assert_eq!(
        churn.workload,
        Workload::Churn {
            close: Close::Reset
        }
    );
}

#[test]
fn a_day_has_as_many_intervals_as_an_hour() {
    let interval = |line| plan(line).unwrap().interval;
    assert_eq!(interval("loadgen run -d 24h"), Duration::from_secs(24));
    assert_eq!(interval("loadgen run -d 1h"), Duration::from_secs(1));
    assert_eq!(
        interval("loadgen run -d 24h --interval 1s"),
        Duration::from_secs(1)
    );
}

#[test]
fn what_can_t_be_is_refused_in_one_line() {
    for line in [
        "loadgen run -c 0",
        "loadgen run -R 0",
        "loadgen run -R 2G",
        "loadgen run -R 1k..",
        "loadgen run -R 0..0",
        "loadgen run -R 1k@1s,2k",
        "loadgen run -R 1k,2k -n 100",
        "loadgen run -R 1k --pacing never",
        "loadgen run -s 0",
        "loadgen run -s 65MiB",
        "loadgen run -d 10",
        "loadgen run -d 0",
        "loadgen run --interval 1ms",
        "loadgen run -t 4 -c 3",
        "loadgen run --arrivals poisson -c 3",
        "loadgen run --pacing spin -c 3",
        "loadgen run -c 10k -p 1k",
        "loadgen run -R 1k..2k -n 100",
        "loadgen run -c 1 tcp://127.0.0.1:1 tcp://127.0.0.1:2",
        "loadgen run 127.0.0.1:7",
        "loadgen run udp://127.0.0.1:7 tcp://127.0.0.1:7",
        "loadgen run udp://127.0.0.1:7 -s 7",
        "loadgen run udp://127.0.0.1:7 -s uniform:64-65508",
        "loadgen run udp://127.0.0.1:7 --workload churn",
        "loadgen run udp://127.0.0.1:7 --workload stream --direction up",
        "loadgen run udp://127.0.0.1:7 --background 1",
        "loadgen run --workload churn -p 2",
        "loadgen run --workload stream --direction down -R 1k",
        "loadgen run --direction up",
        "loadgen run --close reset",
        "loadgen run --background-direction up",
        "loadgen run --background 1 -n 10",
        "loadgen run --source 10.0.0.1/8",
        "loadgen run -q --tui",
    ] {
        assert!(plan(line).is_err(), "{line}");
    }
}

/// The socket options, and the transports on which each has an effect.
const SOCKET_OPTIONS: [(&str, &[&str]); 5] = [
    ("--recv-buffer 64KiB", &["tcp", "udp"]),
    ("--send-buffer 64KiB", &["tcp", "udp"]),
    ("--congestion cubic", &["tcp"]),
    ("--no-nodelay", &["tcp"]),
    ("--source 127.1.0.0/24", &["tcp", "udp"]),
];

#[test]
fn a_socket_option_without_effect_is_refused_by_name() {
    let targets = [
        ("tcp", "tcp://127.0.0.1:7"),
        ("udp", "udp://127.0.0.1:7"),
        ("unix", "unix:/run/echo"),
    ];
    for (option, transports) in SOCKET_OPTIONS {
        let name = option.split(' ').next().unwrap();
        for (transport, target) in targets {
            for workload in [
                "",
                "--workload churn",
                "--workload stream",
                "--workload idle",
            ] {
                if transport == "udp" && workload == "--workload churn" {
                    continue;
                }
                let outcome = plan(&format!("loadgen run {target} {workload} {option}"));
                if transports.contains(&transport) {
                    assert!(outcome.is_ok(), "{option} {target} {workload}: {outcome:?}");
                } else {
                    let problem = outcome.expect_err(option);
                    assert!(problem.contains(name), "{problem}");
                }
            }
        }
        // One of several targets, or the background streams, are enough.
        let mixed = "tcp://127.0.0.1:7 unix:/run/echo";
        assert!(plan(&format!("loadgen run {mixed} {option}")).is_ok());
        let beside = "unix:/run/echo --background 1 --background-target tcp://127.0.0.1:7";
        assert!(plan(&format!("loadgen run {beside} {option}")).is_ok());
        assert!(plan(&format!("loadgen run {option}")).is_ok());
    }
}

#[test]
fn an_option_of_absent_streams_is_refused_by_name() {
    for option in [
        "--background-direction up",
        "--background-target tcp://127.0.0.1:9",
    ] {
        let problem = plan(&format!("loadgen run {option}")).unwrap_err();
        assert!(
            problem.contains(option.split(' ').next().unwrap()),
            "{problem}"
        );
    }
}

#[test]
fn a_buffer_that_the_kernel_can_t_count_is_refused() {
    assert!(plan("loadgen run --recv-buffer 1GiB").is_ok());
    for option in ["--recv-buffer 4GiB", "--send-buffer 2GiB"] {
        let problem = plan(&format!("loadgen run {option}")).unwrap_err();
        assert!(problem.contains("at most 1GiB"), "{problem}");
    }
}
