//! Creates the result of a run from the sums.

use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use hdrhistogram::Histogram;

use crate::analysis::aggregate::Aggregate;
use crate::analysis::server_side::{ClientSide, ServerProbe};
use crate::analysis::service::Service;
use crate::analysis::shard::CommonStart;
use crate::analysis::statistics::backlog::growth;
use crate::analysis::statistics::interval::{quantile_interval, rate_interval};
use crate::analysis::verdict::{Evidence, MIN_ACHIEVED};
use crate::analysis::{backends, fairness, tcp, tls};
use crate::engine::slice::Slice;
use crate::engine::task::Account;
use crate::host;
use crate::observer::Observer;
use crate::plan::{Background, Plan};
use crate::result::statistics::Trend;
use crate::result::{
    BackgroundResult, Bytes, Client, ClientScheduling, Connections, Counts, IntervalCounts,
    IntervalLatency, IntervalResult, Latencies, Latency, Messages, Rate, RateChange, RunResult,
    Statistics, TcpInterval, ThreadResult, Throughput, Tool, Verdict,
};

/// Percentiles with a confidence interval.
pub(crate) const ESTIMATED: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// Up to this growth of the backlog, as a share of the offered load, the server kept up with it. It
/// is what the verdict allows the achieved rate to lack.
const MAX_GROWTH: f64 = 1.0 - MIN_ACHIEVED;
/// The same where responses take longer than the window, or the window is too short, and so their
/// growth can't be told from their scatter.
const MAX_SPREAD: f64 = 0.1;

/// The facts of a run besides its threads' reports.
pub(crate) struct Context<'a> {
    pub(crate) targets: &'a [Endpoint],
    pub(crate) started_at: String,
    pub(crate) steal_ratio: Option<f64>,
    pub(crate) hiccup: Option<Histogram<u64>>,
    pub(crate) memory_locked: bool,
    /// The start of a shard; `None` for a run that is none, or did not start.
    pub(crate) common_start: Option<CommonStart>,
    pub(crate) rate_changes: Vec<RateChange>,
    pub(crate) background: Option<(&'a Background, Aggregate)>,
    pub(crate) server_probe: Option<ServerProbe>,
}

/// The result of a run. Longer than other functions, because it lists all fields of the result.
pub(crate) fn summarize(aggregate: Aggregate, plan: &Plan, mut context: Context<'_>) -> RunResult {
    let interrupted = aggregate
        .accounts
        .iter()
        .any(|account| account.was_interrupted);
    let duration_s = aggregate.duration_s();
    let counts = aggregate.total.counts.with_wrong_copies();
    let held = aggregate.held();
    let rate = Rate {
        target: plan.own_target_rate(),
        offered: per_second(counts.issued, duration_s),
        achieved: per_second(
            aggregate.completed(duration_s, plan, &context.rate_changes),
            duration_s,
        ),
        changes: std::mem::take(&mut context.rate_changes),
    };
    let statistics = aggregate.statistics();
    let latency_ns = latencies(&aggregate.total);
    let client = aggregate.client(&mut context);
    let messages = Messages::from(&counts);
    let bytes = Bytes {
        sent: counts.bytes_sent,
        received: counts.bytes_received,
    };
    let connections = Connections {
        held,
        ..Connections::from(&counts)
    };
    let streams = context.background.as_ref().map(|(_, streams)| streams);
    let server = context.server_probe.map(|server_probe| {
        server_probe.finish(&ClientSide {
            plan,
            bytes: aggregate.whole_bytes(),
            background_bytes: streams.map_or_else(Bytes::default, Aggregate::whole_bytes),
            opened: connections.opened + streams.map_or(0, |streams| streams.total.counts.opened),
            messages: &messages,
            message_bytes: &bytes,
            has_loose_ends: interrupted
                || messages.lost + messages.timed_out + messages.abandoned + messages.unfinished
                    > 0
                || connections.reset + connections.closed_by_peer > 0,
        })
    });
    let service = Service::of(&aggregate, plan);
    let began_at = aggregate.began_at();
    let tls = tls::summarize(&aggregate);
    let backends = backends::summarize(aggregate.backends);
    let mut verdict = Verdict::of(&Evidence {
        service: &service,
        duration_s,
        plan,
        rate: &rate,
        counts: &counts,
        latency_ns: &latency_ns,
        statistics: &statistics,
        client: &client,
        server: server.as_ref().map(Result::as_ref),
        held,
    });
    let common_start = plan.shard.as_ref().zip(context.common_start.as_ref());
    verdict.add_reasons(common_start.and_then(|(shard, start)| start.objection(shard, began_at)));
    let mut result = RunResult {
        schema: 1,
        tool: Tool::this(),
        started_at: context.started_at,
        interrupted,
        host: host::describe(),
        plan: plan.clone(),
        duration_s,
        rate,
        throughput: Throughput::new(&counts, duration_s),
        messages,
        bytes,
        connections,
        latency_ns,
        statistics,
        tcp: tcp::summarize(&aggregate.tcp, &aggregate.flows, plan.direction()),
        tls,
        fairness: fairness::of(&aggregate.flows, context.targets, plan),
        expected_shares: backends::check(&backends, &plan.opening.expected_shares),
        backends,
        intervals: with_background(aggregate.intervals, streams),
        ramp: aggregate.ramp,
        background: context
            .background
            .map(|(background, streams)| background_result(background, &streams)),
        repeats: None,
        merged: None,
        shard: common_start.map(|(shard, start)| start.result(shard, began_at)),
        shards: None,
        server: server.and_then(Result::ok),
        client,
        verdict,
    };
    tls::set_rate(&mut result);
    result
}

fn latencies(total: &Slice) -> Latencies {
    Latencies {
        send_lag: Latency::new(total.send_lag()),
        response: Latency::new(total.response.clone()),
        service: Latency::new(total.service.clone()),
        connect: Latency::new(total.connect.clone()),
        handshake: Latency::new(total.handshake()),
        first_byte: Latency::new(total.first_byte.clone()),
        close: Latency::new(total.close.clone()),
    }
}

impl Aggregate {
    /// Connections open at the end.
    fn held(&self) -> u64 {
        self.flows.iter().filter(|(_, flow)| flow.is_open).count() as u64
    }

    /// The messages that the achieved rate counts.
    ///
    /// In an open loop these are the messages due in the window that came back, so that what
    /// crosses an edge of the window counts once and where it was due. But when a backlog grew, the
    /// server did not keep up, and only what came back within the window counts, as in a closed
    /// loop and for streams without latency.
    fn completed(&self, duration_s: f64, plan: &Plan, changes: &[RateChange]) -> u64 {
        let counts = &self.total.counts;
        let response = &self.total.response;
        if !self.is_open_loop || response.is_empty() {
            return counts.completed;
        }
        // A backlog that grows by a share of the window delays the last message by as much more
        // than the first. The middle nine tenths of the messages show that without outliers.
        let spread_ns = response.value_at_quantile(0.95) - response.value_at_quantile(0.05);
        let spread = spread_ns as f64 / (0.9e9 * duration_s);
        let block_ns = self.division.begin_of(1) as f64 * self.blocks.slices_per_block() as f64;
        // Under a load that changes, a backlog may grow in a part of the window alone, as it does
        // in a stall.
        let is_steady = plan.has_steady_load() && changes.is_empty();
        let has_kept_up = spread <= MAX_GROWTH
            || (is_steady
                && growth(&self.blocks, block_ns)
                    .map_or(spread <= MAX_SPREAD, |growth| growth <= MAX_GROWTH));
        if has_kept_up {
            counts.received
        } else {
            counts.completed
        }
    }

    fn statistics(&self) -> Statistics {
        let slice = Duration::from_nanos(self.division.begin_of(1));
        Statistics {
            rate: rate_interval(&self.blocks, slice),
            response: ESTIMATED
                .iter()
                .filter_map(|&quantile| {
                    quantile_interval(&self.blocks, &self.total.response, quantile)
                })
                .collect(),
            trend: Trend::of_medians(&self.blocks),
        }
    }

    fn client(&self, context: &mut Context<'_>) -> Client {
        let corruptions = self
            .accounts
            .iter()
            .filter_map(|account| account.corruption);
        let granted = || self.accounts.iter().map(|account| account.scheduling);
        Client {
            threads: self
                .accounts
                .iter()
                .copied()
                .map(ThreadResult::from)
                .collect(),
            steal_ratio: context.steal_ratio,
            own_send_lag: Latency::new(self.total.own_send_lag()),
            hiccup: context.hiccup.take().and_then(Latency::new),
            first_corruption: corruptions
                .min_by_key(|&(at, _)| at)
                .map(|(_, first)| first),
            scheduling: Some(ClientScheduling {
                // The least that any thread got.
                nice: granted().map(|granted| granted.nice).max().unwrap_or(0),
                session_nice: 0,
                realtime: granted().all(|granted| granted.is_realtime),
                own_cpus: granted().all(|granted| granted.is_kept_apart),
                memory_locked: context.memory_locked,
            }),
        }
    }

    /// Adds the wait for echoes after the window to the intervals, if anything happened in it. All
    /// threads have ended.
    pub(crate) fn close_drain(&mut self, observer: &mut dyn Observer) {
        let Some(drain) = self.drain.take().filter(|drain| !drain.is_empty()) else {
            return;
        };
        let duration_s = self.duration_s();
        let begin_s = self
            .intervals
            .last()
            .map_or(duration_s, |last| last.end_s.max(duration_s));
        let interval = IntervalResult::new(begin_s, self.lived_s().max(begin_s), &drain);
        observer.drain(&interval, &drain);
        self.keep(interval, &drain);
    }

    /// Payload bytes of the whole run, warm-up included.
    fn whole_bytes(&self) -> Bytes {
        Bytes {
            sent: self.accounts.iter().map(|account| account.bytes_out).sum(),
            received: self.accounts.iter().map(|account| account.bytes_in).sum(),
        }
    }

    /// How long the threads ran after the start of the window.
    fn lived_s(&self) -> f64 {
        self.seconds_until(|account| account.finished_at)
    }

    /// Length of the window. A number of messages or an interruption may have ended it early.
    fn duration_s(&self) -> f64 {
        self.seconds_until(|account| account.window_ended_at)
    }

    /// When the last thread really started.
    fn began_at(&self) -> u64 {
        let began = self.accounts.iter().map(|account| account.began_at);
        began.max().unwrap_or(0)
    }

    /// The latest such time of the threads, from the start of the window.
    fn seconds_until(&self, time: impl Fn(&Account) -> u64) -> f64 {
        let last = self.accounts.iter().map(time).max().unwrap_or(0);
        last.saturating_sub(self.window_start) as f64 / 1e9
    }
}

fn per_second(count: u64, duration_s: f64) -> f64 {
    if duration_s > 0.0 {
        count as f64 / duration_s
    } else {
        0.0
    }
}

impl Throughput {
    fn new(counts: &Counts, duration_s: f64) -> Self {
        Self {
            sent_bits_per_s: per_second(counts.bytes_out, duration_s) * 8.0,
            received_bits_per_s: per_second(counts.bytes_in, duration_s) * 8.0,
        }
    }
}

impl IntervalResult {
    /// A slice as one interval of the time series.
    pub(crate) fn new(start_s: f64, end_s: f64, slice: &Slice) -> Self {
        let counts = &slice.counts;
        let samples = slice.tcp.count as f64;
        Self {
            start_s,
            end_s,
            counts: IntervalCounts::from(counts),
            sent_bytes: counts.bytes_sent,
            received_bytes: counts.bytes_received,
            opened: counts.opened,
            failed: counts.failed,
            response: IntervalLatency::new(&slice.response),
            service: IntervalLatency::new(&slice.service),
            tcp: (slice.tcp.count > 0).then(|| TcpInterval {
                rtt_us_mean: slice.tcp.rtt_us_sum as f64 / samples,
                rtt_us_max: slice.tcp.rtt_us_max,
                cwnd_mean: slice.tcp.cwnd_sum as f64 / samples,
                retransmits: slice.tcp.retransmits,
            }),
            background_received_bytes: None,
        }
    }

    /// Keeps the samples of the latencies; `slice` is their source.
    pub(crate) fn keep_histograms(&mut self, slice: &Slice) {
        for (latency, histogram) in [
            (&mut self.response, &slice.response),
            (&mut self.service, &slice.service),
        ] {
            if let Some(latency) = latency {
                latency.keep(histogram);
            }
        }
    }
}

impl From<Account> for ThreadResult {
    fn from(account: Account) -> Self {
        let share = |nanoseconds: u64| {
            if account.cpu.wall_ns > 0 {
                nanoseconds as f64 / account.cpu.wall_ns as f64
            } else {
                0.0
            }
        };
        Self {
            cpu_ratio: share(account.cpu.cpu_ns),
            busy_ratio: share(account.cpu.cpu_ns.saturating_sub(account.cpu.spin_ns)),
            involuntary_switches: account.cpu.involuntary_switches,
            run_delay_ratio: account.cpu.run_delay.map(|(delay_ns, _)| share(delay_ns)),
            run_delay_ns_mean: account
                .cpu
                .run_delay
                .map(|(delay_ns, times)| delay_ns as f64 / times.max(1) as f64),
        }
    }
}

/// The intervals of the workload, with the bytes received by the background streams in each.
fn with_background(
    mut intervals: Vec<IntervalResult>,
    streams: Option<&Aggregate>,
) -> Vec<IntervalResult> {
    let streams = streams.into_iter().flat_map(|streams| &streams.arrived);
    for (interval, &arrived) in intervals.iter_mut().zip(streams) {
        interval.background_received_bytes = Some(arrived);
    }
    intervals
}

fn background_result(background: &Background, streams: &Aggregate) -> BackgroundResult {
    // Background streams may continue after the last message of the run.
    let duration_s = streams.duration_s();
    let counts = streams.total.counts;
    BackgroundResult {
        throughput: Throughput::new(&counts, duration_s),
        bytes: Bytes {
            sent: counts.bytes_out,
            received: counts.bytes_in,
        },
        connections: Connections {
            held: streams.held(),
            ..Connections::from(&counts)
        },
        corrupt: counts.corrupt + counts.corrupt_in_warm_up + counts.duplicated,
        tcp: tcp::summarize(&streams.tcp, &streams.flows, Some(background.direction)),
    }
}
