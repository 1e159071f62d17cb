//! What became of messages and connections, what else a run found, and all that was asked for.

use echomark::net::units::format_duration_ns;

use super::{bounds, runs, server, tcp};
use crate::plan::Workload;
use crate::report::document::{
    Document, Fact, Medium, PAGE, Section, TERMINAL, TERMINAL_AND_PAGE, Table,
};
use crate::report::format::{
    bits_per_second, count, duration, grouped, known, number, percent, rate,
};
use crate::report::{options, words};
use crate::result::statistics::Trend;
use crate::result::{
    BackgroundResult, ConnectionShare, FairnessBasis, FairnessResult, Groups, RunResult,
};

/// Groups of connections that are shown.
const MAX_GROUPS: usize = 32;
/// Ports of slow connections that a terminal shows.
const MAX_PORTS: usize = 5;
/// Below this index, a terminal says which connections had less.
const FAIR: f64 = 0.95;

/// Adds what became of messages and connections.
pub(super) fn counts(result: &RunResult, media: &[Medium], document: &mut Document) {
    document.section(media, "accounts", "Counts", |section| {
        let name = words::messages(&result.plan);
        section.counts(name, name, messages(result));
        if section.is_for(Medium::Comment) {
            return;
        }
        let mut connections = sockets(result);
        if section.is_for(Medium::Page) {
            for (name, bytes) in [
                ("payload sent", result.bytes.sent),
                ("payload received", result.bytes.received),
            ] {
                connections.push(Fact::new(name, format!("{} bytes", grouped(bytes))));
            }
        }
        section.counts("sockets", "connections and bytes", connections);
        if let Some(corruption) = result.client.first_corruption {
            let unit = if result.plan.is_datagram() {
                "datagram"
            } else {
                "offset"
            };
            section.line(
                "",
                format!(
                    "first wrong byte: {unit} {} of connection {}",
                    grouped(corruption.offset),
                    corruption.connection
                ),
            );
        }
    });
}

/// Adds every section there is something for.
pub(super) fn describe(result: &RunResult, document: &mut Document) {
    confidence(result, document);
    if let Some(repeats) = &result.repeats {
        runs::repeats(repeats, document);
    }
    if let Some(parts) = &result.merged {
        runs::parts(parts, document);
    }
    document.section(TERMINAL_AND_PAGE, "ramp", "Ramp", |section| {
        if let Some(ramp) = ramp(result) {
            section.line("ramp", ramp);
        }
    });
    document.section(TERMINAL_AND_PAGE, "tcp", "TCP", |section| {
        if let Some(tcp) = &result.tcp {
            tcp::describe("tcp", tcp, section);
        }
    });
    document.section(TERMINAL_AND_PAGE, "fairness", "Fairness", |section| {
        if let Some(fairness) = &result.fairness {
            describe_fairness(fairness, section);
        }
    });
    document.section(
        TERMINAL_AND_PAGE,
        "background",
        "Background streams",
        |section| {
            if let Some(background) = &result.background {
                describe_background(background, section);
            }
        },
    );
    document.section(TERMINAL_AND_PAGE, "server", "Server", |section| {
        if let Some(server) = &result.server {
            server::describe(server, section);
        }
    });
    document.section(TERMINAL_AND_PAGE, "client", "Client", |section| {
        client(result, section);
    });
}

/// Adds what was asked for, where it ran, and what the figures mean.
pub(super) fn plan_and_host(result: &RunResult, document: &mut Document) {
    document.section(PAGE, "plan", "Plan and host", |section| {
        section.counts("", "plan", options::flat(&result.plan));
        let mut host = options::host(&result.host, &result.tool, &result.started_at);
        host.push(Fact::new("duration_s", result.duration_s.to_string()));
        section.counts("", "host", host);
        section.note(options::NOTE);
    });
    document.section(PAGE, "reading", "How to read this", |section| {
        section.list([
            "**Response time** is what a user sees: from the time at which the message was due to the \
             last byte of its echo. **Service time** begins at the write call. In a closed loop they are \
             the same, and neither shows the messages that a slow response held back: to measure \
             latency, use an open loop.",
            "All latencies are full round trips, to three digits. Percentiles are of the messages that \
             came back; the others are counted as missing.",
            "A **95 % CI** (confidence interval) says how exactly this run knows a figure. Other runs may \
             differ by more: CPUs, memory and ports are assigned anew each time.",
            "– stands for what is not known.",
        ]);
    });
}

/// What became of messages: what is always shown, and what happened.
fn messages(result: &RunResult) -> Vec<Fact> {
    let messages = &result.messages;
    let is_datagram = result.plan.is_datagram();
    let mut facts = vec![
        Fact::new("sent", grouped(messages.sent)),
        Fact::new("received", grouped(messages.received)),
    ];
    facts.push(if result.plan.verify {
        Fact::new("verified", grouped(messages.verified))
    } else {
        Fact::new("verified", "none")
    });
    facts.extend(shown([
        ("corrupt", messages.corrupt, true),
        ("stray", messages.stray, false),
        ("duplicated", messages.duplicated, is_datagram),
        ("reordered", messages.reordered, is_datagram),
        ("lost", messages.lost, true),
        ("late", messages.late, false),
        ("timed out", messages.timed_out, false),
        ("unfinished", messages.unfinished, true),
        ("unsent", messages.unsent, false),
    ]));
    facts
}

/// What became of connections.
fn sockets(result: &RunResult) -> Vec<Fact> {
    let connections = &result.connections;
    let is_idle = result.plan.workload == Workload::Idle;
    let mut facts = shown([
        ("opened", connections.opened, true),
        ("failed", connections.failed, false),
        ("reset", connections.reset, false),
        ("closed by the server", connections.closed_by_peer, false),
        ("not closed by the server", connections.unclosed, false),
        ("refused", connections.refused, false),
    ]);
    if is_idle {
        facts.push(Fact::new("held", grouped(connections.held)));
    }
    facts
}

/// Counts that are always shown, and those above 0.
pub(super) fn shown<const N: usize>(counts: [(&str, u64, bool); N]) -> Vec<Fact> {
    counts
        .into_iter()
        .filter(|&(_, count, is_usual)| count > 0 || is_usual)
        .map(|(name, count, _)| Fact::new(name, grouped(count)))
        .collect()
}

/// How connecting went, if it was spread over time or failed.
fn ramp(result: &RunResult) -> Option<String> {
    let failed: u64 = result.ramp.iter().map(|interval| interval.failed).sum();
    if result.plan.ramp.is_zero() && failed == 0 {
        return None;
    }
    let last = result.ramp.last()?;
    let opened = result.ramp.iter().map(|interval| interval.opened).sum();
    let line = format!(
        "{} in {:.1} s, {} failed",
        count(opened, "connect"),
        last.end_s,
        grouped(failed)
    );
    let slowest = result
        .ramp
        .iter()
        .filter_map(|interval| Some((interval.start_s, interval.connect.as_ref()?.max)))
        .max_by_key(|&(_, max)| max);
    Some(match slowest {
        None => line,
        Some((at_s, max)) => {
            let max = duration(Some(max));
            format!("{line}; the slowest took {max}, after {at_s:.1} s")
        }
    })
}

fn confidence(result: &RunResult, document: &mut Document) {
    let statistics = &result.statistics;
    document.section(TERMINAL, "confidence", "", |section| {
        let mut facts: Vec<Fact> = statistics
            .response
            .iter()
            .map(|estimate| Fact::new(format!("p{}", estimate.quantile * 100.0), bounds(estimate)))
            .collect();
        // In an open loop the schedule decides the rate.
        if let Some(interval) = statistics
            .rate
            .as_ref()
            .filter(|interval| interval.high > 0.0 && !result.plan.is_open_loop())
        {
            let bounds = format!("{} to {}", rate(interval.low), rate(interval.high));
            facts.push(Fact::new("rate", bounds));
        }
        section.facts("95 % CI", facts);
    });
    document.section(PAGE, "confidence", "Confidence", |section| {
        let rows = statistics.response.iter().map(|estimate| {
            [
                format!("response p{}", estimate.quantile * 100.0),
                duration(Some(estimate.value)),
                duration(Some(estimate.low)),
                duration(Some(estimate.high)),
                grouped(estimate.samples),
                number(estimate.effective_samples.round()),
            ]
        });
        section.table(Table::new(
            [
                "",
                "value",
                "95 % CI from",
                "to",
                "samples",
                "effective samples",
            ],
            rows,
        ));
        if let Some(trend) = &statistics.trend {
            section.note(trend_words(trend));
        }
    });
}

fn trend_words(trend: &Trend) -> String {
    match *trend {
        Trend::Steady => "The median was steady over the window.".to_owned(),
        Trend::Transient { until, from, to } => format!(
            "The warm-up was not over: the median began at {} and reached {} after {} of the window.",
            format_duration_ns(from),
            format_duration_ns(to),
            percent(until)
        ),
        Trend::Drift { from, to } => format!(
            "The median drifted over the whole window, from {} to {}.",
            format_duration_ns(from),
            format_duration_ns(to)
        ),
    }
}

fn describe_fairness(fairness: &FairnessResult, section: &mut Section) {
    let index = &fairness.index;
    let is_page = section.is_for(Medium::Page);
    let basis = match fairness.basis {
        FairnessBasis::Messages => "messages",
        FairnessBasis::Speed => "speed",
    };
    section.facts(
        "fairness",
        vec![
            Fact::new("Jain's index", format!("{:.3}", index.jain_index)).noted(
                match fairness.basis {
                    FairnessBasis::Messages => "by messages: 1 if all connections had as many",
                    FairnessBasis::Speed => {
                        "by speed, one over the mean response time: 1 if all were alike"
                    }
                },
            ),
            Fact::new("connections", grouped(index.connections as u64)).noted(basis),
            Fact::new("slowest 1 %", percent(index.slowest_ratio)).noted("of the mean"),
            Fact::new("fastest 1 %", percent(index.fastest_ratio)).noted("of the mean"),
        ],
    );
    let is_unfair = index.jain_index < FAIR;
    for (name, groups) in [
        ("target", &fairness.by_target),
        ("thread", &fairness.by_thread),
        ("incoming CPU", &fairness.by_incoming_cpu),
    ] {
        if let Some(groups) = groups
            && (is_page || is_unfair || groups.jain < FAIR)
        {
            describe_groups(name, groups, section);
        }
    }
    if is_page {
        section.details("Slowest and fastest connections", |section| {
            let slowest = shares("slow", &fairness.slowest);
            let fastest = shares("fast", &fairness.fastest);
            section.table(Table::new(
                ["connection", "local port", "messages", "mean response"],
                slowest.chain(fastest),
            ));
        });
    } else if is_unfair {
        let ports = fairness.slowest.iter().filter_map(|share| share.local_port);
        let ports: Vec<String> = ports.take(MAX_PORTS).map(|port| port.to_string()).collect();
        if !ports.is_empty() {
            section.line("", format!("slowest: local ports {}", ports.join(", ")));
        }
    }
}

fn shares(which: &'static str, shares: &[ConnectionShare]) -> impl Iterator<Item = [String; 4]> {
    shares.iter().map(move |share| {
        [
            format!("{which} {}", share.connection),
            known(share.local_port.map(|port| port.to_string())),
            grouped(share.messages),
            known(share.response_ns_mean.map(format_duration_ns)),
        ]
    })
}

fn describe_groups(name: &'static str, groups: &Groups, section: &mut Section) {
    let rows = groups.groups.iter().take(MAX_GROUPS).map(|group| {
        [
            group.name.clone(),
            grouped(group.connections as u64),
            number(group.messages_mean),
            known(group.response_ns_mean.map(format_duration_ns)),
        ]
    });
    section.table(Table::new(
        [name, "connections", "messages on each", "mean response"],
        rows,
    ));
    if section.is_for(Medium::Page) {
        let more = match groups.groups.len().saturating_sub(MAX_GROUPS) {
            0 => String::new(),
            more => format!("; {more} more are not shown"),
        };
        section.note(format!(
            "Jain's index between them: {:.3}{more}",
            groups.jain
        ));
    }
}

fn describe_background(background: &BackgroundResult, section: &mut Section) {
    let throughput = background.throughput;
    let connections = &background.connections;
    let failed = connections.failed.saturating_add(connections.reset);
    section.facts(
        "streams",
        vec![
            Fact::new("opened", grouped(connections.opened)).noted("beside the workload"),
            Fact::new("sent", bits_per_second(throughput.sent_bits_per_s)),
            Fact::new("received", bits_per_second(throughput.received_bits_per_s))
                .noted("or acknowledged"),
            Fact::new("failed", grouped(failed)).noted("or reset"),
            Fact::new("corrupt", grouped(background.corrupt))
                .noted("above 0, bytes came back wrong"),
        ],
    );
    if let Some(tcp) = &background.tcp {
        tcp::describe("", tcp, section);
    }
}

fn client(result: &RunResult, section: &mut Section) {
    let threads = result.client.threads.iter().enumerate();
    section.table(Table::new(
        [
            "client",
            "busy",
            "pacing",
            "waited for a CPU",
            "each time",
            "preempted",
        ],
        threads.map(|(index, thread)| {
            [
                format!("thread {index}"),
                percent(thread.busy_ratio),
                percent((thread.cpu_ratio - thread.busy_ratio).max(0.0)),
                known(thread.run_delay_ratio.map(percent)),
                known(thread.run_delay_ns_mean.map(format_duration_ns)),
                grouped(thread.involuntary_switches),
            ]
        }),
    ));
    if let Some(steal) = result.client.steal_ratio {
        let steal = percent(steal);
        section.line(
            "steal",
            format!("{steal} of this host's CPU time went to other guests"),
        );
    }
    if section.is_for(Medium::Terminal) {
        return;
    }
    if let Some(hiccup) = &result.client.hiccup {
        section.note(format!(
            "A thread that wakes up every 5 ms was late by {} at the median and {} at worst.",
            duration(hiccup.quantile(0.5)),
            duration(Some(hiccup.max()))
        ));
    }
    if let Some(lag) = &result.client.own_send_lag {
        section.note(format!(
            "The client itself sent messages late by {} at p99 and {} at worst.",
            duration(lag.quantile(0.99)),
            duration(Some(lag.max()))
        ));
    }
}
