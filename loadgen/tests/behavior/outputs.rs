//! The outputs of a run, during the run and at its end: complete and consistent with its result.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use loadgen::observer::Observer;
use loadgen::observer::Slice;
use loadgen::plan::{Load, Plan};
use loadgen::report::hlog::HistogramLog;
use loadgen::report::ndjson::Ndjson;
use loadgen::report::{csv, prometheus};
use loadgen::result::IntervalResult;
use loadgen::{Control, RunResult};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;
use serde_json::Value;

use crate::formats::{Log, Page, decoded};
use crate::program::{assert_one_line, kill, loadgen, run as run_program};
use crate::schema;
use crate::support::tools::require_python;
use crate::support::{
    Directory, PlainServer, check_accounts, constant, embedded, number, plan, run, wait_until,
};

/// A buffer that stays readable after its writer is gone.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both outputs that are written during a run.
struct Streams {
    lines: Ndjson,
    log: HistogramLog,
}

impl Observer for Streams {
    fn window(&mut self, begin: SystemTime) {
        self.lines.window(begin);
        self.log.window(begin);
    }

    fn interval(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.lines.interval(interval, samples);
        self.log.interval(interval, samples);
    }

    fn drain(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.lines.drain(interval, samples);
        self.log.drain(interval, samples);
    }
}

/// Runs a plan and returns its result, its lines and its log.
fn run_with_streams(plan: &Plan) -> (RunResult, Vec<u8>, Vec<u8>) {
    let (lines, log) = (Buffer::default(), Buffer::default());
    let mut streams = Streams {
        lines: Ndjson::start(lines.clone()).unwrap(),
        log: HistogramLog::start(log.clone()).unwrap(),
    };
    let result = loadgen::run(plan, &Control::default(), &mut streams).unwrap();
    check_accounts(&result);
    streams.lines.finish(&result).unwrap();
    streams.log.finish().unwrap();
    let take = |buffer: Buffer| std::mem::take(&mut *buffer.0.lock().unwrap());
    (result, take(lines), take(log))
}

/// A run that is made twice, and in which echoes are out whenever its window ends.
fn repeated_plan() -> Plan {
    Plan {
        load: Load::Closed {
            pipeline: number(4),
        },
        repeat: number(2),
        ..plan(embedded())
    }
}

#[test]
fn lines_are_the_intervals_of_the_result_and_a_summary() {
    let (result, lines, _) = run_with_streams(&repeated_plan());
    let mut lines = parse_lines(&lines);
    let json = serde_json::to_value(&result).unwrap();
    let summary = lines.pop().unwrap();
    assert_eq!(summary["kind"], "summary");
    for key in [
        "started_at",
        "interrupted",
        "duration_s",
        "rate",
        "messages",
        "verdict",
    ] {
        assert_eq!(summary[key], json[key], "{key}");
    }
    assert_eq!(summary["dropped"], 0);
    for line in &mut lines {
        let kind = line.as_object_mut().unwrap().remove("kind");
        assert_eq!(kind, Some("interval".into()));
    }
    let mut intervals = json["intervals"].clone();
    for interval in intervals.as_array_mut().unwrap() {
        for latency in ["response", "service"] {
            // Intervals are for live readers.
            let removed = interval[latency]
                .as_object_mut()
                .unwrap()
                .remove("histogram");
            assert!(removed.is_some());
        }
    }
    assert_eq!(Value::Array(lines), intervals);
}

#[test]
fn a_log_has_every_sample_of_the_result_at_its_time() {
    let before = SystemTime::now();
    let (result, _, log) = run_with_streams(&repeated_plan());
    let log = Log::parse(&log);
    for (tag, latency) in [
        ("response", &result.latency_ns.response),
        ("service", &result.latency_ns.service),
    ] {
        let latency = latency.as_ref().unwrap();
        let sum = log.sum(tag);
        assert_eq!(&sum, latency.histogram(), "{tag}");
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            if let Some(value) = latency.quantile(quantile) {
                assert_eq!(sum.value_at_quantile(quantile), value, "{tag} {quantile}");
            }
        }
        assert_eq!(sum.max(), latency.max());
    }
    // Five in each window, and the wait after it.
    assert_eq!(result.intervals.len(), 12);
    assert_eq!(log.intervals.len(), 2 * result.intervals.len());
    let since_epoch = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(log.base_time >= log.start_time);
    assert!(log.start_time + Duration::from_millis(1) >= since_epoch);
    let mut last_start = Duration::ZERO;
    for (index, (_, start, length, _)) in log.intervals.iter().enumerate() {
        let interval = &result.intervals[index / 2];
        assert!(*start >= last_start);
        last_start = *start;
        // In the log, times are in milliseconds.
        let difference = length.as_secs_f64() - (interval.end_s - interval.start_s);
        assert!(difference.abs() <= 0.001, "{difference}");
    }
    assert_eq!(log.intervals[0].1, Duration::ZERO);
    // The second run began after the first one's window.
    assert!(last_start >= Duration::from_millis(900), "{last_start:?}");
}

/// What `HdrHistogram` for Python makes of a log: for each tag the count, percentiles and the
/// maximum. It takes the sample nearest to a percentile's rank and we the next one, so it is asked
/// for the very rank that we take.
const PYTHON: &str = r#"
import json, math, sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

reference = HdrHistogram(1, 3600000000000, 3)
reader = HistogramLogReader(sys.argv[1], reference)
sums = {}
while (histogram := reader.get_next_interval_histogram()) is not None:
    tag = histogram.get_tag()
    if tag not in sums:
        sums[tag] = HdrHistogram(1, 3600000000000, 3)
    sums[tag].add(histogram)
figures = {}
for tag, histogram in sums.items():
    count = histogram.get_total_count()
    ranks = {q: math.ceil(q * count) for q in (0.5, 0.9, 0.99, 0.999)}
    figures[tag] = [count]
    figures[tag] += [histogram.get_value_at_percentile(100 * rank / count) for rank in ranks.values()]
    figures[tag] += [histogram.get_max_value()]
print(json.dumps(figures))
"#;

#[test]
fn hdrhistogram_for_python_reads_the_same_from_a_log() {
    require_python!("hdrh", "hdrhistogram");
    let directory = Directory::new("python");
    let path = directory.path("run.hlog");
    let (result, _, log) = run_with_streams(&Plan {
        load: constant(5000.0),
        duration: Some(Duration::from_secs(3)),
        ..plan(embedded())
    });
    fs::write(&path, log).unwrap();
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .arg(&path)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let json = serde_json::to_value(&result).unwrap();
    for tag in ["response", "service"] {
        let keys = ["count", "p50", "p90", "p99", "p99_9", "max"];
        let wanted: Vec<&Value> = keys
            .iter()
            .map(|key| &json["latency_ns"][tag][key])
            .collect();
        assert!(wanted.iter().all(|figure| figure.is_u64()), "{wanted:?}");
        let found: Vec<&Value> = figures[tag].as_array().unwrap().iter().collect();
        assert_eq!(found, wanted, "{tag}");
    }
}

#[test]
fn csv_has_a_line_for_each_interval() {
    let result = run(&plan(embedded()));
    let csv = csv::render(&result);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + result.intervals.len());
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let column = lines[0]
        .iter()
        .position(|&name| name == "received")
        .unwrap();
    let received: u64 = lines[1..]
        .iter()
        .map(|line| line[column].parse::<u64>().unwrap())
        .sum();
    assert_eq!(received, result.messages.received);
}

#[test]
fn prometheus_can_read_what_is_meant_for_it() {
    let result = run(&Plan {
        load: constant(4000.0),
        ..plan(embedded())
    });
    let page = Page::parse(&prometheus::render(&result));
    let value = |name: &str| page.value(name, "");
    assert_eq!(
        value("loadgen_sent_messages_total"),
        result.messages.sent as f64
    );
    assert_eq!(value("loadgen_target_messages_per_second"), 4000.0);
    assert_eq!(
        value("loadgen_received_bytes_total"),
        result.bytes.received as f64
    );
    let response = result.latency_ns.response.as_ref().unwrap();
    assert_eq!(
        value("loadgen_response_seconds_count"),
        response.count() as f64
    );
    let p99 = page.value("loadgen_response_seconds", r#"quantile="0.99""#);
    assert_eq!(p99, response.quantile(0.99).unwrap() as f64 / 1e9);
    let sum = value("loadgen_response_seconds_sum");
    assert!((sum / response.count() as f64 * 1e9 / response.mean() - 1.0).abs() < 1e-9);
    let verdicts = ["valid", "suspect", "invalid"]
        .map(|status| page.value("loadgen_verdict", &format!("status=\"{status}\"")));
    assert_eq!(verdicts.iter().sum::<f64>(), 1.0);
    assert!(value("loadgen_start_time_seconds") > 1.7e9);
}

#[test]
fn lines_on_stdout_are_all_there_is_on_stdout() {
    let output = run_program(&[
        "run",
        "-d",
        "300ms",
        "-w",
        "0",
        "-R",
        "1k",
        "--interval",
        "100ms",
        "--ndjson",
        "-",
        "--allow-invalid",
    ]);
    assert_success(&output);
    let lines = parse_lines(&output.stdout);
    assert!(lines.len() >= 4, "{}", lines.len());
    assert_eq!(lines.last().unwrap()["messages"]["sent"], 300);
}

#[test]
fn two_outputs_can_t_have_one_place() {
    for (arguments, parts) in [
        (
            ["--json", "-", "--ndjson", "-"],
            ["--json and --ndjson", "-"],
        ),
        (
            ["--csv", "/tmp/x", "--hlog", "/tmp/x"],
            ["--hlog and --csv", "/tmp/x"],
        ),
    ] {
        let output = run_program(&[&["run"], &arguments[..]].concat());
        assert_one_line(&output, 2, &parts);
    }
    for stdout in ["-", "/dev/stdout", "/proc/self/fd/1"] {
        let output = run_program(&["run", "--csv", stdout]);
        assert_one_line(&output, 2, &["--csv", "must be a file"]);
    }
}

#[test]
fn one_file_in_two_spellings_is_one_place() {
    let directory = Directory::new("spellings");
    let path = |name: &str| directory.path(name).display().to_string();
    fs::write(path("old"), "old").unwrap();
    fs::hard_link(path("old"), path("hard")).unwrap();
    symlink("old", path("link")).unwrap();
    for (one, other) in [
        ("old", "./old"),
        ("old", "hard"),
        ("link", "old"),
        ("new", "./new"),
    ] {
        let (one, other) = (path(one), path(other));
        let output = run_program(&["run", "-d", "1h", "--json", &one, "--csv", &other]);
        assert_one_line(&output, 2, &["--json and --csv", &other]);
    }
    assert_eq!(fs::read_to_string(path("old")).unwrap(), "old");
}

#[test]
fn a_result_is_not_overwritten_by_what_is_made_of_it() {
    let directory = Directory::new("inputs");
    let path = |name: &str| directory.path(name).display().to_string();
    let result = path("result.json");
    let arguments = ["run", "-n", "50", "-c", "1", "-q", "--allow-invalid"];
    let output = run_program(&[&arguments[..], &["--json", &result]].concat());
    assert_success(&output);
    let again = path("./result.json");
    let measured = fs::read(&result).unwrap();
    for arguments in [
        &["report", &result, "--format", "html", "-o", &again][..],
        &["merge", &result, "--json", &again],
        &["compare", &result, &result, "--json", &again],
    ] {
        assert_one_line(&run_program(arguments), 2, &[&again, "overwritten"]);
    }
    assert_eq!(fs::read(&result).unwrap(), measured);
}

#[test]
fn stdout_is_stdout_by_whatever_name() {
    const RUN: [&str; 6] = ["run", "-n", "50", "-c", "1", "--allow-invalid"];
    let is_json_alone = |stdout: &[u8]| {
        let json: Value = serde_json::from_slice(stdout).unwrap();
        schema::check_json(&json);
    };
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let output = run_program(&[&RUN[..], &["--json", name]].concat());
        assert_success(&output);
        is_json_alone(&output.stdout);
        let lines = run_program(&[&RUN[..], &["--ndjson", name]].concat());
        assert!(parse_lines(&lines.stdout).len() > 1);
    }
    // A file that stdout is, and one that it is appended to.
    let directory = Directory::new("stdout");
    let path = directory.path("result.json");
    let status = loadgen(&RUN)
        .arg("--json")
        .arg(&path)
        .stdout(File::create(&path).unwrap())
        .status();
    assert!(status.unwrap().success());
    is_json_alone(&fs::read(&path).unwrap());
    let union = directory.path("union.json");
    fs::write(&union, "before\n").unwrap();
    let status = loadgen(&["merge", "--allow-invalid", "--json", "/dev/stdout"])
        .arg(&path)
        .stdout(File::options().append(true).open(&union).unwrap())
        .status();
    assert!(status.unwrap().success());
    let appended = fs::read(&union).unwrap();
    is_json_alone(appended.strip_prefix(b"before\n").unwrap());
}

#[test]
fn a_read_only_file_is_refused_before_the_run() {
    /// Any user but root, who may write every file.
    const OTHER: u32 = 54_321;
    let directory = Directory::new("read-only");
    let path = directory.path("result.json");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    let mut command = loadgen(&["run", "-d", "1h", "--json"]);
    if rustix::process::geteuid().is_root() {
        chown(directory.path(""), Some(OTHER), Some(OTHER)).unwrap();
        chown(&path, Some(OTHER), Some(OTHER)).unwrap();
        // The program may lie where another user can't get at it.
        let program = directory.path("loadgen");
        fs::copy(env!("CARGO_BIN_EXE_loadgen"), &program).unwrap();
        command = Command::new(program);
        command
            .args(["run", "-d", "1h", "--json"])
            .uid(OTHER)
            .gid(OTHER);
    }
    let output = command.arg(&path).output().unwrap();
    assert_one_line(&output, 1, &[path.to_str().unwrap(), "Permission denied"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn a_wrong_path_is_known_before_the_run() {
    for option in ["--json", "--hlog", "--csv", "--ndjson", "--prometheus"] {
        let path = "/nonexistent/output";
        assert_one_line(&run_program(&["run", "-d", "1h", option, path]), 1, &[path]);
    }
}

#[test]
fn an_output_that_fails_does_not_keep_the_others_from_being_written() {
    let directory = Directory::new("full");
    let path = directory.path("result.json");
    let output = loadgen(&["run", "-n", "100", "-q", "--allow-invalid"])
        .args(["--csv", "/dev/full", "--hlog", "/dev/../dev/full", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    assert_one_line(
        &output,
        1,
        &[
            "write /dev/full: No space",
            "write /dev/../dev/full: No space",
        ],
    );
    let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(json["messages"]["received"], 100);
    assert_eq!(directory.names(), ["result.json"]);
}

#[test]
fn a_run_that_fails_leaves_the_old_result() {
    let directory = Directory::new("old");
    let path = directory.path("result.json");
    fs::write(&path, "old").unwrap();
    let closes = PlainServer::start_if(|_| false, |_, _| true);
    let output = loadgen(&["run", &closes.endpoint().to_string(), "--json"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(directory.names(), ["result.json"]);
}

#[test]
fn a_reader_that_does_not_read_holds_no_run_up() {
    /// The least that a pipe holds (pipe(7)).
    const PIPE: usize = 4 << 10;
    let directory = Directory::new("pipe");
    let path = directory.path("result.json");
    let (mut reader, writer) = io::pipe().unwrap();
    fcntl_setpipe_size(&writer, PIPE).unwrap();
    let mut child = loadgen(&["run", "-d", "1s", "-w", "0", "-R", "1k", "--allow-invalid"])
        .args(["--interval", "10ms", "--ndjson", "-", "--json"])
        .arg(&path)
        .stdout(writer)
        .spawn()
        .unwrap();
    wait_until("the result is there", || path.exists());
    let mut lines = Vec::new();
    reader.read_to_end(&mut lines).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lines.len() > PIPE, "{} would have fitted", lines.len());
    let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let intervals = json["intervals"].as_array().unwrap().len();
    assert_eq!(parse_lines(&lines).len(), intervals + 1);
}

#[test]
fn an_interrupt_leaves_every_output_whole() {
    let target = PlainServer::echo();
    let endpoint = target.endpoint().to_string();
    let directory = Directory::new("interrupt");
    let path = |name: &str| directory.path(name);
    let mut child = loadgen(&[
        "run",
        &endpoint,
        "-q",
        "-d",
        "1h",
        "-w",
        "0",
        "--interval",
        "100ms",
    ])
    .arg("--json")
    .arg(path("json"))
    .arg("--hlog")
    .arg(path("hlog"))
    .arg("--csv")
    .arg(path("csv"))
    .arg("--ndjson")
    .arg(path("ndjson"))
    .arg("--prometheus")
    .arg(path("prometheus"))
    .spawn()
    .unwrap();
    let written = |name: &str| fs::read(path(name)).unwrap_or_default();
    wait_until("two lines are there", || {
        written("ndjson")
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            >= 2
    });
    kill(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let json: Value = serde_json::from_slice(&written("json")).unwrap();
    schema::check_json(&json);
    assert_eq!(json["interrupted"], true);
    let intervals = json["intervals"].as_array().unwrap().len();
    let log = Log::parse(&written("hlog"));
    assert_eq!(log.intervals.len(), 2 * intervals);
    let encoded = json["latency_ns"]["response"]["histogram"].as_str();
    assert_eq!(log.sum("response"), decoded(encoded.unwrap()));
    let csv = String::from_utf8(written("csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + intervals);
    let lines = parse_lines(&written("ndjson"));
    assert_eq!(lines.len(), intervals + 1);
    assert_eq!(lines.last().unwrap()["interrupted"], true);
    let page = Page::parse(&String::from_utf8(written("prometheus")).unwrap());
    assert_eq!(page.value("loadgen_interrupted", ""), 1.0);
    assert_eq!(
        directory.names(),
        ["csv", "hlog", "json", "ndjson", "prometheus"]
    );
}

#[track_caller]
fn assert_success(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}

#[track_caller]
fn parse_lines(lines: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(lines).unwrap();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
