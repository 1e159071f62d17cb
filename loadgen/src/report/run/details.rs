//! Further findings of a run, and its options.

use echomark::net::units::format_duration_ns;

use super::{backends, confidence, runs, server, shards, tcp, tls};
use crate::report::document::{Document, Fact, Medium, PAGE, Section, TERMINAL_AND_PAGE, Table};
use crate::report::format::{bits_per_second, count, duration, grouped, known, number, percent};
use crate::report::options;
use crate::result::{
    BackgroundResult, ClientScheduling, ConnectionShare, FairnessBasis, FairnessResult, Groups,
    RunResult,
};

/// Maximum of groups of connections shown.
const MAX_GROUPS: usize = 32;
/// Maximum of slow connections named on a terminal.
const MAX_NAMED: usize = 5;
/// Below this index, a terminal lists the slow connections.
const FAIR: f64 = 0.95;

/// Adds every section that has contents.
pub(super) fn describe(result: &RunResult, document: &mut Document) {
    confidence::describe(result, document);
    if let Some(repeats) = &result.repeats {
        runs::repeats(repeats, document);
    }
    if let Some(parts) = &result.merged {
        runs::parts(parts, result.shards.as_ref(), document);
    }
    shards::one(result, document);
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
    document.section(TERMINAL_AND_PAGE, "tls", "TLS", |section| {
        if let Some(tls) = &result.tls {
            tls::describe(tls, section);
        }
    });
    document.section(TERMINAL_AND_PAGE, "fairness", "Fairness", |section| {
        if let Some(fairness) = &result.fairness {
            describe_fairness(fairness, section);
        }
    });
    document.section(TERMINAL_AND_PAGE, "backends", "Backends", |section| {
        backends::describe(result, section);
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

/// Adds the options, the host, and an explanation of the figures.
pub(super) fn plan_and_host(result: &RunResult, document: &mut Document) {
    document.section(PAGE, "plan", "Plan and host", |section| {
        let mut host = options::host(&result.host, &result.tool, &result.started_at);
        host.push(Fact::new("duration_s", result.duration_s.to_string()));
        options::tables(
            section,
            [("plan", options::flat(&result.plan)), ("host", host)],
        );
    });
    document.section(PAGE, "reading", "How to read this", |section| {
        section.list([
            "**Response time** is what a user sees: from the time at which the message was due to the \
             last byte of its echo. **Service time** begins at the write call; the difference is the \
             **send lag**. In a closed loop they are \
             the same, and neither shows the messages that a slow response held back: to measure \
             latency, use an open loop.",
            "All latencies are full round trips, to three digits. Percentiles are of the messages that \
             came back; the others are counted as missing.",
            "A **95 % CI** (confidence interval) says how exactly this run knows a figure. Other runs may \
             differ by more: CPUs, memory and ports are assigned anew each time.",
            "In tables without a note, – stands for what is not known.",
        ]);
    });
}

/// The ramp in words, if connects were spread over time or failed.
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
        section.line("", format!("had less: {}", had_less(fairness)));
    }
}

/// The slowest connections by number, with their ports and messages.
fn had_less(fairness: &FairnessResult) -> String {
    let slowest = fairness.slowest.iter().take(MAX_NAMED);
    let named = slowest.map(|share| {
        let port = share
            .local_port
            .map_or_else(String::new, |port| format!("port {port}, "));
        let speed = match (fairness.basis, share.response_ns_mean) {
            (FairnessBasis::Speed, Some(mean)) => {
                format!("{} on average", format_duration_ns(mean))
            }
            _ => count(share.messages, "message"),
        };
        format!("connection {} ({port}{speed})", share.connection)
    });
    named.collect::<Vec<_>>().join(", ")
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

/// What the measuring threads got of the scheduler; `None` if nothing.
fn scheduling_words(scheduling: &ClientScheduling) -> Option<String> {
    let class = match (scheduling.realtime, scheduling.nice) {
        (true, _) => "SCHED_FIFO".to_owned(),
        (false, 0) => return None,
        (false, nice) => format!("nice {nice}"),
    };
    let cpus = if scheduling.own_cpus {
        ", on other CPUs than the server's"
    } else {
        ""
    };
    let memory = if scheduling.memory_locked {
        ", memory locked"
    } else {
        ""
    };
    Some(format!("{class}{cpus}{memory}"))
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
    if let Some(scheduling) = &result.client.scheduling
        && let Some(words) = scheduling_words(scheduling)
    {
        section.line("priority", words);
    }
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
