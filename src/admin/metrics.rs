//! What a scrape finds: every counter under its name, as a table that is written either in the text
//! format of Prometheus (0.0.4) or as JSON. Pure functions of a [`Report`].
//!
//! Every value that a label can have is there from the start, with a zero, so that rates are known
//! from the first event on. No label ever holds the address of a client.

use std::fmt::{self, Write};
use std::time::Duration;

use serde_json::{Map, Number, Value as Json};

use super::http::Readiness;
use super::process::Process;
use crate::metrics::{CloseReason, DropReason, RefuseReason, Snapshot};
use crate::net::errno::AcceptError;

/// What is known of a server at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// The version of the program.
    pub version: &'static str,
    /// Whether the server is about to end.
    pub readiness: Readiness,
    /// Every worker, in the order of their indices.
    pub workers: Vec<Worker>,
    /// The process.
    pub process: Process,
}

/// What is known of a worker at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker {
    /// Its counters.
    pub counters: Snapshot,
    /// The processor time it has used.
    pub cpu_time: Duration,
}

impl Report {
    /// The counters of all workers, summed.
    pub fn total(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in &self.workers {
            sum += worker.counters;
        }
        sum
    }
}

/// A metric: one name with a value for each of its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name, with its unit, after the conventions of Prometheus.
    pub name: &'static str,
    /// What is counted, in a sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its values.
    pub samples: Samples,
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It does, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The values of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// One, without a label.
    One(Value),
    /// One for each value of a label.
    Labelled {
        /// The label's name.
        label: &'static str,
        /// The label's values with the metric's.
        values: Vec<(String, Value)>,
    },
}

/// A value, exact in either format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Integer(u64),
    /// A time in seconds, for the most part.
    Real(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// Every metric with its values, in the order in which they are written.
pub fn families(report: &Report) -> Vec<Family> {
    let total = report.total();
    let mut families = connections(report, &total);
    families.extend(traffic(&total));
    families.extend(loops(report));
    families.push(gauge(
        "echod_draining",
        "1 from the moment the server was asked to end, 0 before.",
        u64::from(report.readiness == Readiness::Draining),
    ));
    families.push(Family {
        name: "echod_build_info",
        help: "Always 1; the label says which version runs.",
        kind: Kind::Gauge,
        samples: Samples::Labelled {
            label: "version",
            values: vec![(report.version.to_owned(), Value::Integer(1))],
        },
    });
    families.extend(process(&report.process));
    families
}

/// Writes the text format of Prometheus, version 0.0.4.
pub fn exposition(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        // Writing to a string does not fail.
        let _ = write_family(&mut text, family);
    }
    text
}

/// The values as a JSON object: the names, without the prefix `echod_`, and below those with a label
/// an object of the label's values.
pub fn json(families: &[Family]) -> Json {
    let mut object = Map::new();
    for family in families {
        let name = family.name.strip_prefix("echod_").unwrap_or(family.name);
        let value = match &family.samples {
            Samples::One(value) => number(*value),
            Samples::Labelled { values, .. } => {
                let values = values
                    .iter()
                    .map(|(at, value)| (at.clone(), number(*value)));
                Json::Object(values.collect())
            }
        };
        object.insert(name.to_owned(), value);
    }
    Json::Object(object)
}

fn connections(report: &Report, total: &Snapshot) -> Vec<Family> {
    vec![
        counter(
            "echod_connections_accepted_total",
            "Connections accepted and served.",
            total.accepted,
        ),
        labelled(
            "echod_connections_closed_total",
            "Connections closed after service, by reason.",
            "reason",
            CloseReason::ALL.map(|reason| (reason.name(), total.closed(reason))),
        ),
        labelled(
            "echod_connections_refused_total",
            "Connections accepted and closed without service, by reason.",
            "reason",
            RefuseReason::ALL.map(|reason| (reason.name(), total.refused(reason))),
        ),
        Family {
            kind: Kind::Gauge,
            ..per_worker(
                report,
                "echod_connections_active",
                "Connections open now.",
                |worker| Value::Integer(worker.counters.active),
            )
        },
        labelled(
            "echod_accept_errors_total",
            "Failures of accept(2), by errno.",
            "error",
            AcceptError::ALL.map(|error| (error.name(), total.accept_errors(error))),
        ),
    ]
}

fn traffic(total: &Snapshot) -> Vec<Family> {
    vec![
        counter(
            "echod_received_bytes_total",
            "Bytes read from connections and in datagrams.",
            total.received_bytes,
        ),
        counter(
            "echod_sent_bytes_total",
            "Bytes that sockets took, of connections and in datagrams.",
            total.sent_bytes,
        ),
        counter(
            "echod_udp_received_datagrams_total",
            "Datagrams received.",
            total.udp_received_datagrams,
        ),
        counter(
            "echod_udp_sent_datagrams_total",
            "Datagrams that sockets took.",
            total.udp_sent_datagrams,
        ),
        labelled(
            "echod_udp_dropped_datagrams_total",
            "Datagrams not answered, by reason.",
            "reason",
            DropReason::ALL.map(|reason| (reason.name(), total.udp_dropped(reason))),
        ),
        gauge(
            "echod_backlog_bytes",
            "Bytes read that wait for their peer to take them.",
            total.backlog_bytes,
        ),
        counter(
            "echod_short_writes_total",
            "Writes of which the socket took a part or nothing.",
            total.short_writes,
        ),
    ]
}

fn loops(report: &Report) -> Vec<Family> {
    vec![
        per_worker(
            report,
            "echod_loop_iterations_total",
            "Turns of the event loop.",
            |worker| Value::Integer(worker.counters.loop_iterations),
        ),
        per_worker(
            report,
            "echod_loop_events_total",
            "Events that the kernel returned.",
            |worker| Value::Integer(worker.counters.loop_events),
        ),
        per_worker(
            report,
            "echod_loop_full_batches_total",
            "Turns in which as many events came as fit.",
            |worker| Value::Integer(worker.counters.loop_full_batches),
        ),
        per_worker(
            report,
            "echod_worker_cpu_seconds_total",
            "Processor time used by the worker's thread.",
            |worker| Value::Real(worker.cpu_time.as_secs_f64()),
        ),
    ]
}

/// The metrics that client libraries of Prometheus give of every process; what the system does not
/// tell is left out.
fn process(process: &Process) -> Vec<Family> {
    let mut families = Vec::new();
    let mut add = |name, help, kind, value: Option<Value>| {
        if let Some(value) = value {
            families.push(Family {
                name,
                help,
                kind,
                samples: Samples::One(value),
            });
        }
    };
    add(
        "process_cpu_seconds_total",
        "Processor time used by the process.",
        Kind::Counter,
        Some(Value::Real(process.cpu_time.as_secs_f64())),
    );
    add(
        "process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        Kind::Gauge,
        process.resident_memory_bytes.map(Value::Integer),
    );
    add(
        "process_virtual_memory_bytes",
        "Address space of the process.",
        Kind::Gauge,
        process.virtual_memory_bytes.map(Value::Integer),
    );
    add(
        "process_open_fds",
        "Open descriptors.",
        Kind::Gauge,
        process.open_fds.map(Value::Integer),
    );
    add(
        "process_max_fds",
        "Descriptors that may be open.",
        Kind::Gauge,
        process.max_fds.map(Value::Integer),
    );
    add(
        "process_start_time_seconds",
        "Start of the process, in seconds since 1970.",
        Kind::Gauge,
        process.start_time.map(|at| Value::Real(at.as_secs_f64())),
    );
    families
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family {
        name,
        help,
        kind: Kind::Counter,
        samples: Samples::One(Value::Integer(value)),
    }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Family {
    Family {
        kind: Kind::Gauge,
        ..counter(name, help, value)
    }
}

fn labelled<const N: usize>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [(&'static str, u64); N],
) -> Family {
    let values = values.map(|(at, value)| (at.to_owned(), Value::Integer(value)));
    Family {
        name,
        help,
        kind: Kind::Counter,
        samples: Samples::Labelled {
            label,
            values: values.into(),
        },
    }
}

fn per_worker(
    report: &Report,
    name: &'static str,
    help: &'static str,
    value: impl Fn(&Worker) -> Value,
) -> Family {
    let workers = report.workers.iter().enumerate();
    let values = workers.map(|(index, worker)| (index.to_string(), value(worker)));
    Family {
        name,
        help,
        kind: Kind::Counter,
        samples: Samples::Labelled {
            label: "worker",
            values: values.collect(),
        },
    }
}

fn write_family(text: &mut String, family: &Family) -> fmt::Result {
    let name = family.name;
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    writeln!(text, "# HELP {name} {}", escaped_help(family.help))?;
    writeln!(text, "# TYPE {name} {kind}")?;
    match &family.samples {
        Samples::One(value) => writeln!(text, "{name} {value}"),
        Samples::Labelled { label, values } => values.iter().try_for_each(|(at, value)| {
            writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped_label(at))
        }),
    }
}

fn escaped_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escaped_label(value: &str) -> String {
    escaped_help(value).replace('"', "\\\"")
}

fn number(value: Value) -> Json {
    match value {
        Value::Integer(value) => value.into(),
        // JSON has no infinity, and no time is one.
        Value::Real(value) => Number::from_f64(value).map_or(Json::Null, Json::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        let metrics = crate::metrics::WorkerMetrics::default();
        metrics.accepted.add(3);
        metrics.closed(CloseReason::IdleTimeout).add(2);
        let worker = Worker {
            counters: metrics.snapshot(),
            cpu_time: Duration::from_millis(1250),
        };
        Report {
            version: "1.2.3",
            readiness: Readiness::Ready,
            workers: vec![worker, Worker::default()],
            process: Process::default(),
        }
    }

    #[test]
    fn every_value_of_a_label_is_there_from_the_start() {
        let text = exposition(&families(&report()));
        for line in [
            "# TYPE echod_connections_accepted_total counter",
            "echod_connections_accepted_total 3",
            "echod_connections_closed_total{reason=\"idle_timeout\"} 2",
            "echod_connections_closed_total{reason=\"drain_timeout\"} 0",
            "echod_connections_refused_total{reason=\"max_connections_per_ip\"} 0",
            "# TYPE echod_connections_active gauge",
            "echod_connections_active{worker=\"1\"} 0",
            "echod_udp_dropped_datagrams_total{reason=\"source_port\"} 0",
            "echod_accept_errors_total{error=\"EMFILE\"} 0",
            "echod_worker_cpu_seconds_total{worker=\"0\"} 1.25",
            "echod_draining 0",
            "echod_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn json_has_the_same_values() {
        let json = json(&families(&report()));
        assert_eq!(json["connections_accepted_total"], 3);
        assert_eq!(json["connections_closed_total"]["idle_timeout"], 2);
        assert_eq!(json["worker_cpu_seconds_total"]["0"], 1.25);
    }

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let families = families(&report());
        let mut names = std::collections::HashSet::new();
        for family in families {
            assert!(names.insert(family.name));
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
        }
    }

    #[test]
    fn what_deploy_uses_exists() {
        let report = Report {
            process: Process::now(super::super::process::start_time()),
            ..report()
        };
        let families = families(&report);
        let names: Vec<_> = families.iter().map(|family| family.name).collect();
        let label_values: Vec<_> = families
            .iter()
            .filter_map(|family| match &family.samples {
                Samples::Labelled { values, .. } => Some(values.iter().map(|(at, _)| at.as_str())),
                Samples::One(_) => None,
            })
            .flatten()
            .collect();
        for text in [
            include_str!("../../deploy/alerts.yml"),
            include_str!("../../deploy/grafana-dashboard.json"),
            include_str!("../../deploy/prometheus.yml"),
        ] {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words {
                if word.starts_with("echod_") || word.starts_with("process_") {
                    assert!(names.contains(&word), "there is no {word}");
                }
            }
            for matcher in ["reason=~\"", "error=~\""] {
                for values in text.split(matcher).skip(1) {
                    let (values, _) = values.split_once('"').unwrap();
                    for value in values.split('|') {
                        assert!(label_values.contains(&value), "{matcher}{value}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_label_is_read_back_as_it_was(value in any::<String>()) {
            let escaped = escaped_label(&value);
            prop_assert!(!escaped.contains('\n'));
            let mut back = String::new();
            let mut chars = escaped.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, '"');
                back.push(match c {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => panic!("escaped {other:?}"),
                    },
                    c => c,
                });
            }
            prop_assert_eq!(back, value);
        }
    }
}
