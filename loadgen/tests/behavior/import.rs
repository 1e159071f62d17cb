//! Results of other tools: `report` and `compare` read them, take no figure that is not there, and say what
//! can't be known. iperf3's and sockperf's samples are outputs of the programs; fortio's and netperf's are
//! written after their sources.

use std::fs;
use std::path::PathBuf;

use loadgen::import;
use loadgen::result::ImportedResult;
use serde_json::Value;

use crate::program::{assert_one_line, run};
use crate::support::Directory;

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(name)
}

#[track_caller]
fn imported(name: &str) -> ImportedResult {
    let content = fs::read(sample(name)).unwrap();
    let read = import::read(&content).expect("a known tool");
    read.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[track_caller]
fn about(value: Option<f64>, wanted: f64) {
    let value = value.expect("is given");
    assert!(
        (value / wanted - 1.0).abs() < 1e-6,
        "{value} is not {wanted}"
    );
}

/// The reasons of the verdict as one text; each has the code of an import.
#[track_caller]
fn unknown(result: &ImportedResult) -> String {
    let reasons = &result.verdict.reasons;
    assert!(!reasons.is_empty());
    assert!(
        reasons
            .iter()
            .all(|reason| reason.code.to_string() == "imported")
    );
    assert_eq!(result.verdict.vouched_percentile, None);
    let texts = reasons.iter().map(|reason| reason.text.as_str());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn streams_of_iperf3_have_throughput_and_no_latency() {
    let result = imported("iperf3-tcp.json");
    assert_eq!(
        (&*result.tool.name, &*result.tool.version),
        ("iperf3", "3.12")
    );
    assert_eq!(result.target.as_deref(), Some("tcp://127.0.0.1:15201"));
    assert_eq!(result.started_at.as_deref(), Some("2026-11-28T05:34:53Z"));
    assert_eq!(result.connections, Some(2));
    about(result.sent_bits_per_s, 6_700_652_221.875_49);
    about(result.received_bits_per_s, 6_677_078_575.464_126);
    assert_eq!(result.retransmits, Some(19));
    about(result.tcp_rtt_ns_mean, (2578.0 + 2485.0) / 2.0 * 1e3);
    assert_eq!(
        (result.latency_ns.clone(), result.achieved_rate),
        (None, None)
    );
    let unknown = unknown(&result);
    assert!(
        unknown.contains("no latency") && unknown.contains("smoothed"),
        "{unknown}"
    );
}

#[test]
fn a_reverse_stream_of_iperf3_has_no_round_trip_because_0_is_none() {
    let result = imported("iperf3-reverse.json");
    assert_eq!(result.tcp_rtt_ns_mean, None);
    about(result.received_bits_per_s, 8_771_616_046.217_066);
    assert!(result.load.starts_with("stream from the server"));
}

#[test]
fn datagrams_of_iperf3_have_loss_and_jitter() {
    let result = imported("iperf3-udp.json");
    assert_eq!(result.target.as_deref(), Some("udp://127.0.0.1:15201"));
    let messages = &result.messages;
    assert_eq!(
        (messages.sent, messages.received, messages.lost),
        (Some(77), Some(77), Some(0))
    );
    about(result.jitter_ns, 10_614.403_470_535_534);
    assert_eq!(result.retransmits, None);
    assert!(unknown(&result).contains("jitter is the change"));
}

#[test]
fn calls_of_fortio_have_percentiles_as_far_as_samples_support_them() {
    let result = imported("fortio-tcp.json");
    assert_eq!(result.target.as_deref(), Some("tcp://127.0.0.1:8078"));
    assert_eq!(
        (result.target_rate, result.connections),
        (Some(1000.0), Some(4))
    );
    // Five of five thousand failed.
    about(result.achieved_rate, 999.4 * 0.999);
    assert_eq!(result.messages.failed, Some(5));
    let latency = result.latency_ns.as_ref().unwrap();
    about(latency.percentile(50.0), 77_900.0);
    about(latency.percentile(99.0), 980_000.0);
    assert_eq!(
        (latency.percentile(99.9), latency.percentile(90.0)),
        (None, None)
    );
    about(latency.mean, 110_000.0);
    let unknown = unknown(&result);
    for words in [
        "not when it was due",
        "interpolated",
        "5 calls failed",
        "p99.9: left out",
    ] {
        assert!(unknown.contains(words), "{words}: {unknown}");
    }
}

#[test]
fn the_average_of_netperf_is_no_percentile() {
    let result = imported("netperf-rr-average.txt");
    about(result.achieved_rate, 21_505.25);
    let latency = result.latency_ns.as_ref().unwrap();
    about(latency.mean, 46_500.0);
    // -1 stands for what was not measured.
    assert!(latency.percentiles.is_empty());
    assert_eq!(result.server_cpu_ratio, None);
    about(result.client_cpu_ratio, 0.125);
    assert!(unknown(&result).contains("an average, which is no percentile"));

    let result = imported("netperf-rr.csv");
    assert_eq!(result.target.as_deref(), Some("server.example"));
    let latency = result.latency_ns.as_ref().unwrap();
    about(latency.percentile(99.0), 93_000.0);
    about(latency.max, 4_120_000.0);
    assert!(unknown(&result).contains("how many samples"));
}

#[test]
fn a_stream_of_netperf_has_no_latency_because_it_times_its_own_calls() {
    let result = imported("netperf-stream.txt");
    about(result.sent_bits_per_s, 9_413.77e6);
    assert_eq!(
        (result.latency_ns.clone(), result.received_bits_per_s),
        (None, None)
    );
    assert_eq!(result.retransmits, Some(3));
    assert!(unknown(&result).contains("times its own calls"));
}

#[test]
fn sockperf_s_half_round_trips_are_whole_again() {
    let result = imported("sockperf-ping-pong.txt");
    assert_eq!(result.target.as_deref(), Some("tcp://127.0.0.1:15203"));
    let latency = result.latency_ns.as_ref().unwrap();
    assert_eq!(latency.count, Some(35_678));
    about(latency.mean, 2.0 * 21_736.0);
    about(latency.percentile(50.0), 2.0 * 5_943.0);
    about(latency.percentile(99.9), 2.0 * 2_711_208.0);
    assert_eq!(latency.percentile(99.99), None);
    about(result.achieved_rate, 35_678.0 / 1.552);
    let unknown = unknown(&result);
    assert!(
        unknown.contains("divided every round trip by two"),
        "{unknown}"
    );
    assert!(unknown.contains("p99.99, p99.999: left out"), "{unknown}");
}

#[test]
fn round_trips_of_sockperf_are_not_doubled_and_missing_answers_are_told() {
    let result = imported("sockperf-under-load.txt");
    let latency = result.latency_ns.as_ref().unwrap();
    about(latency.mean, 1_306_379.0);
    // Of 14 samples, ten are beyond the first quarter.
    about(latency.percentile(25.0), 22_543.0);
    assert_eq!(latency.percentiles.len(), 1, "{latency:?}");
    let unknown = unknown(&result);
    assert!(!unknown.contains("by two"), "{unknown}");
    assert!(
        unknown.contains("of 1301 messages 14 came back"),
        "{unknown}"
    );
}

#[test]
fn the_throughput_of_sockperf_is_what_was_sent() {
    let result = imported("sockperf-throughput.txt");
    assert_eq!(
        (result.achieved_rate, result.latency_ns.clone()),
        (None, None)
    );
    assert_eq!(result.messages.sent, Some(129_971));
    // Its megabits are of 2^20 bits: 64 970 messages of 14 bytes each second.
    let bits = result.sent_bits_per_s.unwrap();
    assert!(
        (bits / (64_970.0 * 14.0 * 8.0) - 1.0).abs() < 1e-3,
        "{bits}"
    );
    assert!(unknown(&result).contains("whether any of it arrived"));
}

/// A full disk or a killed tool leaves such files.
#[test]
fn outputs_that_are_cut_off_anywhere_are_read_or_refused() {
    for entry in fs::read_dir(sample("")).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        let mut read = 0;
        for end in (0..content.len()).step_by(7) {
            if let Some(Ok(result)) = import::read(&content[..end]) {
                read += 1;
                let given = [result.achieved_rate, result.sent_bits_per_s];
                assert!(given.into_iter().flatten().all(f64::is_finite));
                assert!(!loadgen::report::text::render(&result).is_empty());
            }
        }
        // JSON is whole or none.
        assert!(read == 0 || content[0] != b'{');
    }
}

#[test]
fn a_tool_that_measured_nothing_is_told_with_its_reason() {
    for (name, words) in [
        (
            "iperf3-refused.json",
            "iperf3 without a result: unable to connect to server",
        ),
        (
            "netperf-columns.txt",
            "netperf without a result: its columns are for people",
        ),
    ] {
        let path = sample(name).display().to_string();
        assert_one_line(&run(&["report", &path]), 2, &[&path, words]);
        assert_one_line(&run(&["compare", &path, &path]), 2, &[words]);
    }
}

#[test]
fn reports_of_all_formats_read_an_import_and_a_page_of_it() {
    let directory = Directory::new("import");
    for name in [
        "iperf3-tcp.json",
        "fortio-tcp.json",
        "netperf-rr.csv",
        "sockperf-ping-pong.txt",
    ] {
        let path = sample(name).display().to_string();
        let page = directory
            .path(&format!("{name}.html"))
            .display()
            .to_string();
        assert_eq!(run(&["report", &path, "-o", &page]).status.code(), Some(0));
        for format in ["text", "csv", "html", "markdown"] {
            let report = |from: &str| run(&["report", from, "--format", format]);
            let (one, again) = (report(&path), report(&page));
            assert_eq!(one.status.code(), Some(0), "{one:?}");
            assert!(!one.stdout.is_empty());
            assert_eq!(one.stdout, again.stdout, "{name} as {format}");
        }
        let text = String::from_utf8(run(&["report", &path]).stdout).unwrap();
        assert!(text.contains("verdict   SUSPECT: imported"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }
}

#[test]
fn an_import_stands_beside_a_result_of_loadgen_and_no_difference_is_established() {
    let directory = Directory::new("beside");
    let path = |name: &str| directory.path(name).display().to_string();
    let (own, beside) = (path("own.json"), path("beside.json"));
    let make = [
        "run",
        "-d",
        "200ms",
        "-w",
        "0",
        "-c",
        "2",
        "-q",
        "--allow-invalid",
        "--json",
        &own,
    ];
    assert_eq!(run(&make).status.code(), Some(0));
    let sockperf = sample("sockperf-ping-pong.txt").display().to_string();
    // Whatever the ratio is, it is no regression.
    let output = run(&["compare", &own, &sockperf, "--json", &beside]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("no difference, and no equality") || text.contains("no equality"),
        "{text}"
    );
    assert!(
        text.lines().any(|line| line.starts_with("service p99 ")),
        "{text}"
    );
    let own: Value = serde_json::from_slice(&fs::read(&own).unwrap()).unwrap();
    let json: Value = serde_json::from_slice(&fs::read(&beside).unwrap()).unwrap();
    assert_eq!(json["kind"], "side_by_side");
    let figures = json["figures"].as_array().unwrap();
    let figure = |name: &str| {
        figures
            .iter()
            .find(|figure| figure["name"] == name)
            .unwrap()
    };
    // Where the tools begin a message's time, loadgen's service time begins.
    assert_eq!(
        figure("service_p50")["base"],
        own["latency_ns"]["service"]["p50"].as_f64().unwrap()
    );
    assert_eq!(figure("service_p50")["new"], 11_886.0);
    assert_eq!(figure("throughput")["ratio"], Value::Null);
    let again = run(&["report", &beside]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), text);
    // A union and a search need more than an import has.
    assert_one_line(
        &run(&["merge", &sockperf]),
        2,
        &["another tool", "give one of loadgen run"],
    );
}
