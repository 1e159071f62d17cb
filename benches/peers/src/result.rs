//! What was measured: samples of each round, and what follows from them. The JSON form is this.

use std::fs;
use std::io;

use serde::Serialize;

use crate::counts::Counts;
use crate::load::{Outcome, Shape, Workload};
use crate::stats::{self, Spread};
use crate::sys;

/// Everything that one command measured.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where.
    pub host: Host,
    /// How.
    pub method: Method,
    /// What, cell by cell.
    pub cells: Vec<Cell>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Processors that the driver may use.
    pub cpus: Vec<usize>,
    /// The congestion control of TCP, which every server gets.
    pub congestion_control: String,
}

/// What holds for all cells.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    /// Where the servers ran.
    pub server_cpus: Vec<usize>,
    /// Where the load ran.
    pub client_cpus: Vec<usize>,
    /// Rounds; in each, every peer has one turn.
    pub rounds: usize,
    /// Length of a turn's warm-up in seconds.
    pub warm_up_s: f64,
    /// Length of a turn's window in seconds.
    pub window_s: f64,
    /// Were this package's servers built with all optimisations, as echod is?
    pub optimised: bool,
}

/// One workload in one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What connections did.
    pub workload: Workload,
    /// How many and how large.
    pub shape: Shape,
    /// Who took part, the one that others are compared to first.
    pub rows: Vec<Row>,
    /// Who did not, and why.
    pub absent: Vec<Remark>,
    /// Turns that failed, and why; nothing of them is in the rows.
    pub failures: Vec<Remark>,
}

/// Something about a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The peer.
    pub peer: String,
    /// What there is to say.
    pub what: String,
}

/// One peer in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The peer.
    pub peer: String,
    /// Round by round; nothing where its turn failed.
    pub samples: Vec<Option<Sample>>,
    /// Each metric over the rounds.
    pub metrics: Vec<Summary>,
    /// Counts, if they were asked for.
    pub counts: Option<Counts>,
}

/// A metric over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Which.
    pub metric: Metric,
    /// Its values.
    pub value: Spread,
    /// Its ratios to the first peer's, round by round.
    pub ratio: Option<Spread>,
}

/// One turn of one peer; everything is over the same window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Operations completed.
    pub operations: u64,
    /// Bytes echoed or thrown away.
    pub bytes: u64,
    /// The window in nanoseconds.
    pub wall_ns: u64,
    /// The server's processor time in nanoseconds.
    pub server_cpu_ns: u64,
    /// Time in nanoseconds that the server was ready and had no processor.
    pub server_waited_ns: u64,
    /// The load's processor time in nanoseconds.
    pub client_cpu_ns: u64,
    /// Median latency in nanoseconds.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the latency in nanoseconds.
    pub p99_ns: Option<u64>,
    /// Resident memory of the server with all connections open, in bytes.
    pub resident: u64,
    /// Anonymous memory per idle connection in bytes.
    pub anonymous_per_connection: Option<f64>,
    /// Resident memory per idle connection in bytes.
    pub resident_per_connection: Option<f64>,
}

impl Sample {
    /// The sample of an outcome.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let latency = &outcome.latency;
        let percentile = |p| (!latency.is_empty()).then(|| latency.value_at_quantile(p));
        let growth = |read: fn(&crate::procfs::Memory) -> u64| {
            let (before, connections) = outcome.memory_before.as_ref()?;
            let grown = read(&outcome.memory) as f64 - read(before) as f64;
            Some(grown / *connections as f64)
        };
        Self {
            operations: outcome.operations,
            bytes: outcome.bytes,
            wall_ns: outcome.wall.as_nanos() as u64,
            server_cpu_ns: outcome.server.cpu_ns,
            server_waited_ns: outcome.server.waited_ns,
            client_cpu_ns: outcome.client_cpu_ns,
            p50_ns: percentile(0.5),
            p99_ns: percentile(0.99),
            resident: outcome.memory.resident,
            anonymous_per_connection: growth(|m| m.anonymous),
            resident_per_connection: growth(|m| m.resident),
        }
    }

    /// Share of the window that the server was on a processor.
    #[must_use]
    pub fn server_busy(&self) -> f64 {
        self.server_cpu_ns as f64 / self.wall_ns as f64
    }

    /// Share of the window that the load was on a processor.
    #[must_use]
    pub fn client_busy(&self) -> f64 {
        self.client_cpu_ns as f64 / self.wall_ns as f64
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Operations per second.
    PerSecond,
    /// The server's processor time per operation, in nanoseconds.
    CpuPerOperation,
    /// Operations per second of the server's processor time.
    PerCpuSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Bytes per second of the server's processor time.
    BytesPerCpuSecond,
    /// Median latency in nanoseconds.
    P50,
    /// 99th percentile of the latency in nanoseconds.
    P99,
    /// Resident memory in bytes.
    Resident,
    /// Anonymous memory per idle connection, in bytes.
    AnonymousPerConnection,
    /// Resident memory per idle connection, in bytes.
    ResidentPerConnection,
}

impl Metric {
    /// What is worth comparing in a workload, most important first.
    #[must_use]
    pub fn of(workload: Workload) -> &'static [Self] {
        match workload {
            Workload::Echo | Workload::Churn => &[
                Self::CpuPerOperation,
                Self::PerSecond,
                Self::P50,
                Self::P99,
                Self::Resident,
            ],
            Workload::Udp | Workload::UdpBulk => &[
                Self::PerCpuSecond,
                Self::PerSecond,
                Self::P50,
                Self::P99,
                Self::Resident,
            ],
            Workload::Stream | Workload::Discard => &[
                Self::BytesPerCpuSecond,
                Self::BytesPerSecond,
                Self::Resident,
            ],
            Workload::Idle => &[
                Self::AnonymousPerConnection,
                Self::ResidentPerConnection,
                Self::Resident,
            ],
        }
    }

    /// Its value in a sample; nothing where it means nothing, as processor time per operation
    /// without an operation.
    #[must_use]
    pub fn value(self, sample: &Sample) -> Option<f64> {
        let per = |amount: u64, ns: u64| (ns > 0).then(|| amount as f64 * 1e9 / ns as f64);
        match self {
            Self::PerSecond => per(sample.operations, sample.wall_ns),
            Self::CpuPerOperation => (sample.operations > 0)
                .then(|| sample.server_cpu_ns as f64 / sample.operations as f64),
            Self::PerCpuSecond => per(sample.operations, sample.server_cpu_ns),
            Self::BytesPerSecond => per(sample.bytes, sample.wall_ns),
            Self::BytesPerCpuSecond => per(sample.bytes, sample.server_cpu_ns),
            Self::P50 => sample.p50_ns.map(|ns| ns as f64),
            Self::P99 => sample.p99_ns.map(|ns| ns as f64),
            Self::Resident => Some(sample.resident as f64),
            Self::AnonymousPerConnection => sample.anonymous_per_connection,
            Self::ResidentPerConnection => sample.resident_per_connection,
        }
    }
}

impl Cell {
    /// Brings the samples of the rounds into rows; the first peer is what others are compared to.
    #[must_use]
    pub fn new(
        workload: Workload,
        shape: Shape,
        measured: Vec<(String, Vec<Option<Sample>>, Option<Counts>)>,
        absent: Vec<Remark>,
        failures: Vec<Remark>,
    ) -> Self {
        let values = |samples: &[Option<Sample>], metric: Metric| -> Vec<Option<f64>> {
            samples.iter().map(|s| metric.value(s.as_ref()?)).collect()
        };
        let first = measured
            .first()
            .map(|(_, samples, _)| samples.clone())
            .unwrap_or_default();
        let row = |(peer, samples, counts): (String, Vec<Option<Sample>>, Option<Counts>)| {
            let summary = |&metric: &Metric| {
                let own = values(&samples, metric);
                Some(Summary {
                    metric,
                    value: Spread::of(own.iter().copied().flatten())?,
                    ratio: stats::ratios(&own, &values(&first, metric)),
                })
            };
            let metrics = Metric::of(workload).iter().filter_map(summary).collect();
            Row {
                peer,
                samples,
                metrics,
                counts,
            }
        };
        Self {
            workload,
            shape,
            rows: measured.into_iter().map(row).collect(),
            absent,
            failures,
        }
    }
}

impl Row {
    /// A metric of this row.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> Option<&Summary> {
        self.metrics.iter().find(|s| s.metric == metric)
    }

    /// The median of something over the rounds.
    #[must_use]
    pub fn median(&self, read: impl Fn(&Sample) -> f64) -> Option<f64> {
        Some(Spread::of(self.samples.iter().flatten().map(read))?.median)
    }
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).map(|text: String| text.trim().to_owned());
        let name = |text: String| -> io::Result<String> {
            let line = text.lines().find(|l| l.starts_with("model name"));
            let name = line
                .and_then(|l| l.split_once(':'))
                .map(|(_, name)| name.trim());
            Ok(name.unwrap_or("unknown").to_owned())
        };
        let or_unknown = |text: io::Result<String>| text.unwrap_or_else(|_| "unknown".to_owned());
        Self {
            kernel: or_unknown(read("/proc/sys/kernel/osrelease")),
            processor: or_unknown(read("/proc/cpuinfo").and_then(name)),
            cpus: sys::allowed_cpus().unwrap_or_default(),
            congestion_control: or_unknown(read("/proc/sys/net/ipv4/tcp_congestion_control")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(operations: u64, server_cpu_ns: u64) -> Sample {
        Sample {
            operations,
            bytes: operations * 64,
            wall_ns: 1_000_000_000,
            server_cpu_ns,
            server_waited_ns: 0,
            client_cpu_ns: 500_000_000,
            p50_ns: Some(50_000),
            p99_ns: Some(90_000),
            resident: 3 << 20,
            anonymous_per_connection: None,
            resident_per_connection: None,
        }
    }

    #[test]
    fn rows_hold_medians_and_ratios_to_the_first() {
        let fast = vec![Some(sample(100, 400_000)), Some(sample(100, 500_000)), None];
        let slow = vec![
            Some(sample(100, 800_000)),
            Some(sample(100, 1_000_000)),
            Some(sample(1, 1)),
        ];
        let measured = vec![("a".to_owned(), fast, None), ("b".to_owned(), slow, None)];
        let shape = Workload::Echo.usual_shape();
        let cell = Cell::new(Workload::Echo, shape, measured, vec![], vec![]);
        let cpu = cell.rows[1].metric(Metric::CpuPerOperation).unwrap();
        assert_eq!(cpu.value.median, 8000.0);
        let ratio = cpu.ratio.unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 2.0, 2.0));
        let own = cell.rows[0].metric(Metric::CpuPerOperation).unwrap();
        assert_eq!((own.value.median, own.ratio.unwrap().median), (4500.0, 1.0));
    }

    #[test]
    fn a_turn_without_operations_has_no_cost_per_operation() {
        assert_eq!(Metric::CpuPerOperation.value(&sample(0, 5)), None);
        assert_eq!(Metric::PerCpuSecond.value(&sample(5, 0)), None);
        assert_eq!(
            Metric::BytesPerCpuSecond.value(&sample(1, 1_000_000_000)),
            Some(64.0)
        );
    }
}
