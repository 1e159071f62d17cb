//! What else a run found, and all that was asked for.

use echomark::net::units::format_duration_ns;
use serde::Serialize;
use serde_json::Value;

use super::markup::Html;
use super::{duration, known, run, runs, server, tcp};
use crate::plan::Plan;
use crate::report::format::{bits_per_second, grouped, number, percent};
use crate::report::words;
use crate::result::statistics::Trend;
use crate::result::{
    BackgroundResult, ConnectionShare, FairnessBasis, FairnessResult, Groups, RunResult,
};

/// Groups of connections that are shown.
const MOST_GROUPS: usize = 32;

/// Adds every section there is something for.
pub(super) fn write(result: &RunResult, out: &mut Html) {
    accounts(result, out);
    confidence(result, out);
    if let Some(repeats) = &result.repeats {
        runs::write(repeats, out);
    }
    if let Some(parts) = &result.merged {
        runs::write_parts(parts, out);
    }
    if let Some(tcp) = &result.tcp {
        out.put("<section id=\"tcp\"><h2>TCP</h2>\n");
        tcp::write(tcp, out);
        out.put("</section>\n");
    }
    if let Some(fairness) = &result.fairness {
        write_fairness(fairness, out);
    }
    if let Some(background) = &result.background {
        write_background(background, out);
    }
    if let Some(server) = &result.server {
        server::write(server, out);
    }
    client(result, out);
    plan(&result.plan, &host(result), out);
    how_to_read(out);
}

fn accounts(result: &RunResult, out: &mut Html) {
    out.put("<section id=\"accounts\"><h2>Accounts</h2>\n<div class=\"columns\">\n");
    let messages = &result.messages;
    let verified = if result.plan.verify {
        grouped(messages.verified)
    } else {
        "not verified".to_owned()
    };
    let mut rows = vec![
        vec!["sent".to_owned(), grouped(messages.sent)],
        vec!["received".to_owned(), grouped(messages.received)],
        vec!["verified".to_owned(), verified],
    ];
    rows.extend(named(words::message_faults(result)));
    out.table(&[words::messages(&result.plan), ""], rows);
    let mut sockets: Vec<Vec<String>> = named(words::sockets(result)).collect();
    sockets.push(vec![
        "payload sent".to_owned(),
        format!("{} bytes", grouped(result.bytes.sent)),
    ]);
    sockets.push(vec![
        "payload received".to_owned(),
        format!("{} bytes", grouped(result.bytes.received)),
    ]);
    out.table(&["connections and bytes", ""], sockets);
    out.put("</div>\n");
    if let Some(place) = words::first_corruption(result) {
        out.fill("<p>First wrong byte: {}.</p>\n", &[&place]);
    }
    if let Some(ramp) = words::ramp(result) {
        out.fill("<p class=\"note\">Ramp: {}.</p>\n", &[&ramp]);
    }
    out.put("</section>\n");
}

fn named(counts: Vec<(&'static str, u64)>) -> impl Iterator<Item = Vec<String>> {
    counts
        .into_iter()
        .map(|(name, count)| vec![name.to_owned(), grouped(count)])
}

fn confidence(result: &RunResult, out: &mut Html) {
    let statistics = &result.statistics;
    if statistics.response.is_empty() && statistics.trend.is_none() {
        return;
    }
    out.put("<section id=\"confidence\"><h2>How sure</h2>\n");
    if !statistics.response.is_empty() {
        let rows = statistics.response.iter().map(|estimate| {
            vec![
                format!("response p{}", estimate.quantile * 100.0),
                duration(Some(estimate.value)),
                duration(Some(estimate.low)),
                duration(Some(estimate.high)),
                grouped(estimate.samples),
                number(estimate.effective_samples.round()),
            ]
        });
        out.table(
            &[
                "",
                "value",
                "95 % sure from",
                "to",
                "samples",
                "worth independent ones",
            ],
            rows,
        );
    }
    if let Some(trend) = &statistics.trend {
        out.fill("<p class=\"note\">{}</p>\n", &[&trend_words(trend)]);
    }
    out.put("</section>\n");
}

fn trend_words(trend: &Trend) -> String {
    match *trend {
        Trend::Steady => "The median was steady over the window.".to_owned(),
        Trend::Transient { until, from, to } => format!(
            "The warm-up was not over: the median began at {} and came to {} after {} of the window.",
            format_duration_ns(from),
            format_duration_ns(to),
            percent(until)
        ),
        Trend::Drift { from, to } => format!(
            "The median drifted all along, from {} to {}.",
            format_duration_ns(from),
            format_duration_ns(to)
        ),
    }
}

fn write_fairness(fairness: &FairnessResult, out: &mut Html) {
    let index = &fairness.index;
    out.put("<section id=\"fairness\"><h2>Fairness</h2>\n<dl class=\"tiles\">\n");
    run::tile(
        "Jain's index",
        &format!("{:.3}", index.jain_index),
        match fairness.basis {
            FairnessBasis::Messages => "by messages: 1 if all had the same",
            FairnessBasis::Speed => {
                "by one over the mean response time: 1 if all were served alike"
            }
        },
        out,
    );
    run::tile("connections", &grouped(index.connections as u64), "", out);
    run::tile(
        "slowest 1 %",
        &percent(index.slowest_ratio),
        "of the mean",
        out,
    );
    run::tile(
        "fastest 1 %",
        &percent(index.fastest_ratio),
        "of the mean",
        out,
    );
    out.put("</dl>\n");
    for (name, groups) in [
        ("target", &fairness.by_target),
        ("thread", &fairness.by_thread),
        ("incoming CPU", &fairness.by_incoming_cpu),
    ] {
        if let Some(groups) = groups {
            write_groups(name, groups, out);
        }
    }
    out.put("<details><summary>The slowest and the fastest connections</summary>\n");
    let shares = |which: &'static str, shares: &[ConnectionShare]| {
        let row = |share: &ConnectionShare| {
            vec![
                format!("{which} {}", share.connection),
                known(share.local_port.map(|port| port.to_string())),
                grouped(share.messages),
                known(share.response_ns_mean.map(format_duration_ns)),
            ]
        };
        shares.iter().map(row).collect::<Vec<_>>()
    };
    out.table(
        &["connection", "local port", "messages", "mean response"],
        [
            shares("slow", &fairness.slowest),
            shares("fast", &fairness.fastest),
        ]
        .concat(),
    );
    out.put("</details>\n</section>\n");
}

fn write_groups(name: &'static str, groups: &Groups, out: &mut Html) {
    let rows = groups.groups.iter().take(MOST_GROUPS).map(|group| {
        vec![
            group.name.clone(),
            grouped(group.connections as u64),
            number(group.messages_mean),
            known(group.response_ns_mean.map(format_duration_ns)),
        ]
    });
    out.table(
        &[name, "connections", "messages on each", "mean response"],
        rows,
    );
    out.fill(
        "<p class=\"note\">Jain's index between them: {}",
        &[&format!("{:.3}", groups.jain)],
    );
    let more = groups.groups.len().saturating_sub(MOST_GROUPS);
    if more > 0 {
        out.fill("; {} more are not shown", &[&more]);
    }
    out.put("</p>\n");
}

fn write_background(background: &BackgroundResult, out: &mut Html) {
    out.put(
        "<section id=\"background\"><h2>Streams beside the workload</h2>\n<dl class=\"tiles\">\n",
    );
    let throughput = background.throughput;
    run::tile(
        "sent",
        &bits_per_second(throughput.sent_bits_per_s),
        "",
        out,
    );
    run::tile(
        "received",
        &bits_per_second(throughput.received_bits_per_s),
        "or acknowledged",
        out,
    );
    let connections = &background.connections;
    run::tile("opened", &grouped(connections.opened), "streams", out);
    run::tile(
        "failed, reset",
        &grouped(connections.failed.saturating_add(connections.reset)),
        "",
        out,
    );
    run::tile(
        "corrupt",
        &grouped(background.corrupt),
        "bytes came back wrong if above 0",
        out,
    );
    out.put("</dl>\n");
    if let Some(tcp) = &background.tcp {
        tcp::write(tcp, out);
    }
    out.put("</section>\n");
}

fn client(result: &RunResult, out: &mut Html) {
    out.put("<section id=\"client\"><h2>The client itself</h2>\n");
    let rows = result
        .client
        .threads
        .iter()
        .enumerate()
        .map(|(index, thread)| {
            vec![
                format!("thread {index}"),
                percent(thread.busy_ratio),
                percent((thread.cpu_ratio - thread.busy_ratio).max(0.0)),
                known(thread.run_delay_ratio.map(percent)),
                known(thread.run_delay_ns_mean.map(format_duration_ns)),
                grouped(thread.involuntary_switches),
            ]
        });
    out.table(
        &[
            "",
            "busy",
            "pacing",
            "kept waiting",
            "each time",
            "taken off the processor",
        ],
        rows,
    );
    out.put("<p class=\"note\">");
    if let Some(steal) = result.client.steal_ratio {
        out.fill(
            "{} of the host's time was stolen by its hypervisor. ",
            &[&percent(steal)],
        );
    }
    if let Some(hiccup) = &result.client.hiccup {
        out.fill(
            "A thread that asked to be run every 5 ms was late by {} at the median and {} at worst. ",
            &[&duration(hiccup.quantile(0.5)), &duration(Some(hiccup.max()))],
        );
    }
    if let Some(lag) = &result.client.own_send_lag {
        out.fill(
            "Messages left late by this program's own doing by {} at p99 and {} at worst.",
            &[&duration(lag.quantile(0.99)), &duration(Some(lag.max()))],
        );
    }
    out.put("</p>\n</section>\n");
}

fn host(result: &RunResult) -> Vec<Vec<String>> {
    let mut rows = flat(&result.host);
    rows.push(vec![
        "tool".to_owned(),
        format!("{} {}", result.tool.name, result.tool.version),
    ]);
    rows.push(vec!["started_at".to_owned(), result.started_at.clone()]);
    rows.push(vec!["duration_s".to_owned(), result.duration_s.to_string()]);
    rows
}

/// Adds everything that was asked for, and where.
pub(super) fn plan(plan: &Plan, host: &[Vec<String>], out: &mut Html) {
    out.put("<section id=\"plan\"><h2>Plan and host</h2>\n<div class=\"columns\">\n");
    out.table(&["plan", ""], flat(plan));
    out.table(&["host", ""], host.iter().cloned());
    out.put(
        "</div>\n<p class=\"note\">Every option as it was resolved, named as in the result file. \
         – : not set, or not known.</p>\n</section>\n",
    );
}

/// All figures and texts of a part of the result, by the path of their keys.
pub(super) fn flat(part: &impl Serialize) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    // What was read from JSON can be written as such.
    if let Ok(value) = serde_json::to_value(part) {
        flatten(String::new(), &value, &mut rows);
    }
    rows
}

fn flatten(path: String, value: &Value, rows: &mut Vec<Vec<String>>) {
    let text = match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(path, field, rows);
            }
            return;
        }
        Value::Null => known(None),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => known(None),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join(", "),
        figure => figure.to_string(),
    };
    rows.push(vec![path, text]);
}

fn how_to_read(out: &mut Html) {
    out.put(
        "<section id=\"reading\"><h2>How to read this</h2>\n<ul class=\"reading\">\n\
         <li><b>Response time</b> is what a user would have seen: from when the message was due to the \
         last byte of its echo. <b>Service time</b> begins when it was really written. In a closed loop \
         they are the same, and both leave out what a slow answer held back: for latency, an open loop \
         is the better measure.</li>\n\
         <li>All latencies are full round trips in three digits. Percentiles are of the messages that \
         came back; what did not is under “missing”.</li>\n\
         <li><b>95 % sure</b> is how exactly this one run knows a figure. Another run may differ by \
         more: processors, memory and ports fall out differently each time.</li>\n\
         <li>– stands for what is not known.</li>\n\
         </ul></section>\n",
    );
}
