//! Comparisons: their findings, their refusals, and that every started process ends.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Child, Command, Output, Stdio};
use std::time::Duration;
use std::{env, thread};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{assert_one_line, kill, loadgen, run};
use crate::schema;
use crate::server_side::Echod;
use crate::support::tools::require;
use crate::support::{Directory, PlainServer, wait_until};

/// Short rounds. In 300 ms, the slowest of these servers answers some messages.
const SHORT: [&str; 8] = ["-d", "300ms", "-w", "0", "-c", "4", "--seed", "1"];
/// Longer rounds, so that a single run knows the precision of its figures.
const LONGER: [&str; 8] = ["-d", "800ms", "-w", "0", "-c", "4", "--seed", "1"];
/// The delay of a slow server's answers, far above the time of an echo on any host.
const SLOW: Duration = Duration::from_millis(20);

/// An echo with a delay. The wait is the experiment, not synchronisation.
fn slow_echo() -> PlainServer {
    PlainServer::start(|peer, bytes| {
        thread::park_timeout(SLOW);
        peer.send(bytes)
    })
}

#[track_caller]
fn comparison(output: &Output, code: i32) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{stderr}{stdout}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::check_comparison(&json);
    let read: loadgen::result::comparison::Comparison =
        serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    json
}

fn metric<'a>(comparison: &'a Value, name: &str) -> &'a Value {
    let metrics = comparison["metrics"].as_array().unwrap();
    metrics
        .iter()
        .find(|metric| metric["name"] == name)
        .unwrap()
}

#[test]
fn a_server_that_is_slower_is_a_regression_and_one_that_is_faster_none() {
    let (fast, slow) = (PlainServer::echo(), slow_echo());
    let (fast, slow) = (fast.endpoint().to_string(), slow.endpoint().to_string());
    let compare = |base: &str, new: &str| {
        let arguments = [
            &[
                "compare",
                base,
                new,
                "--rounds",
                "9",
                "--json",
                "-",
                "--allow-invalid",
            ],
            // The slow server answers enough for a median on a busy host, too.
            &LONGER[..],
        ];
        run(&arguments.concat())
    };
    let worse = comparison(&compare(&fast, &slow), 98);
    assert_eq!(worse["verdict"], "regression");
    assert_eq!(worse["kind"], "comparison");
    assert_eq!(worse["rounds"].as_array().unwrap().len(), 9);
    let median = metric(&worse, "response_p50");
    assert_eq!(median["verdict"], "regression");
    let (base, new) = (
        median["base"].as_f64().unwrap(),
        median["new"].as_f64().unwrap(),
    );
    assert!(new >= 2e7 && base < new, "{median}");
    assert!(median["interval"]["low"].as_f64().unwrap() > 1.05);
    assert_eq!(metric(&worse, "achieved_rate")["verdict"], "regression");
    // Chance, by the seed, decides which side is first.
    let firsts: Vec<&Value> = worse["rounds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|round| &round["first"])
        .collect();
    assert!(firsts.iter().any(|first| *first == "base"));
    assert!(firsts.iter().any(|first| *first == "new"));

    let better = comparison(&compare(&slow, &fast), 0);
    assert_eq!(metric(&better, "response_p50")["verdict"], "improvement");
}

#[test]
fn what_is_clear_ends_early_and_the_table_says_it() {
    let (fast, slow) = (PlainServer::echo(), slow_echo());
    let (fast, slow) = (fast.endpoint().to_string(), slow.endpoint().to_string());
    let directory = Directory::new("compare-early");
    let json = directory.path("comparison.json");
    let arguments = [
        &[
            "compare",
            &fast,
            &slow,
            "--rounds",
            "6",
            "--max-rounds",
            "100",
        ][..],
        &["--allow-invalid", "--json", json.to_str().unwrap()],
        &SHORT[..],
    ];
    let output = run(&arguments.concat());
    assert_eq!(output.status.code(), Some(98));
    let comparison: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    schema::check_comparison(&comparison);
    let rounds = comparison["rounds"].as_array().unwrap().len();
    assert!(rounds < 100, "{rounds}");
    // Wherever its lines break.
    let table = String::from_utf8(output.stdout).unwrap();
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        &fast,
        &slow,
        "response p50",
        "regression",
        "verdict REGRESSION",
        "worse by",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
}

#[test]
fn what_the_servers_take_of_their_processors_is_compared_too() {
    let (base, new) = (Echod::echo(), Echod::echo());
    let [targets, admins] = [
        [&base, &new].map(|echod| echod.endpoints[0].to_string()),
        [&base, &new].map(|echod| echod.admin.to_string()),
    ];
    let arguments = [
        &["compare", &targets[0], &targets[1]][..],
        &["--base-admin", &admins[0], "--new-admin", &admins[1]],
        // Nothing is established about equal sides.
        &["--rounds", "3", "--json", "-", "--allow-invalid"],
        &SHORT[..],
    ];
    let comparison = comparison(&run(&arguments.concat()), 0);
    let cpu = metric(&comparison, "server_cpu_per_message");
    assert!(cpu["base"].as_f64().unwrap() > 0.0 && cpu["new"].as_f64().unwrap() > 0.0);
    // Three rounds bound no interval, so their spread foretells nothing.
    assert!(cpu["rounds_needed"].is_null());
    assert!(cpu["min_rounds"].as_u64().unwrap() >= 6);
    assert_eq!(metric(&comparison, "failures")["verdict"], "no_change");
    assert_eq!(comparison["verdict"], "not_enough_evidence");
    assert!(comparison["base"]["plan"]["server_admin"].is_string());
}

/// Runs loadgen and stores the result.
fn stored(path: &Path, target: &PlainServer, arguments: &[&str]) {
    let target = target.endpoint().to_string();
    let first = [
        "run",
        &target,
        "-q",
        "--allow-invalid",
        "--json",
        path.to_str().unwrap(),
    ];
    let output = run(&[&first, &LONGER[..], arguments].concat());
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn stored_results_are_compared_if_they_are_of_one_plan() {
    let directory = Directory::new("compare-stored");
    let path = |name: &str| directory.path(name).to_str().unwrap().to_owned();
    let (fast, slow) = (PlainServer::echo(), slow_echo());
    let repeat = ["--repeat", "5"];
    stored(&directory.path("base.json"), &fast, &repeat);
    stored(&directory.path("same.json"), &fast, &repeat);
    stored(&directory.path("slow.json"), &slow, &repeat);
    stored(&directory.path("once.json"), &slow, &[]);
    stored(
        &directory.path("other.json"),
        &fast,
        &["-p", "2", "--no-verify"],
    );
    let compare = |base: &str, new: &str, arguments: &[&str]| {
        let (base, new) = (path(base), path(new));
        run(&[
            &["compare", &base, &new, "--allow-invalid", "--json", "-"],
            arguments,
        ]
        .concat())
    };
    let same = comparison(
        &compare("base.json", "same.json", &["--threshold", "99%"]),
        0,
    );
    assert_eq!(
        (same["method"].as_str(), same["base"]["runs"].as_u64()),
        (Some("runs"), Some(5))
    );
    let slow = comparison(&compare("base.json", "slow.json", &[]), 98);
    assert_eq!(metric(&slow, "response_p50")["verdict"], "regression");
    let once = comparison(&compare("base.json", "once.json", &[]), 98);
    assert_eq!(once["method"], "single_runs");

    let refused = compare("base.json", "other.json", &[]);
    assert_one_line(
        &refused,
        2,
        &[
            "base.json",
            "other.json",
            "pipeline: 1 and 2",
            "verify: true and false",
        ],
    );
    fs::write(directory.path("broken.json"), "{}").unwrap();
    assert_one_line(
        &compare("base.json", "broken.json", &[]),
        2,
        &["broken.json", "schema"],
    );
    assert_one_line(
        &compare("none.json", "base.json", &[]),
        2,
        &["none.json", "No such file"],
    );
    let given = compare("base.json", "same.json", &["-c", "9"]);
    assert_one_line(&given, 2, &["--connections", "stored results"]);
}

#[test]
fn mistakes_are_one_line_and_exit_code_2() {
    for (arguments, parts) in [
        (&["compare"][..], &["two results", "--base-command"][..]),
        (&["compare", "a.json"], &["NEW"]),
        (
            &["compare", "a.json", "tcp://127.0.0.1:1"],
            &["a.json", "stored result"],
        ),
        (&["compare", "--base-command", "x"], &["--new-command"]),
        (
            &[
                "compare",
                "tcp://127.0.0.1:1",
                "tcp://127.0.0.1:2",
                "--repeat",
                "3",
            ],
            &["--rounds"],
        ),
        (
            &["compare", "tcp://127.0.0.1:1", "udp://127.0.0.1:2"],
            &["measured differently", "timeout_s"],
        ),
        (
            &[
                "compare",
                "tcp://127.0.0.1:1",
                "tcp://127.0.0.1:2",
                "--max-rounds",
                "3",
            ],
            &["--max-rounds 3", "--rounds 15"],
        ),
        (
            &["compare", "a", "b", "--threshold", "5"],
            &["--threshold", "100%"],
        ),
    ] {
        assert_one_line(&run(arguments), 2, parts);
    }
}

/// Where the server below notes its process, and its port.
const PIDS: &str = "LOADGEN_TEST_PIDS";
const PORT: &str = "LOADGEN_TEST_PORT";

/// A command line for an echo server that notes its process in `pids`.
fn echo_server(directory: &Directory, port: &str) -> String {
    format!(
        "{PIDS}='{}' {PORT}={port} '{}' compare::be_an_echo_server --exact --ignored --nocapture \
         --test-threads=2",
        directory.path("pids").display(),
        env::current_exe().unwrap().display(),
    )
}

/// Not a test: a server as a separate process. It announces its port like echod.
#[test]
#[ignore = "other tests start it"]
#[expect(clippy::print_stdout, reason = "what those who start it read")]
fn be_an_echo_server() {
    let (Some(pids), Ok(port)) = (env::var_os(PIDS), env::var(PORT)) else {
        return;
    };
    let mut pids = File::options()
        .create(true)
        .append(true)
        .open(pids)
        .unwrap();
    pids.write_all(format!("{}\n", process::id()).as_bytes())
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    println!("listening echo tcp://{address}\nready");
    for peer in listener.incoming().map_while(Result::ok) {
        thread::spawn(move || {
            peer.set_nodelay(true).unwrap();
            io::copy(&mut &peer, &mut &peer)
        });
    }
}

/// The server processes started by a directory's script.
fn pids(directory: &Directory) -> Vec<u32> {
    let text = fs::read_to_string(directory.path("pids")).unwrap_or_default();
    text.lines().map(|pid| pid.parse().unwrap()).collect()
}

fn is_running(pid: u32) -> bool {
    // A zombie no longer runs.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn servers_are_started_for_each_run_and_ended_after_it() {
    require!("sh");
    let directory = Directory::new("compare-commands");
    // Found by its announcement and by its port; in a shell that stays, and in one that is
    // replaced.
    let base = format!("{}; true", echo_server(&directory, "0"));
    let new = echo_server(&directory, "{port}");
    let arguments = [
        &["compare", "--base-command", &base, "--new-command", &new][..],
        &["--rounds", "2", "--json", "-", "--allow-invalid"],
        &SHORT[..],
    ];
    let comparison = comparison(&run(&arguments.concat()), 0);
    assert_eq!(comparison["base"]["name"], base);
    assert_eq!(comparison["new"]["source"], "command");
    let pids = pids(&directory);
    assert_eq!(pids.len(), 4);
    assert!(!pids.into_iter().any(is_running));
}

/// Compares a server with itself until it is interrupted.
fn compare_with_itself(command: &str, json: &Path) -> Child {
    loadgen(&[
        "compare",
        "--base-command",
        command,
        "--new-command",
        command,
    ])
    .args(["-d", "1h", "-w", "0", "--json", json.to_str().unwrap()])
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap()
}

#[test]
fn an_interrupt_leaves_no_server_behind() {
    require!("sh");
    let directory = Directory::new("compare-interrupt");
    let command = echo_server(&directory, "{port}");
    let json = directory.path("comparison.json");
    let mut child = compare_with_itself(&command, &json);
    wait_until("a server runs", || pids(&directory).len() == 1);
    kill(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!is_running(pids(&directory)[0]));
    let comparison: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    schema::check_comparison(&comparison);
    assert_eq!(comparison["interrupted"], true);

    // A later signal ends the program at once, and the server with it.
    let mut child = compare_with_itself(&command, &json);
    wait_until("a server runs", || pids(&directory).len() == 2);
    wait_until("it has ended", || {
        kill(&child, Signal::INT);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until("the server is gone", || !is_running(pids(&directory)[1]));
}

#[test]
fn a_kill_leaves_no_server_behind() {
    require!("cat", "sh");
    for (name, after, processes) in [
        ("plain", "", 1),
        // In a shell that stays,
        ("list", "; true", 1),
        // and beside another process.
        ("pipeline", " | sh -c 'echo $$ >>PIDS; exec cat'", 2),
    ] {
        let directory = Directory::new(&format!("compare-kill-{name}"));
        let after = after.replace("PIDS", directory.path("pids").to_str().unwrap());
        let command = format!("{}{after}", echo_server(&directory, "{port}"));
        let mut child = compare_with_itself(&command, &directory.path("comparison.json"));
        wait_until("a server runs", || pids(&directory).len() == processes);
        kill(&child, Signal::KILL);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        wait_until("nothing of it is left", || {
            !pids(&directory).into_iter().any(is_running)
        });
    }
}

#[test]
fn servers_that_do_not_start_are_named_with_their_last_words() {
    require!("sh");
    let directory = Directory::new("compare-broken");
    let good = echo_server(&directory, "0");
    let broken = "echo starting >&2; echo the disk is full >&2; exit 7";
    let output = run(&[
        "compare",
        "--base-command",
        &good,
        "--new-command",
        broken,
        "-d",
        "50ms",
    ]);
    assert_one_line(
        &output,
        1,
        &[
            "round 1, new",
            "exit 7",
            "exit status: 7",
            "the disk is full",
        ],
    );
    assert!(!pids(&directory).into_iter().any(is_running));
}

#[test]
fn the_recipe_for_pipelines_works() {
    require!("cat", "mkdir", "sh");
    let directory = Directory::new("compare-ci");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ci-example.sh");
    let results = directory.path("results");
    let server = PlainServer::echo();
    let target = server.endpoint().to_string();
    let baseline = directory.path("baseline.json");
    let measured = run(&[
        "run",
        &target,
        "-c",
        "2",
        "-d",
        "200ms",
        "-w",
        "0",
        "--repeat",
        "2",
        "--allow-invalid",
        "--json",
        baseline.to_str().unwrap(),
    ]);
    assert_eq!(measured.status.code(), Some(0));
    let output = Command::new(recipe)
        .args(["0", "{port}"].map(|port| echo_server(&directory, port)))
        .arg(&results)
        .env("TARGET", &target)
        .env("BASELINE", &baseline)
        .envs([("SLO", "p50<10s"), ("NEEDED", "200"), ("ENOUGH", "300")])
        .envs([("TRIAL", "200ms"), ("REPEAT", "2")])
        .env("LOADGEN", env!("CARGO_BIN_EXE_loadgen"))
        .envs([("CONNECTIONS", "2"), ("WINDOW", "200ms"), ("WARM_UP", "0")])
        .envs([("ROUNDS", "2"), ("MAX_ROUNDS", "4"), ("THRESHOLD", "90%")])
        .output()
        .unwrap();
    let json: Value =
        serde_json::from_slice(&fs::read(results.join("comparison.json")).unwrap()).unwrap();
    schema::check_comparison(&json);
    // The test machine may be too busy for reliable results.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let is_believed = json["validity"]["status"] != "invalid";
    assert!(
        code == Some(97) || (is_believed && code == Some(0)),
        "{code:?} {stderr}"
    );
    let mut tables = Vec::new();
    for name in ["comparison", "capacity", "run", "baseline"] {
        tables.extend(fs::read(results.join(format!("{name}.txt"))).unwrap());
        let page = fs::read_to_string(results.join(format!("{name}.html"))).unwrap();
        assert!(page.to_lowercase().starts_with("<!doctype html>"), "{name}");
    }
    assert_eq!(tables, output.stdout);
    let tables = String::from_utf8(tables).unwrap();
    assert_eq!(tables.matches("verdict   ").count(), 3, "{tables}");
    let capacity: Value =
        serde_json::from_slice(&fs::read(results.join("capacity.json")).unwrap()).unwrap();
    schema::check_search(&capacity);
}
