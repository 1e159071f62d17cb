//! The server's side of a run, as its admin port told it.

use echomark::net::units::format_duration_ns;

use super::markup::Html;
use super::{known, run};
use crate::report::format::{grouped, number, percent};
use crate::result::ServerResult;

/// Workers that are shown.
const MOST_WORKERS: usize = 64;

/// Adds what the server says of itself.
pub(super) fn write(server: &ServerResult, out: &mut Html) {
    out.put("<section id=\"server\"><h2>The server's side</h2>\n<dl class=\"tiles\">\n");
    run::tile(
        "processor per message",
        &known(server.cpu_ns_per_message.map(format_duration_ns)),
        "of the server's workers",
        out,
    );
    run::tile(
        "processors busy",
        &known(server.cpu_ratio.map(|busy| format!("{busy:.2}"))),
        &format!("of {} workers", grouped(server.workers as u64)),
        out,
    );
    run::tile(
        "events a turn",
        &known(server.events_per_turn.map(|events| format!("{events:.2}"))),
        "of its loop",
        out,
    );
    run::tile(
        "balance of the workers",
        &known(server.balance_jain.map(|jain| format!("{jain:.3}"))),
        "Jain's index: 1 if all had the same",
        out,
    );
    out.put("</dl>\n<div class=\"columns\">\n");
    let accounts = &server.accounts;
    out.table(
        &["over the whole run", "client", "server"],
        [
            (
                "bytes to the server",
                accounts.client_sent_bytes,
                accounts.server_received_bytes,
            ),
            (
                "bytes from the server",
                accounts.client_received_bytes,
                accounts.server_sent_bytes,
            ),
            (
                "connections",
                accounts.client_opened,
                accounts.server_accepted,
            ),
        ]
        .map(|(name, client, server)| vec![name.to_owned(), grouped(client), grouped(server)]),
    );
    if let Some(window) = &server.window {
        let rows = [
            ("turns of the loop", window.loop_iterations),
            ("events", window.loop_events),
            ("turns with as many events as fit", window.loop_full_batches),
            ("writes that were held up", window.short_writes),
            ("bytes waiting at the end", window.backlog_bytes),
            ("connections accepted", window.connections_accepted),
            ("connections refused", window.connections_refused),
            ("errors of accept", window.accept_errors),
            ("datagrams dropped", window.datagrams_dropped),
        ];
        let rows = rows.map(|(name, count)| vec![name.to_owned(), grouped(count)]);
        out.table(&["in the window", ""], rows);
    }
    out.put("</div>\n<p class=\"note\">");
    out.put(if accounts.agree {
        "Both sides' accounts agree. "
    } else {
        "<b>The two sides' accounts differ.</b> "
    });
    out.fill(
        "echod {} at {}, connections by {}.</p>\n",
        &[&server.version, &server.admin, &server.balance],
    );
    if server.per_worker.len() > 1 {
        workers(server, out);
    }
    out.put("</section>\n");
}

fn workers(server: &ServerResult, out: &mut Html) {
    let seconds = server.window.map(|window| window.duration_s);
    let rows = server.per_worker.iter().take(MOST_WORKERS).enumerate();
    out.table(
        &[
            "worker",
            "connections",
            "turns",
            "events",
            "processor",
            "busy",
        ],
        rows.map(|(index, worker)| {
            vec![
                index.to_string(),
                grouped(worker.connections_accepted),
                grouped(worker.loop_iterations),
                grouped(worker.loop_events),
                format!("{} s", number(worker.cpu_s)),
                known(
                    seconds
                        .filter(|&seconds| seconds > 0.0)
                        .map(|seconds| percent(worker.cpu_s / seconds)),
                ),
            ]
        }),
    );
}
