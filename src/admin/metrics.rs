//! The content of a scrape: every metric with its values. Pure functions of a [`Report`].
//!
//! Every possible value of a label is present from the start, with a zero, so that rates are
//! defined from the first event on. No label ever holds a client's address.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::exposition::{Family, Samples, Value};
use super::http::Readiness;
use crate::metrics::{Kind, METRICS, Snapshot, Values};
use crate::net::endpoint::Endpoint;
use crate::server::EndpointCounts;
use crate::service::Service;

/// The state of a server at one moment.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// The version of the program.
    pub(super) version: &'static str,
    pub(super) readiness: Readiness,
    /// Every worker, in the order of their indices.
    pub(super) workers: Vec<Worker>,
    /// What came to each endpoint.
    pub(super) arrivals: Vec<Arrived>,
    /// The kernel's counts at each endpoint that has some.
    pub(super) endpoints: Vec<(String, EndpointCounts)>,
    /// Log lines that were dropped.
    pub(super) log_dropped_lines: u64,
    /// The metrics of the settings in force.
    pub(super) settings: Vec<Family>,
    /// The metrics of the process.
    pub(super) process: Vec<Family>,
}

/// What came to an endpoint: connections that are or were served, or datagrams.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) service: Service,
    pub(super) endpoint: Endpoint,
    pub(super) count: u64,
}

/// The state of a worker at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worker {
    pub(super) counters: Snapshot,
    /// The processor time that it has used.
    pub(super) cpu_time: Duration,
}

impl Report {
    fn total(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in &self.workers {
            sum += worker.counters;
        }
        sum
    }

    /// A value of each endpoint that has one.
    fn per_endpoint(&self, value: impl Fn(&EndpointCounts) -> Option<u64>) -> Samples {
        let endpoints = self.endpoints.iter();
        let values = endpoints.filter_map(|(endpoint, counts)| {
            Some((endpoint.clone(), Value::Integer(value(counts)?)))
        });
        labelled("endpoint", values)
    }

    fn per_worker(&self, value: impl Fn(&Worker) -> Value) -> Samples {
        let workers = self.workers.iter().enumerate();
        let values = workers.map(|(index, worker)| (index.to_string(), value(worker)));
        labelled("worker", values)
    }
}

/// Every metric with its values, in the order in which they are written.
pub(super) fn families(report: &Report) -> Vec<Family> {
    let total = report.total();
    let counted = METRICS.iter().map(|metric| Family {
        name: metric.name,
        help: metric.help,
        kind: metric.kind,
        samples: match metric.values {
            Values::Total(value) => Samples::One(Value::Integer(value(&total))),
            Values::PerWorker(value) => {
                report.per_worker(|worker| Value::Integer(value(&worker.counters)))
            }
            Values::Paired { labels, values } => Samples::Paired {
                labels,
                values: values(&total)
                    .into_iter()
                    .map(|(at, value)| (at.map(str::to_owned), Value::Integer(value)))
                    .collect(),
            },
            Values::Labelled { label, values } => labelled(
                label,
                values(&total)
                    .into_iter()
                    .map(|(at, value)| (at.to_owned(), Value::Integer(value))),
            ),
        },
    });
    let mut families: Vec<_> = counted.collect();
    families.extend(arrivals(report));
    families.extend(of_endpoints(report));
    families.extend([
        Family {
            name: "echod_worker_cpu_seconds_total",
            help: "Processor time used by the worker's thread.",
            kind: Kind::Counter,
            samples: report.per_worker(|worker| Value::Real(worker.cpu_time.as_secs_f64())),
        },
        Family {
            name: "echod_draining",
            help: "1 from the moment the server was asked to end, 0 before.",
            kind: Kind::Gauge,
            samples: Samples::One(Value::Integer(u64::from(
                report.readiness == Readiness::Draining,
            ))),
        },
        Family {
            name: "echod_log_dropped_lines_total",
            help: "Log lines left out: stderr did not take them, or they repeat.",
            kind: Kind::Counter,
            samples: Samples::One(Value::Integer(report.log_dropped_lines)),
        },
        Family {
            name: "echod_build_info",
            help: "Always 1; the label says which version runs.",
            kind: Kind::Gauge,
            samples: labelled("version", [(report.version.to_owned(), Value::Integer(1))]),
        },
    ]);
    families.extend(report.settings.iter().cloned());
    families.extend(report.process.iter().cloned());
    families
}

/// What came to each endpoint. The sums over all endpoints are the totals.
fn arrivals(report: &Report) -> [Family; 2] {
    let family = |name, help, are_datagrams| {
        let at = report.arrivals.iter();
        let at = at.filter(|it| matches!(it.endpoint, Endpoint::Udp(_)) == are_datagrams);
        let values = at.map(|it| {
            let labels = [it.service.to_string(), it.endpoint.to_string()];
            (labels, Value::Integer(it.count))
        });
        Family {
            name,
            help,
            kind: Kind::Counter,
            samples: Samples::Paired {
                labels: ["service", "endpoint"],
                values: values.collect(),
            },
        }
    };
    [
        family(
            "echod_endpoint_connections_accepted_total",
            "Connections accepted and served, by the endpoint to which they came.",
            false,
        ),
        family(
            "echod_endpoint_received_datagrams_total",
            "Datagrams received, by the endpoint to which they came.",
            true,
        ),
    ]
}

/// What the kernel counts at the sockets, up to the start of a drain.
fn of_endpoints(report: &Report) -> [Family; 4] {
    let of_datagrams = |counts: &EndpointCounts| match *counts {
        EndpointCounts::Datagrams { dropped } => Some(dropped),
        EndpointCounts::Connects { .. } => None,
    };
    let of_connects = |counts: &EndpointCounts| match *counts {
        EndpointCounts::Connects { dropped, queue } => Some((dropped, queue)),
        EndpointCounts::Datagrams { .. } => None,
    };
    [
        Family {
            name: "echod_udp_kernel_dropped_datagrams_total",
            help: "Datagrams that the kernel dropped at the sockets of an endpoint: a receive buffer \
                   was full.",
            kind: Kind::Counter,
            samples: report.per_endpoint(of_datagrams),
        },
        Family {
            name: "echod_listen_dropped_connects_total",
            help: "Segments of connects that the kernel dropped at the listeners of an endpoint: a \
                   queue was full.",
            kind: Kind::Counter,
            samples: report.per_endpoint(|it| of_connects(it).map(|(dropped, _)| dropped)),
        },
        Family {
            name: "echod_listen_queue_connections",
            help: "Connections that wait in the kernel to be accepted.",
            kind: Kind::Gauge,
            samples: report.per_endpoint(|it| of_connects(it).map(|(_, queue)| queue.len)),
        },
        Family {
            name: "echod_listen_queue_max_connections",
            help: "Connections that may wait in the kernel to be accepted: the effective backlog.",
            kind: Kind::Gauge,
            samples: report.per_endpoint(|it| of_connects(it).map(|(_, queue)| queue.max)),
        },
    ]
}

/// One worker in `/info`: the per-worker metrics, and its accepted connections.
pub(super) fn worker_json(worker: &Worker) -> Json {
    let mut object = Map::new();
    for metric in METRICS {
        if let Values::PerWorker(value) = metric.values {
            let name = metric.name.trim_start_matches("echod_");
            let name = name.trim_end_matches("_total");
            object.insert(name.to_owned(), value(&worker.counters).into());
        }
    }
    object.insert(
        "connections_accepted".to_owned(),
        worker.counters.accepted.into(),
    );
    object.insert(
        "cpu_seconds".to_owned(),
        worker.cpu_time.as_secs_f64().into(),
    );
    Json::Object(object)
}

fn labelled(label: &'static str, values: impl IntoIterator<Item = (String, Value)>) -> Samples {
    Samples::Labelled {
        label,
        values: values.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::exposition::{json, text as exposition};
    use crate::admin::process;
    use crate::admin::settings::{self, SettingsStatus};
    use crate::metrics::CloseReason;
    use crate::net::socket::ListenQueue;

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
            arrivals: [("tcp://[::]:7", 3), ("udp://[::]:7", 8)]
                .map(|(endpoint, count)| Arrived {
                    service: Service::Echo,
                    endpoint: endpoint.parse().unwrap(),
                    count,
                })
                .into(),
            endpoints: vec![
                (
                    "udp://[::]:7".to_owned(),
                    EndpointCounts::Datagrams { dropped: 4 },
                ),
                (
                    "tcp://[::]:7".to_owned(),
                    EndpointCounts::Connects {
                        dropped: 5,
                        queue: ListenQueue { len: 6, max: 7 },
                    },
                ),
            ],
            log_dropped_lines: 0,
            settings: settings::families(&SettingsStatus::default()),
            process: Vec::new(),
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
            "echod_endpoint_connections_accepted_total{service=\"echo\",endpoint=\"tcp://[::]:7\"} 3",
            "echod_endpoint_received_datagrams_total{service=\"echo\",endpoint=\"udp://[::]:7\"} 8",
            "echod_udp_kernel_dropped_datagrams_total{endpoint=\"udp://[::]:7\"} 4",
            "echod_listen_dropped_connects_total{endpoint=\"tcp://[::]:7\"} 5",
            "echod_listen_queue_connections{endpoint=\"tcp://[::]:7\"} 6",
            "echod_listen_queue_max_connections{endpoint=\"tcp://[::]:7\"} 7",
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
        let accepted = &json["endpoint_connections_accepted_total"];
        assert_eq!(accepted["echo"]["tcp://[::]:7"], 3);
    }

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let report = Report {
            process: process::families(process::start_time()),
            ..report()
        };
        let families = families(&report);
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
    fn the_metrics_in_deploy_exist() {
        let report = Report {
            process: process::families(process::start_time()),
            ..report()
        };
        let families = families(&report);
        let names: Vec<_> = families.iter().map(|family| family.name).collect();
        let label_values: Vec<_> = families
            .iter()
            .filter_map(|family| match &family.samples {
                Samples::Labelled { values, .. } => Some(values.iter().map(|(at, _)| at.as_str())),
                Samples::One(_) | Samples::Paired { .. } => None,
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
}
