//! The union of results of several processes that measured at the same time.

use std::fs;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::program::{assert_one_line, loadgen, run};
use crate::schema;
use crate::support::{Directory, PlainServer};

#[test]
fn shards_that_ran_together_become_one_result() {
    let directory = Directory::new("merge");
    let path = |name: &str| directory.path(name).to_str().unwrap().to_owned();
    let server = PlainServer::echo();
    let target = server.endpoint().to_string();
    let shard = |name: &str, connections: &str, rate: &str| {
        loadgen(&[
            "run",
            &target,
            "-d",
            "400ms",
            "-w",
            "0",
            "-c",
            connections,
            "-R",
            rate,
        ])
        .args(["-q", "--allow-invalid", "--json", &path(name)])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
    };
    for mut child in [shard("a.json", "2", "500"), shard("b.json", "3", "250")] {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let read = |name: &str| -> Value {
        let json = serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap();
        schema::check_json(&json);
        json
    };
    let (a, b) = (path("a.json"), path("b.json"));
    let union = path("union.json");
    let output = run(&["merge", &a, &b, "--allow-invalid", "--json", &union]);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("target 750 /s"), "{table}");
    assert!(table.contains(&b), "{table}");

    let [one, two, union] = ["a.json", "b.json", "union.json"].map(read);
    let sum = |pointer: &str| {
        let of = |json: &Value| json.pointer(pointer).unwrap().as_u64().unwrap();
        assert_eq!(of(&union), of(&one) + of(&two), "{pointer}");
    };
    for pointer in [
        "/messages/sent",
        "/messages/received",
        "/bytes/sent",
        "/connections/opened",
        "/latency_ns/response/count",
        "/latency_ns/service/count",
        "/intervals/0/received",
        "/plan/connections",
    ] {
        sum(pointer);
    }
    // Of an interval's samples too, all are there.
    let samples = |json: &Value| -> Histogram<u64> {
        let text = &json["intervals"][0]["response"]["histogram"];
        let encoded = STANDARD.decode(text.as_str().unwrap()).unwrap();
        Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .unwrap()
    };
    let mut both = samples(&one);
    both.add(samples(&two)).unwrap();
    assert_eq!(samples(&union), both);
    assert_eq!(
        union["intervals"][0]["response"]["p50"],
        both.value_at_quantile(0.5)
    );
    assert_eq!(union["rate"]["target"], 750.0);
    assert_eq!(union["plan"]["rate"], 750.0);
    let parts = union["merged"].as_array().unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[1]["name"], b);
    assert_eq!(parts[0]["tcp"], one["tcp"]);
    assert!(union["tcp"].is_null() && union["repeats"].is_null());

    // What was merged is a result like others.
    let again = run(&[
        "merge",
        &union_path(&directory),
        "--json",
        "-",
        "--allow-invalid",
    ]);
    assert_eq!(again.status.code(), Some(0));
    schema::check_json(&serde_json::from_slice(&again.stdout).unwrap());
}

fn union_path(directory: &Directory) -> String {
    directory.path("union.json").to_str().unwrap().to_owned()
}

#[test]
fn results_that_do_not_add_are_refused() {
    let directory = Directory::new("merge-refused");
    let path = |name: &str| directory.path(name).to_str().unwrap().to_owned();
    for (name, size) in [("a.json", "64"), ("b.json", "128")] {
        let arguments = [
            "run",
            "-n",
            "50",
            "-c",
            "1",
            "-q",
            "--allow-invalid",
            "-s",
            size,
        ];
        let output = run(&[&arguments[..], &["--json", &path(name)]].concat());
        assert_eq!(output.status.code(), Some(0));
    }
    let (a, b) = (path("a.json"), path("b.json"));
    assert_one_line(&run(&["merge", &a, &b]), 2, &[&a, &b, "size: 64 and 128"]);
    assert_one_line(&run(&["merge", "none.json"]), 2, &["none.json"]);
    // The same run twice, by two names.
    let copy = path("copy.json");
    fs::copy(&a, &copy).unwrap();
    for again in [&a, &copy] {
        assert_one_line(&run(&["merge", &a, again]), 2, &[&a, again, "same run"]);
    }
    assert_one_line(&run(&["merge"]), 2, &["RESULT"]);
    let output = run(&[
        "merge",
        &a,
        "--json",
        "/nonexistent/u.json",
        "--allow-invalid",
        "-q",
    ]);
    assert_one_line(&output, 1, &["/nonexistent/u.json"]);
}
