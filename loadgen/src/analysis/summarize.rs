//! Makes the result of what was added up.

use echomark::net::endpoint::Endpoint;
use hdrhistogram::Histogram;

use crate::analysis::aggregate::Gathered;
use crate::analysis::fairness;
use crate::analysis::server_side::{ClientSide, Watch};
use crate::analysis::statistics::interval::{quantile_interval, rate_interval};
use crate::analysis::verdict::Evidence;
use crate::engine::meter::Account;
use crate::engine::tcp::TcpTotals;
use crate::engine::worker::FlowReport;
use crate::host;
use crate::observer::Observer;
use crate::plan::{Background, Direction, Plan};
use crate::result::statistics::Trend;
use crate::result::{
    BackgroundResult, Bytes, Client, Connections, Corruption, Counts, Gauge, IntervalLatency,
    IntervalResult, Latencies, Latency, Messages, Rate, RateChange, RunResult, Statistics,
    TcpGauges, TcpInterval, TcpLimit, TcpLimitCode, TcpResult, TcpShares, ThreadResult, Throughput,
    Tool, Verdict,
};

/// Percentiles that get a confidence interval.
const ESTIMATED: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// What is known of a run besides what its threads reported.
pub(crate) struct Circumstances<'a> {
    pub(crate) targets: &'a [Endpoint],
    pub(crate) started_at: String,
    pub(crate) steal_ratio: Option<f64>,
    pub(crate) hiccup: Option<Histogram<u64>>,
    pub(crate) rate_changes: Vec<RateChange>,
    pub(crate) background: Option<(&'a Background, Gathered)>,
    pub(crate) watch: Option<Watch>,
}

/// The result of what `gathered` holds.
pub(crate) fn conclude(
    gathered: Gathered,
    plan: &Plan,
    circumstances: Circumstances<'_>,
) -> RunResult {
    let bytes_of_run = gathered.whole_bytes();
    let interrupted = gathered.accounts.iter().any(|a| a.was_interrupted);
    let duration_s = gathered.duration_s();
    let mut intervals = gathered.intervals;
    let background_bytes = circumstances
        .background
        .as_ref()
        .map_or_else(Bytes::default, |(_, streams)| streams.whole_bytes());
    let background = circumstances.background.map(|(background, streams)| {
        add_background(&mut intervals, &streams.intervals);
        background_result(background, streams)
    });
    let total = gathered.total;
    let counts = total.counts;
    let rate = Rate {
        target: plan.target_rate(),
        offered: per_second(counts.issued, duration_s),
        achieved: per_second(counts.completed, duration_s),
        changes: circumstances.rate_changes,
    };
    let slice = std::time::Duration::from_nanos(gathered.division.begin_of(1));
    let statistics = Statistics {
        rate: rate_interval(&gathered.blocks, slice),
        response: ESTIMATED
            .iter()
            .filter_map(|&quantile| quantile_interval(&gathered.blocks, &total.response, quantile))
            .collect(),
        trend: Trend::of_medians(&gathered.blocks),
    };
    let held = gathered
        .flows
        .iter()
        .filter(|(_, flow)| flow.is_open)
        .count() as u64;
    let latency_ns = Latencies {
        send_lag: Latency::new(total.send_lag()),
        response: Latency::new(total.response.clone()),
        service: Latency::new(total.service.clone()),
        connect: Latency::new(total.connect.clone()),
        first_byte: Latency::new(total.first_byte.clone()),
        close: Latency::new(total.close.clone()),
    };
    let client = Client {
        threads: gathered
            .accounts
            .iter()
            .copied()
            .map(ThreadResult::from)
            .collect(),
        steal_ratio: circumstances.steal_ratio,
        own_send_lag: Latency::new(total.own_send_lag()),
        hiccup: circumstances.hiccup.and_then(Latency::new),
        first_corruption: gathered
            .accounts
            .iter()
            .find_map(|account| account.corruption)
            .map(|(connection, offset)| Corruption { connection, offset }),
    };
    let messages = Messages::from(&counts);
    let bytes = Bytes {
        sent: counts.bytes_sent,
        received: counts.bytes_received,
    };
    let connections = Connections {
        held,
        ..Connections::from(&counts)
    };
    let server = circumstances.watch.map(|watch| {
        let streams = background.as_ref().map(|streams| &streams.connections);
        watch.finish(&ClientSide {
            plan,
            bytes: bytes_of_run,
            background_bytes,
            opened: connections.opened + streams.map_or(0, |streams| streams.opened),
            messages: &messages,
            message_bytes: &bytes,
            has_loose_ends: interrupted
                || messages.lost + messages.timed_out + messages.unfinished > 0
                || connections.reset + connections.closed_by_peer > 0,
        })
    });
    let verdict = Verdict::of(&Evidence {
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
    RunResult {
        schema: 1,
        tool: Tool::this(),
        started_at: circumstances.started_at,
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
        intervals,
        ramp: gathered.ramp,
        tcp: tcp_result(&gathered.tcp, &gathered.flows, plan.direction()),
        fairness: fairness::of(&gathered.flows, circumstances.targets, plan),
        background,
        repeats: None,
        merged: None,
        server: server.and_then(Result::ok),
        client,
        verdict,
    }
}

impl Gathered {
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

    /// How long the threads went on after the start of the window.
    fn lived_s(&self) -> f64 {
        self.seconds_until(|account| account.finished_at)
    }

    /// Length of the window: a number of messages or an interruption may have ended it before its
    /// time.
    fn duration_s(&self) -> f64 {
        self.seconds_until(|account| account.window_ended_at)
    }

    /// From the start of the window until that time of the last thread.
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
    /// What a slice holds, as one interval of the time series.
    pub(crate) fn new(start_s: f64, end_s: f64, slice: &crate::engine::slice::Slice) -> Self {
        let counts = &slice.counts;
        let samples = slice.tcp.count as f64;
        Self {
            start_s,
            end_s,
            sent: counts.sent,
            received: counts.received,
            lost: counts.lost,
            timed_out: counts.timed_out,
            duplicated: counts.duplicated,
            reordered: counts.reordered,
            sent_bytes: counts.bytes_out,
            received_bytes: counts.bytes_in,
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

    /// Keeps the samples behind the latencies; `slice` is what this was made of.
    pub(crate) fn keep_histograms(&mut self, slice: &crate::engine::slice::Slice) {
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
            if account.wall_ns > 0 {
                nanoseconds as f64 / account.wall_ns as f64
            } else {
                0.0
            }
        };
        Self {
            cpu_ratio: share(account.cpu_ns),
            busy_ratio: share(account.cpu_ns.saturating_sub(account.spin_ns)),
            involuntary_switches: account.involuntary_switches,
            run_delay_ratio: account.run_delay.map(|(delay_ns, _)| share(delay_ns)),
            run_delay_ns_mean: account
                .run_delay
                .map(|(delay_ns, times)| delay_ns as f64 / times.max(1) as f64),
        }
    }
}

/// Streams have the intervals of the workload beside them, as far as both go.
fn add_background(intervals: &mut [IntervalResult], streams: &[IntervalResult]) {
    for (interval, stream) in intervals.iter_mut().zip(streams) {
        interval.background_received_bytes = Some(stream.received_bytes);
    }
}

fn background_result(background: &Background, streams: Gathered) -> BackgroundResult {
    // They may flow on when the run's messages are through.
    let duration_s = streams.duration_s();
    let counts = streams.total.counts;
    let held = streams
        .flows
        .iter()
        .filter(|(_, flow)| flow.is_open)
        .count() as u64;
    BackgroundResult {
        throughput: Throughput::new(&counts, duration_s),
        bytes: Bytes {
            sent: counts.bytes_out,
            received: counts.bytes_in,
        },
        connections: Connections {
            held,
            ..Connections::from(&counts)
        },
        corrupt: counts.corrupt + counts.corrupt_in_warm_up + counts.duplicated,
        tcp: tcp_result(&streams.tcp, &streams.flows, Some(background.direction)),
    }
}

fn tcp_result(
    totals: &TcpTotals,
    flows: &[(usize, FlowReport)],
    direction: Option<Direction>,
) -> Option<TcpResult> {
    if totals.connections == 0 {
        return None;
    }
    let shares = TcpShares::of(totals);
    Some(TcpResult {
        connections: totals.connections,
        at_end: gauges(flows),
        retransmits: totals.retransmits,
        bytes_retransmitted: totals.bytes_retransmitted,
        duplicates: totals.duplicates,
        reorderings: totals.reorderings,
        received_out_of_order: totals.received_out_of_order,
        limit: TcpLimit::of(&shares, direction),
        shares,
    })
}

fn gauges(flows: &[(usize, FlowReport)]) -> Option<TcpGauges> {
    let infos = || flows.iter().filter_map(|(_, flow)| flow.tcp.as_deref());
    let bits = |bytes: u64| bytes as f64 * 8.0;
    Some(TcpGauges {
        rtt_us: Gauge::of(infos().map(|info| info.rtt_us.into()))?,
        rttvar_us: Gauge::of(infos().map(|info| info.rttvar_us.into()))?,
        min_rtt_us: Gauge::of(infos().filter_map(|info| info.min_rtt_us.map(f64::from))),
        cwnd: Gauge::of(infos().map(|info| info.cwnd.into()))?,
        ssthresh: Gauge::of(infos().filter_map(|info| info.ssthresh.map(f64::from))),
        lost: Gauge::of(infos().map(|info| info.lost.into()))?,
        delivery_rate_bits_per_s: Gauge::of(
            infos().filter_map(|info| info.delivery_rate.map(bits)),
        ),
        // An unlimited rate is all ones.
        pacing_rate_bits_per_s: Gauge::of(
            infos().filter_map(|info| info.pacing_rate.filter(|&rate| rate < u64::MAX).map(bits)),
        ),
    })
}

impl TcpShares {
    fn of(totals: &TcpTotals) -> Self {
        let lifetime = totals.lifetime_us.max(1) as f64;
        let limited = totals.rwnd_limited_us + totals.sndbuf_limited_us;
        Self {
            idle: (totals.lifetime_us - totals.busy_us) as f64 / lifetime,
            receive_window: totals.rwnd_limited_us as f64 / lifetime,
            send_buffer: totals.sndbuf_limited_us as f64 / lifetime,
            network: (totals.busy_us - limited) as f64 / lifetime,
        }
    }
}

impl TcpLimit {
    fn of(shares: &TcpShares, direction: Option<Direction>) -> Self {
        let shares = [
            (TcpLimitCode::Idle, shares.idle),
            (TcpLimitCode::ReceiveWindow, shares.receive_window),
            (TcpLimitCode::SendBuffer, shares.send_buffer),
            (TcpLimitCode::Network, shares.network),
        ];
        let (code, share) =
            shares.into_iter().fold(
                shares[0],
                |max, next| if next.1 >= max.1 { next } else { max },
            );
        let percent = share * 100.0;
        let text = match code {
            _ if direction == Some(Direction::Down) => {
                "the server's sending, which only its own TCP can explain".to_owned()
            }
            TcpLimitCode::Idle => {
                format!("the sender: it had nothing to send for {percent:.0} % of the time")
            }
            TcpLimitCode::ReceiveWindow => format!(
                "the receiver: the server read no faster, so its receive window was full for \
                 {percent:.0} % of the time"
            ),
            TcpLimitCode::SendBuffer => format!(
                "the client's send buffer, for {percent:.0} % of the time: try a larger one \
                 (--send-buffer)"
            ),
            TcpLimitCode::Network => format!(
                "the network: for {percent:.0} % of the time as much data was in flight as the \
                 congestion window allowed"
            ),
        };
        Self { code, text }
    }
}
