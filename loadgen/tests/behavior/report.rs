//! `loadgen report`: stored results in formats for people.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use loadgen::RunResult;
use loadgen::plan::{Background, Close, Direction, Load, Plan, Target, Workload};
use loadgen::report::{csv, html, markdown, text};
use loadgen::result::comparison::Comparison;
use loadgen::result::{Code, Reason, Status};
use loadgen::result::{IntervalCounts, IntervalLatency, IntervalResult, SearchResult};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::program::{assert_one_line, loadgen, run as run_program};
use crate::support::{Directory, constant, embedded, number, plan, run};

/// Puts `words` wherever a result may contain foreign text.
pub(crate) fn hostile(result: &mut RunResult, words: &str) {
    let text = || words.to_owned();
    result.tool.name = text().into();
    result.tool.version = text().into();
    result.started_at = text();
    result.host.name = Some(text());
    result.host.kernel = Some(text());
    result.host.cpu_model = Some(text());
    result.plan.target = Target::Servers {
        targets: vec![Endpoint::Unix(words.into())],
    };
    result.plan.socket.congestion = Some(text());
    result.verdict.reasons = vec![Reason {
        code: Code::Unknown(text().into()),
        text: text(),
        status: Status::Suspect,
    }];
    if let Some(tcp) = &mut result.tcp {
        tcp.limit.text = text();
    }
    if let Some(groups) = result.fairness.as_mut().and_then(|f| f.by_thread.as_mut()) {
        groups.groups[0].name = text();
    }
}

/// Text as escaped in a page.
fn escaped(text: &str) -> String {
    let mut page = String::new();
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            character => page.push(character),
        }
    }
    page
}

/// The element with the result itself.
const RESULT: &str = "<script type=\"application/json\"";

#[test]
fn no_text_of_a_result_becomes_markup() {
    let mut result = run(&Plan {
        threads: number(2),
        repeat: number(2),
        ..plan(embedded())
    });
    assert!(result.fairness.as_ref().unwrap().by_thread.is_some());
    const MARK: &str = "PLACEHOLDER";
    hostile(&mut result, MARK);
    // The result itself is not markup either, but JSON.
    let shown = |page: &str| page.split_once(RESULT).unwrap().0.to_owned();
    let page = shown(&html::render(&result));
    assert!(page.matches(MARK).count() >= 12, "it is in none");
    let cells = |markdown: &str| {
        let plain = markdown.replace(r"\\", "").replace(r"\|", "");
        plain
            .lines()
            .map(|line| line.matches('|').count())
            .collect::<Vec<_>>()
    };
    let plain_cells = cells(&markdown::render(&result));
    let words = r#"[<>&"'/`|*_\\a-z!=() -]{0,40}|\PC{0,20}|</?(script|style|title|svg)>|\{\}|-->"#;
    TestRunner::new(ProptestConfig::with_cases(64))
        .run(&words.to_owned().as_str(), |words| {
            let mut result = result.clone();
            hostile(&mut result, &words);
            let is_shown_as_it_is = !words.chars().any(|c| {
                c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            let whole = html::render(&result);
            if is_shown_as_it_is {
                let wanted = page.replace(MARK, &escaped(&words));
                prop_assert!(shown(&whole) == wanted, "{words:?} became markup");
            }
            let json = html::stored_result(whole.as_bytes()).unwrap();
            let json: serde_json::Value = serde_json::from_slice(json).unwrap();
            prop_assert_eq!(json["host"]["name"].as_str(), result.host.name.as_deref());
            prop_assert_eq!(cells(&markdown::render(&result)), plain_cells.clone());
            Ok(())
        })
        .unwrap();
}

/// Elements that have no end.
const VOID: [&str; 3] = ["meta", "link", "br"];

/// Checks that every element of a page ends where it should.
#[track_caller]
fn check_markup(page: &str) {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').unwrap();
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        let name = tag.split([' ', '\n', '/']).next().unwrap();
        if tag.ends_with('/') || VOID.contains(&name) {
            continue;
        }
        open.push(name);
        if name == "script" || name == "style" {
            // Their contents are not markup.
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The page without the stored result that it contains.
fn without_result(page: &str) -> String {
    let (before, result) = page
        .split_once("<script type=\"application/json\" id=\"result\">")
        .unwrap();
    let (_, after) = result.split_once("</script>").unwrap();
    format!("{before}{after}")
}

#[test]
fn every_workload_has_a_page() {
    let stream = |direction| Workload::Stream { direction };
    let closed = |pipeline| Load::Closed {
        pipeline: number(pipeline),
    };
    for (workload, load, sections) in [
        (
            Workload::Request,
            closed(2),
            "latency time accounts tcp fairness client plan",
        ),
        (
            Workload::Request,
            constant(2000.0),
            "latency time accounts tcp fairness client plan",
        ),
        (
            Workload::Idle,
            constant(200.0),
            "latency time accounts tcp client plan",
        ),
        (
            Workload::Churn {
                close: Close::Reset,
            },
            closed(1),
            "latency time accounts client plan",
        ),
        (
            stream(Direction::Up),
            closed(4),
            "latency time accounts tcp fairness client plan",
        ),
        (
            stream(Direction::Down),
            closed(4),
            "latency time accounts tcp fairness client plan",
        ),
    ] {
        let result = run(&Plan {
            workload,
            load,
            verify: workload != stream(Direction::Up),
            ramp: Duration::from_millis(50),
            background: (workload == Workload::Request).then(|| Background {
                streams: number(1),
                direction: Direction::Up,
                targets: Vec::new(),
            }),
            ..plan(embedded())
        });
        let page = html::render(&result);
        check_markup(&page);
        for section in sections.split(' ') {
            assert!(
                page.contains(&format!("<section id=\"{section}\">")),
                "{section}"
            );
        }
        // The encoded histograms of the contained result may have any letters.
        let shown = without_result(&page);
        assert!(
            !shown.contains("NaN") && !shown.contains("inf"),
            "a figure is no number"
        );
        let one_way = matches!(
            result.plan.direction(),
            Some(Direction::Up | Direction::Down)
        );
        assert_eq!(page.contains("Latency by percentile"), !one_way);
    }
}

#[test]
fn a_result_that_lacks_everything_has_a_page() {
    let mut result = run(&plan(embedded()));
    result.latency_ns.response = None;
    result.latency_ns.service = None;
    result.latency_ns.connect = None;
    result.intervals.clear();
    result.ramp.clear();
    result.tcp = None;
    result.fairness = None;
    result.client.hiccup = None;
    result.client.threads.clear();
    result.duration_s = 0.0;
    check_markup(&html::render(&result));
    assert!(text::render(&result).contains("verdict"));
    assert!(markdown::render(&result).contains("achieved"));
    assert_eq!(csv::render(&result).lines().count(), 1);
}

/// A result of twenty intervals of a second that are all alike, up to `change`.
fn with_intervals(change: impl Fn(&mut Vec<IntervalResult>)) -> String {
    let mut result = run(&plan(embedded()));
    let usual = IntervalResult {
        counts: IntervalCounts {
            sent: 1000,
            received: 1000,
            ..IntervalCounts::default()
        },
        response: Some(IntervalLatency {
            p50: Some(20_000),
            p99: Some(100_000),
            max: 900_000,
            histogram: None,
        }),
        ..result.intervals[0].clone()
    };
    result.intervals = (0..20)
        .map(|second| IntervalResult {
            start_s: f64::from(second),
            end_s: f64::from(second + 1),
            ..usual.clone()
        })
        .collect();
    change(&mut result.intervals);
    result.duration_s = 20.0;
    result.plan.interval = Duration::from_secs(1);
    let page = html::render(&result);
    check_markup(&page);
    page
}

#[test]
fn stalls_are_marked() {
    let page = with_intervals(|_| {});
    assert!(page.contains("No stall") && !page.contains("band stall"));
    // All intervals are shown, and the slow one is not hidden.
    let page = with_intervals(|intervals| {
        intervals[3].counts.received = 501;
        intervals[3].response.as_mut().unwrap().p99 = Some(1_000_000);
    });
    assert!(page.contains("No stall"));
    let page = with_intervals(|intervals| {
        intervals[3].counts.received = 400;
        intervals[4].counts.received = 0;
        intervals[4].response = None;
        intervals[9].response.as_mut().unwrap().p99 = Some(2_500_000);
        intervals[15].response.as_mut().unwrap().p50 = Some(400_000);
    });
    let listed = "<b>Stalls</b>, shaded red: 3 s to 5 s (at worst 0 % of the usual number of echoes), \
                  9 s to 10 s (at worst its p99 is 25 times the usual), \
                  15 s to 16 s (at worst its median is 20 times the usual).";
    assert!(page.contains(listed), "{page}");
    // Three marked ranges in each chart over time.
    let charts = page.matches("aria-label=\"Rate").count()
        + page.matches("aria-label=\"Response time").count()
        + page.matches("aria-label=\"TCP").count();
    assert_eq!(page.matches("band stall").count(), 3 * charts);
}

#[test]
fn the_wait_after_the_window_is_no_stall() {
    let page = with_intervals(|intervals| {
        let mut wait = intervals[0].clone();
        (wait.start_s, wait.end_s) = (20.0, 22.0);
        (wait.counts.sent, wait.counts.received) = (0, 3);
        wait.response.as_mut().unwrap().p99 = None;
        wait.response.as_mut().unwrap().p50 = Some(1_500_000_000);
        intervals.push(wait);
    });
    assert!(page.contains("No stall") && page.contains("band after"));
    assert!(page.contains("20 s to 22 s, after the window"));
}

#[test]
fn a_long_run_has_a_page_of_a_bounded_size() {
    let mut result = run(&plan(embedded()));
    let one = result.intervals[0].clone();
    result.intervals = (0..86_400)
        .map(|second| {
            let mut interval = one.clone();
            interval.start_s = f64::from(second);
            interval.end_s = f64::from(second + 1);
            interval
        })
        .collect();
    result.duration_s = 86_400.0;
    let page = html::render(&result);
    check_markup(&page);
    assert!(page.len() < 1 << 20, "{}", page.len());
    assert!(page.contains("86 400 intervals are drawn as 400"));
    assert!(!page.contains(RESULT) && page.contains("keep the file that --json wrote"));
}

/// A stored result and the output of its run.
fn stored(directory: &Directory) -> (String, RunResult, Output) {
    let path = directory.path("result.json").display().to_string();
    let page = directory.path("page.html").display().to_string();
    let mut arguments = vec!["run", "-d", "300ms", "-w", "0", "-R", "1k", "--repeat", "2"];
    arguments.extend([
        "--interval",
        "100ms",
        "--allow-invalid",
        "--json",
        &path,
        "--html",
        &page,
    ]);
    let output = run_program(&arguments);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let result = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (path, result, output)
}

#[test]
fn a_stored_result_reads_as_its_run_did() {
    let directory = Directory::new("report");
    let (path, result, printed) = stored(&directory);
    let report = |arguments: &[&str]| {
        let output = run_program(&[&["report", &path], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(report(&[]).as_bytes(), printed.stdout);
    assert_eq!(report(&["--format", "text"]).as_bytes(), printed.stdout);
    assert_eq!(report(&["--format", "csv"]), csv::render(&result));
    assert_eq!(report(&["--format", "markdown"]), markdown::render(&result));
    let page = fs::read_to_string(directory.path("page.html")).unwrap();
    assert_eq!(report(&["--format", "html", "-o", "-"]), page);
    for (name, content) in [
        ("page.HTM", page),
        ("table.txt", text::render(&result)),
        ("intervals.csv", csv::render(&result)),
        ("comment.md", markdown::render(&result)),
    ] {
        let file = directory.path(name);
        assert_eq!(report(&["-o", &file.display().to_string()]), "");
        assert_eq!(fs::read_to_string(file).unwrap(), content, "{name}");
    }
    let from_stdin = loadgen(&["report", "-"])
        .stdin(fs::File::open(&path).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert_eq!(from_stdin.stdout, printed.stdout);
}

/// What a stored result is reported as, in every format; the page is checked.
fn reports(path: &str) -> [String; 4] {
    ["text", "html", "csv", "markdown"].map(|format| {
        let output = run_program(&["report", path, "--format", format]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{format}: {stderr}");
        let report = String::from_utf8(output.stdout).unwrap();
        if format == "html" {
            check_markup(&report);
            let shown = without_result(&report);
            assert!(!shown.contains("NaN") && !shown.contains(">inf"));
        }
        report
    })
}

#[test]
fn a_search_reads_as_it_did() {
    let directory = Directory::new("report-search");
    let path = directory.path("search.json").display().to_string();
    let mut arguments = vec![
        "search",
        "--slo",
        "p50<1s",
        "--slo",
        "errors<50%",
        "--max",
        "500",
    ];
    arguments.extend([
        "--min",
        "100",
        "-c",
        "2",
        "--trial",
        "200ms",
        "--max-trials",
        "4",
    ]);
    arguments.extend(["--json", &path]);
    let printed = run_program(&arguments);
    let [text, html, csv, markdown] = reports(&path);
    assert_eq!(text.as_bytes(), printed.stdout);
    let result: SearchResult = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(!result.trials.is_empty());
    assert_eq!(csv.lines().count(), 1 + result.trials.len());
    assert_eq!(
        html.matches("Latency by load").count(),
        2,
        "its title and its name"
    );
    assert!(html.contains("p50&lt;1s") && html.contains("The course of the search"));
    assert!(markdown.contains("p50\\<1s"));
}

#[test]
fn a_comparison_reads_as_it_did() {
    let directory = Directory::new("report-compare");
    let file = |name: &str| directory.path(name).display().to_string();
    let (base, new, path) = (
        file("<i>base&'.json"),
        file("new|.json"),
        file("comparison.json"),
    );
    for side in [&base, &new] {
        let mut arguments = vec!["run", "-d", "200ms", "-w", "0", "-c", "2", "--repeat", "3"];
        arguments.extend(["-q", "--allow-invalid", "--seed", "1", "--json", side]);
        assert!(run_program(&arguments).status.success());
    }
    let printed = run_program(&["compare", &base, &new, "--json", &path]);
    let [text, html, csv, markdown] = reports(&path);
    assert_eq!(text.as_bytes(), printed.stdout);
    let result: Comparison = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(csv.lines().count(), 1 + result.metrics.len());
    assert_eq!(
        html.matches("<svg class=\"ratio\"").count(),
        1 + result.metrics.len()
    );
    assert!(html.contains("&lt;i&gt;base&amp;&#39;.json") && !html.contains("<i>base"));
    assert!(markdown.contains(r"new\|.json"));
}

/// A page is all that is left of a run sometimes.
#[test]
fn the_result_is_read_back_from_its_page() {
    let directory = Directory::new("report-page");
    // A name that would end the element if it were written as it is.
    let path = |name: &str| directory.path(name).display().to_string();
    let json = path("<script><b>.json");
    let run = ["run", "-n", "200", "-c", "1", "-q", "--allow-invalid"];
    let output = run_program(&[&run[..], &["--json", &json, "--html", &path("run.html")]].concat());
    assert_eq!(output.status.code(), Some(0));
    let merged = path("merged.html");
    let union = path("union.json");
    let merge = ["merge", &json, "-q", "--allow-invalid", "--json", &union];
    assert_eq!(run_program(&merge).status.code(), Some(0));
    assert_eq!(
        run_program(&["report", &union, "-o", &merged])
            .status
            .code(),
        Some(0)
    );
    check_markup(&fs::read_to_string(&merged).unwrap());
    let compared = path("compared.html");
    let comparison = path("compared.json");
    let compare = [
        "compare",
        &json,
        &path("run.html"),
        "--allow-invalid",
        "--json",
        &comparison,
    ];
    assert_eq!(run_program(&compare).status.code(), Some(0));
    assert_eq!(
        run_program(&["report", &comparison, "-o", &compared])
            .status
            .code(),
        Some(0)
    );
    for (from, page) in [
        (&json, path("run.html")),
        (&union, merged),
        (&comparison, compared),
    ] {
        for format in ["text", "csv", "html", "markdown"] {
            let report = |result: &str| run_program(&["report", result, "--format", format]).stdout;
            assert!(!report(from).is_empty());
            assert_eq!(report(from), report(&page), "{page} as {format}");
        }
    }
}

#[test]
fn what_can_t_be_reported_is_one_line() {
    let directory = Directory::new("no-report");
    let file = |name: &str, content: &str| {
        let path = directory.path(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let text = file("notes.json", "no JSON");
    let newer = file("newer.json", r#"{"schema": 2}"#);
    let half = file("half.json", r#"{"schema": 1, "tool": {}}"#);
    for (arguments, code, parts) in [
        (
            &["report", "/nonexistent/result"][..],
            2,
            &["/nonexistent/result", "cannot read"][..],
        ),
        (
            &["report", &text],
            2,
            &[&text, "not a result of loadgen", "--json"],
        ),
        (&["report", &newer], 2, &[&newer, "schema 2"]),
        (&["report", &half], 2, &[&half, "damaged"]),
        (
            &["report", &text, "-o", "x.pdf"],
            2,
            &["x.pdf", ".html", "--format"],
        ),
        (
            &["report", &text, "--format", "pdf"],
            2,
            &["pdf", "loadgen report --help"],
        ),
        (&["report"], 2, &["RESULT", "loadgen report --help"]),
    ] {
        assert_one_line(&run_program(arguments), code, parts);
    }
}
