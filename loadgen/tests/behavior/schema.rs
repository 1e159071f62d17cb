//! Results are as docs/result.schema.json says. It allows no key that it does not describe, and
//! every other test holds its results against it too.

use std::net::UdpSocket;
use std::num::NonZeroU64;
use std::os::unix::net::UnixListener;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use echomark::net::cidr::Cidr;
use echomark::net::endpoint::Endpoint;
use jsonschema::Validator;
use loadgen::RunResult;
use loadgen::plan::{Background, Close, Direction, Load, Plan, Target, Workload};
use serde_json::Value;

use crate::support::{Directory, constant, embedded, even, number, plan, run};

fn schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| validator(include_str!("../../../docs/result.schema.json")))
}

fn search_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| validator(include_str!("../../../docs/search.schema.json")))
}

fn comparison_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| validator(include_str!("../../../docs/comparison.schema.json")))
}

fn validator(text: &str) -> Validator {
    let schema: Value = serde_json::from_str(text).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

/// Holds the file of a comparison against its schema.
#[track_caller]
pub(crate) fn check_comparison(comparison: &Value) {
    check_against(comparison_schema(), comparison);
}

/// Holds a result against the schema.
#[track_caller]
pub(crate) fn check(result: &RunResult) {
    check_json(&serde_json::to_value(result).unwrap());
}

/// Holds a result file against the schema.
#[track_caller]
pub(crate) fn check_json(result: &Value) {
    check_against(schema(), result);
}

fn watch_schema() -> &'static Validator {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| validator(include_str!("../../../docs/watch.schema.json")))
}

/// Holds the result of a watch against its schema.
#[track_caller]
pub(crate) fn check_watch(result: &Value) {
    check_against(watch_schema(), result);
}

/// Holds the result of a search against its schema.
#[track_caller]
pub(crate) fn check_search(result: &Value) {
    check_against(search_schema(), result);
}

#[track_caller]
fn check_against(schema: &Validator, result: &Value) {
    let mistakes: Vec<String> = schema
        .iter_errors(result)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn every_workload_has_a_result_of_the_schema() {
    let stream = |direction| Workload::Stream { direction };
    for (workload, load) in [
        (Workload::Request, closed(2)),
        (Workload::Request, even("1k..3k")),
        (Workload::Idle, constant(200.0)),
        (
            Workload::Churn {
                close: Close::Orderly,
            },
            closed(1),
        ),
        (
            Workload::Churn {
                close: Close::Reset,
            },
            constant(500.0),
        ),
        (stream(Direction::Echo), closed(4)),
        (stream(Direction::Up), closed(4)),
        (stream(Direction::Down), closed(4)),
    ] {
        run(&Plan {
            workload,
            load,
            verify: workload != stream(Direction::Up),
            threads: number(2),
            ramp: Duration::from_millis(150),
            ..plan(embedded())
        });
    }
}

#[test]
fn every_transport_has_a_result_of_the_schema() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let mut buffer = [0; 2048];
        // A datagram of one byte, which no run sends, ends it.
        while let Ok((count, peer)) = udp.recv_from(&mut buffer)
            && count > 1
        {
            let _ = udp.send_to(&buffer[..count], peer);
        }
    });
    run(&Plan {
        load: constant(1000.0),
        timeout: Duration::from_secs(1),
        ..plan(only(Endpoint::Udp(address.into())))
    });
    let end = UdpSocket::bind("127.0.0.1:0").unwrap();
    end.send_to(&[0], address).unwrap();
    echo.join().unwrap();

    let directory = Directory::new("schema");
    let path = directory.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    let result = run(&plan(only(Endpoint::Unix(path))));
    assert!(result.tcp.is_none());
}

#[test]
fn what_is_rare_has_a_result_of_the_schema() {
    let result = run(&Plan {
        background: Some(Background {
            streams: number(2),
            direction: Direction::Up,
            targets: Vec::new(),
        }),
        sources: vec!["127.0.0.1".parse::<Cidr>().unwrap()],
        ..plan(embedded())
    });
    assert!(result.background.is_some());
    let result = run(&Plan {
        repeat: number(3),
        ..plan(embedded())
    });
    assert!(result.repeats.is_some());
    run(&Plan {
        duration: None,
        requests: NonZeroU64::new(100),
        verify: false,
        size: "mix:64=90,1500=10".parse().unwrap(),
        ..plan(embedded())
    });
    // Long enough for the statistics to tell something.
    let result = run(&Plan {
        load: constant(5000.0),
        duration: Some(Duration::from_secs(2)),
        ..plan(embedded())
    });
    assert!(result.statistics.rate.is_some());
}

#[test]
fn what_is_not_described_is_refused() {
    let result = serde_json::to_value(run(&plan(embedded()))).unwrap();
    for place in [
        "",
        "/plan",
        "/plan/socket",
        "/rate",
        "/messages",
        "/latency_ns",
        "/latency_ns/service",
        "/intervals/0",
        "/intervals/0/service",
        "/tcp/shares",
        "/client/threads/0",
        "/verdict",
    ] {
        let mut wrong = result.clone();
        let object = wrong.pointer_mut(place).and_then(Value::as_object_mut);
        let object = object.unwrap_or_else(|| panic!("{place} is not an object"));
        object.insert("new".to_owned(), Value::from(1));
        assert!(!schema().is_valid(&wrong), "{place}/new");
    }
    let mut wrong = result;
    wrong["plan"]["direction"] = "up".into();
    assert!(!schema().is_valid(&wrong), "a request has no direction");
}

fn closed(pipeline: usize) -> Load {
    Load::Closed {
        pipeline: number(pipeline),
    }
}

fn only(target: Endpoint) -> Target {
    Target::Servers {
        targets: vec![target],
    }
}
