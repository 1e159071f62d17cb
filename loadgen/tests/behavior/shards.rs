//! Several processes that make one run: what they send, when they start, and their union.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{assert_one_line, kill, loadgen, run};
use crate::schema;
use crate::server_side::Echod;
use crate::support::{Directory, PlainServer, wait_until};

/// The variables of launchers, which the tests may run under.
const LAUNCHERS: [&str; 10] = [
    "JOB_COMPLETION_INDEX",
    "LOADGEN_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "PARALLEL_SEQ",
    "PMIX_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
];

/// Starts a shard of a run, which writes its result to stdout.
fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = loadgen(&["run", "-q", "--allow-invalid", "--json", "-"]);
    command.args(arguments).stdin(Stdio::null());
    for name in LAUNCHERS {
        command.env_remove(name);
    }
    command
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[track_caller]
fn result(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 130)), "{stderr}");
    let result = serde_json::from_slice(&output.stdout).unwrap();
    schema::check_json(&result);
    result
}

/// A start that leaves time for many processes on a busy machine.
fn soon() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("@{}", now.unwrap().as_secs() + 5)
}

/// Makes a run in `size` shards at once, and returns their results in the order of their ranks.
#[track_caller]
fn shards(size: usize, arguments: &[&str]) -> Vec<Value> {
    let children: Vec<Child> = (0..size)
        .map(|rank| {
            let rank = format!("{rank}/{size}");
            start(&[arguments, &["--rank", &rank]].concat(), &[])
        })
        .collect();
    // All have started before one is waited for.
    let mut results = Vec::with_capacity(size);
    for child in children {
        results.push(result(child));
    }
    results
}

/// Merges results that are given on stdin.
fn merge(results: &[&Value], options: &[&str]) -> Output {
    let mut child = loadgen(&["merge", "-"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for result in results {
        // A refusal closes the pipe.
        let _ = writeln!(stdin, "a line of the log\n{result}");
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The union of results, and the codes of its verdict's reasons.
#[track_caller]
fn union(results: &[&Value]) -> (Value, Vec<String>) {
    let output = merge(results, &["--json", "-", "--allow-invalid"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let union: Value = serde_json::from_slice(&output.stdout).unwrap();
    schema::check_json(&union);
    let reasons = union["verdict"]["reasons"].as_array().unwrap().iter();
    let codes = reasons.map(|reason| reason["code"].as_str().unwrap().to_owned());
    let codes = codes.collect();
    (union, codes)
}

/// What came on each connection.
type Received = Mutex<HashMap<SocketAddr, Vec<u8>>>;

/// A server that keeps what it receives.
fn recorder() -> (PlainServer, Arc<Received>) {
    let received: Arc<Received> = Arc::default();
    let kept = Arc::clone(&received);
    let server = PlainServer::start(move |peer, bytes| {
        let client = peer.stream.peer_addr().unwrap();
        let mut kept = kept.lock().unwrap();
        kept.entry(client).or_default().extend_from_slice(bytes);
        drop(kept);
        peer.send(bytes)
    });
    (server, received)
}

/// The bytes of each connection so far, in an order that is that of the bytes.
fn contents(received: &Received) -> Vec<Vec<u8>> {
    let mut contents: Vec<Vec<u8>> = received.lock().unwrap().drain().map(|(_, it)| it).collect();
    contents.sort_unstable();
    contents
}

fn histogram(text: &Value) -> Histogram<u64> {
    let encoded = STANDARD.decode(text.as_str().unwrap()).unwrap();
    Deserializer::new()
        .deserialize(&mut encoded.as_slice())
        .unwrap()
}

#[test]
fn sixteen_shards_send_what_one_process_would_and_their_buckets_add() {
    let (server, received) = recorder();
    let target = server.endpoint().to_string();
    let plan = [
        target.as_str(),
        "-c",
        "48",
        "-R",
        "4k",
        "-n",
        "1000",
        "--seed",
        "7",
        "-s",
        "mix:64=3,700=1",
    ];
    let one = result(start(&[&plan[..], &["-t", "16"]].concat(), &[]));
    let sent_by_one = contents(&received);
    assert_eq!(sent_by_one.len(), 48);
    let shards = shards(
        16,
        &[&plan[..], &["-t", "1", "--start-at", &soon()]].concat(),
    );
    // The same messages on the same connections, whose bytes depend on their numbers.
    assert!(contents(&received) == sent_by_one);

    let (union, codes) = union(&shards.iter().collect::<Vec<_>>());
    assert_eq!(union["shards"]["missing"], json!([]), "{codes:?}");
    assert_eq!(union["plan"]["threads"], 16);
    for key in ["connections", "rate", "requests", "seed", "size"] {
        assert_eq!(union["plan"][key], one["plan"][key], "{key}");
    }
    assert_eq!(union["rate"]["target"], 4000.0);
    for pointer in ["/messages/sent", "/bytes/sent", "/connections/opened"] {
        assert_eq!(union.pointer(pointer), one.pointer(pointer), "{pointer}");
    }
    for name in ["response", "service", "connect", "send_lag"] {
        let mut sum = histogram(&shards[0]["latency_ns"][name]["histogram"]);
        for shard in &shards[1..] {
            sum.add(histogram(&shard["latency_ns"][name]["histogram"]))
                .unwrap();
        }
        let mut encoded = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&sum, &mut encoded)
            .unwrap();
        let merged = &union["latency_ns"][name];
        assert_eq!(merged["histogram"], STANDARD.encode(encoded), "{name}");
        assert_eq!(merged["count"], sum.len());
        assert_eq!(merged["max"], sum.max());
    }
    let response = histogram(&union["latency_ns"]["response"]["histogram"]);
    assert_eq!(
        union["latency_ns"]["response"]["p90"],
        response.value_at_quantile(0.9)
    );
}

/// Three shards of a run of a second.
fn three(server: &PlainServer) -> Vec<Value> {
    let target = server.endpoint().to_string();
    let plan = [
        target.as_str(),
        "-c",
        "6",
        "-R",
        "600",
        "-d",
        "1s",
        "-w",
        "0",
        "-t",
        "1",
        "--interval",
        "50ms",
    ];
    shards(3, &[&plan[..], &["--start-at", &soon()]].concat())
}

#[test]
fn shards_start_together_and_their_union_says_how_exactly() {
    let server = PlainServer::echo();
    let shards = three(&server);
    for (rank, shard) in shards.iter().enumerate() {
        assert_eq!(shard["shard"]["rank"], rank);
        assert_eq!(shard["shard"]["size"], 3);
        assert_eq!(shard["plan"]["connections"], 6);
        assert_eq!(shard["connections"]["opened"], 2);
        assert_eq!(shard["rate"]["target"], 200.0);
    }
    let all: Vec<&Value> = shards.iter().collect();
    let (union, _) = union(&all);
    assert_eq!(union["shards"]["size"], 3);
    assert_eq!(union["shards"]["clocks"], 1);
    assert_eq!(union["shards"]["clock_error_ns"], 0);
    let skew_s = union["shards"]["start_skew_ns"].as_f64().unwrap() / 1e9;
    let overlap = union["shards"]["overlap"].as_f64().unwrap();
    assert!(
        (overlap - (1.0 - skew_s)).abs() < 1e-3,
        "{overlap} {skew_s}"
    );
    assert_eq!(union["messages"]["sent"], 600);
    assert_eq!(union["merged"].as_array().unwrap().len(), 3);
    assert_eq!(union["merged"][1]["shard"], shards[1]["shard"]);
    // Counts of TCP add, gauges of single connections don't.
    assert_eq!(union["tcp"]["connections"], 6);
    assert!(union["tcp"]["at_end"].is_null());

    // The intervals of all together tell how precise the figures are.
    assert!(union["statistics"]["rate"]["batches"].as_u64() >= Some(5));

    let table = merge(&all, &["--allow-invalid"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("3 of 3; they started"), "{table}");
    let directory = Directory::new("shards");
    let one = directory.path("one.json");
    fs::write(&one, shards[1].to_string()).unwrap();
    let report = run(&["report", one.to_str().unwrap()]);
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(
        report.contains("rank 1 of 3, with 2 of 6 connections"),
        "{report}"
    );
    let page = run(&["report", one.to_str().unwrap(), "--format", "html"]);
    assert!(
        String::from_utf8(page.stdout)
            .unwrap()
            .contains("Rank 1 of 3")
    );
}

#[test]
fn what_the_server_counted_is_in_a_union_once() {
    let echod = Echod::echo();
    let target = echod.endpoints[0].to_string();
    let admin = format!("http://{}", echod.admin);
    let plan = [
        target.as_str(),
        "-c",
        "6",
        "-R",
        "600",
        "-d",
        "1s",
        "-t",
        "1",
    ];
    let together = ["--server-admin", &admin, "--start-at", &soon()];
    let shards = shards(3, &[&plan[..], &together].concat());
    let all: Vec<&Value> = shards.iter().collect();
    let (union, codes) = union(&all);
    assert!(!codes.contains(&"server_disagrees".to_owned()), "{codes:?}");
    let accounts = &union["server"]["accounts"];
    let own = |shard: &Value| {
        shard["server"]["accounts"]["client_sent_bytes"]
            .as_u64()
            .unwrap()
    };
    let sent: u64 = shards.iter().map(own).sum();
    assert_eq!(accounts["client_sent_bytes"], sent);
    assert_eq!(accounts["server_received_bytes"], sent, "{accounts}");
    assert_eq!(accounts["server_sent_bytes"], sent, "{accounts}");
    assert_eq!(accounts["agree"], true);
    // A server that served someone else too is noticed in the union.
    let mut other = shards[0].clone();
    let received = &mut other["server"]["accounts"]["server_received_bytes"];
    *received = json!(sent + 64);
    let (_, codes) = self::union(&[&other, all[1], all[2]]);
    assert!(codes.contains(&"server_disagrees".to_owned()), "{codes:?}");
}

#[test]
fn what_does_not_belong_together_is_told_and_never_merged_silently() {
    let server = PlainServer::echo();
    let shards = three(&server);
    let [a, b, c] = &shards[..] else {
        unreachable!()
    };
    let with = |shard: &Value, changes: &[(&str, Value)]| {
        let mut changed = shard.clone();
        for (pointer, value) in changes {
            *changed.pointer_mut(pointer).unwrap() = value.clone();
        }
        changed
    };

    let (missing, codes) = union(&[a, c]);
    assert!(codes.contains(&"shards_missing".to_owned()), "{codes:?}");
    assert_eq!(missing["shards"]["missing"], json!([1]));
    assert_eq!(missing["verdict"]["status"], "invalid");
    assert_eq!(merge(&[a, c], &["-q"]).status.code(), Some(97));

    assert_one_line(
        &merge(&[a, b, b], &[]),
        2,
        &["rank 1 of 3", "stdin 2", "stdin 3"],
    );
    let larger = with(c, &[("/plan/size", json!(128))]);
    assert_one_line(&merge(&[a, b, &larger], &[]), 2, &["size: 64 and 128"]);
    let elsewhere = with(c, &[("/plan/targets", json!(["tcp://127.0.0.1:1"]))]);
    assert_one_line(&merge(&[a, &elsewhere], &[]), 2, &["targets"]);
    let of_four = with(c, &[("/shard/size", json!(4))]);
    assert_one_line(&merge(&[a, &of_four], &[]), 2, &["one of 3", "one of 4"]);
    let older = with(c, &[("/tool/version", json!("0.0.9"))]);
    assert_one_line(
        &merge(&[a, b, &older], &[]),
        2,
        &["loadgen 0.0.9", "one version"],
    );
    let mut whole = c.clone();
    whole.as_object_mut().unwrap().remove("shard");
    assert_one_line(&merge(&[a, &whole], &[]), 2, &["stdin 2 is none"]);
    let mut later_schema = c.clone();
    later_schema["schema"] = json!(2);
    assert_one_line(
        &merge(&[a, &later_schema], &[]),
        2,
        &["result 2 of stdin", "schema 2"],
    );
    // Of another day.
    let yesterday = with(
        c,
        &[("/shard/started_at", json!("2020-01-01T00:00:00.000000000Z"))],
    );
    assert_one_line(
        &merge(&[a, &yesterday], &[]),
        2,
        &["not measure at the same time"],
    );
    // On a host whose clock nothing keeps.
    let other_clock =
        json!({"synchronized": false, "max_error_ns": 16_000_000_000_u64, "boot_id": "x"});
    let unkept = with(c, &[("/shard/clock", other_clock)]);
    let (unkept, codes) = union(&[a, b, &unkept]);
    assert!(codes.contains(&"clocks_differ".to_owned()), "{codes:?}");
    assert!(unkept["shards"]["clock_error_ns"].is_null());
    // A result that is cut off.
    let half = a.to_string();
    let mut child = loadgen(&["merge", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    write!(stdin, "{}", &half[..half.len() / 2]).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_one_line(&output, 2, &["result 1 of stdin", "cut off"]);
}

#[test]
fn unions_are_compared_if_they_are_of_the_same_hosts() {
    let server = PlainServer::echo();
    let shards = three(&server);
    let directory = Directory::new("shards-compare");
    let store = |name: &str, results: &[&Value]| {
        let (union, _) = union(results);
        let path = directory.path(name).to_str().unwrap().to_owned();
        fs::write(&path, union.to_string()).unwrap();
        path
    };
    let all: Vec<&Value> = shards.iter().collect();
    let base = store("base.json", &all);
    let json = ["--json", "-", "--allow-invalid"];
    let same = run(&[&["compare", &base, &base][..], &json].concat());
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let comparison: Value = serde_json::from_slice(&same.stdout).unwrap();
    schema::check_comparison(&comparison);
    let mut figures = comparison["metrics"].as_array().unwrap().iter();
    let rate = figures
        .find(|figure| figure["name"] == "achieved_rate")
        .unwrap();
    assert!(rate["ratio"].is_number(), "{rate}");

    let missing = store("missing.json", &all[..2]);
    assert_one_line(
        &run(&["compare", &base, &missing]),
        2,
        &["shards.missing: [] and [2]"],
    );
    let mut elsewhere = shards[2].clone();
    elsewhere["host"]["name"] = json!("elsewhere");
    elsewhere["shard"]["clock"]["boot_id"] = json!("another");
    let elsewhere = store("elsewhere.json", &[all[0], all[1], &elsewhere]);
    assert_one_line(
        &run(&["compare", &base, &elsewhere]),
        2,
        &["hosts: ", "elsewhere"],
    );
    let alone = directory.path("alone.json").to_str().unwrap().to_owned();
    fs::write(&alone, shards[0].to_string()).unwrap();
    assert_one_line(
        &run(&["compare", &base, &alone]),
        2,
        &["shards: 3 and one process"],
    );
    // One that is renamed, as a pod is, is the same host.
    let mut renamed = shards[2].clone();
    renamed["host"]["name"] = json!("loadgen-2-xyz");
    let renamed = store("renamed.json", &[all[0], all[1], &renamed]);
    let same = run(&[&["compare", &base, &renamed][..], &json].concat());
    assert_eq!(same.status.code(), Some(0), "{same:?}");
}

/// What is held of a result beyond the union would fill the memory: sixteen results take no more than
/// five.
#[test]
fn results_are_merged_one_after_the_other_in_flat_memory() {
    const RESULTS: usize = 16;
    let server = PlainServer::echo();
    let mut shard = three(&server).remove(0);
    let mut interval = shard["intervals"][1].clone();
    for latency in ["response", "service"] {
        // Adding them takes long without optimisation.
        interval[latency] = Value::Null;
    }
    let intervals = (0..1000).map(|number| {
        let mut interval = interval.clone();
        (interval["start_s"], interval["end_s"]) = (json!(number), json!(number + 1));
        interval
    });
    shard["intervals"] = intervals.collect();
    shard["shard"]["size"] = json!(RESULTS);
    let mut child = loadgen(&["merge", "-", "--json", "-", "--allow-invalid"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut peaks = Vec::new();
    for rank in 0..RESULTS {
        shard["shard"]["rank"] = json!(rank);
        // It is read when the one before is merged, because a pipe takes a part of it only.
        writeln!(stdin, "{shard}").unwrap();
        peaks.push(peak_kib(child.id()));
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let union: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sent = |result: &Value| result["messages"]["sent"].as_u64().unwrap();
    assert_eq!(sent(&union), sent(&shard) * RESULTS as u64);
    let (few, many) = (peaks[4], peaks[RESULTS - 1]);
    let one = shard.to_string().len() as u64 / 1024;
    assert!(
        many < few + 4 * one,
        "{few} KiB after five, {many} KiB after all; {one} KiB each"
    );
}

/// The most memory that a process has had, in KiB (proc_pid_status(5)).
fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.trim().parse().unwrap()
}

#[test]
fn a_shard_that_is_late_measures_nothing_and_one_of_another_time_is_marked() {
    let server = PlainServer::echo();
    let target = server.endpoint().to_string();
    let plan = [
        target.as_str(),
        "-c",
        "2",
        "-R",
        "100",
        "-d",
        "4s",
        "-w",
        "0",
        "-t",
        "1",
    ];
    let late = start(
        &[&plan[..], &["--rank", "1/2", "--start-at", "@1000000000"]].concat(),
        &[],
    );
    let late = late.wait_with_output().unwrap();
    assert_one_line(&late, 1, &["--start-at", "--max-skew", "measured nothing"]);
    // Two seconds of four.
    let shard = |rank, delay| {
        start(
            &[&plan[..], &["--rank", rank, "--start-at", delay]].concat(),
            &[],
        )
    };
    let (first, second) = (shard("0/2", "+100ms"), shard("1/2", "+2100ms"));
    let (union, codes) = union(&[&result(first), &result(second)]);
    assert!(codes.contains(&"not_together".to_owned()), "{codes:?}");
    assert_eq!(union["verdict"]["status"], "invalid");
    let skew_s = union["shards"]["start_skew_ns"].as_f64().unwrap() / 1e9;
    assert!(skew_s > 1.0, "{skew_s}");
    assert!(union["shards"]["overlap"].as_f64().unwrap() < 0.8);
}

#[test]
fn a_shard_that_is_ended_early_is_named() {
    let server = PlainServer::echo();
    let target = server.endpoint().to_string();
    let plan = [
        target.as_str(),
        "-c",
        "2",
        "-R",
        "200",
        "-d",
        "3s",
        "-w",
        "0",
        "-t",
        "1",
    ];
    let at = soon();
    let shard = |rank| {
        start(
            &[&plan[..], &["--rank", rank, "--start-at", &at]].concat(),
            &[],
        )
    };
    let (kept, ended) = (shard("0/2"), shard("1/2"));
    wait_until("messages flow", || server.bytes() > 64 * 20);
    kill(&ended, Signal::TERM);
    let (union, codes) = union(&[&result(kept), &result(ended)]);
    assert!(codes.contains(&"ended_early".to_owned()), "{codes:?}");
    assert_eq!(union["verdict"]["status"], "invalid");
    assert_eq!(union["interrupted"], true);
}

#[test]
fn the_rank_is_what_the_launcher_says() {
    let server = PlainServer::echo();
    let target = server.endpoint().to_string();
    let plan = [target.as_str(), "-c", "6", "-n", "60", "-t", "1"];
    for (rank, variables) in [
        ("auto", &[("SLURM_PROCID", "2"), ("SLURM_NTASKS", "3")][..]),
        (
            "auto",
            &[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")],
        ),
        (
            "auto",
            &[("JOB_COMPLETION_INDEX", "2"), ("LOADGEN_SIZE", "3")],
        ),
        ("auto/3", &[("PARALLEL_SEQ", "3")]),
    ] {
        let result = result(start(&[&plan[..], &["--rank", rank]].concat(), variables));
        assert_eq!(result["shard"]["rank"], 2, "{variables:?}");
        assert_eq!(result["shard"]["size"], 3, "{variables:?}");
        assert_eq!(result["messages"]["sent"], 20, "{variables:?}");
    }
    for (rank, variables, words) in [
        (
            "auto",
            &[("JOB_COMPLETION_INDEX", "2")][..],
            "LOADGEN_SIZE=N",
        ),
        ("auto", &[], "needs a launcher"),
        ("7/8", &[], "-c 6 is too few for 8 shards"),
    ] {
        let child = start(&[&plan[..], &["--rank", rank]].concat(), variables);
        assert_one_line(&child.wait_with_output().unwrap(), 2, &[words]);
    }
    for (arguments, words) in [
        (&["run", "--rank", "0/2"][..], "needs a target"),
        (
            &["run", &target, "--rank", "0/2", "--repeat", "2"],
            "--repeat",
        ),
        (&["run", &target, "--rank", "2/2"], "of 2 the last is 1"),
        (&["run", &target, "--start-at", "noon"], "+10s"),
        (&["run", &target, "--max-skew", "1s"], "--start-at"),
        (
            &["run", &target, "-c", "4", "--rank", "0/2", "-t", "3"],
            "3 threads",
        ),
    ] {
        assert_one_line(&run(arguments), 2, &[words]);
    }
}
