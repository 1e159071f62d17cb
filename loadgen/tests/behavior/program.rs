//! The program: what is on stdout and stderr, and the exit code.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::tools::require;
use crate::support::{PlainServer, wait_until};

pub(crate) fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments);
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    loadgen(arguments).output().unwrap()
}

#[track_caller]
pub(crate) fn assert_one_line(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
    assert!(!stderr.contains("panicked"));
}

#[test]
fn a_mistake_on_the_command_line_is_one_line_and_exit_code_2() {
    for (arguments, parts) in [
        (
            &["run", "-c", "0"][..],
            &["--connections", "at least 1"][..],
        ),
        (&["run", "-R", "0"], &["--rate", "more than 0"]),
        (
            &["run", "-R", "1k@5s,2x@5s"],
            &["--rate", "piece 2, `2x@5s`", "unit is unknown"],
        ),
        (&["run", "-s", "65MiB"], &["65MiB", "at most 64MiB"]),
        (&["run", "-d", "10"], &["`10`", "unit is missing", "10s"]),
        (
            &["run", "-s", "10x"],
            &["`10x`", "unit is unknown", "64KiB"],
        ),
        (
            &["run", "localhost:7"],
            &["did you mean tcp://localhost:7?"],
        ),
        (&["run", "[::1]:7"], &["did you mean tcp://[::1]:7?"]),
        (
            &["run", "http://localhost:7"],
            &["no HTTP", "tcp://HOST:PORT"],
        ),
        (
            &["compare", "localhost:7", "localhost:8"],
            &["did you mean tcp://localhost:7?"],
        ),
        (&["compare", "https://a:1", "tcp://b:1"], &["no HTTP"]),
        (&["localhost:7"], &["loadgen run localhost:7"]),
        (&["run", "-c", "-5"], &["-5", "negative", "run --help"]),
        (&["search", "-d", "-5ms"], &["-5ms", "negative"]),
        (&["run", "--nonsense"], &["--nonsense"]),
        (&["run", "-t", "3", "-c", "2"], &["3 threads", "-c"]),
        (
            &["frobnicate"],
            &["`frobnicate`", "run, search, compare", "see loadgen --help"],
        ),
        (
            &["help", "frobnicate"],
            &["`frobnicate`", "run, search, compare"],
        ),
        (&["serch"], &["`serch`", "did you mean loadgen search?"]),
        (&["report", "none"], &["cannot read none"]),
        (&["merge", "none"], &["cannot read none"]),
        (&["compare", "none", "none"], &["cannot read none"]),
        (&["scenario", "none"], &["cannot read none"]),
        (&["run", "--tui"], &["--tui", "terminal", "stderr"]),
        (&["run", "--tui", "--quiet"], &["--tui", "--quiet"]),
    ] {
        assert_one_line(&run(arguments), 2, parts);
    }
}

#[test]
fn a_target_that_can_t_be_measured_is_one_line_and_exit_code_1() {
    let free_port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://{}", free.local_addr().unwrap())
    };
    assert_one_line(&run(&["run", &free_port]), 1, &[&free_port, "refused"]);
    let unknown = "tcp://no-such-host.invalid:7";
    assert_one_line(&run(&["run", unknown]), 1, &[unknown, "check the name"]);
    let closes = PlainServer::start_if(|_| false, |_, _| true);
    let closes = closes.endpoint().to_string();
    assert_one_line(&run(&["run", &closes]), 1, &[&closes, "closes them"]);
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_way_out() {
    require!("sh");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$0\" run -c 1000 -d 1s"])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .output()
        .unwrap();
    assert_one_line(&output, 1, &["100 allowed", "ulimit", "-c"]);
}

#[test]
fn json_on_stdout_is_all_there_is_on_stdout_and_has_the_keys_of_schema_1() {
    let output = run(&[
        "run",
        "-d",
        "300ms",
        "-w",
        "0",
        "-c",
        "4",
        "-R",
        "1k",
        "--json",
        "-",
        "--allow-invalid",
    ]);
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "/schema",
        "/tool/name",
        "/tool/version",
        "/started_at",
        "/interrupted",
        "/host/kernel",
        "/plan/connections",
        "/plan/seed",
        "/duration_s",
        "/rate/target",
        "/rate/offered",
        "/rate/achieved",
        "/messages/sent",
        "/messages/received",
        "/messages/verified",
        "/messages/corrupt",
        "/messages/lost",
        "/messages/duplicated",
        "/messages/reordered",
        "/messages/unsent",
        "/messages/unfinished",
        "/messages/timed_out",
        "/messages/abandoned",
        "/bytes/sent",
        "/bytes/received",
        "/connections/opened",
        "/connections/failed",
        "/connections/reset",
        "/connections/closed_by_peer",
        "/latency_ns/response/p50",
        "/latency_ns/response/p99_9",
        "/latency_ns/response/histogram",
        "/latency_ns/service/mean",
        "/latency_ns/connect/count",
        "/latency_ns/send_lag/max",
        "/intervals/0/start_s",
        "/intervals/0/response/max",
        "/client/threads/0/cpu_ratio",
        "/client/steal_ratio",
        "/verdict/status",
        "/verdict/reasons",
    ] {
        assert!(json.pointer(key).is_some(), "{key} is missing");
    }
    assert_eq!(json["schema"], 1);
    assert_eq!(json["rate"]["target"], 1000.0);
    assert_eq!(json["messages"]["sent"], 300);
    assert!(
        json["latency_ns"]["response"]["p99_9"].is_null(),
        "300 samples can't tell"
    );
}

#[test]
fn the_result_goes_to_a_file_and_the_table_to_stdout() {
    let path = std::env::temp_dir().join(format!("loadgen-result-{}.json", std::process::id()));
    let output = run(&[
        "run",
        "-n",
        "2000",
        "-c",
        "2",
        "--json",
        path.to_str().unwrap(),
        "--allow-invalid",
    ]);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    for word in ["2 000", "response", "service", "connect", "verdict"] {
        assert!(table.contains(word), "{word:?} is not in\n{table}");
    }
    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(json["messages"]["received"], 2000);
}

#[test]
fn a_result_that_can_t_be_written_is_an_error() {
    let output = run(&[
        "run",
        "-n",
        "10",
        "-q",
        "--json",
        "/nonexistent/result.json",
    ]);
    assert_one_line(&output, 1, &["/nonexistent/result.json"]);
}

#[test]
fn an_invalid_result_has_its_own_exit_code() {
    let silent = PlainServer::start(|_, _| true);
    let silent = silent.endpoint().to_string();
    let arguments = [
        "run",
        &silent,
        "-q",
        "-d",
        "200ms",
        "-w",
        "0",
        "--timeout",
        "100ms",
    ];
    assert_eq!(run(&arguments).status.code(), Some(97));
    let allowed = run(&[&arguments[..], &["--allow-invalid"]].concat());
    assert_eq!(allowed.status.code(), Some(0));
}

#[test]
fn an_interrupt_ends_the_run_with_a_valid_marked_result() {
    let target = PlainServer::echo();
    let endpoint = target.endpoint().to_string();
    for signal in [Signal::INT, Signal::TERM] {
        let before = target.bytes();
        let mut child = loadgen(&["run", &endpoint, "-d", "1h", "-w", "0", "--json", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("messages flow", || target.bytes() > before + 64_000);
        kill(&child, signal);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut stdout)
            .unwrap();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
        let json: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(json["interrupted"], true);
        let messages = |key: &str| json["messages"][key].as_u64().unwrap();
        assert!(messages("received") > 0);
        assert_eq!(
            messages("sent"),
            messages("received")
                + messages("lost")
                + messages("unfinished")
                + messages("timed_out")
                + messages("abandoned")
        );
    }
}

#[track_caller]
pub(crate) fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a signal can be sent");
}
